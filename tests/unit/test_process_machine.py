"""A device that is a process of this host: its whole life, with the toy engine and no emulator."""

import importlib.util
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from edge_harness import wire
from edge_harness.device.request import DeviceRequest
from edge_harness.device.starting import start_device
from edge_harness.engines import Limits, Requirements, StartSpec
from edge_harness.engines.choose import Choice, probed
from edge_harness.engines.leftovers import marked
from edge_harness.engines.process_machine import ProcessMachine, start_process
from edge_harness.errors import (
    BootFailed,
    BrokenExtension,
    DeviceTimeout,
    InputError,
    MissingAbility,
    MissingTool,
)
from edge_harness.processes import wait_until
from edge_harness.profiles import default_registry

RPI4 = default_registry().get("rpi4")
TOY = Path(__file__).parents[1] / "extension_packages" / "local_engine" / "local_engine.py"

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the agent needs Linux")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("EDGE_HARNESS_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def local(monkeypatch):
    """The toy engine, known by its name as if it were installed."""
    spec = importlib.util.spec_from_file_location("local_engine", TOY)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    engine = module.LocalEngine()
    monkeypatch.setattr("edge_harness.device.lease.engine_named", lambda name: engine)
    return engine


@pytest.fixture
def spec(tmp_path):
    return StartSpec(profile=RPI4, image=None, state_dir=tmp_path / "state")


def choice(engine):
    return Choice(engine=engine, availability=probed(engine, RPI4), why="asked for")


def test_it_is_reached_shared_by_its_record_and_ended(local, spec):
    machine = local.start(spec)
    try:
        other = local.attach(machine.record())
        assert other.alive()
        stream = wire.Stream(other.connect("agent", timeout_s=30))
        stream.send({"op": "ping"})
        assert stream.receive()[0]["ok"]
        stream.close()
        assert machine.end_reason() == ""
        folder = spec.state_dir / "run"
        assert (folder.stat().st_mode & 0o777, spec.state_dir.stat().st_mode & 0o777) == (
            0o700,
        ) * 2
        assert (folder / "agent.sock").stat().st_mode & 0o777 == 0o600
    finally:
        machine.stop()
    assert not machine.alive()
    assert not other.alive()
    assert machine.end_reason() == "its first process was ended by SIGKILL"
    machine.stop()


def test_a_program_that_outlived_whoever_started_it_ends_with_the_device(local, spec):
    machine = local.start(spec)
    try:
        stream = wire.Stream(machine.connect("agent", timeout_s=30))
        script = "sleep 600 >/dev/null 2>&1 & echo $!"
        stream.send({"op": "exec", "argv": ["sh", "-c", script], "timeout_s": 20})
        _, payload = stream.receive()
        stream.close()
        orphan = int(payload)
        os.kill(orphan, 0)
    finally:
        machine.stop()
    deadline = time.monotonic() + 5
    while Path(f"/proc/{orphan}").exists() and _state(orphan) != "Z":
        assert time.monotonic() < deadline, "the program still runs"
        time.sleep(0.01)


