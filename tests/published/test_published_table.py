"""The published measurements: the file itself, and what each row stands for here."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path

import pytest
from edge_harness.clock.calibrate.architectures import graph_exists
from edge_harness.clock.calibrate.published import PUBLISHED, Row, read, rows, unmapped
from edge_harness.profiles import default_registry

CELL = "|nor_conv_3x3~0|+|none~0|none~1|+|skip_connect~0|nor_conv_1x1~1|avg_pool_3x3~2|"
MLPERF = "mlcommons/inference_results_v1.0 open/a/results/b"


def one(tmp_path: Path, **changes: str) -> Row:
    """The mapping of a row like the published ones, with changes.

    Raises:
        AssertionError: it is not mapped; the message is the reason.
    """
    with PUBLISHED.open(newline="") as file:
        row = next(csv.DictReader(file))
    row |= {"precision": "int8", "runtime": "TFLite ruy (no XNNPACK)", "device": "Raspberry Pi 4"}
    row |= {"source": MLPERF, "notes": "", "threads": "4", **changes}
    target = tmp_path / "measurements.csv"
    with target.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(row))
        writer.writeheader()
        writer.writerow(row)
    mapped, others = read(target)
    assert mapped, others[0].reason
    return mapped[0]


def test_every_measurement_has_an_id_a_latency_and_a_source() -> None:
    with PUBLISHED.open(newline="") as file:
        table = list(csv.DictReader(file))
    assert len(table) == 368
    assert len({row["id"] for row in table}) == 368
    assert all(row["source"] and float(row["latency_ms"]) > 0 for row in table)


def test_every_row_is_mapped_or_has_a_reason() -> None:
    mapped, others = read()
    assert (len(mapped), len(others)) == (358, 10)
    assert {row.id for row in mapped}.isdisjoint({row.id for row in others})
    assert all(row.reason for row in others)
    # No runtime is published for Armv6, none with int8 XNNPACK for 32-bit Arm.
    assert Counter(row.device for row in unmapped()) == {
        "Raspberry Pi Zero W": 8,
        "Raspberry Pi 2": 2,
    }


def test_what_is_mapped_can_be_built_and_run() -> None:
    registry = default_registry()
    for row in rows():
        assert graph_exists(row.model)
        profile = registry.get(row.profile)
        assert profile.name == row.profile
        assert profile.runtimes.defaults()[row.runtime]
        cores = sum(cluster.count for cluster in profile.cpu.clusters) or profile.cpu.cores
        assert 1 <= row.threads <= cores
        assert row.threads_because
        assert row.frequency_mhz >= 900


def test_all_boards_of_the_table_have_a_profile() -> None:
    assert {row.profile for row in rows()} == {
        "firefly-rk3588s",
        "imx8m-plus-evk",
        "imx93-evk",
        "jetson-agx-orin",
        "pixel",
        "pixel-2",
        "pixel-3a",
        "rock-3399",
        "rpi2",
        "rpi3b-plus",
        "rpi4",
    }


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("mobilenet_v2_0.35_96", "mobilenet_v2_0.35_96"),
        ("mobilenet-v1-0.25-128-quantized", "mobilenet_v1_0.25_128"),
        ("mobilenet_v2", "mobilenet_v2_1.0_224"),
        ("mobilenet_v3_small_1.0_224", "mobilenet_v3_small_1.0_224"),
        ("mobilenet_v3_small_224_0.75", "mobilenet_v3_small_0.75_224"),
        (
            "mobilenet-v3-large-minimalistic_224_1.0_uint8",
            "mobilenet_v3_large_minimalistic_1.0_224",
        ),
        ("efficientnet_lite0", "efficientnet_lite0"),
        ("EfficientNet-lite4", "efficientnet_lite4"),
        ("resnet50_v1", "resnet50_v1.5"),
        ("resnet50", "resnet50_v1.5"),
        ("inception_v3_quant", "inception_v3"),
        (f"nasbench201_{CELL}", f"nasbench201:{CELL}"),
    ],
)
def test_models_are_found_by_pattern(tmp_path: Path, model: str, expected: str) -> None:
    assert one(tmp_path, model=model).model == expected


def test_the_networks_of_nxps_model_zoo_are_those_of_keras(tmp_path: Path) -> None:
    source = "NXP/eiq-model-zoo tasks/vision/classification/x"
    row = one(tmp_path, model="mobilenet_v2_quant_int8", source=source)
    assert (row.model, row.precision) == ("mobilenet_v2_keras_1.0_224", "int8")
    assert one(tmp_path, model="resnet50_int8", source=source).model == "resnet50_v2"


def test_the_architecture_of_a_nas_network_may_stand_in_the_notes(tmp_path: Path) -> None:
    row = one(tmp_path, model="nasbench201_4711", notes=f"CIFAR-10; {CELL}; batch 1")
    assert row.model == f"nasbench201:{CELL}"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"model": "nasbench201_4711"}, "without its architecture string"),
        ({"model": "yolo_v9"}, "'yolo_v9' is none of the networks"),
        ({"device": "Commodore 64"}, "no device profile is called 'Commodore 64'"),
        ({"runtime": "TVM"}, "'TVM' is neither TFLite"),
        ({"threads": "many"}, "threads 'many'"),
        ({"precision": "bf16"}, "precision 'bf16'"),
    ],
)
def test_what_cannot_be_mapped_says_why(
    tmp_path: Path, changes: dict[str, str], reason: str
) -> None:
    with pytest.raises(AssertionError, match=reason):
        one(tmp_path, **changes)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, ("uint8", "builtin", "tflite")),  # MLPerf ran TF-slim's uint8 files
        ({"model": "efficientnet_lite0"}, ("int8", "builtin", "tflite")),
        ({"precision": "fp32"}, ("fp32", "builtin", "tflite")),
        (
            {"runtime": "XNNPACK end2end_bench", "source": "google/XNNPACK README.md"},
            ("int8", "xnnpack", "litert"),
        ),
        (
            {"runtime": "XNNPACK end2end_bench", "precision": "fp32"},
            ("fp32", "xnnpack", "tflite"),
        ),
        (
            {
                "runtime": "LiteRT",
                "source": "NXP/eiq-model-zoo x",
                "model": "mobilenet_v1_0.25_128",
            },
            ("int8", "xnnpack", "litert"),
        ),
        (
            {"runtime": "TFLite benchmark_model", "precision": "fp32"},
            ("fp32", "xnnpack", "tflite"),
        ),
        (
            {
                "runtime": "TFLite benchmark_model",
                "source": "NXP/eiq-model-zoo x",
                "model": "mobilenet_v1_0.25_128_quant",
            },
            ("uint8", "builtin", "tflite"),
        ),
    ],
)
def test_precision_kernels_and_runtime(
    tmp_path: Path, changes: dict[str, str], expected: tuple[str, str, str]
) -> None:
    row = one(tmp_path, **{"model": "mobilenet_v1_1.0_224", **changes})
    assert (row.precision, row.kernels, row.runtime) == expected


@pytest.mark.parametrize(
    ("device", "threads", "expected"),
    [
        ("Raspberry Pi 4", "multi", 4),
        ("Firefly-RK3399", "multi", 6),
        ("Google Pixel", "big-cores", 2),
        ("Google Pixel 2", "big-cores", 4),
        ("Google Pixel 3a", "big-cores", 2),
        ("Jetson AGX Orin", "12", 12),
    ],
)
def test_threads_in_words_become_a_number(
    tmp_path: Path, device: str, threads: str, expected: int
) -> None:
    assert one(tmp_path, device=device, threads=threads).threads == expected


def test_the_clock_is_the_rows_or_else_the_boards(tmp_path: Path) -> None:
    assert one(tmp_path, freq_mhz="1800").frequency_mhz == 1800
    assert one(tmp_path, freq_mhz="").frequency_mhz == 1500


def test_a_32_bit_measurement_is_marked_as_one(tmp_path: Path) -> None:
    assert one(tmp_path, os_arch="armv7").arch == "armhf"
    assert one(tmp_path, os_arch="").arch == "arm64"
    guess = one(tmp_path, os_arch="", notes="Raspbian Buster => 32-bit userland presumably")
    assert guess.arch == "armhf"
    assert "presumed" in guess.arch_because
