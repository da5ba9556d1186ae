"""Samples arranged for both sides of a comparison: quantized, renamed and laid out as each takes
them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np

from edge_harness.errors import InputError
from edge_harness.models.file import ModelFile
from edge_harness.models.tensors import Array, Outputs, Tensor, checked, in_order
from edge_harness.runtimes import Format

if TYPE_CHECKING:
    from edge_harness.device.loaded_on import LoadedOn
    from edge_harness.runtimes import LoadRequest

#: How a sample becomes the reference's, or a name the reference's: see ``compare``.
InputMap = Callable[[dict[str, Array]], Any] | Mapping[str, str] | None
#: Transpositions between layouts, by the number of dimensions.
_CHANNELS_LAST = {3: (0, 2, 1), 4: (0, 2, 3, 1), 5: (0, 2, 3, 4, 1)}
_CHANNELS_FIRST = {3: (0, 2, 1), 4: (0, 3, 1, 2), 5: (0, 4, 1, 2, 3)}


class Runner(Protocol):
    """What comparisons need of a side: a session, or an evaluated reference."""

    @property
    def inputs(self) -> tuple[Tensor, ...]: ...

    @property
    def outputs(self) -> tuple[Tensor, ...]: ...

    @property
    def model(self) -> ModelFile: ...

    @property
    def runtime(self) -> str: ...

    @property
    def kernels(self) -> str: ...

    def run(self, inputs: Any) -> Outputs: ...

    def run_many(self, samples: Any) -> list[Outputs]: ...


# What only some sides have; nothing else says so.


@runtime_checkable
class OnDevice(Protocol):
    """A side that a device runs; others compute on this machine."""

    @property
    def device(self) -> LoadedOn: ...


@runtime_checkable
class Loaded(Protocol):
    """A side that a runtime runs."""

    @property
    def request(self) -> LoadRequest: ...


@runtime_checkable
class LoadsOthers(Protocol):
    """A side that runs other models as it runs its own: copies in which more can be seen."""

    def other(self, model: ModelFile) -> AbstractContextManager[Runner]: ...


@runtime_checkable
class Evaluates(Protocol):
    """A side that tells the value of any tensor of its model."""

    def evaluate(self, arrays: Sequence[Array], names: Sequence[str]) -> list[Array]: ...

    def described(self, name: str, value: Array) -> Tensor: ...


def arranged(sample: Any, session: Runner) -> list[Array]:
    """``sample`` for ``session``: real values are quantized where the input is.

    Raises:
        InputError: names, count, dtype or shape do not fit.
    """
    result = []
    for value, tensor in zip(in_order(sample, session.inputs), session.inputs, strict=True):
        if tensor.dtype.kind in "iu" and tensor.quantized and np.asarray(value).dtype.kind == "f":
            if not np.all(np.isfinite(value)):
                raise InputError(
                    f"the sample for input {tensor.name!r} has values that are not finite, which "
                    f"{tensor.dtype.name} cannot hold",
                    next_step="leave such samples out",
                )
            value = tensor.quantize(value)
        result.append(checked(value, tensor))
    return result


def converted(
    sample: Sequence[Array], session: Runner, reference: Runner, mapping: InputMap = None
) -> list[Array]:
    """A sample that fits ``session`` as ``reference`` takes it.

    Inputs are matched by name where all names are the same, else by position; ``mapping`` gives
    the reference's name for each of ours, or is a function of ``{name: array}`` in real values.

    Raises:
        InputError: the inputs cannot be matched.
    """
    mine = {tensor.name: (array, tensor) for array, tensor in zip(sample, session.inputs,
                                                                  strict=True)}  # fmt: skip
    if callable(mapping):
        real = {
            name: tensor.real(array) if tensor.quantized and array.dtype.kind in "iu" else array
            for name, (array, tensor) in mine.items()
        }
        return arranged(mapping(real), reference)
    if len(reference.inputs) != len(sample):
        raise InputError(
            f"the reference has {len(reference.inputs)} inputs, the model {len(sample)}",
            next_step="pass inputs=function that makes the reference's sample from the model's",
        )
    pairs = matched(
        [t.name for t in session.inputs], [t.name for t in reference.inputs], mapping, "input"
    )
    ours = {theirs: name for name, theirs in pairs}
    result = []
    for theirs in reference.inputs:
        array, tensor = mine[ours[theirs.name]]
        if theirs.dtype != tensor.dtype or theirs.scales != tensor.scales:
            if tensor.quantized and array.dtype.kind in "iu":
                array = tensor.real(array)
            if theirs.quantized and theirs.dtype.kind in "iu":
                array = theirs.quantize(array)
            else:
                array = array.astype(theirs.dtype)
        array = laid_out(
            array, session.model.format, reference.model.format, theirs.shape_signature
        )
        result.append(checked(array, theirs))
    return result


def matched(
    ours: Sequence[str], theirs: Sequence[str], mapping: Mapping[str, str] | None, what: str
) -> list[tuple[str, str]]:
    """Pairs of names: by ``mapping``, else by name, else by position."""
    if mapping:
        for name, other in mapping.items():
            if name not in ours or other not in theirs:
                raise InputError(
                    f"the mapping {name!r}: {other!r} names no {what} of both models",
                    next_step=f"ours: {list(ours)}; the reference's: {list(theirs)}",
                )
        return list(mapping.items())
    if set(ours) == set(theirs):
        return [(name, name) for name in ours]
    if len(ours) != len(theirs):
        raise InputError(
            f"the model has {len(ours)} {what}s, the reference {len(theirs)}",
            next_step=f"say which belong together: {what}s={{ours: theirs}}; ours: {list(ours)}; "
            f"the reference's: {list(theirs)}",
        )
    return list(zip(ours, theirs, strict=True))


def laid_out(
    array: Array, source: Format, target: Format, shape: Sequence[int] | None = None
) -> Array:
    """``array`` in the layout of the other format: some keep channels last, some second.

    Between models of one layout nothing is moved, nor where a format has none; nor where the array
    already fits ``shape`` (-1 means any size), unless that is ambiguous.
    """
    moves = {"first": _CHANNELS_FIRST, "last": _CHANNELS_LAST}.get(target.channels, {})
    if not source.channels or source.channels == target.channels or array.ndim not in moves:
        return array
    moved: Array = np.transpose(array, moves[array.ndim])
    if shape is None or _fits(moved, shape):
        return np.ascontiguousarray(moved)
    return array


def _fits(array: Array, shape: Sequence[int]) -> bool:
    return len(shape) == array.ndim and all(
        n in (-1, size) for n, size in zip(shape, array.shape, strict=True)
    )
