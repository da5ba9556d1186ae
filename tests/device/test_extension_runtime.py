"""A runtime of another distribution, installed by pip beside us: one file, one entry point. The
file is carried into the device by content."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

PROJECT = Path(__file__).parents[1] / "extension_packages" / "npy_runtime"

TESTS = """
import numpy as np
import pytest
from edge_harness.errors import ModelError, OptionError, RuntimeFailed

MATRIX = np.arange(12, dtype=np.float32).reshape(3, 4)
X = np.array([[1, 2, 3]], np.float32)


def saved(tmp_path, array=MATRIX):
    np.save(tmp_path / "matrix.npy", array)
    return tmp_path / "matrix.npy"


def test_a_matrix_multiplies(device, tmp_path):
    with device.load(saved(tmp_path)) as session:
        assert session.runtime.startswith("numpy ")
        assert session.requirement == session.runtime.replace(" ", "==")
        assert np.array_equal(session.run(X)["y"], X @ MATRIX)
        assert [o["y"].tolist() for o in session.run_many([X, 2 * X, 3 * X])] == [
            (n * X @ MATRIX).tolist() for n in (1, 2, 3)
        ]
        assert session.run(np.ones((5, 3), np.float32))["y"].shape == (5, 4)
        assert len(session.bare_loop_s(X, 3)) == 3
        assert session.memory().model_mib >= 0
    layer = [text for name, text in device.describe().items() if name.startswith("layer numpy")]
    assert "numpy" in layer[0] and "runtime npy of edge-harness-npy-runtime 1.0" in layer[0]


def test_it_has_options_of_its_own(device, tmp_path):
    with device.load(saved(tmp_path), options={"transpose": True}) as session:
        assert session.run(np.ones((1, 4), np.float32))[0].tolist() == [[6, 22, 38]]
    with pytest.raises(OptionError, match="kernels='xnnpack' has no meaning for NumPy matrix"):
        device.load(saved(tmp_path), kernels="xnnpack")


def test_what_is_no_matrix_is_an_error_of_the_runtime(device, tmp_path):
    with pytest.raises(RuntimeFailed, match="1 dimension.s., not a matrix"):
        device.load(saved(tmp_path, MATRIX[0]))


def test_another_format_is_not_taken_for_it(device, tmp_path):
    with pytest.raises(OptionError, match="runtime 'tflite' cannot run a npy model"):
        device.load(saved(tmp_path), runtime="tflite")
    (tmp_path / "text.npy").write_text("no matrix")
    with pytest.raises(ModelError, match="is not a NumPy matrix model"):
        device.load(tmp_path / "text.npy")
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A folder with the distribution in it, as pip installs it."""
    target = tmp_path_factory.mktemp("installed")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "--no-deps", "--target", str(target), str(PROJECT)], check=True)
    return target


def beside_us(installed, argv, **options):
    paths = [str(installed), *filter(None, [os.environ.get("PYTHONPATH")])]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    return subprocess.run(argv, capture_output=True, text=True, env=env, check=False, **options)


def test_models_of_another_distributions_runtime_run(installed, tmp_path, engine):
    (tmp_path / "test_it.py").write_text(TESTS)
    argv = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)]
    result = beside_us(installed, [*argv, "--device=rpi4", f"--engine={engine}"], cwd=tmp_path)
    assert "4 passed" in result.stdout, result.stdout + result.stderr


def test_an_edited_file_is_another_runtime(installed, tmp_path):
    np.save(tmp_path / "matrix.npy", np.eye(2, dtype=np.float32))
    look = (
        "from edge_harness import open_device\n"
        "with open_device('rpi4', engine='user') as device, device.load('matrix.npy') as session:\n"
        "    print(session.run([[1, 2]])[0].tolist(), session.request.runtime.agent_sha256)\n"
    )
    first = beside_us(installed, [sys.executable, "-c", look], cwd=tmp_path)
    assert first.stdout.startswith("[[1.0, 2.0]]"), first.stderr
    edited = tmp_path / "edited"
    edited.mkdir()
    for path in installed.iterdir():
        if path.is_dir():
            (edited / path.name).mkdir()
            for file in path.iterdir():
                if file.is_file():
                    (edited / path.name / file.name).write_bytes(file.read_bytes())
        else:
            text = path.read_text().replace("arrays[0] @ self.matrix", "-arrays[0] @ self.matrix")
            (edited / path.name).write_text(text)
    second = beside_us(edited, [sys.executable, "-c", look], cwd=tmp_path)
    assert second.stdout.startswith("[[-1.0, -2.0]]"), second.stderr
    assert first.stdout.split()[-1] != second.stdout.split()[-1]


@pytest.mark.timeout(600)
def test_the_device_clock_counts_it(installed, tmp_path):
    np.save(tmp_path / "matrix.npy", np.ones((64, 64), np.float32))
    argv = [sys.executable, "-m", "edge_harness.cli", "latency", "matrix.npy", "--device", "rpi4"]
    result = beside_us(installed, [*argv, "--json"], cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout)
    assert 0 < found["latency_ms"] < 5
    assert found["runtime"].startswith("numpy ")
