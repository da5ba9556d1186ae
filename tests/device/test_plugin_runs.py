"""The plugin with real emulated devices: sharing, clean ends, and a crash that is explained."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from edge_harness.cache import cache_dir
from edge_harness.device.lease import sweep
from edge_harness.engines.choose import choose_engine
from edge_harness.engines.leftovers import marked
from edge_harness.errors import EdgeError
from edge_harness.processes import process_start_time
from edge_harness.profiles import default_registry

CACHE = cache_dir()
REPOSITORY = Path(__file__).parent.parent.parent
MODEL = REPOSITORY / "fixtures" / "models" / "digits_int8.tflite"
PLUGIN = ["-p", "edge_harness.plugin", "-p", "no:edge-harness", "-p", "no:hypothesispytest"]


@pytest.fixture(autouse=True)
def _real_cache(monkeypatch):
    try:
        choose_engine(default_registry().get("rpi4"), "user")
    except EdgeError as error:
        pytest.skip(str(error))
    # pytester moves the home folder, and the cache with it.
    monkeypatch.setenv("EDGE_HARNESS_CACHE", str(CACHE))
    for name in ("EDGE_DEVICE", "EDGE_ENGINE", "EDGE_STRICT", "PYTEST_ADDOPTS"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def run(pytester):
    def start(*words):
        return pytester.runpytest_subprocess(*PLUGIN, "-Werror", "--engine=user", *words)

    return start


def machines():
    return {path.name for path in (CACHE / "run").iterdir() if path.is_dir()}


def wait_for(condition, what, timeout_s=60.0):
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not happen in {timeout_s:g} s"
        time.sleep(0.05)


def test_a_model_runs_on_three_devices_under_xdist(pytester, run):
    pytester.makepyfile(
        f"""
        import numpy as np, pytest
        @pytest.mark.parametrize("n", range(2))
        def test_model(device, n):
            with device.load({str(MODEL)!r}) as session:
                image = np.zeros(session.inputs[0].shape, session.inputs[0].dtype)
                assert all(np.isfinite(v).all() for v in session.run(image).values())
        @pytest.mark.edge(needs={{"offline"}})
        def test_offline(device):
            assert not device.can_connect("192.0.2.1", 443)
        """
    )
    before = machines()
    result = run("--device=rpi4,rpi5,rpi2", "-n2", "--edge-strict")
    result.assert_outcomes(passed=9)
    assert machines() == before


def test_xdist_workers_share_one_machine(pytester, run):
    pytester.makepyfile(
        """
        import os, pathlib, pytest, time
        @pytest.mark.parametrize("n", range(2))
        def test_x(device, n, testrun_uid):
            here = pathlib.Path(f"worker{n}")
            here.write_text("")
            deadline = time.monotonic() + 60
            while not pathlib.Path(f"worker{1 - n}").exists():  # both hold it at once
                assert time.monotonic() < deadline
                time.sleep(0.02)
            boot = device.run(["cat", "/proc/sys/kernel/hostname"]).check().stdout
            key = device.hold._lease.key
            pathlib.Path(f"key{n}").write_text(f"{key} {os.getpid()}")
        """
    )
    run("--device=rpi4", "-n2").assert_outcomes(passed=2)
    keys, pids = zip(
        *((pytester.path / f"key{n}").read_text().split() for n in range(2)), strict=True
    )
    assert len(set(keys)) == 1
    assert len(set(pids)) == 2


ENDLESS = """
    import pathlib, time
    def test_x(device, fresh_device):
        assert device.run(["true"]).returncode == fresh_device.run(["true"]).returncode == 0
        pathlib.Path("ready").write_text("")
        time.sleep(600)
"""


@contextlib.contextmanager
def start_endless(pytester):
    """A run that does not end by itself; it does when the block is left, by an error too."""
    path = pytester.makepyfile(ENDLESS)
    with subprocess.Popen(
        [sys.executable, "-m", "pytest", *PLUGIN, "--engine=user", "--device=rpi4", str(path)],
        cwd=pytester.path,
        env=os.environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        # Jobs in the background of a script ignore SIGINT, and so would their children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def test_ctrl_c_leaves_no_device(pytester):
    before = machines()
    with start_endless(pytester) as process:
        wait_for((pytester.path / "ready").exists, "the test's start")
        assert len(machines() - before) == 2
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=60)
    assert process.returncode == 2, output
    assert machines() == before


def test_a_killed_run_leaves_nothing_after_the_next_start(pytester, run):
    before = machines()
    with start_endless(pytester) as process:
        wait_for((pytester.path / "ready").exists, "the test's start")
        left = machines() - before
        process.kill()
        process.communicate(timeout=60)
    assert left <= machines()
    (pytester.path / "sub").mkdir()
    (pytester.path / "sub" / "test_next.py").write_text("def test_next(device_profile): pass\n")
    run("--device=rpi4", "sub").assert_outcomes(passed=1)
    assert machines() == before
    assert sweep() == 0


@pytest.mark.parametrize("engine", ["user", "host"])
def test_a_program_of_a_killed_run_ends_with_the_next_sweep(pytester, engine):
    program = f"34{os.getpid()}"
    path = pytester.makepyfile(f'def test_x(device): device.run(["sleep", "{program}"])')

    def running():
        words = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline")]
        return any(each.endswith(f"sleep\0{program}\0".encode()) for each in words)

    before = machines()
    with subprocess.Popen(
        [sys.executable, "-m", "pytest", *PLUGIN, f"--engine={engine}", "--device=rpi4", str(path)],
        cwd=pytester.path,
        env=os.environ,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    ) as process:
        try:
            wait_for(running, "the program's start")
            left = machines() - before
        finally:
            process.kill()
    # The agent ends itself, with what made its namespaces; the program does not.
    [record] = [json.loads((CACHE / "run" / key / "machine.json").read_text()) for key in left]
    wait_for(lambda: not process_start_time(record["pid"]), "the agent's end")
    assert running()
    assert sweep() == 1
    assert not running()
    assert marked(record["state_dir"]) == []
    assert machines() == before


def test_a_crash_is_a_failed_test_with_its_cause_and_the_next_test_runs(pytester, run):
    pytester.makepyfile(
        """
        import sys
        CODE = "import ctypes; ctypes.string_at(0)"
        def test_crash(device):
            device.run(["python3", "-c", CODE]).check()
        def test_next(device):
            assert device.run(["true"]).returncode == 0
        """
    )
    result = run("--device=rpi4")
    result.assert_outcomes(failed=1, passed=1)
    result.stdout.fnmatch_lines(
        [
            "test_a_crash*.py:4: in test_crash",
            "E*edge_harness.errors.Segfault: rpi4 died of SIGSEGV while running*",
            "*= edge devices =*",
            "rpi4 died of SIGSEGV*",
            "next: pytest --device=rpi4 --engine=user *::test_crash?rpi4?*",
        ]
    )
    result.stdout.no_fnmatch_line("*harness/edge_harness/device/device.py*")


def test_an_unusable_cache_is_one_clear_error_for_each_test_that_needs_it(
    pytester, run, monkeypatch
):
    (pytester.path / "file").write_text("in the way")
    monkeypatch.setenv("EDGE_HARNESS_CACHE", str(pytester.path / "file"))
    pytester.makepyfile(
        "def test_1(device): pass\ndef test_2(device): pass\ndef test_plain(): pass\n"
    )
    result = run("--device=rpi4")
    result.assert_outcomes(errors=2, passed=1)
    result.stdout.fnmatch_lines(["E*CacheError*", "*next: *"])
    result.stdout.no_fnmatch_line("*harness/edge_harness/cache.py*")
