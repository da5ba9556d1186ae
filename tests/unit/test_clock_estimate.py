"""What an estimate tells: its text, ratios of two, percentiles of many."""

import math
from dataclasses import replace
from functools import partial

import pytest
from edge_harness.clock.estimate import (
    Comparison,
    Percentiles,
    longest,
)
from edge_harness.errors import InputError

from tests import makers
from tests.makers import operator

estimate = partial(
    makers.estimate,
    operators=(operator("conv_7;relu"), operator("sum", 0.5, kind="ADD", bound="memory")),
    notes=("a cool board",),
)


BODY = """\
  computing 7 ms (70%), waiting for memory 2 ms (20%), overhead 1 ms (10%);
    first inference 20 ms
   40%         4 ms  CONV_2D           conv_7 (compute-bound)
    5%       0.5 ms  ADD               sum (memory-bound)
  from: device-clock ±25%, a test
  note: a cool board"""
HEAD = "10 ms on rpi4 (8 to 12.5), tflite-runtime 2.14.0, builtin"


def test_the_text_of_an_estimate():
    assert estimate().explain() == f"{HEAD} (no delegate), 4\n    thread(s)\n{BODY}"


@pytest.mark.parametrize(
    ("budget", "head", "advice"),
    [
        (13, "within the budget of 13 ms: ", "nothing to do"),
        (
            11,
            "cannot tell whether it is within 11 ms: ",
            (
                "measure on a real board and calibrate with it (edge-harness calibrate), or give "
                "the budget 14% more room"
            ),
        ),
        (
            4,
            "over the budget of 4 ms: ",
            (
                "2.5× too slow and compute-bound: 8-bit integers if it has none, a narrower or "
                "smaller model, more threads, or a faster board"
            ),
        ),
    ],
)
def test_the_text_with_a_budget_says_what_it_means_and_what_to_do(budget, head, advice):
    words = " ".join(estimate().explain(budget).split())
    assert words.startswith(f"{head}10 ms on rpi4 (8 to 12.5), tflite-runtime 2.14.0")
    assert words.endswith(f"note: a cool board next: {advice}")


def test_what_waits_for_memory_is_told_so():
    bound = estimate(compute_ms=2.0, memory_ms=7.0)
    assert "2.5× too slow and memory-bound: 8-bit weights" in bound.explain(4)
    assert "compute-bound: " in estimate(compute_ms=4.5, memory_ms=4.5).explain(4)
    even = estimate(compute_ms=3.0, memory_ms=2.0, overhead_ms=5.0)
    assert "most of it overhead" not in even.explain(4)
    assert "most of it overhead" in estimate(
        compute_ms=3.0, memory_ms=1.9, overhead_ms=5.1
    ).explain(4)


def test_only_the_longest_operators_are_told():
    many = tuple(operator(f"layer_{n}", 1.0) for n in range(12))
    assert estimate(operators=many).explain().count("layer_") == 5
    assert len(estimate(operators=many).as_dict()["operators"]) == 10


def test_names_that_converters_joined_are_cut_to_one_line():
    long = "a/very/long/name/of/a/layer/conv_17"
    text = estimate(operators=(operator(long, 1.0),)).explain()
    assert f"…{long[-24:]} (compute-bound)" in text
    fits = "x" * 25
    assert f" {fits} (" in estimate(operators=(operator(fits, 1.0),)).explain()


def test_plain_values_have_every_field():
    plain = estimate().as_dict()
    assert plain["latency_ms"] == 10.0
    assert plain["operators"][0] == {
        "name": "conv_7;relu",
        "kind": "CONV_2D",
        "instructions": 1000,
        "latency_ms": 4.0,
        "share": 0.4,
        "bound": "compute",
    }
    assert (plain["kind"], plain["cached"]) == ("device-clock", False)


def test_the_error_of_an_estimate():
    assert estimate().error == 0.25
    assert estimate(latency_ms=0.0, low_ms=0.0).error == math.inf


def test_the_longest_come_first_and_equal_ones_in_their_order():
    first, second, third = operator("a", 1.0), operator("b", 2.0), operator("c", 1.0)
    assert [o.name for o in longest([first, second, third])] == ["b", "a", "c"]


# -- two of them -----------------------------------------------------------------------------------


