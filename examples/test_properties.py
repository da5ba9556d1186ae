"""Properties and golden outputs of a quantized classifier.

    pytest --device=rpi4 examples/test_properties.py
    pytest --device=rpi4 --edge-update-goldens examples/test_properties.py   # after a change

Copy this file next to your model and change MODEL and the samples.
"""

from pathlib import Path

import numpy as np
import pytest
from edge_harness import fidelity, properties
from edge_harness import strategies as edge
from hypothesis import given
from hypothesis import strategies as st

FIXTURES = Path(__file__).parent.parent / "fixtures"
MODEL = FIXTURES / "models" / "digits_int8.tflite"


@pytest.fixture(scope="session")
def images():
    with np.load(FIXTURES / "golden" / "digits_int8.npz") as data:
        return [image[np.newaxis] for image in data["inputs"]]


def test_every_property_holds(device, images):
    with device.load(MODEL) as session:
        # Optimised kernels may be some steps from the reference kernels, for rare inputs: they
        # round otherwise, and the softmax makes more of it. The search has found 10 steps here,
        # in 1500 inputs; a broken kernel is off by many more.
        print(properties.check_all(session, reference=MODEL, samples=images, max_steps=16))


def test_a_step_of_brightness_moves_no_probability_by_more_than_a_quarter(device, images):
    def brighter(image):
        return np.minimum(image, 126) + np.int8(1)

    def near(before, after):
        return all(np.abs(before[n].astype(int) - after[n]).max() <= 64 for n in before)

    with device.load(MODEL) as session:
        properties.invariant(session, brighter, relation=near, samples=images)


@edge.settings(max_examples=10)
@given(data=st.data())
def test_probabilities_sum_to_one(device, data):
    with device.load(MODEL) as session:
        for outputs in session.run_many(data.draw(edge.batches(session))):
            real = session.outputs[0].dequantize(outputs[0])
            assert np.allclose(real.sum(axis=-1), 1, atol=0.03)


def test_outputs_are_the_golden_ones(device, golden, images):
    with device.load(MODEL, kernels="reference") as session:
        outputs = session.run_many(images[:8])
        # One golden for all devices: reference kernels give the same bits on each.
        golden.assert_golden(outputs, session=session, per_device=False)
    fidelity.assert_finite(outputs[0])
