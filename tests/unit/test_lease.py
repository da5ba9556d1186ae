import json
import os
import subprocess
import sys
import threading
import time

import filelock
import pytest
from edge_harness.device import lease as leases
from edge_harness.errors import BrokenExtension, EdgeError
from edge_harness.processes import process_start_time


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("EDGE_HARNESS_CACHE", str(tmp_path))
    return tmp_path


def test_the_folder_of_a_running_device_is_closed_to_others_also_where_it_was_open(
    tmp_path, monkeypatch
):
    monkeypatch.setenv("EDGE_HARNESS_CACHE", str(tmp_path))
    left_open = tmp_path / "run" / "board"
    left_open.mkdir(parents=True, mode=0o755)
    leases.Lease("board").enter()
    assert [path.stat().st_mode & 0o777 for path in (tmp_path / "run", left_open)] == [0o700] * 2


def test_the_last_holder_is_told_so():
    lease = leases.Lease("k")
    with lease.locked():
        lease.enter()
        assert lease.living_holders() == [os.getpid()]
        assert lease.leave() is True


def test_a_living_holder_keeps_the_device():
    other = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        lease = leases.Lease("k")
        lease.enter()
        (lease.state_dir / "holders" / f"{other.pid}-{process_start_time(other.pid)}").touch()
        assert lease.leave() is False
    finally:
        other.communicate(b"\n")
    assert lease.living_holders() == []


def test_a_recycled_process_number_is_not_a_holder():
    lease = leases.Lease("k")
    lease.enter()
    (lease.state_dir / "holders" / f"{os.getpid()}-1").touch()
    assert lease.leave() is True


def test_sweep_ends_the_machine_of_dead_holders(cache):
    machine = subprocess.Popen(
        [sys.executable, "-c", "input()"], stdin=subprocess.PIPE, start_new_session=True
    )
    lease = leases.Lease("k")
    with lease.locked():
        lease.enter()
        lease.write(
            {
                "engine": "user",
                "state_dir": str(lease.state_dir),
                "pid": machine.pid,
                "started": process_start_time(machine.pid),
            }
        )
        lease.leave()
    assert leases.sweep() == 1
    machine.stdin.close()
    machine.wait(timeout=5)
    assert process_start_time(machine.pid) == ""
    assert list((cache / "run").iterdir()) == []


def test_sweep_leaves_living_devices_alone():
    lease = leases.Lease("k")
    with lease.locked():
        lease.enter()
    assert leases.sweep() == 0
    assert lease.state_dir.is_dir()


def test_sweep_does_not_wait_for_a_device_being_started():
    lease = leases.Lease("k")
    lease.state_dir.mkdir()
    with lease.locked():
        started = time.monotonic()
        assert leases.sweep() == 0
        assert time.monotonic() - started < 5


def test_a_damaged_record_is_no_machine():
    lease = leases.Lease("k")
    lease.state_dir.mkdir()
    (lease.state_dir / "machine.json").write_text("{")
    assert lease.machine() is None
    (lease.state_dir / "machine.json").write_text(json.dumps([1]))
    assert lease.machine() is None


def test_a_worker_whose_pytest_was_killed_holds_nothing(monkeypatch):
    monkeypatch.setenv("PYTEST_XDIST_WORKER", "gw0")
    lease = leases.Lease("k")
    lease.enter()
    assert lease.living_holders() == [os.getpid()]
    (holder,) = (lease.state_dir / "holders").iterdir()
    holder.write_text("999999999-1")
    assert lease.living_holders() == []


def gone():
    """``<pid>-<start time>`` of a process that has just ended."""
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    name = f"{process.pid}-{process_start_time(process.pid)}"
    process.communicate(b"\n")
    return name


class Board:
    """Stands for a machine, and for the engine that attaches to it."""

    def __init__(self, error=None):
        self.stopped = 0
        self.attached = []
        self._error = error

    def attach(self, record):
        self.attached.append(record)
        return self

    def stop(self):
        if self._error:
            raise self._error
        self.stopped += 1


@pytest.fixture
def board(monkeypatch):
    def made(error=None):
        machine = Board(error)
        monkeypatch.setattr(leases, "engine_named", {"toy": machine}.__getitem__)
        return machine

    return made


def holders(lease):
    return sorted(path.name for path in (lease.state_dir / "holders").iterdir())


def test_a_holder_is_known_by_number_and_start_and_has_no_guardian_of_its_own(monkeypatch):
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)
    lease = leases.Lease("k")
    assert lease.key == "k"
    lease.enter()
    lease.enter()
    assert holders(lease) == [f"{os.getpid()}-{process_start_time(os.getpid())}"]
    assert (lease.state_dir / "holders" / holders(lease)[0]).read_text() == ""


