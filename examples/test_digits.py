"""A quantized classifier on the boards it ships to.

    pytest --device=rpi4 examples
    pytest --device=rpi4,rpi5 examples

Copy this file next to your model and change MODEL, the samples and the numbers.
"""

from pathlib import Path

import numpy as np
import pytest
from edge_harness import fidelity
from edge_harness import strategies as edge
from edge_harness.errors import IllegalInstruction, OutOfMemory
from hypothesis import given, settings
from hypothesis import strategies as st

FIXTURES = Path(__file__).parent.parent / "fixtures"
MODEL = FIXTURES / "models" / "digits_int8.tflite"
FLOAT_MODEL = FIXTURES / "models" / "digits_float.tflite"


@pytest.fixture(scope="session")
def samples():
    with np.load(FIXTURES / "golden" / "digits_int8.npz") as data:
        return {"images": data["inputs"], "labels": data["labels"]}


def test_it_reads_the_digits(device, samples):
    with device.load(MODEL, threads=4) as session:
        outputs = session.run_many([image[np.newaxis] for image in samples["images"]])
    guesses = [int(np.argmax(output[0])) for output in outputs]
    assert np.mean(np.equal(guesses, samples["labels"])) >= 0.9


def test_outputs_equal_the_reference_kernels_to_the_last_step(device, samples):
    with device.load(MODEL) as session:
        report = fidelity.compare(session, MODEL, [i[np.newaxis] for i in samples["images"]])
    print(report)
    assert not report.vacuous
    assert report.max_steps <= 1, report.explanation()
    assert report.top1_agreement == 1.0


def test_quantization_kept_the_answers_of_the_float_model(device, samples):
    with device.load(MODEL) as session:
        report = fidelity.compare(session, FLOAT_MODEL, [i[np.newaxis] for i in samples["images"]])
    assert report.top1_agreement >= 0.95, report.explanation()
    assert report.sqnr_db >= 10, report.explanation()


def test_the_same_image_gives_the_same_bits(device, samples):
    with device.load(MODEL) as session:
        fidelity.assert_deterministic(session, samples["images"][:1])


@settings(max_examples=50, deadline=None)  # an emulator's wall clock is not a deadline
@given(data=st.data())
def test_no_image_crashes_it(device, data):
    with device.load(MODEL) as session:
        fidelity.assert_finite(session.run(data.draw(edge.inputs(session))))


@pytest.mark.edge(needs={"offline"})
def test_the_device_has_no_network(device):
    assert not device.can_connect("192.0.2.1", 443)
    script = "import socket; socket.create_connection(('192.0.2.1', 443), 2)"
    result = device.run(["python3", "-c", script])
    assert result.returncode != 0
    assert "Network is unreachable" in result.stderr


@pytest.mark.edge(needs={"memory_limit"})
def test_a_model_too_big_for_the_memory_is_reported_as_such(fresh_device):
    fresh_device.limit(memory_mib=256)
    with (
        pytest.raises(OutOfMemory) as death,
        fresh_device.load(FIXTURES / "models" / "big_memory.tflite") as session,
    ):
        session.run(np.ones(session.inputs[0].shape, np.float32))
    assert death.value.details["limit_mib"] == 256


@pytest.mark.edge(devices=["rpi3b", "rpi4"])
def test_onnxruntime_1_21_dies_on_this_board(device):
    """onnxruntime 1.21.0 executes an ARMv8.2 instruction at import: microsoft/onnxruntime#23957."""
    with pytest.raises(IllegalInstruction) as death:
        device.load(FIXTURES / "models" / "add_float.onnx", runtime="onnxruntime==1.21.0")
    assert death.value.details["feature"] == "FEAT_FP16"
    assert "fmov" in death.value.details["instruction"]
