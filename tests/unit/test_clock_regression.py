"""What the clock makes of recorded counts, to the last digit; see ``tests/clock_regression.py``."""

import math
from collections import defaultdict

import pytest

from tests import clock_regression

#: Mean relative error of the recorded measurements by board, in per cent, when they were recorded:
#: with the board's own calibration, and with what holds for boards in general.
ERRORS = {
    "firefly-rk3588s": (10.6, 19.6),
    "imx8m-plus-evk": (6.1, 8.0),
    "imx93-evk": (4.7, 18.6),
    "jetson-agx-orin": (9.7, 11.4),
    "pixel": (2.9, 2.2),
    "pixel-2": (1.9, 2.1),
    "pixel-3a": (2.0, 6.7),
    "rock-3399": (5.9, 14.7),
    "rpi2": (6.5, 8.9),
    "rpi3b-plus": (6.4, 12.6),
    "rpi4": (6.9, 13.7),
}


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


def test_published_rows_stand_for_the_inferences_they_stood_for():
    recorded = clock_regression.recorded_mapping()
    assert len(recorded) == 368
    assert clock_regression.mapping() == recorded


def test_published_measurements_are_predicted_to_the_last_digit():
    steps = clock_regression.counted_steps()
    rows = clock_regression.published()
    assert len(rows) >= 60
    assert len({row["board"] for row in rows}) == 11
    for row in rows:
        for how in ("calibrated", "general"):
            now = clock_regression.predicted_ms(
                row, steps[row["count"]], calibrated=how == "calibrated"
            )
            assert now == float(row[f"{how}_ms"]), row["id"]


def test_no_board_is_predicted_worse_than_it_was():
    steps = clock_regression.counted_steps()
    errors: dict[str, list[tuple[float, ...]]] = defaultdict(list)
    for row in clock_regression.published():
        measured = float(row["latency_ms"])
        errors[row["board"]].append(
            tuple(
                abs(
                    clock_regression.predicted_ms(row, steps[row["count"]], calibrated=how)
                    / measured
                    - 1
                )
                for how in (True, False)
            )
        )
    assert errors.keys() == ERRORS.keys()
    for board, (calibrated, general) in ERRORS.items():
        pairs = errors[board]
        mean = [100 * math.fsum(pair[i] for pair in pairs) / len(pairs) for i in range(2)]
        assert mean[0] <= calibrated + 0.05, board
        assert mean[1] <= general + 0.05, board


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
