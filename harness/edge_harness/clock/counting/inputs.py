"""Inputs to measure with, where the user gives none: the same numbers on every machine."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from edge_harness.errors import InputError
from edge_harness.models import samples
from edge_harness.models.file import ModelFile
from edge_harness.models.samples import read_samples
from edge_harness.models.tensors import Array
from edge_harness.runtimes import FORMATS

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
    found = [(dtype, shape) for _, dtype, shape in FORMATS[model.format].inputs(model)]
    if not all(dtype for dtype, _ in found):
        raise InputError(
            f"{str(model.path)!r} has an input of a type that cannot be made up",
            next_step="give inputs: session.latency(inputs), or --samples FILE.npz",
        )
    return found


def input_names(model: ModelFile) -> list[str]:
    """The name of each input, from the file."""
    return [name for name, _, _ in FORMATS[model.format].inputs(model)]


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
