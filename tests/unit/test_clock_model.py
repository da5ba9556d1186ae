"""Cycles and misses to milliseconds; fits; what is left out; the answer."""

import dataclasses
import math

import msgspec
import numpy as np
import pytest
from edge_harness.clock.calibrate.fit import NAMES, Arrays, Row, errors, fit, half_width
from edge_harness.clock.calibrate.held_out import (
    Errors,
    calibrated,
    fitted,
    left_out,
    linear,
    minor_families,
)
from edge_harness.clock.calibrate.instruction_rate import fit_instruction_rate
from edge_harness.clock.cost import Cost, cost, step_cost
from edge_harness.clock.estimate import OperatorTime, Percentiles
from edge_harness.clock.instruction_rate import InstructionRate
from edge_harness.clock.milliseconds import bounds
from edge_harness.clock.pipeline import core_named
from edge_harness.clock.steps import Step
from edge_harness.clock.trust import general, general_parameters, thread_equivalent, trust_for
from edge_harness.errors import InputError, OptionError
from edge_harness.profiles import default_registry
from edge_harness.profiles.clock import Parameters
from edge_harness.profiles.shape import Cluster

from tests.makers import PLAIN, estimate


def step(**changes):
    fields = {
        "name": "s",
        "kind": "CONV_2D",
        "instructions": 1000,
        "cycles": 3e6,
        "serial_cycles": 0.0,
        "l1_misses": 1000,
        "l2_misses": 0,
        "dram_lines": 10_000,
        "dram_again": 0,
    }
    return Step(**{**fields, **changes})


def test_computing_is_cycles_over_the_clock():
    alone = step(l1_misses=0, dram_lines=0)
    assert step_cost(alone, PLAIN, mhz=1500, threads=1).total_ms == pytest.approx(2.0)


def test_memory_is_lines_over_the_rate():
    waiting = step(cycles=0.0, l1_misses=0, dram_lines=31_250)  # 2 MB at 2 GB/s
    assert step_cost(waiting, PLAIN, mhz=1500, threads=1).total_ms == pytest.approx(1.0)


def test_threads_shorten_what_is_shared_and_leave_the_rest():
    shared = step(l1_misses=0, dram_lines=0)
    four = step_cost(shared, PLAIN, mhz=1500, threads=4)
    assert four.compute_ms == pytest.approx(2.0 / (1 + 3 * 0.8))
    assert four.overhead_ms == pytest.approx(0.01)
    serial = step(l1_misses=0, dram_lines=0, serial_cycles=3e6)
    assert step_cost(serial, PLAIN, mhz=1500, threads=4).total_ms == pytest.approx(2.0)


def test_the_calling_threads_part_is_not_divided():
    """A third is serial: of the waits for L1 and L2, too."""
    mixed = step(cycles=3e6, serial_cycles=1e6, l1_misses=60_000, l2_misses=30_000, dram_lines=0)
    four = step_cost(mixed, PLAIN, mhz=1500, threads=4)
    waits = 60_000 * 5.0 + 30_000 * 10.0
    speedup = 1 + 3 * 0.8
    cycles = 1e6 + waits / 3 + (2e6 + waits * 2 / 3) / speedup
    assert four.compute_ms == pytest.approx(cycles / 1.5e6, rel=1e-12)


def test_the_fitted_factor_is_on_the_cores_cycles_and_not_on_the_waits():
    parameters = msgspec.structs.replace(PLAIN, compute=1.4)
    waiting = step(cycles=3e6, serial_cycles=1e6, l1_misses=60_000, dram_lines=0)
    alone = step_cost(waiting, parameters, mhz=1500, threads=1)
    assert alone.compute_ms == pytest.approx((3e6 * 1.4 + 60_000 * 5.0) / 1.5e6, rel=1e-12)


@pytest.mark.parametrize(("field", "cycles"), [("l1_misses", 5.0), ("l2_misses", 10.0)])
def test_misses_of_each_level_cost_their_cycles(field, cycles):
    bare = step(l1_misses=0, l2_misses=0, dram_lines=0)
    missing = dataclasses.replace(bare, **{field: 150_000})
    costs = [step_cost(s, PLAIN, mhz=1500, threads=1).total_ms for s in (missing, bare)]
    assert costs[0] - costs[1] == pytest.approx(150_000 * cycles / 1.5e6, rel=1e-9)


@pytest.mark.parametrize(("serial", "handed_over"), [(0.4, True), (0.5, False), (0.6, False)])
def test_only_what_is_mostly_shared_waits_for_other_threads(serial, handed_over):
    part = step(cycles=3e6, serial_cycles=serial * 3e6)
    assert step_cost(part, PLAIN, mhz=1500, threads=2).overhead_ms == (0.01 if handed_over else 0)
    assert step_cost(part, PLAIN, mhz=1500, threads=1).overhead_ms == 0


