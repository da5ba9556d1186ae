"""Hypothesis strategies for a model's inputs: drawn on the host, run on the device.

@given(data=st.data())
def test_never_crashes(device, data):
    with device.load("model.tflite") as session:
        fidelity.assert_finite(session.run(data.draw(edge.inputs(session))))
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from harness.errors import OptionError
from harness.tensors import Array, Tensor

if TYPE_CHECKING:
    from harness.session import Session

#: The most a free dimension is drawn as.
MAX_FREE_SIZE = 4


def inputs(
    session: Session,
    *,
    elements: Mapping[str, st.SearchStrategy[Any]] | None = None,
    float_range: tuple[float, float] = (-10.0, 10.0),
    dense: bool = True,
) -> st.SearchStrategy[dict[str, Array]]:
    """Inputs that fit ``session``'s model, as ``{name: array}``.

    Whole numbers come from the dtype's full range, floats from ``float_range``; free dimensions
    are drawn from 1 to 4. Most draws shrink element by element towards zeros. With ``dense``
    every fourth array is noise from a drawn seed, because arrays of few distinct values rarely
    reach the inside of a model; a failure found by noise shrinks to the smallest seed only.

    Args:
        elements: strategies for single elements of some inputs, by input name.
        float_range: smallest and greatest float.
        dense: whether to draw noise, too.

    Raises:
        OptionError: ``elements`` names an input the model does not have.
    """
    chosen = dict(elements or {})
    names = [tensor.name for tensor in session.inputs]
    for name in chosen:
        if name not in names:
            raise OptionError(
                f"the model has no input {name!r}", next_step=f"its inputs are: {names}"
            )
    parts = {
        tensor.name: tensor_values(
            tensor, elements=chosen.get(tensor.name), float_range=float_range, dense=dense
        )
        for tensor in session.inputs
    }
    return st.fixed_dictionaries(parts)


@st.composite
def tensor_values(
    draw: st.DrawFn,
    tensor: Tensor,
    *,
    elements: st.SearchStrategy[Any] | None = None,
    float_range: tuple[float, float] = (-10.0, 10.0),
    dense: bool = True,
) -> Array:
    """One array that fits ``tensor``."""
    shape = tuple(
        draw(st.integers(1, MAX_FREE_SIZE)) if size < 0 else size for size in tensor.shape_signature
    )
    single = elements if elements is not None else _elements(tensor.dtype, float_range)
    if dense and elements is None and draw(st.integers(0, 3)) == 3:
        return _noise(draw(st.integers(0, 2**32 - 1)), shape, tensor.dtype, float_range)
    array: Array = draw(hnp.arrays(tensor.dtype, shape, elements=single, fill=single))
    return array


def images(
    shape: tuple[int, ...], *, dtype: str = "uint8", max_boxes: int = 4
) -> st.SearchStrategy[Array]:
    """Images of plain boxes on a plain ground, ``shape`` as ``(…, height, width, channels)``.

    Closer to what cameras see than noise, and they shrink to a single colour.
    """
    return _images(shape, np.dtype(dtype), max_boxes)


@st.composite
def _images(draw: st.DrawFn, shape: tuple[int, ...], dtype: np.dtype[Any], max_boxes: int) -> Array:
    if len(shape) < 3:
        raise OptionError(
            f"shape {shape!r} is not that of an image", next_step="pass (height, width, channels)"
        )
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


def _elements(dtype: np.dtype[Any], float_range: tuple[float, float]) -> st.SearchStrategy[Any]:
    if dtype.kind == "b":
        return st.booleans()
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        low, high = int(limits.min), int(limits.max)
        # Extremes are where saturation and overflow show.
        return st.integers(low, high) | st.sampled_from([high, low])
    # The bounds as this dtype holds them, which Hypothesis insists on.
    part = np.dtype(np.float32) if dtype == np.complex64 else dtype
    width: Any = 64 if part.itemsize >= 8 else part.itemsize * 8
    smallest, greatest = (float(part.type(bound)) for bound in float_range)
    real = st.floats(smallest, greatest, width=width, allow_nan=False, allow_infinity=False)
    if dtype.kind == "c":
        return st.builds(complex, real, real)
    return real


def _noise(
    seed: int, shape: tuple[int, ...], dtype: np.dtype[Any], float_range: tuple[float, float]
) -> Array:
    random = np.random.default_rng(seed)
    if dtype.kind == "b":
        return random.integers(0, 2, shape).astype(bool)
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        return random.integers(limits.min, limits.max, shape, dtype=dtype.type, endpoint=True)
    return np.asarray(random.uniform(*float_range, shape)).astype(dtype)
