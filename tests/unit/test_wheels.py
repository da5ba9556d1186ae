"""Wheels for devices: what is asked of pip, and what goes with a runtime."""

import json
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest
from edge_harness.errors import ImageBuildFailed, OptionError
from edge_harness.image import wheels
from edge_harness.image.environment import Environment

ARM64 = Environment(arch="arm64", python="3.11", glibc=36, suite="bookworm")
ARMHF = Environment(arch="armhf", python="3.11", glibc=36, suite="bookworm")


@pytest.mark.parametrize(
    ("asked", "wanted"),
    [
        (["tflite-runtime==2.14.0"], ["numpy<2", "tflite-runtime==2.14.0"]),
        (["tflite_runtime"], ["numpy<2", "tflite_runtime"]),
        (["ai-edge-litert==2.3.0"], ["ai-edge-litert==2.3.0"]),
        (["onnxruntime==1.18.1"], ["numpy<2", "onnxruntime==1.18.1"]),
        (["onnxruntime==1.20.1"], ["onnxruntime==1.20.1"]),
        (["onnxruntime<1.19", "numpy==1.26.4"], ["numpy==1.26.4", "onnxruntime<1.19"]),
        (["pillow", "attrs"], ["attrs", "pillow"]),
    ],
)
def test_companions_are_added_unless_one_names_them(asked, wanted):
    assert wheels.normalised(asked) == wanted


def test_what_is_no_requirement_is_refused():
    with pytest.raises(OptionError, match="'not a package' is not a package requirement"):
        wheels.normalised(["not a package"])


@pytest.fixture
def pip(monkeypatch):
    """Stands in for pip: ``answers`` are what each call installs; ``calls`` their requirements."""
    state = SimpleNamespace(answers=[], calls=[])

    def run(argv, **_):
        cut = argv.index("--report")
        options = [n for n, word in enumerate(argv[:cut]) if word.startswith("-")]
        state.calls.append(argv[options[-1] + 1 : cut])
        installed = state.answers.pop(0)
        if isinstance(installed, str):
            return subprocess.CompletedProcess(argv, 1, "", installed)
        content = {
            "install": [
                {
                    "metadata": {"name": name, "version": version},
                    "download_info": {"archive_info": {"hashes": {"sha256": "0"}}},
                }
                for name, version in installed.items()
            ]
        }
        Path(argv[cut + 1]).write_text(json.dumps(content))
        return subprocess.CompletedProcess(argv, 0, "", "")

    monkeypatch.setattr(subprocess, "run", run)
    return state


def versions(installed):
    return {wheel["name"]: wheel["version"] for wheel in installed}


def test_a_companion_that_the_version_found_calls_for_is_added(pip, tmp_path):
    # A range of versions, of which the newest has no wheel for this device.
    pip.answers = [
        {"onnxruntime": "1.18.1", "numpy": "2.1.0"},
        {"onnxruntime": "1.18.1", "numpy": "1.26.4"},
    ]
    found = wheels.install(["onnxruntime"], ARM64, tmp_path / "site")
    assert versions(found) == {"numpy": "1.26.4", "onnxruntime": "1.18.1"}
    assert [call[-1] for call in pip.calls] == ["onnxruntime", "numpy<2"]


@pytest.mark.parametrize(
    "installed",
    [
        {"onnxruntime": "1.20.1", "numpy": "2.1.0"},
        {"onnxruntime": "1.18.1", "numpy": "1.26.4"},
    ],
)
def test_nothing_is_fetched_twice_where_nothing_is_missing(pip, tmp_path, installed):
    pip.answers = [installed]
    assert versions(wheels.install(["onnxruntime"], ARM64, tmp_path / "site")) == installed


def test_numpy_of_ones_own_is_left_as_it_is(pip, tmp_path):
    pip.answers = [{"onnxruntime": "1.18.1", "numpy": "2.1.0"}]
    wheels.install(["numpy==2.1.0", "onnxruntime==1.18.1"], ARM64, tmp_path / "site")


def test_what_the_image_has_is_not_fetched(pip, tmp_path):
    assert wheels.install(["numpy>=1.22"], ARMHF, tmp_path / "site") == []
    assert (tmp_path / "site").is_dir()
    assert pip.calls == []


def test_a_wheel_that_does_not_exist_is_named_with_the_device(pip, tmp_path):
    pip.answers = ["ERROR: No matching distribution found for nothing"]
    with pytest.raises(ImageBuildFailed, match="no wheels for nothing on arm64") as error:
        wheels.install(["nothing"], ARM64, tmp_path / "site")
    assert "aarch64" in error.value.next_step
