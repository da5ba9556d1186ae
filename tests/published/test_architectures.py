"""The networks of the published table: their size, their bytes, and that they answer."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from edge_harness.clock.calibrate.architectures import PRECISIONS, build
from edge_harness.clock.calibrate.architectures.graph import Graph
from edge_harness.clock.calibrate.architectures.lower import lower
from edge_harness.models.tflite import verify

from tests.network_facts import facts

ROOT = Path(__file__).parents[2]

#: Millions of multiply-accumulates and of parameters as published, and where.
PUBLISHED = [
    # github.com/tensorflow/models, research/slim/nets/mobilenet_v1.md
    ("mobilenet_v1_1.0_224", 569, 4.24),
    ("mobilenet_v1_1.0_128", 186, 4.24),
    ("mobilenet_v1_0.5_128", 49, 1.34),
    ("mobilenet_v1_0.25_128", 14, 0.47),
    # arXiv:1704.04861, table 6 (the page above gives 317 for it, which fits no counting we know)
    ("mobilenet_v1_0.75_224", 325, 2.6),
    # github.com/tensorflow/models, research/slim/nets/mobilenet/README.md
    ("mobilenet_v2_1.0_224", 300, 3.47),
    ("mobilenet_v2_1.4_224", 582, 6.06),
    ("mobilenet_v2_keras_1.0_224", 300, 3.5),  # keras.io/api/applications: 3.5 million
    ("mobilenet_v2_0.5_160", 50, 1.95),
    ("mobilenet_v3_large_1.0_224", 217, 5.4),
    ("mobilenet_v3_large_0.75_224", 155, 4.0),
    ("mobilenet_v3_large_minimalistic_1.0_224", 209, 3.9),
    # arXiv:1905.02244, table 3 (the page above counts the small ones another way)
    ("mobilenet_v3_small_1.0_224", 56, 2.5),
    ("mobilenet_v3_small_0.75_224", 44, 2.0),
    # arXiv:1512.03385, table 1; github.com/pytorch/vision, ResNet50_Weights (stride in the 3x3)
    ("resnet50_v1", 3800, 25.6),
    ("resnet50_v1.5", 4089, 25.6),
    # github.com/NXP/eiq-model-zoo, resnet: 6977 million operations
    ("resnet50_v2", 3488, 25.6),
    # github.com/pytorch/vision, Inception_V3_Weights; parameters without the auxiliary classifier,
    # keras.io/api/applications
    ("inception_v3", 5713, 23.85),
    # github.com/D-X-Y/NAS-Bench-201: the largest network there
    (
        (
            "nasbench201:|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+"
            "|nor_conv_3x3~0|nor_conv_3x3~1|nor_conv_3x3~2|"
        ),
        220.12,
        1.531,
    ),
]
CELL = (
    "nasbench201:|nor_conv_3x3~0|+|none~0|skip_connect~1|+"
    "|skip_connect~0|nor_conv_1x1~1|avg_pool_3x3~2|"
)


def images(count: int, entry: dict[str, Any]) -> list[npt.NDArray[Any]]:
    """Noise of different colours, in the type of the model's input."""
    random = np.random.default_rng(7)
    made = []
    for _ in range(count):
        tint = random.uniform(-0.6, 0.6, 3)
        image = random.normal(tint, 0.3, entry["shape"]).clip(-1, 1)
        if entry["dtype"] != np.float32:
            scale, zero = entry["quantization"]
            limits = np.iinfo(entry["dtype"])
            image = (np.round(image / scale) + zero).clip(limits.min, limits.max)
        made.append(image.astype(entry["dtype"]))
    return made


def outputs(content: bytes, count: int) -> npt.NDArray[np.float64]:
    """Real-valued outputs of ``count`` images, natively; (count, classes)."""
    runtime = pytest.importorskip("tflite_runtime.interpreter")
    interpreter = runtime.Interpreter(model_content=content, num_threads=1)
    interpreter.allocate_tensors()
    (entry,) = interpreter.get_input_details()
    (result,) = interpreter.get_output_details()
    rows = []
    for image in images(count, entry):
        interpreter.set_tensor(entry["index"], image)
        interpreter.invoke()
        scale, zero = result["quantization"]
        values = interpreter.get_tensor(result["index"])[0].astype(np.float64)
        rows.append((values - zero) * scale if scale else values)
    return np.stack(rows)


@pytest.mark.parametrize(("name", "macs", "params"), PUBLISHED)
def test_work_and_size_are_those_published(name: str, macs: float, params: float) -> None:
    counted = facts(build(name, "int8"))
    assert counted.macs / 1e6 == pytest.approx(macs, rel=0.02, abs=0.5)  # printed whole
    assert counted.params / 1e6 == pytest.approx(params, rel=0.02)


