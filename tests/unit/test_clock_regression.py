"""What the clock makes of recorded counts, to the last digit; see ``tests/clock_regression.py``."""

import pytest

from tests import clock_regression


@pytest.mark.parametrize("bits", [64, 32])
def test_every_kind_of_instruction_that_was_seen_is_sorted_as_it_was(bits):
    known = clock_regression.words(bits)
    assert len(known) > 500
    now = {text: clock_regression.decoded(code, bits) for code, text, _ in known}
    assert now == {text: seen for _, text, seen in known}


def test_blocks_take_as_many_cycles_on_each_core_as_they_did():
    for block in clock_regression.blocks():
        now = {core: clock_regression.cycles(block, core) for core in block["cycles"]}
        assert now == block["cycles"], block["what"]


@pytest.mark.parametrize(
    "inference", clock_regression.traces(), ids=lambda inference: inference["name"]
)
def test_counts_of_an_inference_lead_to_the_estimate_they_led_to(inference):
    now = list(clock_regression.estimates(inference))
    assert now == inference["estimates"]
    for estimate in now:
        assert estimate["low_ms"] < estimate["latency_ms"] < estimate["high_ms"]
        parts = estimate["compute_ms"] + estimate["memory_ms"] + estimate["overhead_ms"]
        assert parts == pytest.approx(estimate["latency_ms"])