def test_threads_share_what_is_fetched_again():
    again = step(cycles=1.0, l1_misses=0, dram_lines=31_250, dram_again=31_250)
    assert step_cost(again, PLAIN, mhz=1500, threads=3).memory_ms == pytest.approx(0.5, rel=1e-3)
    half = step(cycles=1.0, l1_misses=0, dram_lines=31_250, dram_again=15_625)
    assert step_cost(half, PLAIN, mhz=1500, threads=3).memory_ms == pytest.approx(0.75, rel=1e-3)
    # What the calling thread does alone is fetched by nobody else.
    alone = step(cycles=1.0, serial_cycles=1.0, l1_misses=0, dram_lines=31_250, dram_again=31_250)
    assert step_cost(alone, PLAIN, mhz=1500, threads=3).memory_ms == pytest.approx(1.0, rel=1e-3)


@pytest.mark.parametrize("overlap", [1.0, 2.0, 8.0])
def test_both_together_are_the_norm_of_both(overlap):
    parameters = msgspec.structs.replace(PLAIN, overlap=overlap)
    got = step_cost(step(), parameters, mhz=1500, threads=1)
    compute, memory = (3e6 + 5000) / 1.5e6, 10_000 * 64 / 2e6
    both = (compute**overlap + memory**overlap) ** (1 / overlap)
    assert got.total_ms == pytest.approx(both, rel=1e-12)
    assert got.compute_ms == pytest.approx(compute, rel=1e-12)
    assert got.memory_ms == pytest.approx(both - compute, rel=1e-9)


def test_filling_float_inputs_and_entering_the_runtime_are_extra():
    bare = cost([step()], PLAIN, mhz=1500, threads=1, float_inputs=3000, whole=False)
    whole = cost([step()], PLAIN, mhz=1500, threads=1, float_inputs=3000)
    assert whole.total_ms - bare.total_ms == pytest.approx(0.1 + 3000 * 50 / 1.5e6)
    assert whole.around_ms == pytest.approx(0.1 + 3000 * 50 / 1.5e6)
    assert bare.around_ms == 0
    parts = whole.compute_ms + whole.memory_ms + whole.overhead_ms
    assert whole.total_ms == pytest.approx(parts)
    two = cost([step(), step()], PLAIN, mhz=1500, threads=4, whole=False)
    one = step_cost(step(), PLAIN, mhz=1500, threads=4)
    assert two.total_ms == pytest.approx(2 * one.total_ms)
    assert two.overhead_ms == pytest.approx(0.02)


def rows(parameters, seed=0, boards=("here",), noise=0.0):
    generator = np.random.default_rng(seed)
    found = []
    for board in boards:
        for number in range(24):
            scale = 10 ** generator.uniform(-1, 1)
            made = [
                step(
                    cycles=scale * generator.uniform(1e6, 6e6),
                    serial_cycles=scale * generator.uniform(0, 5e5),
                    l1_misses=int(scale * generator.uniform(1e4, 2e5)),
                    dram_lines=int(scale * generator.uniform(1e3, 1e5)),
                    dram_again=int(scale * 900),
                )
                for _ in range(5)
            ]
            row = Row(
                id=f"{board}-{number}",
                board=board,
                core="cortex-a72",
                family=f"family {number % 3}",
                model=f"model {number // 2}",
                precision="int8" if number % 2 else "fp32",
                latency_ms=1.0,
                mhz=1500,
                threads=(1, 2, 4)[number % 3],
                float_inputs=0 if number % 2 else 150_000,
                whole=number % 5 > 0,
                steps=made,
                dram_peak_gb_s=12.8,
                macs=int(scale * 1e7),
                activation_bytes=int(scale * 1e6),
            )
            measured = row.predict(parameters) * math.exp(noise * generator.standard_normal())
            found.append(dataclasses.replace(row, latency_ms=measured))
    return found


def test_the_arrays_and_the_model_are_one_formula():
    table = rows(PLAIN)
    values = msgspec.structs.asdict(PLAIN)
    for other in (1.0, 1.3):
        changed = {**values, "compute": other, "overlap": 1.5}
        parameters = msgspec.convert(changed, Parameters)
        expected = [row.predict(parameters) for row in table]
        got = Arrays(table).predict(changed, changed["dram_gb_s"])
        np.testing.assert_allclose(got, expected, rtol=1e-12)


