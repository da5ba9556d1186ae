"""Models in devices: outputs, kernels, inputs and failures."""

import signal

import numpy as np
import pytest
from edge_harness import fidelity
from edge_harness.errors import (
    DeviceTimeout,
    IllegalInstruction,
    InputError,
    ModelError,
    OptionError,
    UnsupportedModel,
)


def batches(data):
    return [image[np.newaxis] for image in data["inputs"]]


def test_an_int8_model_equals_the_reference_kernels_on_the_host(rpi4, models, golden):
    data = golden("digits_int8")
    with rpi4.load(models / "digits_int8.tflite", kernels="reference") as session:
        outputs = session.run_many(batches(data))
    assert np.array_equal(np.stack([output[0][0] for output in outputs]), data["outputs"])


def test_default_kernels_are_within_a_step_and_the_report_names_both_sides(rpi4, models, golden):
    path = models / "digits_int8.tflite"
    with rpi4.load(path) as session:
        report = fidelity.compare(session, path, batches(golden("digits_int8")))
    assert report.max_steps <= 1
    assert not report.vacuous
    assert "kernels reference" in report.reference
    assert "kernels xnnpack" in report.device


def test_run_many_gives_what_run_gives_in_order(rpi4, models, golden):
    samples = batches(golden("digits_int8"))
    with rpi4.load(models / "digits_int8.tflite") as session:
        many = session.run_many(samples * 20)
        for sample, output in zip(samples, many, strict=False):
            assert np.array_equal(session.run(sample)[0], output[0])
        assert len(many) == 20 * len(samples)


def test_the_same_input_gives_the_same_bits(rpi4, models, golden):
    with rpi4.load(models / "digits_float.tflite") as session:
        fidelity.assert_deterministic(session, batches(golden("digits_float"))[0])


def test_inputs_and_outputs_carry_their_quantization(rpi4, models):
    with rpi4.load(models / "digits_int8.tflite") as session:
        assert session.inputs[0].dtype == np.int8
        assert session.inputs[0].scale > 0
        assert session.outputs[0].quantized
        assert session.runtime == "tflite-runtime 2.14.0"


def test_xnnpack_is_on_for_float_models_and_off_when_told(rpi4, models):
    with rpi4.load(models / "digits_float.tflite") as session:
        assert "XNNPACK" in session.kernels.upper()
        assert session.facts["delegates"]
    with rpi4.load(models / "digits_float.tflite", kernels="builtin") as session:
        assert session.facts["delegates"] == []


def test_wrong_inputs_are_refused_and_the_session_goes_on(rpi4, models, golden):
    sample = batches(golden("digits_int8"))[0]
    with rpi4.load(models / "digits_int8.tflite") as session:
        with pytest.raises(InputError, match="takes int8, but the array is float32"):
            session.run(sample.astype(np.float32))
        with pytest.raises(InputError, match="takes shape"):
            session.run(sample[:, :-1])
        with pytest.raises(InputError, match="unknown 'nope'"):
            session.run({"nope": sample})
        assert session.run(sample)[0].shape == session.outputs[0].shape


