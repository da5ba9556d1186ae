"""The benchmark networks in a device: accepted by both runtimes, with the answers of the host."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from edge_harness.clock.calibrate.architectures import build


@pytest.mark.parametrize(
    ("name", "precision", "runtime", "kernels"),
    [
        ("mobilenet_v1_0.25_128", "uint8", "tflite", "builtin"),
        ("mobilenet_v2_0.35_96", "int8", "litert", "xnnpack"),
        ("mobilenet_v3_small_0.75_128", "int8", "tflite", "reference"),
    ],
)
def test_a_quantized_network_answers_in_a_device_as_on_the_host(
    rpi4, tmp_path: Path, name: str, precision: str, runtime: str, kernels: str
) -> None:
    host = pytest.importorskip("tflite_runtime.interpreter")
    content = build(name, precision)
    path = tmp_path / "network.tflite"
    path.write_bytes(content)
    interpreter = host.Interpreter(
        model_content=content,
        experimental_op_resolver_type=host.OpResolverType.BUILTIN_REF,
    )
    interpreter.allocate_tensors()
    (entry,) = interpreter.get_input_details()
    (result,) = interpreter.get_output_details()
    limits = np.iinfo(entry["dtype"])
    random = np.random.default_rng(3)
    images = [
        random.integers(limits.min, limits.max, entry["shape"], entry["dtype"], endpoint=True)
        for _ in range(2)
    ]
    expected = []
    for image in images:
        interpreter.set_tensor(entry["index"], image)
        interpreter.invoke()
        expected.append(interpreter.get_tensor(result["index"]))
    with rpi4.load(path, runtime=runtime, kernels=kernels) as session:
        answers = [session.run(image)[0] for image in images]
    assert not np.array_equal(answers[0], answers[1])
    for answer, wanted in zip(answers, expected, strict=True):
        if kernels == "reference":
            assert np.array_equal(answer, wanted)
        else:
            # Other kernels round elsewhere, and random networks pass every step on.
            assert np.corrcoef(answer.ravel(), wanted.ravel())[0, 1] > 0.9
