"""Speeds as ratios, measured in one run against a stated baseline; run with ``make bench``.

Nothing here belongs to the tests: absolute times depend on the machine, and even ratios move on
a loaded one. Each benchmark prints its figure beside the goal the project has set itself.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from edge_harness.image import ensure_image, ensure_layer
from edge_harness.image.tools import ensure_tools
from edge_harness.opening import open_device
from edge_harness.profiles import default_registry
from edge_harness.runtimes import RUNTIMES

REPOSITORY = Path(__file__).parent.parent
MODEL = REPOSITORY / "fixtures" / "models" / "digits_int8.tflite"
RPI4 = default_registry().get("rpi4")


@pytest.fixture(scope="module")
def device():
    with open_device(RPI4, engine="user") as running:
        yield running


def best_s(work, repeats: int) -> float:
    """The fastest of ``repeats``: what it costs when nothing else disturbs."""
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return min(times)


def bare_qemu(code: str) -> tuple[list[str], dict[str, str]]:
    """Command and environment of Python in the emulator, called by hand."""
    image = ensure_image("arm64", "bookworm")
    layer = ensure_layer(image.environment, [RPI4.runtime_requirement(RUNTIMES["tflite"])])
    qemu = ensure_tools().qemu_user("arm64")
    python = f"{image.root}{image.python}"
    argv = [str(qemu), "-cpu", RPI4.emulation.qemu_cpu, "-L", str(image.root), python, "-c", code]
    return argv, {"PYTHONPATH": str(layer.path / "site"), "OPENBLAS_NUM_THREADS": "1"}


def bare_qemu_import() -> None:
    """What cannot be avoided: the emulator, Python and the runtime."""
    argv, env = bare_qemu("import tflite_runtime.interpreter")
    subprocess.run(argv, env=env, check=True)


TRIVIAL = '    assert device.info.machine == "aarch64"\n'
LOADING = f"    with device.load(Path({str(MODEL)!r})) as session:\n        assert session.inputs\n"


def pytest_on_rpi4(folder: Path, tests: int, content: str) -> None:
    body = "from pathlib import Path\n"
    for number in range(tests):
        body += f"def test_{number}(device):\n{content}"
    (folder / "test_trivial.py").write_text(body)
    subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"),
            *("--device=rpi4", "--engine=user", str(folder)),
        ],
        check=True,
        cwd=folder,
        stdout=subprocess.DEVNULL,
    )


@pytest.mark.parametrize("content", [TRIVIAL, LOADING], ids=["trivial", "loading"])
def test_warm_pytest_against_a_bare_qemu_import(tmp_path, report, content):
    pytest_on_rpi4(tmp_path, 1, content)
    baseline = best_s(bare_qemu_import, 5)
    ours = best_s(lambda: pytest_on_rpi4(tmp_path, 1, content), 5)
    report("pytest --device=rpi4, one test / bare qemu import", ours / baseline, 1.5)
    eleven = best_s(lambda: pytest_on_rpi4(tmp_path, 11, content), 3)
    report("each further test on the same device", (eleven - ours) / 10 * 1e3, 50, "ms")


ECHO = """
import os
while True:
    data = os.read(0, 4096)
    if not data:
        break
    os.write(1, data)
