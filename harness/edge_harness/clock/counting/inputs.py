"""Inputs to measure with, where the user gives none: the same numbers on every machine."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edge_harness.errors import InputError
from edge_harness.models import samples
from edge_harness.models.file import ModelFile
from edge_harness.models.samples import read_samples
from edge_harness.models.tensors import Array

_SEED = 20240611
#: The numpy types of the TFLite schema's TensorType numbers that a measurement can fill.
_TYPES = {
    0: "float32",
    1: "float16",
    2: "int32",
    3: "uint8",
    4: "int64",
    6: "bool",
    7: "int16",
    9: "int8",
    10: "float64",
    12: "uint64",
    15: "uint32",
    16: "uint16",
}


def default_inputs(model: ModelFile) -> tuple[Array, ...]:
    """Random inputs for ``model``, uniform in [-1, 1) or over the whole range of 8-bit integers;
    0 or 1 for wider ones, which are often indices. Free dimensions are 1.

    Raises:
        InputError: the file does not tell their shapes, or they cannot be made up.
    """
    return made_up(input_types(model))


def made_up(types: Iterable[tuple[str, Sequence[int]]]) -> tuple[Array, ...]:
    """Inputs of these dtypes and shapes, as :func:`default_inputs` makes them."""
    return samples.made_up(types, seed=_SEED)


def input_types(model: ModelFile) -> list[tuple[str, tuple[int, ...]]]:
    """``(dtype, shape)`` of each input, from the file."""
    if model.format != "tflite":
        return _onnx_types(model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the generated code warns of its own deprecations
        import tflite

        graph = tflite.Model.GetRootAs(model.content, 0).Subgraphs(0)
        found = []
        for position in range(graph.InputsLength()):
            tensor = graph.Tensors(graph.Inputs(position))
            if tensor.Type() not in _TYPES:
                raise InputError(
                    f"{str(model.path)!r} has an input of a type that cannot be made up",
                    next_step="give inputs: session.latency(inputs), or --samples FILE.npz",
                )
            shape = tuple(max(1, tensor.Shape(i)) for i in range(tensor.ShapeLength()))
            found.append((_TYPES[tensor.Type()], shape))
        return found


def input_names(model: ModelFile) -> list[str]:
    """The name of each input, from the file."""
    if model.format != "tflite":
        return [value.name for value in _onnx_inputs(model)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # as above
        import tflite

        graph = tflite.Model.GetRootAs(model.content, 0).Subgraphs(0)
        names = [graph.Tensors(graph.Inputs(i)).Name() for i in range(graph.InputsLength())]
        return [(name or b"").decode(errors="replace") for name in names]


def _onnx_types(model: ModelFile) -> list[tuple[str, tuple[int, ...]]]:
    from edge_harness.models import onnx as onnx_file

    numpy_type = onnx_file.package("a latency").helper.tensor_dtype_to_np_dtype
    return [
        (
            np.dtype(numpy_type(value.type.tensor_type.elem_type)).name,
            tuple(max(1, d.dim_value) for d in value.type.tensor_type.shape.dim),
        )
        for value in _onnx_inputs(model)
    ]


def _onnx_inputs(model: ModelFile) -> list[Any]:
    from edge_harness.models import onnx as onnx_file

    graph = onnx_file.parse(model.content, model.path).graph
    constant = {tensor.name for tensor in graph.initializer}
    return [value for value in graph.input if value.name not in constant]


def given_inputs(model: ModelFile, path: Path) -> tuple[Array, ...]:
    """The inputs in an ``.npz`` file: by the names of the model's inputs, or in the file's order.

    Raises:
        InputError: the file is none, holds Python objects, or does not fit.
    """
    wanted = input_types(model)
    named = read_samples(path)
    names = input_names(model)
    arrays = [named[n] for n in names] if set(named) == set(names) else list(named.values())
    if len(arrays) != len(wanted):
        raise InputError(
            f"{str(path)!r} has {len(arrays)} array(s), the model {len(wanted)} input(s)",
            next_step=f"give {', '.join(f'{d} {s}' for d, s in wanted)}",
        )
    for array, (dtype, shape) in zip(arrays, wanted, strict=True):
        if array.dtype != np.dtype(dtype) or array.ndim != len(shape):
            raise InputError(
                f"{str(path)!r} has an array {array.dtype} {array.shape}",
                next_step=f"the model wants {dtype} {shape}",  # of its free dimensions, 1
            )
    return tuple(arrays)