def test_a_fit_predicts_what_it_was_not_shown():
    truth = msgspec.structs.replace(PLAIN, compute=1.4, dram_gb_s=3.5, input_cycles=80.0)
    table = rows(truth, noise=0.01)
    held = left_out(table, lambda row: row.model, fitted(None), "model")
    assert len(held.values) == len(table)
    assert held.mean < 0.05
    assert abs(errors(table, fit(table))).mean() < 0.03


def test_a_calibration_keeps_bounds_that_cover_what_was_left_out():
    table = rows(PLAIN, noise=0.03)
    clock = calibrated(table, None, "a test")
    assert clock.rows == len(table)
    assert clock.shortest_ms == min(row.latency_ms for row in table)
    held = left_out(table, lambda row: row.model, fitted(None), "model")
    promised = dataclasses.replace(held, bounds=clock.error)
    assert promised.covered >= 0.9
    assert 0 < clock.error < 0.3


def test_a_family_that_is_most_of_the_measurements_sets_no_bounds():
    table = rows(PLAIN)
    most = [dataclasses.replace(row, family="most") for row in table[:20]] + [
        dataclasses.replace(row, family="few") for row in table[20:]
    ]
    assert len(minor_families(most, None)) == 4
    assert len(minor_families(table, None)) == len(table)  # three families of equal size


def test_bounds_take_one_rank_more_than_the_share_they_cover():
    assert half_width([0.1] * 8 + [0.5]) == pytest.approx(0.5)
    assert half_width([-0.2, 0.1]) == pytest.approx(0.25)  # 1 / 0.8
    assert half_width([]) == math.inf


def test_a_regression_that_cannot_be_fitted_says_nothing():
    table = rows(PLAIN)[:2]
    got = linear(lambda row: [row.macs, 1.0])(table[:1], table[1:])
    assert np.isnan(got).all()


def test_a_fit_of_instructions_alone_is_rougher_and_says_so():
    truth = rows(PLAIN, boards=("one", "two", "three"))
    found = fit_instruction_rate(truth)
    assert found.boards == 3
    assert 0.1 <= found.thread_gain <= 1
    assert found.error > 0.2  # what memory did is not in the number of instructions
    rate = InstructionRate(cycles_per_instruction=0.5, thread_gain=0.8, error=0.3, rows=1, boards=1)
    assert rate.milliseconds(1e9, mhz=1000, threads=1) == pytest.approx(500)
    assert rate.milliseconds(1e9, mhz=1000, threads=2) == pytest.approx(500 / 1.8)


def test_errors_know_their_ranks():
    table = tuple(rows(PLAIN))
    exact = Errors(what="exact", values=np.zeros(len(table)), rows=table, bounds=0.1)
    assert (exact.mean, exact.p90, exact.covered, exact.spearman()) == (0, 0, 1, pytest.approx(1))


def ranked(measured, predicted, models=5):
    """The rank correlation of a board measured with these latencies."""
    one = rows(PLAIN)[0]
    table = tuple(
        dataclasses.replace(one, latency_ms=float(ms), model=f"model {n % models}")
        for n, ms in enumerate(measured)
    )
    values = np.array(predicted, dtype=float) / np.array(measured) - 1
    return Errors(what="some", values=values, rows=table).spearman()


def test_ranks_correlate_as_spearman_has_it():
    assert ranked([1, 2, 3, 4, 5], [2, 4, 6, 8, 100]) == pytest.approx(1)
    assert ranked([1, 2, 3, 4, 5], [5, 4, 3, 2, 1]) == pytest.approx(-1)
    # 1 - 6 Σd² / (n (n² - 1)): two neighbours changed places.
    assert ranked([1, 2, 3, 4, 5], [10, 30, 20, 40, 50]) == pytest.approx(1 - 6 * 2 / (5 * 24))
    # Equal ones share the mean of their ranks.
    tied = np.corrcoef([1, 2.5, 2.5, 4, 5], [1, 2, 3, 4, 5])[0, 1]
    assert ranked([1, 2, 2, 4, 5], [1, 2, 3, 4, 5]) == pytest.approx(tied)
    assert math.isnan(ranked([1, 2, 3, 4, 5], [1, 2, 3, 4, 5], models=4))


def test_a_board_that_nobody_measured_gets_the_general_figures_and_their_bounds():
    profile = msgspec.structs.replace(default_registry().get("rpi4"), clock=None)
    trust = trust_for(profile)
    assert trust.error == general().error
    assert "never calibrated on this board" in trust.source
    expected = profile.memory.bandwidth_gb_s * general().dram_share
    assert trust.parameters.dram_gb_s == pytest.approx(expected)


