"""Hypothesis strategies for a model's inputs: drawn on the host, run on the device.

@edge.settings(max_examples=200)
@given(data=st.data())
def test_never_crashes(device, data):
    with device.load("model.tflite") as session:
        for outputs in session.run_many(data.draw(edge.batches(session))):
            fidelity.assert_finite(outputs)
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import hypothesis
import numpy as np
from hypothesis import HealthCheck, Phase, Verbosity
from hypothesis import strategies as st
from hypothesis.database import ExampleDatabase
from hypothesis.extra import numpy as hnp

from edge_harness.errors import OptionError
from edge_harness.models.tensors import Array, Tensor
from edge_harness.strategies.near import near
from edge_harness.strategies.space import CODES, Space
from edge_harness.strategies.values import (
    CELLS,
    FLOAT_RANGE,
    MAX_FREE_SIZE,
    Span,
    grid_of,
    paint,
    pattern_names,
    refuse_unknown,
    span_of,
    spans_of,
)

if TYPE_CHECKING:
    from edge_harness.device.session import Session

#: How many inputs one batch may hold.
BATCH = 32


#: An argument that was not given: None means something to Hypothesis.
_FROM_PROFILE: Any = object()


def settings(
    *,
    max_examples: int = _FROM_PROFILE,
    deadline: timedelta | float | None = None,
    database: ExampleDatabase | None = _FROM_PROFILE,
    derandomize: bool = _FROM_PROFILE,
    phases: Collection[Phase] = _FROM_PROFILE,
    print_blob: bool = _FROM_PROFILE,
    report_multiple_bugs: bool = _FROM_PROFILE,
    stateful_step_count: int = _FROM_PROFILE,
    suppress_health_check: Collection[HealthCheck] = _FROM_PROFILE,
    verbosity: Verbosity = _FROM_PROFILE,
) -> hypothesis.settings:
    """``hypothesis.settings`` for tests on devices: ``deadline=None``, because the wall clock of
    an emulator is no deadline. All else is as in ``hypothesis.settings``, and where it is not given
    as the profile in force has it."""
    given: dict[str, Any] = {
        "max_examples": max_examples,
        "database": database,
        "derandomize": derandomize,
        "phases": phases,
        "print_blob": print_blob,
        "report_multiple_bugs": report_multiple_bugs,
        "stateful_step_count": stateful_step_count,
        "suppress_health_check": suppress_health_check,
        "verbosity": verbosity,
    }
    known = {name: value for name, value in given.items() if value is not _FROM_PROFILE}
    return hypothesis.settings(deadline=deadline, **known)


def inputs(
    session: Session,
    *,
    elements: Mapping[str, st.SearchStrategy[Any]] | None = None,
    ranges: Mapping[str, tuple[float, float]] | None = None,
    samples: Sequence[Any] = (),
    float_range: tuple[float, float] = FLOAT_RANGE,
    dense: bool = True,
) -> st.SearchStrategy[dict[str, Array]]:
    """Inputs that fit ``session``'s model, as ``{name: array}``.

    Whole numbers come from the dtype's full range or ``ranges``, floats from ``float_range``;
    free dimensions are drawn from 1 to 4, the first of all inputs alike. Everything shrinks
    towards the origin (a quantized tensor's zero point, else 0), few other elements and short
    free dimensions.

    Args:
        elements: strategies for single elements of some inputs, by input name; these arrays
            shrink element by element.
        ranges: (lowest, highest) value of some inputs, by name, e.g. a vocabulary's size.
        samples: inputs of your own as ``session.run`` takes them; every other draw is one of
            them, perturbed.
        float_range: lowest and highest float where ``ranges`` does not say.
        dense: whether to paint patterns (uniform and natural noise, edges, extremes, …) too,
            not only constants, single elements and coarse grids.

    Raises:
        OptionError: ``elements`` or ``ranges`` names an input the model does not have.
        InputError: a sample does not fit the model.
    """
    chosen = dict(elements or {})
    refuse_unknown(chosen, [tensor.name for tensor in session.inputs])
    spans = spans_of(session.inputs, ranges=ranges, float_range=float_range)
    drawn = _drawn(spans, chosen, dense)
    if not samples:
        return drawn
    space = Space.of(session, ranges=ranges, samples=samples, float_range=float_range)
    return drawn | near(space.samples, spans=spans)


@st.composite
def _drawn(
    draw: st.DrawFn,
    spans: list[Span],
    elements: Mapping[str, st.SearchStrategy[Any]],
    dense: bool,
) -> dict[str, Array]:
    batch = 0
    values = {}
    for span in spans:
        signature = span.tensor.shape_signature
        free = [draw(st.integers(1, MAX_FREE_SIZE)) for n in signature[1:] if n < 0]
        if signature[:1] == (-1,):
            # The batch, which all inputs share.
            batch = batch or draw(st.integers(1, MAX_FREE_SIZE))
            free.insert(0, batch)
        shape = span.shape(free)
        single = elements.get(span.tensor.name)
        if single is not None:
            values[span.tensor.name] = draw(
                hnp.arrays(span.tensor.dtype, shape, elements=single, fill=single)
            )
        else:
            values[span.tensor.name] = draw(_array(span, shape, dense))
    return values


def tensor_values(
    tensor: Tensor,
    *,
    elements: st.SearchStrategy[Any] | None = None,
    float_range: tuple[float, float] = FLOAT_RANGE,
    dense: bool = True,
) -> st.SearchStrategy[Array]:
    """Arrays that fit ``tensor``; arguments as those of :func:`inputs`."""
    span = span_of(tensor, float_range=float_range)
    chosen = {} if elements is None else {tensor.name: elements}
    return _drawn([span], chosen, dense).map(lambda values: values[tensor.name])


def _value(span: Span) -> st.SearchStrategy[Any]:
    dtype = span.tensor.dtype
    if dtype.kind == "b":
        return st.booleans()
    if span.whole:
        # As a distance from the origin, which is what it then shrinks to.
        origin = int(span.origin)
        steps = st.integers(span.low_exact - origin, span.high_exact - origin)
        return steps.map(lambda step: origin + step)
    part = np.dtype(np.float32) if dtype == np.complex64 else dtype
    width: Any = 64 if part.itemsize >= 8 else part.itemsize * 8
    real = st.floats(span.low, span.high, width=width, allow_nan=False, allow_infinity=False)
    return st.builds(complex, real, real) if dtype.kind == "c" else real


@st.composite
def _array(draw: st.DrawFn, span: Span, shape: tuple[int, ...], dense: bool) -> Array:
    """One array: simple ways of making it first, as Hypothesis shrinks towards the front."""
    array = span.filled(shape)
    if not array.size:
        return array
    way = draw(st.integers(0, 6 if dense else 2))
    if way == 0:
        array[...] = draw(_value(span))
    elif way == 1:
        flat = array.reshape(-1)
        for _ in range(draw(st.integers(1, 4))):
            flat[draw(st.integers(0, flat.size - 1))] = draw(_value(span))
    elif way == 2:
        array = _grid(draw, span, shape)
    else:
        names = pattern_names(span)
        pattern = names[draw(st.integers(0, len(names) - 1))]
        seed = draw(st.integers(0, 2**32 - 1))
        # Complements, so that they shrink to nothing painted.
        amplitude = draw(st.integers(0, 8)) / 8
        start = draw(st.integers(0, 63)) / 64
        stop = min(1.0, start + draw(st.integers(1, 64)) / 64)
        array = paint(span, shape, pattern, seed, amplitude=amplitude, window=(start, stop))
    return array


def _grid(draw: st.DrawFn, span: Span, shape: tuple[int, ...]) -> Array:
    """Few levels in each of few cells: what a targeted search can climb, cell by cell."""
    cells, count = grid_of(shape)
    levels = draw(st.lists(st.integers(-2, 2), min_size=count, max_size=count))
    # So that a level shrinks to just enough, too.
    amplitude = (1 + draw(st.integers(0, 255))) / 256
    steps = np.asarray(levels, np.float64) / 2 * amplitude
    unit = span.zero + np.where(steps > 0, steps * (1 - span.zero), steps * span.zero)
    return span.at(unit[cells].reshape(shape))


def batches(
    session: Session,
    *,
    ranges: Mapping[str, tuple[float, float]] | None = None,
    samples: Sequence[Any] = (),
    float_range: tuple[float, float] = FLOAT_RANGE,
    max_size: int = BATCH,
) -> st.SearchStrategy[list[dict[str, Array]]]:
    """Lists of inputs for ``session.run_many``: one choice of Hypothesis for each input, so that
    many examples cost little more than the device's own work.

    Shrinks to few inputs and simple codes, but not inside an array; ``edge_harness.properties``
    shrinks those too. Arguments as those of :func:`inputs`.

    Raises:
        OptionError, InputError: as :func:`inputs`.
    """
    if max_size < 1:
        raise OptionError(f"max_size={max_size!r} is less than 1", next_step="use 1 or more")
    space = Space.of(session, ranges=ranges, samples=samples, float_range=float_range)
    return coded(max_size).map(space.all)


@st.composite
def coded(draw: st.DrawFn, max_size: int) -> list[int]:
    """Codes of inputs. The code 0, the simplest, ends the list: so a list shrinks by single
    codes, and no choice is spent on its length."""
    codes: list[int] = []
    while len(codes) < max_size:
        codes.append(draw(_CODE))
        if codes[-1] == 0:
            break
    return codes


_CODE = st.integers(0, CODES - 1)


def images(
    shape: tuple[int, ...],
    *,
    dtype: str = "uint8",
    max_boxes: int = 4,
    ranges: tuple[float, float] | None = None,
) -> st.SearchStrategy[Array]:
    """Images, ``shape`` as ``(…, height, width, channels)``: plain boxes on a plain ground, or a
    pattern of :func:`inputs` (noise with natural statistics, edges, ramps, extremes, …).

    Boxes are closer to what cameras see than uniform noise, and shrink to a single colour.

    Args:
        ranges: (lowest, highest) value of a pattern; default the dtype's for whole numbers, 0 to
            1 for floats.

    Raises:
        OptionError: the shape is not that of an image, or the range is wrong.
    """
    if len(shape) < 3:
        raise OptionError(
            f"shape {shape!r} is not that of an image", next_step="pass (height, width, channels)"
        )
    kind = np.dtype(dtype)
    tensor = Tensor(name="image", index=0, dtype=kind, shape=shape, shape_signature=shape)
    span = span_of(tensor, bounds=ranges, float_range=(0.0, 1.0))
    return _images(shape, kind, max_boxes) | _array(span, shape, True)


def sequences(
    length: int,
    *,
    vocabulary: int,
    padding: int = 0,
    dtype: str = "int64",
    min_tokens: int = 1,
) -> st.SearchStrategy[Array]:
    """Token sequences ``[1, length]`` that end early: tokens from 0 to ``vocabulary`` - 1, then
    ``padding``. Shrinks to few tokens of small numbers.

    Raises:
        OptionError: the lengths or the vocabulary leave nothing to draw.
    """
    if not 0 <= min_tokens <= length or vocabulary < 1:
        raise OptionError(
            f"length={length!r}, min_tokens={min_tokens!r}, vocabulary={vocabulary!r} leave no "
            "sequence to draw",
            next_step="use 0 <= min_tokens <= length and a vocabulary of at least 1",
        )
    return _sequences(length, vocabulary, padding, np.dtype(dtype), min_tokens)


@st.composite
def _sequences(
    draw: st.DrawFn,
    length: int,
    vocabulary: int,
    padding: int,
    dtype: np.dtype[Any],
    min_tokens: int,
) -> Array:
    tokens = np.full((1, length), padding, dtype)
    many = draw(st.integers(min_tokens, length))
    if many <= CELLS:
        token = st.integers(0, vocabulary - 1)
        tokens[0, :many] = draw(st.lists(token, min_size=many, max_size=many))
    else:
        # A long text would exhaust Hypothesis' budget token by token.
        rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
        tokens[0, :many] = rng.integers(0, vocabulary, many)
    return tokens


@st.composite
def _images(draw: st.DrawFn, shape: tuple[int, ...], dtype: np.dtype[Any], max_boxes: int) -> Array:
    height, width, channels = shape[-3:]
    limits = np.iinfo(dtype) if dtype.kind in "iu" else None
    colour = (
        st.integers(int(limits.min), int(limits.max))
        if limits is not None
        else st.floats(0.0, 1.0, width=32)
    )
    colours = st.lists(colour, min_size=channels, max_size=channels)
    picture = np.empty((height, width, channels), dtype)
    picture[:] = draw(colours)
    for _ in range(draw(st.integers(0, max_boxes))):
        top, left = draw(st.integers(0, height - 1)), draw(st.integers(0, width - 1))
        bottom, right = draw(st.integers(top + 1, height)), draw(st.integers(left + 1, width))
        picture[top:bottom, left:right] = draw(colours)
    image: Array = np.broadcast_to(picture, shape).copy()
    return image


__all__ = [
    "BATCH",
    "MAX_FREE_SIZE",
    "batches",
    "images",
    "inputs",
    "near",
    "sequences",
    "settings",
    "tensor_values",
]