def test_a_truncated_model_is_named_and_later_loads_work(rpi4, models, tmp_path):
    whole = (models / "digits_int8.tflite").read_bytes()
    for size in (64, 1000, len(whole) // 2, len(whole) - 100):
        path = tmp_path / f"cut-{size}.tflite"
        path.write_bytes(whole[:size])
        with pytest.raises(ModelError, match=rf"cut-{size}\.tflite.*({size} bytes|cut short)"):
            rpi4.load(path)
    with rpi4.load(models / "digits_int8.tflite"):
        pass


def test_options_out_of_range_are_refused(rpi4, models):
    path = models / "digits_int8.tflite"
    with pytest.raises(OptionError, match="rpi4 has 4 core"):
        rpi4.load(path, threads=64)
    with pytest.raises(OptionError, match="kernels='fast' is none of xnnpack"):
        rpi4.load(path, kernels="fast")
    with pytest.raises(OptionError, match="cannot run a tflite model"):
        rpi4.load(path, runtime="onnx")


def test_four_threads_give_what_one_gives(rpi4, models, golden):
    samples = batches(golden("digits_int8"))
    path = models / "digits_int8.tflite"
    with rpi4.load(path) as one, rpi4.load(path, threads=4) as four:
        for a, b in zip(one.run_many(samples), four.run_many(samples), strict=True):
            assert np.array_equal(a[0], b[0])


def test_several_inputs_outputs_and_signatures(rpi4, models):
    with rpi4.load(models / "multi_io.tflite") as session:
        assert len(session.inputs) == 2
        assert len(session.outputs) == 2
        values = {t.name: np.ones(t.shape, t.dtype) for t in session.inputs}
        by_name = session.run(values)
        by_order = session.run([values[t.name] for t in session.inputs])
        for name in by_name:
            assert np.array_equal(by_name[name], by_order[name])
        (key,) = list(session.signatures)[:1]
        wanted = session.signatures[key]["inputs"]
        arrays = dict(zip(wanted, [values[t.name] for t in session.inputs], strict=True))
        assert set(session.run(arrays, signature=key)) == set(session.signatures[key]["outputs"])
        with pytest.raises(InputError, match="no signature 'nope'"):
            session.run(arrays, signature="nope")


def test_a_free_batch_size_follows_the_input(rpi4, models):
    with rpi4.load(models / "dynamic_batch.tflite") as session:
        tensor = session.inputs[0]
        for batch in (1, 3, 2):
            shape = (batch, *tensor.shape[1:])
            outputs = session.run(np.ones(shape, tensor.dtype))
            assert outputs[0].shape[0] == batch


def test_strings_are_refused_clearly(rpi4, models):
    with pytest.raises(UnsupportedModel, match="strings"):
        rpi4.load(models / "strings.tflite")


def test_a_run_out_of_time_is_ended_and_the_next_one_works(rpi4, models, golden):
    sample = batches(golden("digits_int8"))[0]
    with rpi4.load(models / "digits_int8.tflite") as session:
        session._worker._stream.sock.settimeout(0.000001)
        with pytest.raises(DeviceTimeout, match="was not done"):
            session.run(sample)
        assert session.run(sample)[0].shape == session.outputs[0].shape


def test_a_worker_that_is_killed_is_replaced_for_the_next_run(rpi4, models, golden):
    sample = batches(golden("digits_int8"))[0]
    with rpi4.load(models / "digits_int8.tflite") as session:
        before = session.run(sample)[0]
        end_worker(rpi4, session)
        with pytest.raises(Exception, match=r"SIGKILL|memory"):
            session.run(sample)
        assert np.array_equal(session.run(sample)[0], before)


class Stopped(BaseException):
    """As KeyboardInterrupt, which pytest would take for its own."""


def test_an_interrupted_run_leaves_no_answer_for_the_next_one(rpi4, models, golden):
    sample = batches(golden("digits_int8"))[0]

    def stop(*_):
        raise Stopped

    with rpi4.load(models / "digits_int8.tflite") as session:
        expected = session.run(sample)[0]
        pid = session._worker.pid
        before = signal.signal(signal.SIGALRM, stop)
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.5)
            with pytest.raises(Stopped):
                session.bare_loop_s(sample, 10_000_000)  # minutes, if nobody stops it
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
        assert np.array_equal(session.run(sample)[0], expected)
        assert session._worker.pid != pid
        # Nobody listens to it any more, so it does not compute on either.
        assert rpi4.run(["python3", "-c", f"import os; os.kill({pid}, 0)"]).returncode != 0


def end_worker(device, session):
    worker = session._worker
    device.endings.end_worker(worker._parent.socket, worker.pid, kill=True)


def test_onnx_models_run_on_both_boards(rpi4, models):
    with rpi4.load(models / "add_float.onnx") as session:
        values = [np.ones(t.shape, t.dtype) for t in session.inputs]
        assert session.runtime.startswith("onnxruntime 1.20.1")
        assert np.isfinite(session.run(values)[0]).all()


def test_onnxruntime_1_21_dies_on_rpi4_with_the_reason_and_runs_on_rpi5(
    rpi4, models, open_on, engine
):
    path = models / "add_float.onnx"
    with pytest.raises(IllegalInstruction) as death:
        rpi4.load(path, runtime="onnxruntime==1.21.0")
    text = str(death.value)
    assert "fmov" in text
    assert "FEAT_FP16" in text
    assert "onnxruntime_pybind11_state" in text
    assert "0xb28f4" in text
    assert "--device=" in death.value.next_step
    with (
        open_on("rpi5", engine) as rpi5,
        rpi5.load(path, runtime="onnxruntime==1.21.0") as session,
    ):
        values = [np.ones(t.shape, t.dtype) for t in session.inputs]
        assert np.isfinite(session.run(values)[0]).all()


def test_a_32_bit_board_runs_the_same_model(open_on, engine, models, golden):
    data = golden("digits_int8")
    with (
        open_on("rpi2", engine) as rpi2,
        rpi2.load(models / "digits_int8.tflite", kernels="reference") as session,
    ):
        assert rpi2.info.bits == 32
        outputs = session.run_many(batches(data))
    assert np.array_equal(np.stack([output[0][0] for output in outputs]), data["outputs"])


def test_litert_runs_where_it_is_asked_for(rpi4, models, golden):
    data = golden("digits_int8")
    with rpi4.load(models / "digits_int8.tflite", runtime="litert", kernels="reference") as session:
        assert session.runtime.startswith("ai-edge-litert 2.")
        outputs = session.run_many(batches(data))
    assert np.array_equal(np.stack([output[0][0] for output in outputs]), data["outputs"])