def test_a_board_that_was_measured_keeps_its_own_figures():
    profile = default_registry().get("rpi4")
    trust = trust_for(profile)
    assert trust.parameters == profile.clock
    assert (trust.error, trust.shortest_ms) == (profile.clock.error, profile.clock.shortest_ms)
    unknown = msgspec.structs.replace(
        profile, clock=msgspec.structs.replace(profile.clock, shortest_ms=0.0)
    )
    assert trust_for(unknown).shortest_ms == math.inf


def test_a_core_that_was_measured_elsewhere_keeps_its_factor():
    measured, nobodys = core_named("Cortex-A72"), core_named("Cortex-A57")
    known = general()
    assert general_parameters(10.0, measured).compute == pytest.approx(
        known.parameters.compute * known.cores["cortex-a72"]
    )
    assert general_parameters(10.0, nobodys).compute == known.parameters.compute
    # Without a figure for the DRAM it is the typical one.
    assert general_parameters(0.0, measured).dram_gb_s == known.parameters.dram_gb_s


def test_threads_beyond_the_big_cores_are_worth_less():
    rock = default_registry().get("rock-3399")  # 2 A72 at 1.8 GHz, 4 A53 at 1.4
    little = general().little_share * 1400 / 1800  # they multiply and add as much in a cycle
    found = [thread_equivalent(rock, threads) for threads in range(1, 7)]
    assert found == pytest.approx([1, 2] + [2 + n * little for n in (1, 2, 3, 4)])


def test_of_two_small_kinds_the_faster_is_taken_first_and_a_core_of_ones_own_is_not_spare():
    rock = default_registry().get("rock-3399")
    clusters = (
        Cluster(core="Cortex-A53", count=1, mhz=1000),
        Cluster(core="Cortex-A76", count=1, mhz=1800),  # twice the multiply-adds of an A72
        Cluster(core="Cortex-A72", count=3, mhz=1800),  # of which programs get two
        Cluster(core="Z80", count=1, mhz=900),  # nobody has a model of it: one a cycle
    )
    chip = msgspec.structs.replace(rock, cpu=msgspec.structs.replace(rock.cpu, clusters=clusters))
    share = general().little_share
    found = [thread_equivalent(chip, threads) for threads in (3, 4, 5, 6)]
    worth = [2, 2 + 1, 2 + 1 + 1000 / 1800, 2 + 1 + 1000 / 1800 + 900 / 1800]
    assert found == pytest.approx([2 + share * each for each in worth])


# -- the answer ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("budget", "word"),
    [
        (13, "passed"),
        (12.5, "passed"),  # the upper bound itself
        (12.4, "inconclusive"),
        (10, "inconclusive"),  # the estimate itself
        (9, "inconclusive"),  # over it, and perhaps not
        (8, "inconclusive"),  # the lower bound itself
        (7.9, "failed"),
    ],
)
def test_a_budget_is_kept_missed_or_open_by_the_bounds(budget, word):
    verdict = estimate().verdict(budget)
    assert verdict.word == word
    assert verdict.figures == (estimate().figure,)
    if word == "passed":
        assert not verdict.reason
        estimate().assert_within(budget)
    else:
        assert f"the budget of {budget:g} ms" in verdict.reason
        with pytest.raises(AssertionError, match=r"rpi4"):
            estimate().assert_within(budget)


def test_an_estimate_is_evidence():
    figure = estimate().figure
    assert figure.as_json() == {
        "value": 10.0,
        "unit": "ms",
        "kind": "device-clock",
        "source": "device-clock ±25%, a test",
        "low": 8.0,
        "high": 12.5,
    }
    assert estimate(kind="measured").figure.kind == "measured"


@pytest.mark.parametrize("budget", [0, -1, math.nan])
def test_a_budget_of_nothing_is_refused(budget):
    with pytest.raises(OptionError, match="means nothing"):
        estimate().verdict(budget)


@pytest.mark.parametrize("budget", ["40 ms", None, [40]])
def test_a_budget_that_is_no_number_is_refused(budget):
    with pytest.raises(OptionError, match="means nothing"):
        estimate().assert_within(budget)


