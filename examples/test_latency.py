"""Latency budgets on boards you do not have: predicted from the instructions the model executes.

    pytest --device=rpi4,rpi5,rpi3b examples/test_latency.py

Copy this file and put your own models and budgets in the place of these. The networks here are
built with random weights (fixtures/architectures): as much work as the published ones, and
answers that mean nothing.
"""

from pathlib import Path

import pytest

from fixtures.architectures import build

BUDGET_MS = 60.0
#: Between what a Raspberry Pi 5 and a Raspberry Pi 3B need for the int8 model below.
FAST_BOARD_BUDGET_MS = 40.0


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    """``model("fp32")``: the file of a MobileNet v1 of that precision."""

    def file_of(precision: str) -> Path:
        path = tmp_path_factory.getbasetemp() / f"mobilenet_v1_{precision}.tflite"
        if not path.exists():
            path.write_bytes(build("mobilenet_v1_1.0_224", precision))
        return path

    return file_of


@pytest.mark.edge(devices=["rpi4"])
def test_int8_meets_the_budget(device, model):
    with device.load(model("int8"), threads=4) as session:
        session.latency().assert_within(BUDGET_MS)


@pytest.mark.edge(devices=["rpi4"])
@pytest.mark.xfail(reason="fp32 is too slow for this budget on a Raspberry Pi 4", strict=True)
def test_fp32_meets_the_budget(device, model):
    with device.load(model("fp32"), threads=4) as session:
        session.latency().assert_within(BUDGET_MS)


@pytest.mark.edge(devices=["rpi4"])
def test_int8_is_certainly_faster_than_fp32(device, model):
    with (
        device.load(model("int8"), threads=4) as small,
        device.load(model("fp32"), threads=4) as big,
    ):
        # What is uncertain about the board is uncertain about both: the ratio is known better.
        assert small.latency().compare(big.latency()).faster


@pytest.mark.edge(devices=["rpi5", "rpi3b"])
def test_it_is_fast_enough_for_video(device, model):
    with device.load(model("int8"), threads=4) as session:
        latency = session.latency()
    if device.name == "rpi3b":  # the slower board misses it, and the text says by how much
        assert latency.verdict(FAST_BOARD_BUDGET_MS) == "fail", latency.explain(
            FAST_BOARD_BUDGET_MS
        )
    else:
        latency.assert_within(FAST_BOARD_BUDGET_MS)
