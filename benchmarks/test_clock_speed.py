"""Speeds of the device clock, as ratios in one run: ``make bench`` or

pytest benchmarks/test_clock_speed.py -s
"""

from __future__ import annotations

import time

import pytest
from edge_harness.clock.calibrate.architectures import build
from edge_harness.clock.counting.count import counting_engine, plugin_argument
from edge_harness.clock.counting.inference import made_up_inputs, of_file
from edge_harness.clock.counting.plugin_build import ensure_plugin
from edge_harness.clock.counting.predict import predict
from edge_harness.clock.pipeline import core_named
from edge_harness.device.request import DeviceRequest
from edge_harness.device.starting import start_device
from edge_harness.engines import Instrumentation
from edge_harness.image.board_tools import ensure_board_tools
from edge_harness.models.file import read_model
from edge_harness.profiles import default_registry
from edge_harness.runtimes import RUNTIMES, load_request

RPI4 = default_registry().get("rpi4")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("models") / "mobilenet_v2_int8.tflite"
    path.write_bytes(build("mobilenet_v2_1.0_224", "int8"))
    return path


def inference_s(model, plugin: str) -> float:
    """The fastest of five steady inferences on the whole board, markers around each."""
    warm = (RUNTIMES["tflite"], RPI4.runtime_requirement(RUNTIMES["tflite"]))
    watched = Instrumentation(plugin=plugin) if plugin else None
    choice, _ = counting_engine(RPI4)
    request = DeviceRequest(profile=RPI4, choice=choice, instrumentation=watched, warm=warm)
    with start_device(request) as board:
        if plugin:
            (board.state_dir / "clock").mkdir()
        with board.load(model) as session:
            inputs = list(made_up_inputs(session.inputs))
            session.between_markers(inputs, 1)
            times = []
            for _ in range(5):
                started = time.perf_counter()
                session.between_markers(inputs, 1)
                times.append(time.perf_counter() - started)
    return min(times)


def test_counting_against_the_same_inference_without_the_plugin(model, report):
    library = ensure_plugin(ensure_board_tools().version)
    whole = plugin_argument(library, "clock", RPI4, core_named(RPI4.cpu.core))
    bare = inference_s(model, "")
    counted = inference_s(model, whole.replace("mem=1", "mem=0"))
    modelled = inference_s(model, whole)
    report("counting / no plugin", counted / bare, 1.5)
    report("counting with the cache model / no plugin", modelled / bare, 8)


def test_an_estimate_from_nothing_and_again(model, report, tmp_path, monkeypatch):
    import edge_harness.clock.counting.count as rig
    import edge_harness.clock.counting.predict as answer

    # Everything else in the cache stays: image, kernel, the saved board.
    monkeypatch.setattr(rig, "cache_dir", lambda: tmp_path)
    monkeypatch.setattr(answer, "cache_dir", lambda: tmp_path)
    file = read_model(model)
    inference = of_file(file, load_request(file, RPI4, threads=4))
    times = []
    for _ in range(2):
        started = time.perf_counter()
        found = predict(RPI4, inference)
        times.append(time.perf_counter() - started)
    assert found.cached
    report("a full estimate of MobileNet v2 int8", times[0], 60, "s")
    report("the same again", times[1], 0.1, "s")
