"""An engine of another distribution, installed by pip beside us: one file, one entry point."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
PROJECT = REPOSITORY / "tests" / "extension_packages" / "local_engine"
MODEL = REPOSITORY / "fixtures" / "models" / "digits_int8.tflite"

TESTS = f"""
import numpy as np
import pytest

def test_a_model_runs_and_its_figures_are_native(device):
    assert device.engine == "local" and device.image is None
    with device.load({str(MODEL)!r}) as session:
        image = np.zeros(session.inputs[0].shape, session.inputs[0].dtype)
        outputs = session.run(image)
        assert all(np.isfinite(v).all() for v in outputs.values())
        assert session.wall_time.source == "native on this machine, not the board"
        assert session.memory().source == "native on this machine"

def test_programs_run_and_a_crash_is_explained(device):
    assert device.run(["python3", "-c", "print(6 * 7)"]).check().stdout == "42\\n"
    died = device.run(["python3", "-c", "import os; os.kill(os.getpid(), 11)"])
    assert died.signal == 11
    assert "rpi4 died of SIGSEGV" in str(died.error)

def test_what_it_does_not_show_is_refused(device):
    from edge_harness.errors import MissingAbility
    for tried in (lambda: device.can_connect("192.0.2.1", 1), device.power_cut):
        with pytest.raises(MissingAbility, match="local engine cannot prove"):
            tried()

@pytest.mark.edge(needs={{"isa"}})
def test_that_needs_more_is_skipped(device):
    raise AssertionError("not reached")

def test_a_fresh_one_leaves_nothing_behind(fresh_device):
    fresh_device.run(["sh", "-c", "sleep 321 >/dev/null 2>&1 & echo started"])
    with fresh_device.load({str(MODEL)!r}):
        pass
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A folder with the distribution in it, as pip installs it."""
    target = tmp_path_factory.mktemp("installed")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run(
        [*pip, "--no-deps", "--target", str(target), str(PROJECT)],
        check=True,
    )
    return target


def beside_us(installed, argv, **options):
    paths = [str(installed), *filter(None, [os.environ.get("PYTHONPATH")])]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    return subprocess.run(argv, capture_output=True, text=True, env=env, check=False, **options)


def test_tests_run_on_an_engine_of_another_distribution(installed, tmp_path):
    (tmp_path / "test_it.py").write_text(TESTS)
    pytest_argv = [sys.executable, "-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider"]
    if not _plugin_is_installed():
        pytest_argv += ["-p", "edge_harness.plugin"]
    argv = [*pytest_argv, "--device=rpi4", "--engine=local", str(tmp_path)]
    result = beside_us(installed, argv, cwd=tmp_path)
    assert "4 passed, 1 skipped" in result.stdout, result.stdout + result.stderr
    assert "the engine local cannot prove isa for rpi4" in result.stdout
    assert not any("sleep 321" in line for line in processes())


def test_it_has_its_rows_in_doctor_and_its_name_in_the_help(installed):
    command = [sys.executable, "-m", "edge_harness.cli"]
    result = beside_us(installed, [*command, "doctor", "--engine", "local"])
    assert "local for rpi4" in result.stdout
    assert result.returncode == 0, result.stdout + result.stderr
    text = beside_us(installed, [*command, "run", "--help"]).stdout
    assert "auto|user|docker|vm|host|local" in text.replace("\n", "")
    done = beside_us(
        installed,
        [*command, "run", "--device", "rpi4", "--engine", "local", "--", "sh", "-c", "exit 7"],
    )
    assert done.returncode == 7, done.stderr


def _plugin_is_installed():
    from importlib.metadata import entry_points

    return any(p.value == "edge_harness.plugin" for p in entry_points(group="pytest11"))


def processes():
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found.append(path.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
        except OSError:
            continue
    return found
