"""How far apart two outputs are, in exact numbers."""

import math

import numpy as np
import pytest
from edge_harness.errors import InputError
from edge_harness.fidelity.distance import FLOAT_ATOL, FLOAT_RTOL, Tolerance, distance

from tests.makers import tensor

INT8 = tensor("y", "int8", (3,), scales=(0.5,), zero_points=(-1,))
REAL = tensor("y", "float32", (3,))


def far(actual, wanted, mine=REAL, theirs=None, *, step=0.0, **tolerance):
    theirs = theirs or mine
    return distance(
        np.asarray(actual, mine.dtype),
        np.asarray(wanted, theirs.dtype),
        mine,
        theirs,
        Tolerance(**tolerance),
        step=step,
    )


def test_the_defaults_are_polygraphys():
    # tools/Polygraphy: `polygraphy run --rtol --atol`, both 1e-5; steps are exact by default.
    assert (FLOAT_RTOL, FLOAT_ATOL) == (1e-5, 1e-5)
    assert (Tolerance().max_steps, Tolerance().rtol, Tolerance().atol) == (0, 1e-5, 1e-5)


def test_equally_quantized_integers_are_compared_as_integers():
    found = far([1, -128, 3], [1, 127, 5], INT8, max_steps=100)
    assert (found.units, found.shown) == (2.55, 255.0)
    assert found.text == (
        "up to 255 steps off (allowed 100): at [1] -128 instead of 127; 1 of 3 values are too far"
    )
    assert far([1, 2, 3], [1, 2, 3], INT8).units == 0.0
    assert far([1, 2, 3], [1, 2, 4], INT8).units == math.inf  # of a tolerance of no steps
    assert far([1, 2, 3], [1, 2, 4], INT8, max_steps=1).units == 1.0
    assert "2 of 3 values are too far" in far([1, 2, 3], [0, 2, 4], INT8).text


def test_other_scales_or_zero_points_are_compared_in_real_values():
    coarse = tensor("y", "int8", (2,), scales=(1.0,), zero_points=(-1,))
    found = far([1, 3], [0, 0], INT8, coarse, max_steps=1)  # 1.0 and 2.0 against 1.0, in halves
    assert (found.shown, found.units) == (2.0, 2.0)
    shifted = tensor("y", "int8", (2,), scales=(0.5,), zero_points=(0,))
    assert far([1, 3], [2, 4], INT8, shifted).shown == 0.0


def test_a_real_reference_is_put_on_our_scale_and_a_step_is_one_step():
    found = far([1, 3], [1.0, 1.5], INT8, REAL)
    assert found.shown == 1.0
    # Scales are float32: a step of them is not 1.0000001 of a step.
    assert far([1], [1.0 + 0.5 * 1.0004], INT8, REAL, max_steps=1).units == 1.0
    assert far([1], [1.0 + 0.5 * 1.001], INT8, REAL, max_steps=1).units > 1


def test_real_outputs_that_were_integers_are_compared_in_their_steps():
    found = far([0.5, 0.25], [0.5, 0.75], step=0.25, max_steps=1)
    assert (found.units, found.shown) == (2.0, 2.0)
    assert far([1.0], [1.0 + 1e-6]).shown == pytest.approx(0.0477, abs=1e-3)


def test_wide_integers_are_exact():
    whole = tensor("y", "int64", (2,))
    found = far([2**62, 0], [2**62 + 1, 0], whole, max_steps=1)
    assert found.shown == 1.0
    unsigned = tensor("y", "uint64", (1,))
    assert far([2**64 - 1], [0], unsigned).shown == float(2**64 - 1)
    truth = tensor("y", "bool", (1,))
    assert far([True], [False], truth).shown == 1.0


def test_nan_is_infinitely_many_steps():
    for actual, wanted in (([np.nan], [1.0]), ([1.0], [np.nan]), ([np.nan], [np.nan])):
        found = far(actual, wanted, step=0.5, max_steps=1e9)
        assert (found.units, found.shown) == (math.inf, math.inf)
    both = far([1.0, np.nan], [9.0, 1.0], step=0.5, max_steps=99)
    assert "1 of 2 values are too far" in both.text


def test_floats_are_held_to_atol_and_rtol_of_the_reference():
    found = far([1.0, 8.5], [1.0, 8.0], atol=0.5, rtol=0.25)
    assert found.units == 0.2  # of 0.5 + 0.25 * 8
    assert found.shown == found.units
    assert found.text == (
        "up to 0.2 times the tolerance off (atol 0.5, rtol 0.25): at [1] "
        f"{np.float32(8.5)!r} instead of {np.float32(8.0)!r}; 0 of 2 values are too far"
    )
    assert far([8.0], [8.5], atol=0.0, rtol=0.25).units == pytest.approx(0.5 / 2.125)
    assert far([1.25, 3.0], [1.0, 1.0], atol=0.25, rtol=0).units == 8.0
    assert "1 of 2 values are too far" in far([1.25, 3.0], [1.0, 1.0], atol=0.25, rtol=0).text
    assert far([1e-30], [0.0], atol=0, rtol=0).units > 1e200


def test_nan_is_itself_and_never_near_a_number():
    assert far([np.nan, 1.0], [np.nan, 1.0]).units == 0.0
    assert far([np.nan], [1.0]).units == math.inf
    assert far([1.0], [np.nan]).units == math.inf
    assert far([np.inf, -np.inf], [np.inf, -np.inf]).units == 0.0
    assert far([np.inf], [-np.inf]).units == math.inf
    assert far([np.inf], [1.0]).units == math.inf


def test_complex_numbers_are_compared_by_their_distance():
    kind = tensor("y", "complex64", (1,))
    assert far([3 + 4j], [0], kind, atol=1, rtol=0).units == 5.0


def test_nothing_is_no_distance_and_other_shapes_have_none():
    assert far([], []).units == 0.0
    with pytest.raises(InputError, match=r"output 'y' has shape \[2\], the reference \[1\]"):
        far([1, 2], [1])
