"""Samples for a model: read from a file, or drawn, the same on every machine."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edge_harness.errors import InputError
from edge_harness.models.archives import Unreadable, read_arrays
from edge_harness.models.tensors import Array, Tensor

#: The array of an ``.npz`` that holds the right class of each sample.
LABELS = "labels"
#: What the array of samples is called where it is not called as the model's input.
INPUTS = "inputs"
#: Samples drawn where none are given.
DRAWN = 16
SEED = 0


# -- read ----------------------------------------------------------------------------------------


def read_samples(path: str | Path) -> dict[str, Array]:
    """The arrays of an ``.npz`` file by name; an ``.npy`` file is one array, named ``inputs``.
    Nothing is unpickled.

    Raises:
        InputError: it is missing, damaged, no such file, or holds anything but plain numbers.
    """
    path = Path(path)
    advice = f"save plain arrays of numbers with np.savez(path, {INPUTS}=array)"
    try:
        found = read_arrays(path)
    except FileNotFoundError:
        raise InputError(
            f"there is no file {str(path)!r}",
            next_step=f"check the path; the current folder is {str(Path.cwd())!r}",
        ) from None
    except Unreadable as error:
        raise InputError(
            f"{str(path)!r} cannot be read as .npz or .npy: {error}", next_step=advice
        ) from None
    for name, array in found.items():
        if array.dtype.kind not in "biufc":
            raise InputError(
                f"{str(path)!r}: the array {name!r} holds {array.dtype.name}, not numbers",
                next_step=advice,
            )
    if not found:
        raise InputError(f"{str(path)!r} has no array in it", next_step=advice)
    return {name or INPUTS: array for name, array in found.items()}


def arrange_samples(
    found: Mapping[str, Array], inputs: Sequence[Tensor], path: str | Path
) -> tuple[list[list[Array]], list[int] | None]:
    """Samples from the arrays of a file: one for each input, samples along its first axis.

    Returns:
        Arrays for each sample in the model's order, and the labels if there are any.

    Raises:
        InputError: they do not fit the model.
    """
    path = Path(path)
    content = dict(found)
    labels = content.pop(LABELS, None)
    if len(inputs) == 1 and inputs[0].name not in content:
        # Golden data of ours keeps the outputs beside the inputs.
        candidates = [INPUTS] if INPUTS in content else list(content)
        if len(candidates) != 1:
            raise InputError(
                f"{str(path)!r} has the arrays {sorted(content)}, and none is called "
                f"{inputs[0].name!r} as the model's input",
                next_step=f"call the samples {inputs[0].name!r} or {INPUTS!r}",
            )
        content = {inputs[0].name: content[candidates[0]]}
    elif set(content) == {f"arr_{i}" for i in range(len(inputs))}:
        # As np.savez names what it is given without names.
        content = {tensor.name: content[f"arr_{i}"] for i, tensor in enumerate(inputs)}
    columns = []
    for tensor in inputs:
        if tensor.name not in content:
            raise InputError(
                f"{str(path)!r} has no array {tensor.name!r}, only {sorted(content)}",
                next_step=f"it needs one for each of: {', '.join(map(str, inputs))}",
            )
        columns.append(_batched(content[tensor.name], tensor, path))
    counts = {len(column) for column in columns}
    if len(counts) != 1 or 0 in counts:
        raise InputError(
            f"{str(path)!r} has {sorted(counts)} samples for the model's inputs",
            next_step="give every input the same number of samples, at least one",
        )
    rows = [list(row) for row in zip(*columns, strict=True)]
    if labels is None:
        return rows, None
    if (
        labels.shape[:1] != (len(rows),)
        or labels.size != len(rows)
        or labels.dtype.kind not in ("iu")
    ):
        raise InputError(
            f"{str(path)!r} has labels of {labels.dtype.name} {list(labels.shape)} for "
            f"{len(rows)} samples",
            next_step="give each sample one whole number",
        )
    return rows, [int(label) for label in labels.ravel()]


def _batched(values: Array, tensor: Tensor, path: Path) -> list[Array]:
    """``values`` sample by sample, with a batch axis of one where the model wants one."""
    wanted = tensor.shape_signature
    if values.ndim == len(wanted) + 1:
        return list(values)
    if values.ndim == len(wanted) and wanted and wanted[0] in (1, -1):
        return [value[np.newaxis] for value in values]
    if values.shape == wanted:  # one sample, without an axis for more
        return [values]
    raise InputError(
        f"{str(path)!r}: the samples for {tensor.name!r} have shape {list(values.shape)}, the "
        f"input takes {list(wanted)}",
        next_step="put the samples along a first axis before the input's own",
    )


# -- drawn ---------------------------------------------------------------------------------------


def drawn(inputs: Sequence[Tensor], *, count: int = DRAWN, seed: int = SEED) -> list[list[Array]]:
    """``count`` random samples: every step of a quantized input alike, reals from -1 to 1. Free
    dimensions are as the tensors have them now.

    Raises:
        InputError: an input's values cannot be guessed (indices, for instance).
    """
    random = np.random.default_rng(seed)
    for tensor in inputs:
        narrow = tensor.dtype.itemsize == 1
        if tensor.dtype.kind not in "bfc" and not (tensor.quantized or narrow):
            raise InputError(
                f"values for the input {tensor} cannot be guessed",
                next_step="give samples with --samples FILE.npz",
            )
    return [
        [_filled(random, tensor.dtype, tensor.shape, wide=tensor.quantized) for tensor in inputs]
        for _ in range(count)
    ]


def made_up(types: Iterable[tuple[str, Sequence[int]]], *, seed: int) -> tuple[Array, ...]:
    """One input of these dtypes and shapes, to measure with where its values matter little:
    as :func:`drawn`, but whole numbers of more than 8 bits, which are often indices, are 0 or 1.

    Raises:
        InputError: an input is not of numbers.
    """
    random = np.random.default_rng(seed)
    found = []
    for name, shape in types:
        dtype = np.dtype(name)
        if dtype.kind not in "biufc":
            raise InputError(
                f"values of an input of {name} cannot be made up",
                next_step="give samples with --samples FILE.npz",
            )
        found.append(_filled(random, dtype, shape, wide=False))
    return tuple(found)


def _filled(
    random: np.random.Generator, dtype: np.dtype[Any], shape: Sequence[int], *, wide: bool
) -> Array:
    """``wide``: whether whole numbers of more than 8 bits take their whole range."""
    sizes = tuple(max(n, 1) for n in shape)
    if dtype.kind == "c":
        parts = random.uniform(-1, 1, (2, *sizes))
        return np.asarray((parts[0] + 1j * parts[1]).astype(dtype))
    if dtype.kind == "f":
        return np.asarray(random.uniform(-1, 1, sizes)).astype(dtype)
    if dtype.kind == "b" or (dtype.itemsize > 1 and not wide):
        return np.asarray(random.integers(0, 2, sizes)).astype(dtype)
    limits = np.iinfo(dtype)
    # As 64-bit numbers, so that narrow and wide tensors take the same draws.
    drawn_as = dtype if dtype.itemsize == 8 else np.dtype(np.int64)
    return np.asarray(
        random.integers(limits.min, limits.max, sizes, drawn_as.type, endpoint=True)
    ).astype(dtype)


__all__ = [
    "DRAWN",
    "INPUTS",
    "LABELS",
    "SEED",
    "arrange_samples",
    "drawn",
    "made_up",
    "read_samples",
]
