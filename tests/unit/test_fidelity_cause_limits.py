"""Where each pattern of errors begins and ends, in exact numbers."""

import numpy as np
import pytest
from edge_harness.fidelity import DEFAULTS, Tolerances
from edge_harness.fidelity.causes import Evidence, cause, file_differences, gain_of, over
from edge_harness.fidelity.graphs import Parameter


def evidence(actual, wanted, *, step=0.0, dtype="float32", zero_point=0, axis=-1):
    actual = np.asarray(actual, np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        stored = actual.astype(dtype)
    return Evidence(
        actual=actual,
        wanted=np.asarray(wanted, np.float64),
        step=step,
        stored=stored,
        zero_point=zero_point,
        channel_axis=axis,
    )


def steps(actual, wanted, **fields):
    return evidence(actual, wanted, **{"step": 1.0, "dtype": "int8"} | fields)


def is_over(found, *, alike=True, **limits):
    return over(found, DEFAULTS.but(limits), alike=alike)


# -- what errors are counted in --------------------------------------------------------------


def test_errors_are_counted_in_steps_or_in_the_greatest_finite_value():
    assert steps([3.0], [1.0], step=0.5).error.tolist() == [4.0]
    assert evidence([2.0, 0.0], [1.0, -4.0]).error.tolist() == [0.25, 1.0]
    assert evidence([1.0], [0.0]).error.tolist() == [1.0]
    assert evidence([1.0, 0.0], [np.inf, -4.0]).unit == 4.0


def test_the_same_infinity_on_both_sides_is_no_error():
    found = evidence([np.inf, -np.inf, 1.0], [np.inf, np.inf, 1.0]).error
    assert found.tolist() == [0.0, -np.inf, 0.0]


@pytest.mark.parametrize(
    ("shape", "axis", "channels"),
    [((6,), 1, (1, 6)), ((2, 3), 1, (3, 2)), ((2, 3, 4), 1, (4, 6)), ((2, 3, 4, 5), 1, (3, 40)),
     ((2, 3, 4, 5), -1, (5, 24))],
)  # fmt: skip
def test_channels_stand_second_or_last_of_four_dimensions_and_last_of_others(shape, axis, channels):
    values = np.arange(np.prod(shape)).reshape(shape)
    found = evidence(values, values, axis=axis).by_channel(values)
    assert found.shape == channels
    moved = np.moveaxis(values, axis if len(shape) == 4 else -1, 0) if len(shape) > 1 else values
    assert found.tolist() == moved.reshape(channels).tolist()


def test_a_gain_is_the_least_squares_one_with_its_standard_error():
    values = np.arange(1.0, 9.0)
    gain, doubt = gain_of(0.25 * values, values)
    assert gain == pytest.approx(0.25)
    assert doubt == pytest.approx(1e-12, rel=1e-3)
    ones = np.ones(8)
    signs = np.array([1.0, -1.0] * 4)
    assert gain_of(signs, ones) == (0.0, pytest.approx(np.sqrt(1 / 8)))
    assert gain_of(values[:7], values[:7]) == (0.0, np.inf)
    assert gain_of(ones, np.zeros(8)) == (0.0, np.inf)
    assert gain_of(2 * ones, 2 * ones)[0] == 1.0


# -- what is over tolerance ------------------------------------------------------------------


@pytest.mark.parametrize(("actual", "bad"), [(2.5, False), (2.51, True)])
def test_float_operators_may_add_a_share_of_the_greatest_value(actual, bad):
    found = evidence([actual, 1.0], [2.0, 1.0])
    assert is_over(found, layer_rtol=0.25, layer_rtol_float16=9) is bad
    half = evidence([actual, 1.0], [2.0, 1.0], dtype="float16")
    assert is_over(half, layer_rtol=0, layer_rtol_float16=0.25) is bad


@pytest.mark.parametrize(("actual", "bad"), [(4.0, False), (4.25, True)])
def test_quantized_operators_may_add_steps(actual, bad):
    assert is_over(steps([actual, 1.0], [2.0, 1.0]), layer_steps=2) is bad


@pytest.mark.parametrize(("factor", "bad"), [(1.004, False), (1.006, True), (0.994, True)])
def test_quantized_operators_may_not_scale_however_little_each_value_is_off(factor, bad):
    wanted = np.arange(-8.0, 9.0)
    assert is_over(steps(wanted * factor, wanted)) is bad


def test_a_gain_within_its_doubt_is_none():
    error = np.array([1.0, -1, 1, -1, 1, -1, 1, 1])
    assert gain_of(error, np.ones(8))[0] == 0.25
    assert not is_over(steps(1 + error, np.ones(8)))


@pytest.mark.parametrize(
    ("rows", "kinds", "share", "bad"),
    [
        (16, 16, 1.0, True),
        (15, 15, 1.0, False),  # too few values to say so
        (16, 8, 1.0, True),
        (16, 7, 1.0, False),  # a tie rounded otherwise
        (16, 16, 0.5, False),  # rounding to nearest
        (16, 16, 0.625, True),
    ],
)
def test_a_channel_may_not_be_shifted_by_more_than_half_a_step(rows, kinds, share, bad):
    wanted = np.stack([np.arange(rows) % kinds, np.arange(rows)], axis=1).astype(float)
    actual = wanted.copy()
    actual[: round(rows * share), 0] += 1
    assert is_over(steps(actual, wanted)) is bad


def test_a_shift_is_found_behind_a_channel_that_says_nothing():
    wanted = np.stack([np.full(32, 3), np.arange(32) * 3], axis=1).astype(float)
    actual = wanted + np.stack([np.ones(32), np.arange(32) % 4 > 0], axis=1)
    assert is_over(steps(actual, wanted), layer_gain=9)
    actual = wanted + np.stack([np.ones(32), np.arange(32) % 4 > 1], axis=1)
    assert not is_over(steps(actual, wanted), layer_gain=9)


@pytest.mark.parametrize(("actual", "bad"), [(11.0, False), (11.02, True)])
@pytest.mark.parametrize("step", [0.0, 0.5])
def test_beside_another_arithmetic_a_ratio_of_signal_to_noise_must_be_left(actual, bad, step):
    # 10² to 1² is 20 dB.
    assert is_over(evidence([actual], [10.0], step=step), alike=False) is bad
    assert is_over(evidence([actual], [10.0], step=step), alike=False, layer_sqnr_db=21)
    assert not is_over(evidence([10.0], [10.0], step=step), alike=False)


def test_what_is_not_finite_is_over():
    assert is_over(evidence([np.nan], [1.0]))
    assert is_over(evidence([np.inf], [1.0]), alike=False)
    assert not is_over(evidence([np.inf], [np.inf]))


# -- what it is taken for --------------------------------------------------------------------


def why(found, **limits):
    return cause(found, DEFAULTS.but(limits))


def test_values_that_only_the_device_loses_are_counted():
    told = why(evidence([np.nan, np.inf, np.nan, 1.0], [1.0, 2.0, np.nan, 1.0]))
    assert told == "2 values are NaN or infinite on the device only"


@pytest.mark.parametrize(("flushed", "told"), [(9, True), (8, False)])
@pytest.mark.parametrize(("dtype", "tiny"), [("float32", 1e-39), ("float16", 5e-5)])
def test_flush_to_zero_takes_nine_tenths_of_the_denormals(flushed, told, dtype, tiny):
    wanted = np.array([tiny] * 10 + [1.0, 0.0])
    actual = wanted.copy()
    actual[:flushed] = 0
    found = why(evidence(actual, wanted, dtype=dtype))
    assert (found == f"flush-to-zero: {flushed} denormal values are 0 on the device") is told


def test_whole_numbers_are_not_flushed():
    wanted = np.array([1e-39] * 10)
    assert "flush" not in why(steps(np.zeros(10), wanted))
    assert "flush" not in why(evidence(np.zeros(10), wanted, dtype="int32"))


CUT = np.array([0.0, 5, 10, 40, 50, 60])


@pytest.mark.parametrize(
    ("level", "text"),
    [
        (0.5, "a fused activation differs (Relu): the device cuts at 0"),
        (0.75, "a fused activation differs: the device cuts at 0.75"),
        (2.0, "a fused activation differs: the device cuts at 2"),
        (2.5, "saturation: the device does not pass 2.5"),
        (4.5, "saturation: the device does not pass 4.5"),
        (5.0, "a fused activation differs: the device cuts at 5"),
        (7.0, "a fused activation differs: the device cuts at 7"),
        (7.5, "saturation: the device does not pass 7.5"),
        (33.0, "saturation: the device does not pass 33"),
    ],
)
def test_a_level_has_a_name_within_a_step(level, text):
    wanted = np.array([-5.0, -4, -3, 40, 50, 60])
    told = why(steps(np.minimum(wanted, level), wanted))
    assert told == f"{text}: 3 of 3 wrong values stand there"


@pytest.mark.parametrize(
    ("level", "text"),
    [
        (-2.0, "a fused activation differs: the device cuts at -2"),
        (-2.5, "saturation: the device does not pass -2.5"),
        (-0.5, "a fused activation differs (Relu): the device cuts at 0"),
    ],
)
def test_a_level_may_be_the_least(level, text):
    wanted = np.array([5.0, 4, 3, -40, -50, -60])
    told = why(steps(np.maximum(wanted, level), wanted))
    assert told == f"{text}: 3 of 3 wrong values stand there"


def test_two_values_make_no_level():
    wanted = np.array([0.0, 5, 10, 50, 60])
    assert "does not pass" not in why(steps(np.minimum(wanted, 33), wanted))


def test_a_level_must_hold_half_of_all_error():
    # Three values stand at 33, 51 steps of error in all; one elsewhere is off by 51 or 53.
    for extra, told in ((51, True), (53, False)):
        wanted = np.array([0.0, 5, 40, 50, 60, -100])
        actual = np.minimum(wanted, 33)
        actual[5] += extra
        assert why(steps(actual, wanted)).startswith("saturation") is told


def test_standing_at_a_level_is_exact_to_a_millionth_of_a_step():
    wanted = np.array([0.0, 5, 10, 40, 50, 60])
    near, off = (np.minimum(wanted, 33) - np.array([0, 0, 0, e, 0, 0]) for e in (9e-7, 1.5e-6))
    assert "3 of 3 wrong values" in why(steps(near, wanted))
    assert "does not pass" not in why(steps(off, wanted))


def test_saturation_is_that_of_the_stored_type_and_its_zero_point():
    wanted = np.array([0.0, 1, 2, 70, 80, 90])
    top = np.minimum(wanted, 58.5)  # (127 - 10) * 0.5
    told = why(steps(top, wanted, step=0.5, zero_point=10))
    assert told.startswith("saturation at 127, the end of int8")
    low = why(steps(-np.minimum(wanted, 69.0), -wanted, step=0.5, zero_point=10))
    assert low.startswith("saturation at -128, the end of int8")
    # The reference saturates nothing that the device stores.
    assert why(steps(wanted, top, step=0.5, zero_point=10)).startswith("saturation: the reference")
    whole = why(evidence(np.minimum(CUT, 33), CUT, dtype="int32"))
    assert whole.startswith("saturation: the device does not pass 33")
    assert why(evidence(np.minimum(wanted * 9, 255), wanted * 9, dtype="uint8")).startswith(
        "saturation at 255, the end of uint8"
    )


def grid(rows=16, channels=4):
    """Values of many sizes, unlike in every channel."""
    return (np.arange(rows * channels).reshape(rows, channels) * 7 % 61 - 30).astype(float)


def test_one_channel_that_is_shifted_is_its_zero_point_or_bias():
    wanted = grid()
    actual = wanted.copy()
    actual[:, 2] += 3
    told = why(steps(actual, wanted))
    assert told == "only channel 2 is off, by +3.00 steps throughout: its zero point or its bias"


def test_one_channel_that_is_off_unevenly_is_its_weights():
    wanted = grid()
    actual = wanted.copy()
    actual[:, 2] += np.array([2.0, 6.0] * 8)  # mean 4, spread 2: more than 0.3 of it
    told = why(steps(actual, wanted))
    assert told == (
        "only channel 2 is off (by +4 on average): its weights' zero point, its scale or its "
        "weights"
    )
    even = wanted.copy()
    even[:, 2] += np.array([3.0, 5.0] * 8)  # spread 1: less than 0.3 of 4
    assert "throughout" in why(steps(even, wanted))


def test_a_channel_that_is_off_by_less_than_a_step_throughout_is_told_too():
    wanted = grid()
    actual = wanted.copy()
    actual[:, 1] += 0.75
    assert why(steps(actual, wanted)).startswith("only channel 1 is off, by +0.75 steps")


def test_float_channels_have_weights_and_no_zero_point():
    wanted = grid()
    actual = wanted.copy()
    actual[:, 0] -= 1.5
    told = why(evidence(actual, wanted))
    assert told == (
        "only channel 0 is off (by -0.05 on average): its weights' zero point, its scale or its "
        "weights"
    )


@pytest.mark.parametrize(("others", "told"), [(1, True), (2, False)])
def test_one_channel_holds_all_but_a_twentieth_of_the_wrong_values(others, told):
    wanted = grid(rows=32)
    actual = wanted.copy()
    actual[:20, 3] += np.array([4.0, 9.0] * 10)
    actual[:others, 0] += 4
    # 20 of 21 are 95.2 %, 20 of 22 are 90.9 %.
    assert why(steps(actual, wanted)).startswith("only channel 3") is told


def test_a_neighbour_that_is_shifted_half_as_much_is_another_pattern():
    wanted = grid()
    for shift, told in ((0.5, True), (0.625, False)):
        actual = wanted.copy()
        actual[:, 2] += 1.0 + np.array([0.25, -0.25] * 8)  # 8 values over a step, mean 1
        actual[:, 0] += shift
        assert why(steps(actual, wanted)).startswith("only channel 2") is told


def test_a_factor_is_told_with_four_digits():
    wanted = grid(64)
    assert why(steps(wanted * 1.25, wanted)) == "values are off by a factor of 1.2500: a scale"
    assert why(evidence(wanted * 0.9, wanted)) == "values are off by a factor of 0.9000: a scale"


@pytest.mark.parametrize(("gain", "told"), [(0.004, False), (0.006, True)])
def test_a_factor_of_steps_is_none_below_its_limit(gain, told):
    wanted = grid(64) * 4
    assert ("factor" in why(steps(wanted * (1 + gain), wanted), layer_steps=0.01)) is told


def test_factors_that_differ_by_channel_are_told_with_their_range():
    wanted = grid(64)
    told = why(steps(wanted * np.array([0.8, 1.2, 0.9, 1.1]), wanted))
    assert told == (
        "each channel is off by a factor of its own (0.800 to 1.200): per-tensor against "
        "per-channel scales"
    )


def test_two_factors_are_no_pattern_of_all_channels():
    wanted = grid(64, 2)
    assert "each channel" not in why(steps(wanted * np.array([0.8, 1.2]), wanted))


@pytest.mark.parametrize(
    ("spread", "told"), [([1, 1, 1, 1], True), ([2, 1, 2, 1], False), ([1, 1.5, 1, 1.5], True)]
)
def test_all_values_shifted_alike_are_a_zero_point(spread, told):
    wanted = grid(32)
    found = why(steps(wanted + np.tile(spread, (32, 1)), wanted), layer_gain=9)
    mean = float(np.mean(spread))
    text = f"all values are shifted by {mean:+.2f} steps: a zero point or bias"
    assert (found == text) is told


def test_half_a_step_is_no_shift():
    wanted = grid(32)
    assert "shifted" not in why(steps(wanted + 0.5, wanted), layer_gain=9)
    assert "shifted by +0.51" in why(steps(wanted + 0.51, wanted), layer_gain=9)


def signs(count):
    return np.array([1.0, -1.0] * (count // 2))


def test_rounding_is_told_with_its_share():
    wanted = np.arange(64.0)
    actual = wanted.copy()
    actual[:16] += signs(16)
    assert why(steps(actual, wanted)) == "rounding: 25.0% differ by one step"
    actual[:16] = wanted[:16] + 1.01 * signs(16)
    assert why(steps(actual, wanted)).startswith("rounding")
    actual[:16] = wanted[:16] + 1.02 * signs(16)
    assert why(steps(actual, wanted)) == ""


@pytest.mark.parametrize(("ones", "told"), [(12, False), (13, True)])
def test_rounding_to_one_side_is_a_mode(ones, told):
    wanted = np.arange(60.0) * 3
    actual = wanted.copy()
    actual[:ones] -= 1
    found = why(steps(actual, wanted), layer_gain=9)
    # 12 of 60 are a mean of a fifth of a step.
    text = f"rounding mode: {ones / 60:.0%} differ by one step, all to one side (truncation?)"
    assert (found == text) is told


@pytest.mark.parametrize(
    ("power", "told"),
    [(-13, ""), (-12.9, "float16"), (-10.1, "float16"), (-10, "bfloat16"), (-7.1, "bfloat16"),
     (-7, "")],
)  # fmt: skip
def test_the_typical_error_tells_the_precision(power, told):
    wanted = np.arange(1.0, 17.0)
    found = why(evidence(wanted * (1 + 2.0**power * signs(16)), wanted, dtype="float64"))
    assert found.startswith(f"errors of the size of {told}'s rounding" if told else "") is True
    assert bool(found) is bool(told)


def test_errors_of_values_near_zero_are_measured_against_the_tensors_scale():
    wanted = np.array([1000.0] + [1e-9, -1e-9] * 8)
    actual = wanted + np.array([0.0] + [2.0**-12, -(2.0**-12)] * 8)  # of 1000 / 1000
    assert "float16's rounding" in why(evidence(actual, wanted, dtype="float64"))


# -- what the files say ----------------------------------------------------------------------


def parameter(position, values, scales=(), zeros=()):
    return Parameter(position=position, values=np.asarray(values), scales=scales, zero_points=zeros)


def test_only_parameters_that_could_be_alike_are_held_against_each_other():
    mine = parameter(1, np.int8([1, 2]), (0.5,), (0,))
    assert file_differences([mine], []) == ""
    assert file_differences([mine], [parameter(1, np.int8([1, 2, 3]), (0.25,), (4,))]) == ""
    assert file_differences([mine], [parameter(1, np.float32([9, 9]))]) == ""
    assert file_differences([mine], [parameter(1, np.int8([1, 2]), (0.5, 0.5), (0, 0))]) == ""


@pytest.mark.parametrize(
    ("position", "name"), [(0, "input"), (1, "weights"), (2, "bias"), (3, "input 3")]
)
def test_parameters_have_names(position, name):
    told = file_differences([parameter(position, [1, 2, 3])], [parameter(position, [1, 5, 6])])
    assert told == f"2 of 3 values of its {name} differ"


def test_a_change_of_every_channel_names_none_and_many_are_cut():
    ones, twos = (1.0,) * 6, (2.0,) * 6
    values = np.zeros(6, np.int8)
    told = file_differences([parameter(1, values, twos)], [parameter(1, values, ones)])
    assert told == "the scale of its weights is ×2.0000"
    some = (3.0, 3.0, 3.0, 3.0, 3.0, 1.0)
    told = file_differences([parameter(1, values, some)], [parameter(1, values, ones)])
    assert told == "the scale of its weights of channel 0, 1, 2, 3, … is ×3.0000"
    told = file_differences(
        [parameter(1, values, ones, (0, 0, -2, 0, 0, 0))],
        [parameter(1, values, ones, (0, 0, 1, 0, 0, 0))],
    )
    assert told == "the zero point of its weights, channel 2, is -3"


def test_a_limit_of_ones_own_counts():
    assert cause(steps([1.0, 2.0], [1.0, 2.0]), Tolerances()) == "rounding: 0.0% differ by one step"
