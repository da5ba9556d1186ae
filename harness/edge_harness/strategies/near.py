"""The user's own samples, perturbed: inputs near those a model is made for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from hypothesis import strategies as st

from edge_harness.errors import InputError
from edge_harness.models.tensors import Array, Tensor
from edge_harness.strategies.values import Span, span_of

Change = Callable[[np.random.Generator, Array, Span, float], Array]


def _noise(rng: np.random.Generator, real: Array, span: Span, much: float) -> Array:
    return np.asarray(real + rng.standard_normal(real.shape) * much * (span.high - span.low))


def _steps(rng: np.random.Generator, real: Array, span: Span, much: float) -> Array:
    """One unit up or down here and there: what another rounding before the model would do."""
    unit = 1.0 if span.whole else (span.high - span.low) / 256
    return np.asarray(real + rng.integers(-1, 2, real.shape) * unit)


def _brightness(rng: np.random.Generator, real: Array, span: Span, much: float) -> Array:
    return np.asarray(real + rng.uniform(-1, 1) * much * (span.high - span.low))


def _contrast(rng: np.random.Generator, real: Array, span: Span, much: float) -> Array:
    return np.asarray(span.origin + (real - span.origin) * (1 + rng.uniform(-2, 2) * much))


def _shift(rng: np.random.Generator, real: Array, span: Span, much: float) -> Array:
    if real.ndim < 2:
        return real
    axis = int(rng.integers(1, real.ndim))
    return np.roll(real, int(rng.integers(-2, 3)), axis)


def _dropout(rng: np.random.Generator, real: Array, span: Span, much: float) -> Array:
    """A part of the elements at the ends of the range: dead and hot pixels, clipped sensors."""
    hit = rng.random(real.shape) < much
    ends = np.where(rng.random(real.shape) < 0.5, float(span.low), float(span.high))
    return np.where(hit, ends, real)


def _occlusion(rng: np.random.Generator, real: Array, span: Span, much: float) -> Array:
    flat = real.reshape(-1).copy()
    if flat.size:
        start = int(rng.integers(flat.size))
        flat[start : start + max(1, int(flat.size * much))] = span.origin
    return flat.reshape(real.shape)


#: Mild ones first: Hypothesis shrinks towards the front.
CHANGES: tuple[Change, ...] = (
    _steps,
    _noise,
    _brightness,
    _contrast,
    _shift,
    _dropout,
    _occlusion,
)


def disturbed(
    array: Array,
    span: Span,
    rng: np.random.Generator,
    *,
    change: int | None = None,
    much: float | None = None,
) -> Array:
    """``array`` with one perturbation out of :data:`CHANGES`, kept inside ``span``."""
    chosen = CHANGES[int(rng.integers(len(CHANGES))) if change is None else change]
    amount = float(rng.random()) / 4 if much is None else much
    kind = array.dtype.kind
    if kind == "b":
        return np.asarray(array ^ (rng.random(array.shape) < amount))
    if kind == "c":
        turned = array * np.exp(1j * amount * rng.standard_normal(array.shape))
        return np.asarray(turned.astype(array.dtype))
    if array.dtype.itemsize == 8 and kind in "iu":
        # Beyond 2**53 a float64 would change elements that nothing touches.
        moved = chosen(rng, array.astype(np.float64), span, amount)
        clipped = np.clip(moved, span.low, span.high)
        touched = clipped != array.astype(np.float64)
        unit = (clipped - span.low) / max(span.high - span.low, 1)
        return np.where(touched, span.at(unit), array)
    moved = np.clip(
        chosen(rng, array.astype(np.float64), span, amount), float(span.low), float(span.high)
    )
    return np.asarray((np.rint(moved) if span.whole else moved).astype(array.dtype))


def near(
    samples: Sequence[Any], *, spans: Sequence[Span] | None = None, amplitude: float = 0.25
) -> st.SearchStrategy[Any]:
    """One of ``samples``, as it is or perturbed: other rounding, noise, brightness, contrast,
    shift, dead pixels, occlusion. Shrinks to the first sample as it is.

    Args:
        samples: arrays, or dicts ``{name: array}`` of a model with several inputs; drawn values
            are of the same form and dtype.
        spans: for the harness: the values each input may take; without them the dtype's range
            for whole numbers, and the samples' own for floats.
        amplitude: strongest perturbation, as a part of the range of values.

    Raises:
        InputError: there are no samples.
    """
    if not len(samples):
        raise InputError("there are no samples to perturb", next_step="pass at least one input")
    plain = not isinstance(samples[0], dict)
    dicts = [{"": np.asarray(s)} if plain else s for s in samples]
    known = {span.tensor.name: span for span in spans or ()}
    for name in dicts[0]:
        if name not in known:
            known[name] = _span_of_samples(name, [np.asarray(each[name]) for each in dicts])
    drawn = _near(dicts, known, amplitude)
    return drawn.map(lambda values: values[""]) if plain else drawn


def _span_of_samples(name: str, arrays: list[Array]) -> Span:
    first = arrays[0]
    tensor = Tensor(
        name=name, index=0, dtype=first.dtype, shape=first.shape, shape_signature=first.shape
    )
    if first.dtype.kind != "f":
        return span_of(tensor)
    low = min((float(a.min()) for a in arrays if a.size), default=0.0)
    high = max((float(a.max()) for a in arrays if a.size), default=1.0)
    return span_of(tensor, bounds=(low, high))


@st.composite
def _near(
    draw: st.DrawFn, samples: list[dict[str, Array]], spans: dict[str, Span], amplitude: float
) -> dict[str, Array]:
    sample = samples[draw(st.integers(0, len(samples) - 1))]
    change = draw(st.integers(0, len(CHANGES))) - 1
    if change < 0:
        return {name: np.array(array) for name, array in sample.items()}
    much = draw(st.integers(1, 16)) / 16 * amplitude
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    return {
        name: disturbed(np.asarray(array), spans[name], rng, change=change, much=much)
        for name, array in sample.items()
    }
