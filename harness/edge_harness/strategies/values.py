"""Which values a tensor may take, and arrays of them painted from a few numbers.

A big tensor drawn element by element would exhaust Hypothesis' budget of choices and most of a
test's time, so Hypothesis draws a pattern, a seed and a handful of parameters, and NumPy paints.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edge_harness.errors import OptionError
from edge_harness.models.tensors import Array, Tensor

#: The most a free dimension is drawn as.
MAX_FREE_SIZE = 4
#: Real values where the model does not say more (no quantization, no user's range).
FLOAT_RANGE = (-10.0, 10.0)
#: Tensors of at most so many elements are also drawn element by element; greater ones as a
#: coarse grid of at most so many cells.
CELLS = 64
Unit = npt.NDArray[np.float64]
"""Positions between the lowest value (0) and the highest (1)."""


@dataclass(frozen=True)
class Span:
    """The values one input may take: ``low`` to ``high``, and ``origin``, the simplest of them
    (what stands for the real number 0, or the value nearest to it)."""

    tensor: Tensor
    low: float
    high: float
    origin: float

    @property
    def whole(self) -> bool:
        return self.tensor.dtype.kind in "iu"

    def shape(self, free: Sequence[int] = ()) -> tuple[int, ...]:
        """The tensor's shape with ``free`` sizes put where the model allows any (default 1)."""
        sizes = iter(free)
        return tuple(next(sizes, 1) if n < 0 else n for n in self.tensor.shape_signature)

    def at(self, unit: Unit) -> Array:
        """Positions 0 to 1 as values of the tensor's dtype; the ends are met exactly."""
        dtype = self.tensor.dtype
        if dtype.kind == "b":
            return np.asarray(unit > 0.5)
        real = self.low + unit * (self.high - self.low)
        if not self.whole:
            return np.asarray(real.astype(dtype))
        values = np.rint(real)
        if dtype.itemsize < 8:
            return np.asarray(values.astype(dtype))
        # 2**63 - 1 is no float64: converted it would overflow.
        inside = (values > self.low) & (values < self.high)
        result = np.where(inside, values, 0).astype(dtype)
        result[values <= self.low] = dtype.type(int(self.low_exact))
        result[values >= self.high] = dtype.type(int(self.high_exact))
        return np.asarray(result)

    @property
    def low_exact(self) -> int:
        limits = np.iinfo(self.tensor.dtype)
        return int(limits.min) if self.low <= limits.min else int(self.low)

    @property
    def high_exact(self) -> int:
        limits = np.iinfo(self.tensor.dtype)
        return int(limits.max) if self.high >= limits.max else int(self.high)

    @property
    def zero(self) -> float:
        """The origin's position."""
        return (self.origin - self.low) / (self.high - self.low) if self.high > self.low else 0.0

    def filled(self, shape: tuple[int, ...]) -> Array:
        """An array of the origin alone."""
        return np.full(shape, self.origin, self.tensor.dtype)


def span_of(
    tensor: Tensor,
    *,
    bounds: tuple[float, float] | None = None,
    float_range: tuple[float, float] = FLOAT_RANGE,
) -> Span:
    """The span of ``tensor``: ``bounds`` where the user gave them, else the dtype's whole range
    for whole numbers and ``float_range`` for real ones.

    Raises:
        OptionError: the bounds are the wrong way round or not of this dtype.
    """
    kind = tensor.dtype.kind
    if kind == "b":
        return Span(tensor, 0, 1, 0)
    if kind in "iu":
        limits = np.iinfo(tensor.dtype)
        low, high = bounds if bounds is not None else (int(limits.min), int(limits.max))
        if not limits.min <= low <= high <= limits.max:
            raise OptionError(
                f"the range {bounds!r} of input {tensor.name!r} is not one of {tensor.dtype.name} "
                f"({limits.min} to {limits.max})",
                next_step="give (lowest, highest) in the tensor's own integers",
            )
        # A quantized tensor's zero point is the real number 0.
        origin = tensor.zero_point if tensor.quantized else 0
        return Span(tensor, low, high, min(max(origin, low), high))
    low, high = bounds if bounds is not None else float_range
    if not low <= high or not np.isfinite([low, high]).all():
        raise OptionError(
            f"the range {(low, high)!r} of input {tensor.name!r} is empty or not finite",
            next_step="give (lowest, highest)",
        )
    part = np.dtype(np.float32) if tensor.dtype == np.complex64 else tensor.dtype
    part = np.dtype(np.float64) if tensor.dtype == np.complex128 else part
    # As this dtype holds them, so that nothing drawn lies outside.
    low, high = float(part.type(low)), float(part.type(high))
    return Span(tensor, low, high, min(max(0.0, low), high))