@pytest.mark.parametrize(("variant", "macs", "params"), [(0, 407, 4.7), (1, 631, 5.4)])
def test_efficientnet_lite_is_the_published_one(variant: int, macs: float, params: float) -> None:
    """github.com/tensorflow/tpu, efficientnet/lite/README.md, which counts three operations for
    each activation too (batch normalisation and RELU6): with them, all five come out."""
    counted = facts(build(f"efficientnet_lite{variant}", "int8"))
    assert (counted.macs + 3 * counted.activation_bytes) / 1e6 == pytest.approx(macs, rel=0.01)
    assert counted.params / 1e6 == pytest.approx(params, rel=0.02)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize(
    "name",
    [
        "mobilenet_v1_0.25_128",
        "mobilenet_v2_0.35_96",
        "mobilenet_v2_keras_0.35_96",
        "mobilenet_v3_small_0.75_128",
    ],
)
def test_outputs_vary_with_inputs_and_are_not_saturated(name: str, precision: str) -> None:
    content = build(name, precision)
    verify(content)
    answers = outputs(content, 6)
    assert len({row.tobytes() for row in answers}) == 6
    assert np.median(answers.max(axis=1)) < 0.9
    assert (answers.max(axis=1) > 0.01).all()


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_nasbench_network_answers(precision: str) -> None:
    content = build(CELL, precision)
    verify(content)
    assert len({row.tobytes() for row in outputs(content, 6)}) == 6


def test_a_relu_is_fused_where_nothing_else_reads_what_comes_before() -> None:
    everywhere = "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+"
    everywhere += "|nor_conv_3x3~0|nor_conv_3x3~1|nor_conv_3x3~2|"
    counts = dict(facts(build(f"nasbench201:{everywhere}", "int8")).operators)
    # Only the two shortcuts past the reductions read what comes before a RELU.
    assert counts["RELU"] == 2
    assert dict(facts(build(CELL, "int8")).operators)["RELU"] > 2


def test_a_cell_that_leads_nowhere_gives_one_answer_for_all() -> None:
    nothing = "|none~0|+|none~0|none~1|+|none~0|none~1|none~2|"
    assert len({row.tobytes() for row in outputs(build(f"nasbench201:{nothing}", "int8"), 3)}) == 1


@pytest.mark.parametrize(
    "architecture",
    [
        "|nor_conv_3x3~0|",
        "|nor_conv_3x3~0|+|none~0|none~1|+|none~0|none~1|",
        "|nor_conv_5x5~0|+|none~0|none~1|+|none~0|none~1|none~2|",
        "|none~1|+|none~0|none~1|+|none~0|none~1|none~2|",
    ],
)
def test_a_wrong_architecture_string_is_refused(architecture: str) -> None:
    with pytest.raises(ValueError, match="architecture="):
        build(f"nasbench201:{architecture}", "fp32")


def test_quantized_networks_answer_as_their_float_one_does() -> None:
    exact = outputs(build("mobilenet_v1_0.25_128", "fp32"), 6)
    for precision, least in (("int8", 0.9), ("uint8", 0.7)):
        answers = outputs(build("mobilenet_v1_0.25_128", precision), 6)
        for row, expected in zip(answers, exact, strict=True):
            assert np.corrcoef(row, expected)[0, 1] > least


@pytest.mark.parametrize("precision", PRECISIONS)
def test_branches_that_are_joined_share_their_scale(precision: str) -> None:
    """The int8 kernel of CONCATENATION refuses others; pools keep that of their input."""
    graph = Graph("joined")
    x = graph.conv2d(graph.input(16), 4, 3, activation="RELU6")
    wide = graph.conv2d(x, 4, gain=4.0)
    joined = graph.concatenate([wide, graph.average_pool(x, 3), graph.max_pool(x, 3)])
    pooled = graph.flatten(graph.global_average_pool(joined))
    graph.output(graph.softmax(graph.fully_connected(pooled, 5)))
    content = lower(graph, precision)
    verify(content)
    assert len({row.tobytes() for row in outputs(content, 6)}) > 1


@pytest.mark.parametrize("name", ["mobilenet_v1_0.25_128", "mobilenet_v3_small_0.75_128"])
def test_the_same_name_gives_the_same_bytes_with_another_blas(name: str) -> None:
    """OpenBLAS is told to take the kernels of a processor without AVX, on one thread: its sums
    differ in their last digits, and the files must not."""
    script = (
        "import hashlib; from edge_harness.clock.calibrate.architectures import build; "
        f"print(hashlib.sha256(build({name!r}, 'int8')).hexdigest())"
    )
    result = subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        env={**os.environ, "OPENBLAS_CORETYPE": "Prescott", "OPENBLAS_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout.strip() == hashlib.sha256(build(name, "int8")).hexdigest()


def test_the_command_writes_a_file(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "edge_harness.clock.calibrate.architectures"]
    target = tmp_path / "out.tflite"
    subprocess.run([*command, "mobilenet_v1_0.25_128", "uint8", target], cwd=ROOT, check=True)
    assert target.read_bytes() == build("mobilenet_v1_0.25_128", "uint8")
    refused = subprocess.run(
        [*command, "mobilenet_v9_1.0_224", "int8", target],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert refused.returncode == 2
    assert "'mobilenet_v9_1.0_224'" in refused.stderr
    assert "mobilenet_v1_1.0_224" in refused.stderr


def test_an_unknown_precision_is_named_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="precision='int4' is not one of fp32, int8, uint8"):
        build("mobilenet_v1_0.25_128", "int4")