def test_a_workers_guardian_is_its_parent(monkeypatch):
    monkeypatch.setenv("PYTEST_XDIST_WORKER", "gw1")
    lease = leases.Lease("k")
    lease.enter()
    (holder,) = (lease.state_dir / "holders").iterdir()
    assert holder.read_text() == f"{os.getppid()}-{process_start_time(os.getppid())}"


def test_a_worker_is_held_by_its_guardians_life_and_start(monkeypatch):
    lease = leases.Lease("k")
    lease.enter()
    (holder,) = (lease.state_dir / "holders").iterdir()
    parent = os.getppid()
    for guardian, alive in (
        (f"{parent}-{process_start_time(parent)}", True),
        (f"{parent}-1", False),
        (gone(), False),
        ("nonsense", False),
    ):
        holder.write_text(guardian)
        assert bool(lease.living_holders()) is alive, guardian
        assert holder.exists() is alive, "a dead holder is forgotten"


def test_a_dead_worker_of_a_living_pytest_holds_nothing():
    lease = leases.Lease("k")
    lease.enter()
    parent = os.getppid()
    dead = lease.state_dir / "holders" / gone()
    dead.write_text(f"{parent}-{process_start_time(parent)}")
    assert lease.living_holders() == [os.getpid()]
    assert not dead.exists()


@pytest.mark.parametrize(
    "name", ["nonsense", "12x-1", "-1-5", "2147483648-7", "999999999-", ".nfs"]
)
def test_what_is_no_holder_is_forgotten_and_ends_nobodys_sweep(name):
    lease = leases.Lease("k")
    lease.enter()
    (lease.state_dir / "holders" / name).write_bytes(b"\xff\xfe")
    assert lease.living_holders() == [os.getpid()]
    assert lease.leave() is True
    assert holders(lease) == [] or name.startswith(".")


def test_leaving_is_for_those_who_never_entered_too():
    assert leases.Lease("k").leave() is True


def test_all_living_holders_are_counted():
    others = [
        subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) for _ in range(2)
    ]
    try:
        lease = leases.Lease("k")
        lease.enter()
        for each in others:
            name = f"{each.pid}-{process_start_time(each.pid)}"
            (lease.state_dir / "holders" / name).touch()
        assert sorted(lease.living_holders()) == sorted([os.getpid(), *(o.pid for o in others)])
        assert lease.leave() is False
        assert sorted(lease.living_holders()) == sorted(o.pid for o in others)
    finally:
        for each in others:
            each.communicate(b"\n")


def test_what_is_written_is_read_back_whole_or_not_at_all():
    lease = leases.Lease("k")
    assert lease.read() is None
    lease.enter()
    assert lease.read() is None
    lease.write({"engine": "toy", "pid": 1})
    lease.write({"engine": "toy", "pid": 2})
    assert lease.read() == {"engine": "toy", "pid": 2}
    assert sorted(path.name for path in lease.state_dir.iterdir()) == ["holders", "machine.json"]


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"7", b"null", b"\xff\xfe", b"{}"])
def test_an_unreadable_record_is_no_machine_and_its_device_is_swept(content, cache, board):
    machine = board()
    lease = leases.Lease("k")
    lease.state_dir.mkdir(exist_ok=True)
    (lease.state_dir / "machine.json").write_bytes(content)
    assert lease.machine() is None
    assert leases.sweep() == 1
    assert (machine.attached, machine.stopped) == ([], 0)
    assert list((cache / "run").iterdir()) == []


def test_a_recorded_machine_is_attached_by_its_engine(board):
    machine = board()
    lease = leases.Lease("k")
    lease.enter()
    lease.write({"engine": "toy", "pid": 5})
    assert lease.machine() is machine
    assert machine.attached == [{"engine": "toy", "pid": 5}]


def test_a_sweep_ends_each_device_without_holders_and_no_other(board, cache):
    machine = board()
    for key in ("a", "b", "held"):
        lease = leases.Lease(key)
        lease.enter()
        lease.write({"engine": "toy", "key": key})
        if key != "held":
            lease.leave()
            (lease.state_dir / "holders" / gone()).touch()
    (cache / "run" / "file").touch()
    assert leases.sweep() == 2
    assert sorted(record["key"] for record in machine.attached) == ["a", "b"]
    assert machine.stopped == 2
    assert sorted(path.name for path in (cache / "run").iterdir() if path.is_dir()) == ["held"]
    assert not (cache / "run" / "a.lock").exists()
    assert leases.sweep() == 0


@pytest.mark.parametrize(
    "error", [EdgeError("no Docker daemon runs"), OSError("gone"), KeyError("pid")]
)
def test_a_device_that_cannot_be_ended_is_kept_for_the_next_sweep_and_others_are_ended(
    error, board, cache
):
    board(error)
    stuck, empty = leases.Lease("a-stuck"), leases.Lease("b-empty")
    for lease in (stuck, empty):
        lease.state_dir.mkdir(parents=True, exist_ok=True)
    stuck.write({"engine": "toy"})
    assert leases.sweep() == 1
    assert stuck.state_dir.is_dir()
    assert not empty.state_dir.exists()
    machine = board()
    assert leases.sweep() == 1
    assert machine.stopped == 1
    assert not stuck.state_dir.exists()


