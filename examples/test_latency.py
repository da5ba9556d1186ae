"""Latency budgets on boards you do not have: predicted from the instructions the model executes.

    pytest --device=rpi4,rpi5,rpi3b examples/test_latency.py

Copy this file and put your own models and budgets in the place of these. The networks here are
built with random weights: as much work as the published ones, and answers that mean nothing.
"""

from pathlib import Path

import pytest
from edge_harness.clock.calibrate.architectures import build

BUDGET_MS = 60.0
VIDEO_BUDGET_MS = 40.0  # 25 images a second


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
    with device.load(model("int8"), threads=4) as session:
        int8 = session.latency()
    with device.load(model("fp32"), threads=4) as session:
        fp32 = session.latency()
    assert int8.compare(fp32).faster


@pytest.mark.edge(devices=["rpi5"])
def test_it_is_fast_enough_for_video(device, model):
    with device.load(model("int8"), threads=4) as session:
        session.latency().assert_within(VIDEO_BUDGET_MS)


@pytest.mark.edge(devices=["rpi3b"])
@pytest.mark.xfail(reason="an older board is too slow for video", strict=True)
def test_it_is_fast_enough_for_video_on_an_older_board(device, model):
    with device.load(model("int8"), threads=4) as session:
        session.latency().assert_within(VIDEO_BUDGET_MS)