def _state(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "Z"


def test_one_that_ends_at_once_says_how_and_what_it_said(spec):
    with pytest.raises(BootFailed, match=r"on the toy engine: .*exit status 3") as error:
        start_process(
            ["/bin/sh", "-c", "echo no such board; exit 3"],
            spec=spec,
            engine="toy",
            env={"PATH": os.defpath},
            machine_type=ProcessMachine,
        )
    assert "no such board" in error.value.message
    assert error.value.details["engine"] == "toy"


def test_one_that_stays_silent_is_ended(spec, monkeypatch):
    monkeypatch.setattr("edge_harness.engines.process_machine.BOOT_TIMEOUT_S", 0.2)
    alone = f"712.{os.getpid()}"
    with pytest.raises(BootFailed, match=r"no answer of its agent within 0\.2 s"):
        start_process(
            ["/bin/sleep", alone],
            spec=spec,
            engine="toy",
            env={"PATH": os.defpath},
            machine_type=ProcessMachine,
        )
    found = subprocess.run(["pgrep", "-f", f"sleep {alone}"], capture_output=True, check=False)
    assert found.stdout == b""


def test_without_an_image_a_device_is_opened_described_and_explained(local, monkeypatch):
    def built(*_):
        raise AssertionError("a Debian tree was asked for")

    monkeypatch.setattr("edge_harness.image.ensure_image", built)
    with start_device(DeviceRequest(profile=RPI4, choice=choice(local))) as device:
        facts = device.describe()
        assert "image" not in facts
        assert facts["engine"] == "local"
        assert device.header().endswith(f"engine local (asked for; {facts['engine_detail']})")
        assert device.figure_kind == "native"
        died = device.run([sys.executable, "-c", "import os; os.kill(os.getpid(), 11)"])
        assert died.signal == 11
        assert "rpi4 died of SIGSEGV" in str(died.error)
        for untrue in ("emulator", "another device profile"):
            assert untrue not in str(died.error)
        assert "this machine's own processor runs it" in str(died.error)
        with pytest.raises(DeviceTimeout) as late:
            device.run(["sleep", "20"], timeout_s=0.2)
        assert "emulation" not in str(late.value)
        with pytest.raises(InputError) as absent:
            device.run(["/no/such"])
        assert "image" not in str(absent.value)
        assert "name a program that is installed there" in str(absent.value)
        with pytest.raises(MissingAbility, match="local engine cannot prove power_loss"):
            device.power_cut()


def test_an_engine_says_what_its_wheels_must_fit(local, monkeypatch):
    monkeypatch.setattr(local, "requirements", lambda profile: Requirements())
    with pytest.raises(BrokenExtension, match="asks for no image and names no environment"):
        start_device(DeviceRequest(profile=RPI4, choice=choice(local)))


def test_limits_are_refused_and_not_pretended(local, spec):
    with pytest.raises(MissingAbility, match="limits nothing"):
        local.start(replace(spec, limits=Limits(memory_mib=64)))


def test_limits_that_are_asked_for_are_abilities_that_are_needed():
    def needs(**limits):
        return DeviceRequest(
            profile=RPI4, needs=frozenset({"isa"}), limits=Limits(**limits)
        ).all_needs()

    assert needs() == {"isa"}
    assert needs(memory_mib=64) == {"isa", "memory_limit"}
    assert needs(cpus=0.5) == {"isa", "cpu_quota"}


def test_a_question_that_is_interrupted_leaves_no_answer_for_the_next_one(local, monkeypatch):
    with start_device(DeviceRequest(profile=RPI4, choice=choice(local))) as device:
        ask = wire.Stream.ask

        def interrupted(stream, header, *buffers):
            ask(stream, header, *buffers)
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(wire.Stream, "ask", interrupted)
            with pytest.raises(KeyboardInterrupt):
                device.hold.ask({"op": "ping"})
        streams = []
        monkeypatch.setattr(
            wire.Stream,
            "ask",
            lambda stream, *words: streams.append(stream.number) or ask(stream, *words),
        )
        assert device.hold.ask({"op": "ping"})["ok"]
        assert streams == [0], "a new stream"


def test_what_outlived_the_first_process_ends_with_the_device_and_nobody_elses(spec):
    # As a namespace does whose maker ended with the agent, while a program runs on.
    first = subprocess.Popen(
        ["/bin/sh", "-c", "sleep 713 & exit 0"],
        env={"PATH": os.defpath, "EDGE_STATE_DIR": str(spec.state_dir)},
        start_new_session=True,
    )
    started = str(time.time())
    first.wait()
    [orphan] = marked(spec.state_dir)
    record = {"engine": "toy", "pid": first.pid, "started": started}
    ProcessMachine({**record, "state_dir": f"{spec.state_dir}-2"}).stop()
    assert marked(spec.state_dir) == [orphan]
    ProcessMachine({**record, "state_dir": str(spec.state_dir)}).stop()
    assert _state(orphan) == "Z"


def test_a_program_that_is_not_there_is_missing_and_no_bug(spec):
    with pytest.raises(MissingTool, match=r"engine 'toy' cannot start /no/such for rpi4: No such"):
        start_process(["/no/such"], spec=spec, engine="toy", env={}, machine_type=ProcessMachine)


@pytest.mark.parametrize(
    ("after", "why"),
    [
        (KeyError("board"), r"start\(\) fails: KeyError: 'board'"),
        (None, r"start\(\) gives None, which is no machine"),
    ],
)
def test_an_engine_whose_start_goes_wrong_is_named_and_leaves_nothing(
    local, monkeypatch, after, why
):
    start = local.start
    seen = []

    def wrong(spec):
        seen.append((spec.state_dir, start(spec)))
        if after:
            raise after

    monkeypatch.setattr(local, "start", wrong)
    with pytest.raises(BrokenExtension, match="the engine 'local' is broken: " + why):
        start_device(DeviceRequest(profile=RPI4, choice=choice(local)))
    [(state_dir, machine)] = seen
    assert wait_until(lambda: not machine.alive(), deadline_s=5)
    assert marked(state_dir) == []
    assert not state_dir.exists()


@pytest.mark.parametrize("given", [None, "arm64", ZeroDivisionError("by zero")])
def test_an_engine_whose_requirements_are_nonsense_is_named(local, monkeypatch, given):
    def wrong(profile):
        if isinstance(given, Exception):
            raise given
        return given

    monkeypatch.setattr(local, "requirements", wrong)
    with pytest.raises(BrokenExtension, match=r"'local' is broken: requirements\(\) (gives|fails)"):
        start_device(DeviceRequest(profile=RPI4, choice=choice(local)))


def test_a_machine_that_cannot_be_reached_is_its_engines_fault_and_is_ended(local, monkeypatch):
    def connect(machine, name, *, timeout_s):
        raise KeyError(name)

    seen = []
    start = local.start
    monkeypatch.setattr(local, "start", lambda spec: seen.append(start(spec)) or seen[-1])
    monkeypatch.setattr(local.machine_type, "connect", connect)
    with pytest.raises(BrokenExtension, match=r"'local' is broken: connect\(\) fails: KeyError"):
        start_device(DeviceRequest(profile=RPI4, choice=choice(local)))
    assert wait_until(lambda: not seen[0].alive(), deadline_s=5)
