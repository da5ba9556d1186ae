"""How far one output is from another, in the unit that its kind of number has."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edge_harness.errors import InputError
from edge_harness.models.tensors import Array, Tensor

#: Polygraphy's defaults for comparing runtimes (``polygraphy run --atol --rtol``).
FLOAT_RTOL = 1e-5
FLOAT_ATOL = 1e-5


@dataclass(frozen=True, kw_only=True)
class Tolerance:
    """How far outputs may be apart."""

    max_steps: float = 0
    """Of quantized outputs and whole numbers, in steps."""
    rtol: float = FLOAT_RTOL
    atol: float = FLOAT_ATOL
    """Of floats: ``atol + rtol * |reference|``, as NumPy's ``allclose``."""


@dataclass(frozen=True)
class Distance:
    """The greatest distance of two arrays."""

    units: float
    """As a multiple of the tolerance: over 1 is too far; infinite for NaN against a number."""
    shown: float
    """In steps, or as a multiple of the tolerance for floats."""
    text: str


def distance(
    actual: Array,
    wanted: Array,
    mine: Tensor,
    theirs: Tensor,
    tolerance: Tolerance,
    *,
    step: float = 0.0,
) -> Distance:
    """The distance of ``actual`` (of ``mine``) from ``wanted`` (of ``theirs``).

    Args:
        step: of real outputs that were quantized until the last operator: they are then
            compared in these steps.

    Raises:
        InputError: the shapes differ.
    """
    if actual.shape != wanted.shape:
        raise InputError(
            f"output {mine.name!r} has shape {list(actual.shape)}, the reference "
            f"{list(wanted.shape)}",
            next_step="compare two forms of the same model",
        )
    if not actual.size:
        return Distance(0.0, 0.0, "")
    whole = actual.dtype.kind in "iub" and wanted.dtype.kind in "iub"
    alike = mine.scales == theirs.scales and mine.zero_points == theirs.zero_points
    if whole and alike:
        # Python's integers where float64 would round: 64-bit outputs.
        exact = actual.dtype.itemsize == 8
        kind = np.dtype(object) if exact else np.dtype(np.int64)
        far = np.abs(actual.astype(kind) - wanted.astype(kind)).astype(np.float64)
        return _in_steps(far, actual, wanted, tolerance)
    unit = mine.scale if actual.dtype.kind in "iu" else step
    if unit:
        far = np.abs(mine.real(actual) - theirs.real(wanted)) / unit
        # One step is not 1.0000001 of them: scales are float32.
        return _in_steps(np.round(far, 3), actual, wanted, tolerance)
    return _in_floats(actual, wanted, mine, theirs, tolerance)


def _in_steps(
    far: npt.NDArray[np.float64], actual: Array, wanted: Array, tolerance: Tolerance
) -> Distance:
    where = np.unravel_index(int(np.argmax(far)), far.shape)
    steps = float(far[where])
    if math.isnan(steps):
        steps = math.inf
    units = steps / tolerance.max_steps if tolerance.max_steps else (math.inf if steps else 0.0)
    many = int(np.count_nonzero(~(far <= tolerance.max_steps)))
    return Distance(
        units,
        steps,
        f"up to {steps:g} steps off (allowed {tolerance.max_steps:g}): at "
        f"{[int(i) for i in where]} {actual[where]} instead of {wanted[where]}; {many} of "
        f"{far.size} values are too far",
    )


def _in_floats(
    actual: Array, wanted: Array, mine: Tensor, theirs: Tensor, tolerance: Tolerance
) -> Distance:
    complex_ = actual.dtype.kind == "c"
    a = actual if complex_ else mine.real(actual)
    b = wanted if complex_ else theirs.real(wanted)
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    with np.errstate(invalid="ignore", over="ignore"):
        far = np.abs(a - b)
        allowed = tolerance.atol + tolerance.rtol * np.abs(b)
        units = np.where(same, 0.0, far / np.maximum(allowed, np.finfo(np.float64).tiny))
    units = np.where(np.isnan(units), np.inf, units)
    where = np.unravel_index(int(np.argmax(units)), units.shape)
    worst = float(units[where])
    many = int(np.count_nonzero(units > 1))
    return Distance(
        worst,
        worst,
        f"up to {worst:.3g} times the tolerance off (atol {tolerance.atol:g}, rtol "
        f"{tolerance.rtol:g}): at {[int(i) for i in where]} {actual[where]!r} instead of "
        f"{wanted[where]!r}; {many} of {units.size} values are too far",
    )