def spans_of(
    tensors: Sequence[Tensor],
    *,
    ranges: Mapping[str, tuple[float, float]] | None = None,
    float_range: tuple[float, float] = FLOAT_RANGE,
) -> list[Span]:
    """Spans of all inputs.

    Raises:
        OptionError: ``ranges`` names an input the model does not have.
    """
    known = dict(ranges or {})
    refuse_unknown(known, [tensor.name for tensor in tensors])
    return [
        span_of(tensor, bounds=known.get(tensor.name), float_range=float_range)
        for tensor in tensors
    ]


def refuse_unknown(given: Mapping[str, Any], names: Sequence[str]) -> None:
    """Raise :class:`OptionError` for a name in ``given`` that no input has."""
    for name in given:
        if name not in names:
            raise OptionError(
                f"the model has no input {name!r}", next_step=f"its inputs are: {list(names)}"
            )


def grid_of(shape: tuple[int, ...]) -> tuple[npt.NDArray[np.int64], int]:
    """The cell of each element of an array, flattened, and how many cells there are."""
    sizes = list(shape)
    while np.prod(sizes) > CELLS:
        widest = int(np.argmax(sizes))
        sizes[widest] = -(-sizes[widest] // 2)
    count = int(np.prod(sizes))
    cells = np.arange(count).reshape(sizes)
    for axis, size in enumerate(shape):
        cells = np.take(cells, np.arange(size) * sizes[axis] // size, axis)
    return cells.reshape(-1).astype(np.int64), count


# -- patterns ------------------------------------------------------------------------------------


def _spatial(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The axes along which neighbours are alike: rows and columns of an image (channels last or
    first, told by their number), time of a sequence."""
    if len(shape) >= 4:
        first = shape[-3] in (1, 2, 3, 4) and shape[-1] not in (1, 2, 3, 4)
        return (len(shape) - 2, len(shape) - 1) if first else (len(shape) - 3, len(shape) - 2)
    if len(shape) == 3:
        return (1,)
    return (len(shape) - 1,) if shape else ()


def _coordinates(shape: tuple[int, ...]) -> list[Unit]:
    axes = _spatial(shape)
    return [
        (np.arange(shape[a]) / max(shape[a] - 1, 1)).reshape(
            [-1 if i == a else 1 for i in range(len(shape))]
        )
        for a in axes
    ]


def _uniform(rng: np.random.Generator, shape: tuple[int, ...], zero: float) -> Unit:
    return rng.random(shape)


def _extremes(rng: np.random.Generator, shape: tuple[int, ...], zero: float) -> Unit:
    return (rng.random(shape) < rng.random()).astype(np.float64)


def _saturating(rng: np.random.Generator, shape: tuple[int, ...], zero: float) -> Unit:
    """The outermost hundredth on one side: long sums of it overflow narrow accumulators."""
    edge = rng.random(shape) / 100
    return np.asarray(1 - edge if rng.random() < 0.75 else edge)


def _natural(rng: np.random.Generator, shape: tuple[int, ...], zero: float) -> Unit:
    """Noise whose amplitude falls with 1/f, as in photographs and many signals (Field 1987,
    doi:10.1364/JOSAA.4.002379)."""
    axes = _spatial(shape)
    if not axes or 0 in shape:
        return rng.random(shape)
    spectrum = np.fft.rfftn(rng.standard_normal(shape), axes=axes)
    squares: Any = 0.0
    for axis in axes:
        rate = np.fft.rfftfreq if axis == axes[-1] else np.fft.fftfreq
        bins = rate(shape[axis]).reshape([-1 if i == axis else 1 for i in range(len(shape))])
        squares = squares + bins**2
    spectrum /= np.maximum(np.sqrt(squares), 1 / max(shape[a] for a in axes))
    wave = np.fft.irfftn(spectrum, s=[shape[a] for a in axes], axes=axes)
    low, high = wave.min(), wave.max()
    return np.asarray((wave - low) / (high - low)) if high > low else np.full(shape, 0.5)


def _edges(rng: np.random.Generator, shape: tuple[int, ...], zero: float) -> Unit:
    """Two plain fields with a straight edge, once or repeated as stripes."""
    places = _coordinates(shape)
    slope: Any = sum(rng.uniform(-1, 1) * place for place in places) if places else 0.0
    width = rng.uniform(0.1, 1.0)
    field = np.broadcast_to(np.floor((slope + rng.random()) / width) % 2, shape)
    one, two = rng.random(2).round() if rng.random() < 0.5 else rng.random(2)
    return np.asarray(one + field * (two - one))


def _ramp(rng: np.random.Generator, shape: tuple[int, ...], zero: float) -> Unit:
    places = _coordinates(shape)
    slope: Any = sum(place for place in places) / len(places) if places else 0.5
    unit = np.broadcast_to(np.asarray(slope, np.float64), shape)
    return np.asarray(1 - unit if rng.random() < 0.5 else unit)


def _spots(rng: np.random.Generator, shape: tuple[int, ...], zero: float) -> Unit:
    """The origin but for one to four elements: one-hot, impulses, dead pixels."""
    unit = np.full(shape, zero)
    many = 1 if rng.random() < 0.5 else int(rng.integers(1, 5))
    flat = unit.reshape(-1)
    if flat.size:
        ends = rng.random(many).round() if rng.random() < 0.5 else rng.random(many)
        flat[rng.integers(0, flat.size, many)] = ends
    return unit


def _constant(rng: np.random.Generator, shape: tuple[int, ...], zero: float) -> Unit:
    return np.full(shape, rng.random())


def _padded(rng: np.random.Generator, shape: tuple[int, ...], zero: float) -> Unit:
    """A sequence that ends early, the rest padding; a patch of an image."""
    unit = rng.random(shape)
    for place in _coordinates(shape)[:1]:
        unit = np.where(place <= rng.random(), unit, zero)
    return unit


def _near_origin(rng: np.random.Generator, shape: tuple[int, ...], zero: float) -> Unit:
    """Within a hundredth of the origin, where rounding decides."""
    return np.asarray(np.clip(zero + (rng.random(shape) - 0.5) / 50, 0, 1))


Painter = Callable[[np.random.Generator, tuple[int, ...], float], Unit]
#: Simple ones first: Hypothesis shrinks towards the front.
PATTERNS: dict[str, Painter] = {
    "constant": _constant,
    "spots": _spots,
    "ramp": _ramp,
    "edges": _edges,
    "extremes": _extremes,
    "saturating": _saturating,
    "near_origin": _near_origin,
    "padded": _padded,
    "natural": _natural,
    "uniform": _uniform,
}
#: Only for floats: subnormal numbers, which some runtimes flush to zero.
DENORMAL = "denormal"


def pattern_names(span: Span) -> list[str]:
    """Patterns that make sense for a tensor."""
    names = list(PATTERNS)
    around_zero = span.tensor.dtype.kind == "f" and span.low <= 0 <= span.high
    return [*names, DENORMAL] if around_zero else names


def paint(
    span: Span,
    shape: tuple[int, ...],
    pattern: str,
    seed: int | np.random.Generator,
    *,
    amplitude: float = 1.0,
    window: tuple[float, float] = (0.0, 1.0),
) -> Array:
    """An array of ``shape`` painted with ``pattern``.

    Args:
        amplitude: 0 to 1: how far values go from the origin towards what the pattern has.
        window: the part of the flattened array that is painted, 0 to 1; the rest is the origin.
    """
    rng = np.random.default_rng(seed)
    if pattern == DENORMAL:
        tiny = float(np.finfo(span.tensor.dtype).tiny)
        small = (rng.random(shape) - 0.5) * 2 * tiny
        return np.asarray(np.clip(small, span.low, span.high).astype(span.tensor.dtype))
    unit = PATTERNS[pattern](rng, shape, span.zero)
    if amplitude < 1:
        unit = span.zero + amplitude * (unit - span.zero)
    array = span.at(unit)
    if span.tensor.dtype.kind == "c":
        imaginary = span.low + PATTERNS[pattern](rng, shape, span.zero) * (span.high - span.low)
        array = (array + 1j * imaginary).astype(span.tensor.dtype)
    start, stop = (round(part * array.size) for part in window)
    if stop - start < array.size:
        flat = array.reshape(-1).copy()
        flat[:start] = flat[stop:] = span.tensor.dtype.type(span.origin)
        array = flat.reshape(shape)
    return array
