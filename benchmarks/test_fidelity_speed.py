"""What a walk through the layers costs, as a multiple of one invoke with all tensors kept."""

from __future__ import annotations

import time

import numpy as np
import pytest
from edge_harness import fidelity
from edge_harness.clock.calibrate.architectures import build
from edge_harness.opening import open_device
from edge_harness.profiles import default_registry


@pytest.fixture(scope="module")
def device():
    with open_device(default_registry().get("rpi4"), engine="user") as running:
        yield running


@pytest.mark.parametrize(
    ("network", "precision"),
    [
        ("mobilenet_v1_1.0_224", "int8"),
        ("mobilenet_v2_1.0_224", "int8"),
        ("mobilenet_v1_1.0_224", "fp32"),
    ],
)
def test_a_layer_walk_of_a_mobilenet_against_one_invoke(
    device, report, tmp_path, network, precision
):
    """Loading of the changed models, the reference (which runs beside it) and all figures
    included; the baseline is the runtime's own invoke in a loop in the same emulator."""
    path = tmp_path / f"{network}.tflite"
    path.write_bytes(build(network, precision))
    with device.load(path, preserve_all_tensors=True) as session:
        image = np.random.default_rng(0).uniform(-1, 1, session.inputs[0].shape)
        image = session.inputs[0].quantize(image) if precision == "int8" else image.astype("f4")
        session.run(image)
        with device.load(path) as walked:
            walks, invokes = [], []
            for _ in range(3):  # alternating, so that a busy machine slows both
                invokes += session.bare_loop_s(image, 1)
                started = time.perf_counter()
                found = fidelity.layers(walked, None, image)
                walks.append(time.perf_counter() - started)
    assert len(found.layers) > 28
    assert all(layer.introduced is not None for layer in found.layers if layer.error > 1)
    report(f"layer walk of {network} {precision} / one invoke", min(walks) / min(invokes), 3.0)