"""


def bare_round_trips_s(count: int) -> list[float]:
    """Seconds of each round trip to the least that Python in the emulator can do."""
    argv, env = bare_qemu(ECHO)
    times = []
    with subprocess.Popen(argv, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as echo:
        assert echo.stdin is not None
        assert echo.stdout is not None
        for _ in range(count):
            started = time.perf_counter()
            os.write(echo.stdin.fileno(), b"ping")
            os.read(echo.stdout.fileno(), 4096)
            times.append(time.perf_counter() - started)
        echo.stdin.close()
    return times[count // 10 :]


def test_an_empty_round_trip(device, report):
    with device.load(MODEL) as session:
        session.ping()
        bare, ours = [], []
        for _ in range(3):  # in turn, so that a busy machine slows both
            bare += bare_round_trips_s(200)
            for _ in range(200):
                started = time.perf_counter()
                session.ping()
                ours.append(time.perf_counter() - started)
    trip = statistics.median(ours)
    report("round trip of an empty request, median", trip * 1e3, 2, "ms")
    report("empty round trip / an echo in the emulator", trip / statistics.median(bare), 20)


IMPORTS = """
from time import process_time
started = process_time()
import pytest
middle = process_time()
import edge_harness.plugin
print(middle - started, process_time() - middle)
"""


def test_import_of_the_plugin_against_import_of_pytest(report):
    """In processor time, which others on the machine disturb little."""
    # What pip installs is compiled.
    env = {name: v for name, v in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    times = []
    for _ in range(15):
        done = subprocess.run(
            [sys.executable, "-c", IMPORTS], check=True, capture_output=True, text=True, env=env
        )
        times.append([float(word) for word in done.stdout.split()])
    of_pytest, of_plugin = map(min, zip(*times, strict=True))
    report("import of the plugin / import of pytest", of_plugin / of_pytest, 0.05)


def test_a_thousand_examples_against_a_bare_loop_in_the_emulator(device, report):
    with device.load(MODEL) as session:
        sample = np.zeros(session.inputs[0].shape, session.inputs[0].dtype)
        session.run_many([sample] * 100)
        ratios, singles = [], []
        for _ in range(3):
            bare = sum(session.bare_loop_s(sample, 1000))
            started = time.perf_counter()
            session.run_many([sample] * 1000)
            ratios.append((time.perf_counter() - started) / bare)
            started = time.perf_counter()
            for _ in range(1000):
                session.run(sample)
            singles.append((time.perf_counter() - started) / bare)
    report("run_many of 1000 / bare loop in the emulator", min(ratios), 1.2)
    report("1000 single runs / bare loop in the emulator", min(singles), 1.2)


def test_an_image_from_an_empty_cache(tmp_path, monkeypatch, report):
    monkeypatch.setenv("EDGE_HARNESS_CACHE", str(tmp_path / "cache"))
    started = time.perf_counter()
    image = ensure_image("arm64", "bookworm")
    ensure_layer(image.environment, [RPI4.runtime_requirement(RUNTIMES["tflite"])])
    report("image and runtime from an empty cache", time.perf_counter() - started, 60, "s")
    started = time.perf_counter()
    ensure_layer(
        ensure_image("arm64", "bookworm").environment,
        [RPI4.runtime_requirement(RUNTIMES["tflite"])],
    )
    report("a second device of the same image", time.perf_counter() - started, 0.5, "s")


@pytest.mark.skipif(shutil.which("docker") is None, reason="there is no docker command")
def test_a_docker_device_against_docker_run(report):
    from edge_harness.engines.choose import choose_engine
    from edge_harness.engines.docker.image import tag_of
    from edge_harness.errors import EdgeError

    try:
        choose_engine(RPI4, "docker")
    except EdgeError as error:
        pytest.skip(str(error))
    open_device(RPI4, engine="docker").close()
    tag = tag_of(ensure_image("arm64", "bookworm"))

    def bare() -> None:
        subprocess.run(
            [
                *("docker", "run", "--rm", "--network=none", "-e", "QEMU_CPU=cortex-a72"),
                *("--entrypoint", "/usr/bin/python3", tag, "-c", "pass"),
            ],
            check=True,
            env=dict(os.environ),
        )

    def ours() -> None:
        open_device(RPI4, engine="docker").close()

    report("docker device up and down / docker run python", best_s(ours, 3) / best_s(bare, 3), 2)


# -- whole boards ----------------------------------------------------------------------------------


def first_answer(**options) -> float:
    """Seconds from nothing to the first answer of a loaded model on a board."""
    started = time.perf_counter()
    with open_device(RPI4, engine="vm", **options) as board, board.load(MODEL) as session:
        session.run(np.zeros(session.inputs[0].shape, session.inputs[0].dtype))
        return time.perf_counter() - started


def resident_mib(pid: int) -> float:
    """Proportional set size (shared pages divided by their users), proc(5), in MiB."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return int(next(x for x in text.splitlines() if x.startswith("Pss:")).split()[1]) / 1024


def test_warm_board_against_a_cold_one(report):
    with open_device(RPI4, engine="vm") as board:
        started = time.perf_counter()
        board.reboot()
        with board.load(MODEL) as session:
            session.run(np.zeros(session.inputs[0].shape, session.inputs[0].dtype))
        cold = time.perf_counter() - started
    warm = min(first_answer() for _ in range(3))
    report("warm start to first answer, seconds", warm, 1.0, "s")
    report("warm start to first answer / cold boot", warm / cold, 0.1)


def test_memory_of_a_second_board(report):
    with open_device(RPI4, engine="vm") as one, open_device(RPI4, engine="vm") as two:
        pids = [board.hold.machine.record()["pid"] for board in (one, two)]
        both = sum(map(resident_mib, pids))
        one.close()
        report("host memory of a second board", both - resident_mib(pids[1]), 150, "MiB")


def test_four_boards_at_once(report):
    from concurrent.futures import ThreadPoolExecutor

    single = min(first_answer() for _ in range(3))
    with ThreadPoolExecutor(4) as pool:
        started = time.perf_counter()
        list(pool.map(lambda _: first_answer(), range(4)))
        report("four boards in parallel / one", (time.perf_counter() - started) / single, 4)