def test_a_device_that_somebody_starts_or_ends_at_this_moment_is_passed_over(board, cache):
    machine = board()
    busy, free = leases.Lease("a-busy"), leases.Lease("b-free")
    for lease in (busy, free):
        lease.state_dir.mkdir(parents=True, exist_ok=True)
        lease.write({"engine": "toy"})
    with busy.locked():
        assert leases.sweep() == 1
        assert busy.state_dir.is_dir()
        assert not free.state_dir.exists()
    assert machine.stopped == 1
    assert leases.sweep() == 1


def test_a_lock_that_is_held_is_waited_for_or_refused():
    lease, other = leases.Lease("k"), leases.Lease("k")
    lease.state_dir.mkdir()
    entered = threading.Event()

    def wait():
        with other.locked():
            entered.set()

    with lease.locked():
        with pytest.raises(filelock.Timeout), other.locked(wait=False):
            pass
        thread = threading.Thread(target=wait, daemon=True)
        thread.start()
        assert not entered.wait(0.2)
    assert entered.wait(5)
    thread.join(5)
    with other.locked(wait=False):
        pass


def test_a_lock_is_given_back_after_an_error():
    lease = leases.Lease("k")
    lease.state_dir.mkdir()
    with pytest.raises(RuntimeError), lease.locked():
        raise RuntimeError
    with leases.Lease("k").locked(wait=False):
        pass


def test_a_forgotten_device_leaves_nothing(cache):
    lease = leases.Lease("k")
    with lease.locked():
        lease.enter()
        lease.write({"engine": "toy"})
        lease.forget()
    assert list((cache / "run").iterdir()) == []
    lease.forget()


@pytest.mark.parametrize("error", [ValueError("no such board"), SystemExit(3)])
def test_an_engine_of_others_that_fails_is_told_once_and_every_other_device_is_swept(
    error, board, monkeypatch
):
    machine = board()

    def attach(record):
        if record["key"] == "a-stuck":
            raise error
        return machine

    monkeypatch.setattr(machine, "attach", attach)
    for key in ("a-stuck", "b"):
        lease = leases.Lease(key)
        lease.state_dir.mkdir(parents=True)
        lease.write({"engine": "toy", "key": key})
    said = []
    assert leases.sweep(said.append) == 1
    assert machine.stopped == 1
    [text] = said
    assert "the device a-stuck of a killed run could not be ended: the engine 'toy'" in text
    assert f"attach() fails: {type(error).__name__}: {error}" in text
    assert leases.Lease("a-stuck").read() == {"engine": "toy", "key": "a-stuck"}
    assert leases.sweep(said.append) == 0
    assert len(said) == 1
    with pytest.raises(BrokenExtension, match="the engine 'toy' is broken: attach"):
        leases.Lease("a-stuck").machine()


def left_running(**environment):
    return subprocess.Popen(
        [sys.executable, "-c", "input()"],
        stdin=subprocess.PIPE,
        start_new_session=True,
        env={**os.environ, **environment},
    )


def test_a_device_whose_engine_was_uninstalled_ends_as_its_record_and_its_mark_have_it(cache):
    lease = leases.Lease("k")
    lease.state_dir.mkdir(parents=True)
    named = left_running()
    marked = left_running(EDGE_STATE_DIR=str(lease.state_dir))
    other = left_running(EDGE_STATE_DIR=f"{lease.state_dir}-2")
    try:
        lease.write({"engine": "gone", "pid": named.pid, "started": process_start_time(named.pid)})
        said = []
        assert leases.sweep(said.append) == 1
        assert said == []
        assert process_start_time(named.pid) == process_start_time(marked.pid) == ""
        assert process_start_time(other.pid)
        assert list((cache / "run").iterdir()) == []
    finally:
        for each in (named, marked, other):
            each.kill()
            each.communicate()


@pytest.mark.parametrize("more", [{}, {"pid": 1}, {"pid": -1, "started": "7"}, {"pid": "x"}])
def test_a_device_that_cannot_be_ended_without_its_engine_is_told_once_with_how_to(more):
    lease = leases.Lease("rpi4-gone-1")
    lease.state_dir.mkdir(parents=True)
    lease.write({"engine": "gone", **more})
    said = []
    assert leases.sweep(said.append) == leases.sweep(said.append) == 0
    [text] = said
    assert "the device rpi4-gone-1 of a killed run could not be ended" in text
    assert "engine 'gone' is not installed any more" in text
    assert f"remove {lease.state_dir}" in text
