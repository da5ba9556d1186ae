"""The same model and inputs give the same bytes whichever engine runs the device."""

import numpy as np
import pytest
from edge_harness.engines.choose import choose_engine
from edge_harness.errors import EdgeError
from edge_harness.opening import open_device
from edge_harness.profiles import default_registry


@pytest.fixture(scope="module")
def devices():
    """The Raspberry Pi 4 on every engine that this machine has; two at least."""
    profile = default_registry().get("rpi4")
    running, lacking = [], []
    try:
        for name in ("user", "vm", "docker"):
            try:
                choose_engine(profile, name)
            except EdgeError as error:
                lacking.append(str(error))
            else:
                running.append(open_device(profile, engine=name))
        if len(running) < 2:
            pytest.skip("; ".join(lacking))
        yield running
    finally:
        for device in running:
            device.close()


def inputs_for(session, golden):
    """Recorded samples where there are some, else noise."""
    if golden is not None:
        return [golden["inputs"][i : i + 1] for i in range(8)]
    random = np.random.default_rng(20260)
    return [
        {
            tensor.name: random.integers(-20, 20, [max(n, 1) for n in tensor.shape]).astype(
                tensor.dtype
            )
            for tensor in session.inputs
        }
        for _ in range(8)
    ]


@pytest.mark.parametrize(
    ("model", "options"),
    [
        ("digits_int8.tflite", {}),
        ("digits_int8.tflite", {"kernels": "builtin", "threads": 4}),
        ("digits_float.tflite", {"threads": 4}),
        ("keyword_int8.tflite", {"kernels": "reference"}),
        ("keyword_float.tflite", {"kernels": "builtin"}),
        ("autoencoder_float.tflite", {}),
        ("multi_io.tflite", {}),
        ("digits_qdq.onnx", {}),
    ],
    ids=lambda value: value if isinstance(value, str) else "-".join(map(str, value.values())),
)
def test_outputs_are_the_same_bytes(devices, models, golden, model, options):
    stem = model.partition(".")[0]
    recorded = None if stem in ("multi_io", "digits_qdq") else golden(stem)
    answers, kernels = {}, {}
    for device in devices:
        with device.load(models / model, **options) as session:
            outputs = session.run_many(inputs_for(session, recorded))
            kernels[device.engine] = session.kernels
        answers[device.engine] = [
            [(name, array.dtype.str, array.shape, array.tobytes()) for name, array in out.items()]
            for out in outputs
        ]
    assert len({repr(answer) for answer in answers["user"]}) > 1, "the inputs make no difference"
    assert len(set(kernels.values())) == 1
    for engine, answer in answers.items():
        assert answer == answers["user"], engine
