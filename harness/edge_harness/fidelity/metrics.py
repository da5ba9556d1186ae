"""Distances between two outputs. NaN and infinity are never cleaned away: they make every
distance NaN or infinite."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from edge_harness.errors import InputError
from edge_harness.models.tensors import Array

Reals = npt.NDArray[np.float64]
#: What counts as a sum of one for probabilities, whose int8 form is a multiple of 1/256 each.
_ONE = 0.05


def sqnr_db(actual: Reals, wanted: Reals) -> float:
    """Signal to quantization-noise ratio, ``10 log10(Σ wanted² / Σ (wanted - actual)²)``; inf
    where equal, -inf where there is noise and no signal, NaN where a value is not finite."""
    if not (np.all(np.isfinite(actual)) and np.all(np.isfinite(wanted))):
        return math.nan
    noise = float(np.sum((actual - wanted) ** 2))
    signal = float(np.sum(wanted**2))
    if noise == 0:
        return math.inf
    return 10 * math.log10(signal / noise) if signal > 0 else -math.inf


def cosine(actual: Reals, wanted: Reals) -> float:
    """Cosine of the angle between the two as vectors; NaN where one of them is zero. For
    orientation: 0.994 was a wrong answer."""
    norms = math.sqrt(float(np.sum(actual**2))) * math.sqrt(float(np.sum(wanted**2)))
    return float(np.sum(actual * wanted)) / norms if norms else math.nan


def relative(actual: Reals, wanted: Reals) -> Reals:
    """``|actual - wanted| / |wanted|``; inf where only ``wanted`` is zero."""
    distance = np.abs(actual - wanted)
    with np.errstate(divide="ignore", invalid="ignore"):
        share = distance / np.abs(wanted)
    result: Reals = np.where(distance == 0, 0.0, share)
    return result


def ulps(actual: Array, wanted: Array) -> Reals:
    """Distance in units in the last place of ``actual``'s dtype: how many representable numbers
    lie between the two. ``wanted`` is rounded to that dtype first.

    Raises:
        InputError: ``actual`` is not float16, float32 or float64.
    """
    kinds: dict[str, tuple[type, int]] = {
        "float16": (np.int16, 15),
        "float32": (np.int32, 31),
        "float64": (np.int64, 63),
    }
    if actual.dtype.name not in kinds:
        raise InputError(
            f"{actual.dtype.name} has no units in the last place",
            next_step="compare integers in steps",
        )
    whole, bits = kinds[actual.dtype.name]
    with np.errstate(over="ignore"):
        rounded = np.ascontiguousarray(wanted).astype(actual.dtype)

    def ordered(values: Array) -> Array:
        # Sign and magnitude to two's complement: neighbours differ by one, -0 and 0 by none.
        raw: Array = np.ascontiguousarray(values).view(whole).astype(np.int64)
        magnitude = raw & np.int64((1 << bits) - 1)
        signed: Array = np.where(raw < 0, -magnitude, magnitude)
        return signed

    x, y = ordered(actual), ordered(rounded)
    # As whole numbers, or float64's own neighbours would be lost; apart where that overflows.
    same_side = (x < 0) == (y < 0)
    near = np.abs(np.where(same_side, x, 0) - np.where(same_side, y, 0)).astype(np.float64)
    far = np.abs(x).astype(np.float64) + np.abs(y).astype(np.float64)
    distance = np.where(same_side, near, far)
    known = np.isfinite(actual) & np.isfinite(rounded)
    result: Reals = np.where(known, distance, np.nan)
    return result


def probabilities(values: Reals) -> bool:
    """Whether ``values`` look like one distribution (softmax)."""
    flat = values.reshape(-1)
    return bool(
        flat.size > 1 and np.all(flat >= 0) and np.all(flat <= 1) and abs(flat.sum() - 1) <= _ONE
    )


def kl_divergence(actual: Reals, wanted: Reals, *, least: float) -> float:
    """Kullback-Leibler divergence of ``actual`` from ``wanted`` in nats,
    ``Σ wanted log(wanted / actual)``.

    ``least``: probabilities below it count as it, on both sides: an int8 softmax is 0 below half a
    step, which would make the divergence infinite.
    """
    p = np.maximum(wanted.reshape(-1), least)
    q = np.maximum(actual.reshape(-1), least)
    p, q = p / p.sum(), q / q.sum()
    return float(np.sum(p * np.log(p / q)))


def top(values: Reals, k: int) -> list[int]:
    """Positions of the ``k`` greatest values, the greatest first; of equal ones the first.

    NaN is never among them, so that an answer of NaN agrees with nothing.
    """
    flat = np.where(np.isnan(values.reshape(-1)), -np.inf, values.reshape(-1))
    order = np.argsort(-flat, kind="stable")[:k]
    return [int(i) for i in order if not np.isnan(values.reshape(-1)[i])]


def margin(values: Reals) -> float:
    """How far the greatest value is above the second."""
    flat = values.reshape(-1)
    if flat.size < 2:
        return math.nan
    second, first = np.partition(flat, -2)[-2:]
    return float(first - second)
