"""What patterns of errors are taken for."""

from types import SimpleNamespace

import numpy as np
import pytest
from edge_harness.errors import InputError
from edge_harness.fidelity import DEFAULTS
from edge_harness.fidelity.causes import Evidence, cause, file_differences, gain_of, over
from edge_harness.fidelity.graphs import Node, Parameter
from edge_harness.fidelity.layer_names import pairs

RANDOM = np.random.default_rng(7)
SHAPE = (1, 6, 6, 8)


def steps(actual, wanted, dtype=np.int8):
    """Evidence in steps of 1 around a zero point of 0, channels last."""
    return Evidence(
        actual=np.asarray(actual, np.float64),
        wanted=np.asarray(wanted, np.float64),
        step=1.0,
        stored=np.asarray(actual).astype(dtype),
        zero_point=0,
        channel_axis=-1,
    )


def reals(actual, wanted, dtype=np.float32):
    return Evidence(
        actual=np.asarray(actual, np.float64),
        wanted=np.asarray(wanted, np.float64),
        step=0.0,
        stored=np.asarray(actual, dtype),
        zero_point=0,
        channel_axis=-1,
    )


def whole(scale=40.0):
    return np.clip(np.round(RANDOM.normal(0, scale, SHAPE)), -120, 120)


def judged(evidence):
    return over(evidence, DEFAULTS, alike=True), cause(evidence, DEFAULTS)


def test_rounding_here_and_there_is_within_tolerance():
    wanted = whole()
    actual = wanted + (RANDOM.random(SHAPE) < 0.1) * RANDOM.choice([-1, 1], SHAPE)
    bad, why = judged(steps(actual, wanted))
    assert not bad
    assert why.startswith("rounding:")


def test_truncation_is_over_tolerance_though_no_value_is_off_by_more_than_a_step():
    exact = RANDOM.normal(0, 40, SHAPE)
    bad, why = judged(steps(np.floor(exact), np.round(exact)))
    assert np.abs(np.floor(exact) - np.round(exact)).max() == 1
    # Half of the values are one lower: a mean of half a step, which some channel exceeds.
    assert bad
    assert "rounding mode" in why
    assert "truncation" in why


def test_one_percent_is_a_scale():
    wanted = whole()
    bad, why = judged(steps(np.round(wanted * 1.01), wanted))
    assert bad
    assert "a scale" in why


def test_a_gain_for_each_channel_is_per_tensor_against_per_channel():
    wanted = whole()
    gains = np.linspace(0.7, 1.3, SHAPE[-1])
    _, why = judged(steps(np.round(wanted * gains), wanted))
    assert "per-tensor against per-channel" in why


def test_a_zero_point_of_one_channel():
    wanted = whole()
    actual = wanted.copy()
    actual[..., 3] += 1
    bad, why = judged(steps(actual, wanted))
    assert bad
    assert "only channel 3 is off, by +1.00 steps throughout" in why


def test_a_zero_point_of_the_whole_tensor():
    wanted = whole()
    bad, why = judged(steps(wanted - 1, wanted))
    assert bad
    assert "all values are shifted by -1.00 steps" in why


def test_a_tie_rounded_otherwise_wherever_it_stands_is_no_shift():
    wanted = whole()
    wanted[..., 3] = 17.0
    actual = wanted.copy()
    actual[..., 3] += 1
    assert not over(steps(actual, wanted), DEFAULTS, alike=True)


def test_saturation_at_the_end_of_the_type():
    wanted = RANDOM.normal(60, 60, SHAPE).round()
    bad, why = judged(steps(np.clip(wanted, -128, 127), wanted))
    assert bad
    assert why.startswith("saturation at 127, the end of int8")


@pytest.mark.parametrize(
    ("cut", "text"),
    [
        (lambda v: np.maximum(v, 0), "a fused activation differs (Relu): the device cuts at 0"),
        (lambda v: np.clip(v, -99, 6), "a fused activation differs: the device cuts at 6"),
        (lambda v: np.clip(v, -99, 33), "saturation: the device does not pass 33"),
    ],
)
def test_a_level_that_is_never_passed(cut, text):
    wanted = whole()
    _, why = judged(steps(cut(wanted), wanted))
    assert why.startswith(text)