def test_bounds_do_not_trust_an_overhead_that_is_most_of_the_figure():
    trust = dataclasses.replace(
        trust_for(default_registry().get("rpi4")), error=0.25, shortest_ms=2.0
    )
    long = Cost(compute_ms=9.0, memory_ms=0.5, overhead_ms=0.5)
    assert bounds(long, trust) == (8.0, 12.5, ())
    short = Cost(compute_ms=0.1, memory_ms=0.0, overhead_ms=0.9)
    low, high, notes = bounds(short, trust)
    assert (low, high) == (pytest.approx(0.08), pytest.approx(1.25))
    assert notes[0].startswith("90% of it is overhead")
    # As short, and mostly work: the overhead decides nothing.
    brief = Cost(compute_ms=0.5, memory_ms=0.0, overhead_ms=0.5)
    assert bounds(brief, trust) == (pytest.approx(0.8), pytest.approx(1.25), ())
    # A board that was measured with inferences as short as this one.
    measured = dataclasses.replace(trust, shortest_ms=0.5)
    assert bounds(short, measured) == (pytest.approx(0.8), pytest.approx(1.25), ())


def test_a_comparison_of_short_inferences_reaches_to_the_ratio_without_overhead():
    fields = {"operators": (), "low_ms": 0.1, "high_ms": 1.25, "memory_ms": 0.0}
    one = estimate(latency_ms=1.0, compute_ms=0.1, overhead_ms=0.9, **fields)
    other = estimate(latency_ms=1.1, compute_ms=0.2, overhead_ms=0.9, **fields)
    found = other.compare(one)
    assert found.ratio == pytest.approx(1.1)
    assert found.high >= 2
    assert found.low < 1


def test_the_text_fits_a_terminal():
    step = estimate().operators[0]
    name = ";".join(["sequential/global_average_pooling2d/Mean"] * 5)
    named = dataclasses.replace(step, name=name, kind="DEPTHWISE_CONV_2D", latency_ms=0.00355)
    text = estimate(operators=(named,), source="device-clock ±25%, " + "a/source, " * 20).explain(5)
    assert max(map(len, text.splitlines())) <= 80
    assert "DEPTHWISE_CONV_2D …" in text
    assert "_average_pooling2d/Mean (compute-bound)" in text


def test_a_budget_missed_by_overhead_is_not_called_bound_by_computing():
    text = estimate(low_ms=9, high_ms=11, compute_ms=1, memory_ms=1, overhead_ms=8).explain(5)
    assert "next: 2× too slow, most of it overhead" in text
    assert "compute-bound: " not in text


def test_the_text_of_a_missed_budget_says_what_to_do():
    text = estimate(low_ms=9, high_ms=11).explain(5)
    assert text.startswith("over the budget of 5 ms: 10 ms on rpi4 (9 to 11)")
    assert "conv_7" in text
    assert "device-clock ±25%" in text
    assert "next: 2× too slow and compute-bound" in text
    assert "calibrate" in estimate().explain(10)


def operators(*times):
    return tuple(
        OperatorTime(
            name=f"conv_{n}",
            kind="CONV_2D",
            instructions=1000 + n,
            latency_ms=time,
            share=time / 10,
            bound="compute",
        )
        for n, time in enumerate(times)
    )


def test_a_regression_shows_although_the_absolute_is_uncertain():
    before = estimate(operators=operators(*[1.0] * 9))
    slower = operators(*[1.0] * 9, 0.5)  # a tenth layer
    now = estimate(latency_ms=10.5, low_ms=8.4, high_ms=13.125, operators=slower)
    ratio = now.compare(before)
    assert ratio.ratio == pytest.approx(1.05)
    assert 1 < ratio.low < 1.05 < ratio.high < 1.1
    assert ratio.slower
    assert before.compare(now).faster
    assert not before.compare(before).slower


def test_a_comparison_of_unlike_models_keeps_wide_bars():
    other = estimate(latency_ms=10.5, low_ms=8.4, high_ms=13.125, operators=operators(10.5))
    assert not other.compare(estimate()).slower
    ratio = estimate(latency_ms=30, low_ms=24, high_ms=37.5, operators=()).compare(estimate())
    assert ratio.slower
    assert ratio.low < 2.5
    with pytest.raises(OptionError, match="different boards"):
        estimate().compare(estimate(device="rpi5"))


def test_percentiles_are_by_nearest_rank_and_refused_for_small_samples():
    many = Percentiles(
        estimates=tuple(estimate(latency_ms=float(n), instructions=n) for n in range(1, 21))
    )
    assert many.latency_ms(50) == 10
    assert many.latency_ms(95) == 19
    assert many.worst.latency_ms == 20
    assert many.data_dependent
    with pytest.raises(InputError, match=r"p99 of 20 samples"):
        many.latency_ms(99)
    with pytest.raises(InputError):
        many.latency_ms(100)


def test_names_of_parameters_are_those_of_the_profile():
    assert tuple(msgspec.structs.fields(Parameters)[i].name for i in range(len(NAMES))) == NAMES