def test_only_what_differs_is_uncertain_in_a_ratio():
    before = estimate(operators=(operator("a", 6.0), operator("b", 4.0, instructions=7)))
    now = estimate(latency_ms=12.0, operators=(operator("a", 6.0), operator("c", 6.0)))
    ratio = now.compare(before)
    off = math.sqrt(1.25)
    assert ratio.ratio == 1.2
    assert ratio.low == pytest.approx((6 + 6 / off) / (6 + 4 * off))
    assert ratio.high == pytest.approx((6 + 6 * off) / (6 + 4 / off))
    assert str(Comparison(ratio=1.2, low=1.05, high=1.3456)) == "1.200× (1.050 to 1.346)"


def test_steps_are_common_once_and_by_kind_and_instructions():
    one = estimate(operators=(operator("a", 2.0), operator("b", 2.0)))
    other = estimate(operators=(operator("c", 3.0), operator("d", 3.0, kind="ADD")))
    off = math.sqrt(1.25)
    assert one.compare(other).high == pytest.approx((2 + 8 * off) / (2 + 8 / off))


def test_the_wider_bounds_of_two_decide():
    rough = estimate(high_ms=20.0, operators=())
    off = math.sqrt(2.0)
    for ratio in (rough.compare(estimate()), estimate().compare(rough)):
        assert (ratio.low, ratio.high) == pytest.approx((1 / off / off, off * off))
        assert not ratio.slower
        assert not ratio.faster


def test_slower_and_faster_are_said_only_where_they_are_certain():
    assert Comparison(ratio=1.2, low=1.01, high=1.4).slower
    assert not Comparison(ratio=1.2, low=1.0, high=1.4).slower
    assert Comparison(ratio=0.8, low=0.7, high=0.99).faster
    assert not Comparison(ratio=0.8, low=0.7, high=1.0).faster


def test_overhead_that_is_most_of_one_draws_no_ratio_to_one():
    short = {"operators": (), "latency_ms": 1.0, "low_ms": 0.1, "high_ms": 1.25, "memory_ms": 0.0}
    one = estimate(compute_ms=0.2, overhead_ms=0.8, **short)
    other = estimate(compute_ms=0.4, overhead_ms=0.6, **short)
    off = math.sqrt(1.25)
    ratio = other.compare(one)
    assert ratio.high == pytest.approx(0.4 * off / (0.2 / off))
    assert ratio.low == pytest.approx(1 / off / off)
    assert one.compare(other).low == pytest.approx(0.2 / off / (0.4 * off))
    # One of them is enough.
    long = estimate(latency_ms=1.0, low_ms=0.8, high_ms=1.25, compute_ms=0.9, overhead_ms=0.1)
    assert one.compare(replace(long, operators=())).low == pytest.approx(0.2 / off / (0.9 * off))
    # What both have in common stays certain there, too.
    alike = (operator("a", 0.1),)
    first, second = (
        estimate(compute_ms=ms, overhead_ms=1 - ms, **{**short, "operators": alike})
        for ms in (0.2, 0.4)
    )
    assert second.compare(first).high == pytest.approx((0.1 + 0.3 * off) / (0.1 + 0.1 / off))
    half = estimate(compute_ms=0.5, overhead_ms=0.5, **short)
    assert half.compare(half).high == pytest.approx(off * off)


# -- many of them ----------------------------------------------------------------------------------


def many(count, **changes):
    return Percentiles(
        estimates=tuple(estimate(latency_ms=float(n), **changes) for n in range(1, count + 1))
    )


def test_percentiles_are_by_nearest_rank():
    assert [many(20).latency_ms(p) for p in (5, 5.1, 50, 55, 94.9, 95)] == [1, 2, 10, 11, 19, 19]
    assert many(100).latency_ms(99) == 99
    assert many(3).worst.latency_ms == 3


@pytest.mark.parametrize(
    ("count", "percent", "needed"), [(20, 95.1, 21), (99, 99, 100), (99, 1, 100), (4, 76, 5)]
)
def test_a_percentile_of_too_few_is_refused_with_how_many_it_takes(count, percent, needed):
    with pytest.raises(InputError, match=rf"p{percent:g} of {count} samples") as caught:
        many(count).latency_ms(percent)
    assert f"at least {needed} samples" in caught.value.next_step


@pytest.mark.parametrize("percent", [0, 100, -1, 101])
def test_a_percentile_out_of_range_is_refused(percent):
    with pytest.raises(InputError, match="no percentile"):
        many(1000).latency_ms(percent)


def test_data_decide_where_inputs_take_different_numbers_of_instructions():
    assert not many(3).data_dependent
    found = Percentiles(estimates=(estimate(instructions=1), estimate(instructions=2)))
    assert found.data_dependent
