import json
import os
import subprocess
import sys
import time

import pytest
from edge_harness.device import lease as leases
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
