"""Assertions on the outputs of a session; each failure says where and by how much."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from edge_harness.errors import InputError, OptionError
from edge_harness.models.tensors import Array, Tensor

if TYPE_CHECKING:
    from edge_harness.device.session import Session


def steps_between(actual: Array, expected: Array, tensor: Tensor) -> npt.NDArray[np.float64]:
    """Element-wise distance in quantization steps of ``tensor``.

    Integers are compared as they are (one unit is one step). A real-valued ``expected`` is put
    on ``tensor``'s scale first: ``|dequantize(actual) - expected| / scale``.

    Raises:
        InputError: the shapes differ, or the tensor has no step to measure in.
    """
    if actual.shape != expected.shape:
        raise InputError(
            f"output {tensor.name!r} has shape {list(actual.shape)}, the reference "
            f"{list(expected.shape)}",
            next_step="compare outputs of the same inputs and the same model",
        )
    if actual.dtype.kind in "iub" and expected.dtype.kind in "iub":
        return _distance(actual.astype(np.float64), expected)
    if tensor.scale == 0.0:
        raise InputError(
            f"output {tensor.name!r} is {actual.dtype.name} and has no quantization step",
            next_step="compare float outputs with numpy.testing.assert_allclose",
        )
    real = tensor.dequantize(actual) if actual.dtype.kind in "iu" else actual.astype(np.float64)
    return _distance(real, expected) / tensor.scale


def _distance(real: npt.NDArray[np.float64], expected: Array) -> npt.NDArray[np.float64]:
    result: npt.NDArray[np.float64] = np.abs(real - expected.astype(np.float64))
    return result


def assert_within_steps(
    session: Session, outputs: Mapping[str, Array], expected: Any, *, max_steps: float = 0
) -> None:
    """Assert that ``outputs`` of ``session`` are within ``max_steps`` quantization steps.

    Args:
        outputs: what ``session.run`` returned.
        expected: ``{name: array}``, or a sequence of arrays in the model's order, or one array.
        max_steps: 0 means equal to the last step.

    Raises:
        AssertionError: with the position, both values and the kernels that ran.
        InputError: the two do not have the same outputs or shapes.
    """
    for tensor, reference in zip(session.outputs, _in_order(expected, session), strict=True):
        actual = outputs[tensor.name]
        distance = steps_between(actual, reference, tensor)
        if distance.size == 0 or not np.any(~(distance <= max_steps)):
            continue
        where = np.unravel_index(int(np.nanargmax(distance)), distance.shape)
        place = ", ".join(map(str, where))
        many = int(np.count_nonzero(~(distance <= max_steps)))
        raise AssertionError(
            f"output {tensor.name!r} is up to {distance[where]:g} steps from the reference "
            f"(allowed {max_steps:g}): at [{place}] {actual[where]} instead of {reference[where]}; "
            f"{many} of {distance.size} values differ by more. "
            f"Device: {session.device.name} ({session.device.engine}), {session.runtime}, "
            f"kernels {session.kernels}"
        )


def _in_order(expected: Any, session: Session) -> Sequence[Array]:
    names = [tensor.name for tensor in session.outputs]
    if isinstance(expected, Mapping):
        missing = [name for name in names if name not in expected]
        if missing and len(expected) != len(names):
            raise InputError(
                f"the reference has no output {missing[0]!r}",
                next_step=f"its outputs should be: {', '.join(map(repr, names))}",
            )
        # The same model under another runtime may name its outputs otherwise.
        chosen = expected.values() if missing else [expected[name] for name in names]
        return [np.asarray(value) for value in chosen]
    if isinstance(expected, np.ndarray):
        expected = [expected]
    if len(expected) != len(names):
        raise InputError(
            f"the model has {len(names)} outputs, the reference {len(expected)}",
            next_step="pass {name: array}",
        )
    return [np.asarray(value) for value in expected]


def not_finite(outputs: Mapping[str, Array]) -> str:
    """Which output holds NaN or infinity, how many and where first; "" where none does. Whole
    numbers are always finite."""
    for name, values in outputs.items():
        if values.dtype.kind not in "fc":
            continue
        bad = ~np.isfinite(values)
        if bad.any():
            where = np.argwhere(bad)[0].tolist()
            return (
                f"output {name!r} has {int(bad.sum())} of {bad.size} values that are not finite, "
                f"the first at {where}: {values[tuple(where)]}"
            )
    return ""


def assert_finite(outputs: Mapping[str, Array]) -> None:
    """Assert that no output holds NaN or infinity; whole numbers always pass."""
    bad = not_finite(outputs)
    if bad:
        raise AssertionError(bad)


def other_bits(one: Mapping[str, Array], other: Mapping[str, Array], what: str) -> str:
    """How ``other`` differs from ``one`` ("in a second run" is a ``what``); "" where every bit is
    the same, which NaN is to itself."""
    for name, values in one.items():
        theirs = other[name]
        if values.shape != theirs.shape:
            return f"output {name!r} has shape {theirs.shape} {what}, not {values.shape}"
        if values.tobytes() != theirs.tobytes():
            many = int(np.count_nonzero(values != theirs))
            return f"output {name!r} differs {what} in {many} of {values.size} values"
    return ""


def assert_deterministic(session: Session, inputs: Any, *, repeats: int = 3) -> None:
    """Assert that ``repeats`` runs on the same inputs give the same bits, also in a second
    worker (so that state kept from run to run does not hide a difference).

    Raises:
        AssertionError: they do not.
        OptionError: fewer than two runs, which prove nothing.
    """
    if repeats < 2:
        raise OptionError(
            f"repeats={repeats!r}: one run proves nothing", next_step="give at least 2"
        )
    first = session.run(inputs)
    for repeat in range(1, repeats):
        _assert_same(first, session.run(inputs), f"in run {repeat + 1}")
    with session.again() as other:
        _assert_same(first, other.run(inputs), "in a fresh worker")


def _assert_same(first: Mapping[str, Array], second: Mapping[str, Array], what: str) -> None:
    differs = other_bits(first, second, what)
    if differs:
        raise AssertionError(f"the model is not deterministic: {differs}")