def test_an_activation_that_only_the_reference_has():
    values = whole()
    _, why = judged(steps(values, np.maximum(values, 0)))
    assert why.startswith("a fused activation differs (Relu): the reference cuts at 0")


def test_denormals_that_become_zero_are_flush_to_zero():
    wanted = np.full((4, 4), 1e-39)
    bad, why = judged(reals(np.zeros((4, 4)), wanted))
    assert bad
    assert why.startswith("flush-to-zero: 16 denormal values")


def test_half_precision_shows_in_the_size_of_its_errors():
    wanted = RANDOM.normal(0, 1, SHAPE)
    bad, why = judged(reals(wanted.astype(np.float16), wanted))
    assert bad
    assert "half-precision" in why


def test_sums_in_another_order_are_within_tolerance():
    wanted = RANDOM.normal(0, 1, SHAPE)
    assert not over(reals(wanted.astype(np.float32), wanted), DEFAULTS, alike=True)


def test_nan_on_the_device_is_over_every_tolerance():
    wanted = RANDOM.normal(0, 1, SHAPE)
    actual = wanted.copy()
    actual[0, 0, 0, 0] = np.nan
    bad, why = judged(reals(actual, wanted))
    assert bad
    assert why == "1 values are NaN or infinite on the device only"
    assert over(reals(actual, wanted), DEFAULTS, alike=False)


def test_between_arithmetics_only_the_noise_counts():
    wanted = RANDOM.normal(0, 1, SHAPE)
    assert not over(reals(wanted * 1.05, wanted), DEFAULTS, alike=False)  # 26 dB
    assert over(reals(wanted * 1.2, wanted), DEFAULTS, alike=False)  # 14 dB


def test_a_gain_needs_enough_values():
    assert gain_of(np.array([1.0]), np.array([1.0])) == (0.0, np.inf)


def parameter(values, position=1, scales=(), zero_points=()):
    return Parameter(
        position=position, values=np.asarray(values), scales=scales, zero_points=zero_points
    )


def test_files_that_differ_say_where():
    same = parameter([1, 2], scales=(0.5, 0.5), zero_points=(0, 0))
    assert file_differences([same], [same]) == ""
    other = parameter([1, 3], scales=(0.5, 1.0), zero_points=(0, 1))
    told = file_differences([other], [same])
    assert "the scale of its weights of channel 1 is ×2.0000" in told
    assert "the zero point of its weights, channel 1, is +1" in told
    assert "1 of 2 values of its weights differ" in told
    assert "bias" in file_differences([parameter([1], 2)], [parameter([2], 2)])


# -- names ---------------------------------------------------------------------------------------


def graph(*outputs):
    return SimpleNamespace(nodes=tuple(Node(op=op, inputs=(), output=name) for op, name in outputs))


def test_equal_names_come_before_equal_places():
    ours = graph(("CONV_2D", "a"), ("SOFTMAX", "b"))
    assert pairs(ours, graph(("Conv", "b"), ("Relu", "a"), ("Softmax", "c")), None) == {
        "a": "a",
        "b": "b",
    }


def test_the_same_sequence_of_operators_is_matched_by_place():
    ours = graph(("QUANTIZE", "q"), ("CONV_2D", "x"), ("SOFTMAX", "y"))
    assert pairs(ours, graph(("CONV_2D", "k"), ("SOFTMAX", "l")), None) == {"x": "k", "y": "l"}


def test_what_converters_add_to_names_is_left_out():
    ours = graph(("CONV_2D", "model/conv/Relu;model/conv/BiasAdd"), ("ADD", "sum_quantized"))
    theirs = graph(("Conv", "model/conv/Relu:0"), ("Relu", "r"), ("Add", "sum"))
    assert pairs(ours, theirs, None) == {
        "model/conv/Relu;model/conv/BiasAdd": "model/conv/Relu:0",
        "sum_quantized": "sum",
    }


def test_names_of_the_user_are_checked():
    ours, theirs = graph(("A", "a")), graph(("B", "b"))
    assert pairs(ours, theirs, {"a": "b"}) == {"a": "b"}
    assert pairs(ours, theirs, lambda name: "b") == {"a": "b"}
    with pytest.raises(InputError, match="'z'"):
        pairs(ours, theirs, {"a": "z"})
