"""The device clock: the same number everywhere, and numbers that make sense."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
from edge_harness.clock.calibrate.architectures import build
from edge_harness.errors import MissingTool, OptionError
from edge_harness.opening import open_device
from edge_harness.profiles import default_registry


@pytest.fixture(scope="module")
def board():
    with open_device(default_registry().get("rpi4"), engine="user") as device:
        yield device


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    def file_of(name, precision):
        path = tmp_path_factory.getbasetemp() / f"{name}_{precision}.tflite"
        if not path.exists():
            path.write_bytes(build(name, precision))
        return path

    return file_of


def test_an_estimate_says_what_it_is_and_rests_on(board, models):
    with board.load(models / "digits_int8.tflite", kernels="builtin", threads=2) as session:
        latency = session.latency()
    assert 0 < latency.low_ms < latency.latency_ms < latency.high_ms
    assert latency.source.startswith("device-clock ±")
    assert (latency.device, latency.threads) == ("rpi4", 2)
    assert latency.instructions > 100_000
    assert latency.first_ms >= latency.latency_ms
    parts = latency.compute_ms + latency.memory_ms + latency.overhead_ms
    assert parts == pytest.approx(latency.latency_ms)
    assert {o.kind for o in latency.operators} >= {"CONV_2D", "SOFTMAX"}


def test_counting_again_gives_the_same_to_the_last_digit_and_nothing_is_counted_twice(
    board, models
):
    with board.load(models / "digits_int8.tflite", kernels="builtin") as session:
        first = session.latency(refresh=True)
        again = session.latency(refresh=True)
        kept = session.latency()
    assert first.latency_ms == again.latency_ms == kept.latency_ms
    assert first.instructions == again.instructions
    assert kept.cached
    assert not again.cached


def test_the_engine_of_the_session_does_not_matter(board, models, open_on):
    with board.load(models / "digits_float.tflite") as session:
        under_user = session.latency(refresh=True)
    with open_on("rpi4", "vm") as whole, whole.load(models / "digits_float.tflite") as session:
        under_vm = session.latency(refresh=True)
    assert under_user.latency_ms == under_vm.latency_ms


def test_the_same_on_a_board_that_was_booted_anew(models):
    """Another machine has another saved board: nothing of the figure may come from its boot."""
    from edge_harness.cache import cache_dir

    found = []
    with open_device(default_registry().get("rpi3b"), engine="user") as device:
        for _ in range(2):
            with device.load(models / "digits_int8.tflite") as session:
                found.append(session.latency(refresh=True))
            for saved in (cache_dir() / "snapshots").glob("rpi3b-*"):
                shutil.rmtree(saved)
    assert found[0].latency_ms == found[1].latency_ms
    # Page faults of the first inference depend a little on what the kernel mapped ahead.
    assert found[0].first_ms == pytest.approx(found[1].first_ms, rel=1e-3)


def test_more_work_takes_longer_and_more_threads_shorter(board, network):
    times = {}
    for name in ("mobilenet_v1_0.25_128", "mobilenet_v1_0.5_128"):
        with board.load(network(name, "int8")) as session:
            times[name] = session.latency()
            four = session.latency(threads=4)
        assert four.latency_ms < times[name].latency_ms
        assert four.instructions == times[name].instructions
    small, large = times.values()
    assert large.compare(small).slower
    assert 2 < large.instructions / small.instructions < 4


def test_the_steps_of_the_default_delegate_are_told_apart(board, network):
    with board.load(network("mobilenet_v1_0.25_128", "fp32")) as session:
        latency = session.latency()
    assert "DELEGATE" in latency.kernels
    assert len(latency.operators) > 5


def test_latencies_over_inputs_say_whether_data_decide(board, models):
    with board.load(models / "digits_int8.tflite", kernels="builtin") as session:
        shape, dtype = session.inputs[0].shape, session.inputs[0].dtype
        found = session.latencies([np.zeros(shape, dtype), np.ones(shape, dtype)])
    assert found.latency_ms(50) > 0
    assert found.worst in found.estimates


def test_onnx_models_have_a_latency(board, models):
    with board.load(models / "digits_qdq.onnx") as session:
        latency = session.latency(np.zeros(session.inputs[0].shape, np.float32))
    assert "onnxruntime" in latency.runtime
    assert latency.instructions > 10_000


def test_without_a_plugin_instructions_alone_give_a_rougher_answer(board, models, monkeypatch):
    def refuse(*_):
        raise MissingTool("there is no compiler", next_step="install one")

    with board.load(models / "digits_int8.tflite", kernels="builtin", threads=2) as session:
        whole = session.latency(refresh=True)
        monkeypatch.setattr("edge_harness.clock.counting.count.ensure_plugin", refuse)
        rougher = session.latency(refresh=True)
        monkeypatch.undo()
        assert session.latency().latency_ms == whole.latency_ms  # it did not take its place
    assert "instructions alone" in rougher.source
    assert "there is no compiler" in rougher.source
    assert rougher.error > whole.error
    # With the interpreter around the runtime and the kernel's interrupts in it.
    assert whole.instructions < rougher.instructions < 1.2 * whole.instructions


def test_more_threads_than_cores_are_refused(board, models):
    with (
        board.load(models / "digits_int8.tflite") as session,
        pytest.raises(OptionError, match=r"threads=5, but rpi4 has 4"),
    ):
        session.latency(threads=5)


def test_a_32_bit_board_has_a_latency_too(open_on, models):
    with open_on("rpi2", "user") as device, device.load(models / "digits_int8.tflite") as session:
        assert session.latency().latency_ms > 0


def test_the_command_speaks_json_and_keeps_budgets(models):
    argv = [sys.executable, "-m", "edge_harness.cli", "latency", str(models / "digits_int8.tflite")]
    argv += ["--device", "rpi4", "--kernels", "builtin", "--json"]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    answer = json.loads(done.stdout)
    assert answer["low_ms"] < answer["latency_ms"] < answer["high_ms"]
    assert answer["source"].startswith("device-clock")
    tight = subprocess.run(
        [*argv, "--budget", f"{answer['low_ms'] / 2} ms"], capture_output=True, text=True
    )
    assert tight.returncode == 1
    assert json.loads(tight.stdout)["verdict"]["word"] == "failed"


def test_what_is_around_a_tiny_model_is_not_taken_for_the_model(board, models):
    with board.load(models / "keyword_int8.tflite", kernels="builtin") as session:
        latency = session.latency()
    assert latency.invoke_ms < latency.latency_ms / 2
    assert latency.low_ms < latency.invoke_ms
    assert any("overhead" in note for note in latency.notes)


def test_ones_own_measurements_become_a_profile_that_the_clock_uses(models, tmp_path):
    pytest.importorskip("scipy")
    pytest.importorskip("tomlkit")
    for name in ("digits_int8", "keyword_int8"):
        shutil.copy(models / f"{name}.tflite", tmp_path)
    (tmp_path / "board.csv").write_text(
        "model,device,threads,latency_ms,kernels\n"
        "digits_int8.tflite,rpi4,1,0.05,builtin\n"
        "keyword_int8.tflite,rpi4,1,0.03,builtin\n"
        "gone.tflite,rpi4,1,0.03,builtin\n"
    )
    command = [sys.executable, "-m", "edge_harness.cli"]
    done = subprocess.run(
        [*command, "calibrate", "board.csv", "--device", "rpi4", "--write", "mine/rpi4.toml"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    # What goes on is told on one stream, the report on the other, and first comes what comes first.
    assert done.stdout.startswith("rpi4: 2 measurements")
    assert "1: there is no model file" in done.stdout
    assert done.stdout.endswith("written to mine/rpi4.toml\n")
    options = ["--device", "rpi4", "--kernels", "builtin", "--json"]
    found = subprocess.run(
        [*command, "--edge-profiles", "mine", "latency", "digits_int8.tflite", *options],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    answer = json.loads(found.stdout)
    assert "calibrated on 2 measurements of this board (board.csv)" in answer["source"]
    assert answer["low_ms"] <= 0.05 <= answer["high_ms"]
    assert not any("overhead" in note for note in answer["notes"])
