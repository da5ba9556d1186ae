"""Inputs to measure with, where the user gives none: the same numbers on every machine."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from edge_harness.errors import InputError
from edge_harness.models import samples
from edge_harness.models.file import ModelFile
from edge_harness.models.samples import arrange_samples, read_samples
from edge_harness.models.tensors import Array, Tensor

_SEED = 20240611


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
    found = []
    for name, dtype, shape in model.format.inputs(model):
        if not dtype:
            raise InputError(
                f"the input {name!r} of {str(model.path)!r} is of a type that cannot be made up",
                next_step="give inputs: session.latency(inputs), or --samples FILE.npz",
            )
        found.append((dtype, shape))
    return found


def input_names(model: ModelFile) -> list[str]:
    """The name of each input, from the file."""
    return [name for name, _, _ in model.format.inputs(model)]


def given_inputs(model: ModelFile, path: Path) -> tuple[Array, ...]:
    """The first sample of a file that :func:`edge_harness.models.samples.arrange_samples` takes
    for ``model``.

    Raises:
        InputError: the file is none, holds Python objects, or does not fit.
    """
    tensors = [
        Tensor(name=name, index=index, dtype=np.dtype(dtype), shape=shape, shape_signature=shape)
        for index, (name, (dtype, shape)) in enumerate(
            zip(input_names(model), input_types(model), strict=True)
        )
    ]
    rows, _ = arrange_samples(read_samples(path), tensors, path)
    for array, tensor in zip(rows[0], tensors, strict=True):
        if array.dtype != tensor.dtype:
            raise InputError(
                f"{str(path)!r} has samples of {array.dtype.name} for the input {tensor}",
                next_step=f"save them as {tensor.dtype.name}",
            )
    return tuple(rows[0])
