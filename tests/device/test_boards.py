"""The ``vm`` engine: what only a whole machine with its own kernel can show."""

import datetime
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from edge_harness.engines import Limits
from edge_harness.errors import InputError, MissingAbility, OptionError, OutOfMemory, ProcessDied
from edge_harness.opening import open_device
from edge_harness.profiles import default_registry

MAP_SECOND_PAGE = """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t] + [ctypes.c_int] * 3 + [ctypes.c_long]
fd = os.open("/bin/bash", os.O_RDONLY)
if libc.mmap(None, 4096, 1, 2, fd, 4096) == ctypes.c_void_p(-1).value:
    raise SystemExit("mmap: " + os.strerror(ctypes.get_errno()))
"""


@pytest.fixture(scope="module")
def board(open_on):
    with open_on("rpi3b", "vm") as device:
        yield device


@pytest.fixture
def fresh(open_on):
    with open_on("rpi3b", "vm") as device:
        yield device


def output(device, script):
    result = device.run(["sh", "-c", script])
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_memory_cores_and_pages_are_the_profiles(board):
    profile = board.profile
    assert board.info.memory_mib == pytest.approx(profile.memory.usable_mib, rel=0.02)
    assert board.info.cpu_count == profile.cpu.cores
    assert board.info.page_size_kib == 4
    assert board.info.interfaces == ("lo",)


def test_memory_of_a_session_is_the_workers_own(board, models):
    with board.load(models / "digits_int8.tflite") as session:
        used = session.memory()
    assert used.peak_mib < 64  # under user-mode emulation the translator adds 100 MiB
    assert "board's own kernel" in used.source


def test_the_guests_oom_killer_is_recognised(board):
    result = board.run(["python3", "-c", "l = []\nwhile 1: l.append(b'x' * (16 << 20))"])
    assert isinstance(result.error, OutOfMemory)
    assert result.error.details["limit_mib"] == board.profile.memory.usable_mib
    assert 0.5 < result.error.details["peak_mib"] / board.profile.memory.usable_mib <= 1
    assert board.run(["true"]).returncode == 0


def test_less_memory_on_request(open_on):
    with open_on("rpi3b", "vm", limits=Limits(memory_mib=256)) as device:
        assert device.info.memory_mib == pytest.approx(256, rel=0.08)


def test_a_crash_is_diagnosed(board):
    result = board.run(
        ["python3", "-c", "import onnxruntime"], requirements=["onnxruntime==1.21.0"]
    )
    assert result.signal == 4
    assert result.diagnosis.feature == "FEAT_FP16"


def test_power_cut_loses_what_was_not_synced(fresh):
    output(fresh, "echo synced >/data/a; sync; echo unsynced >/data/b")
    fresh.power_cut()
    fresh.boot(clock=0)
    assert output(fresh, "cat /data/a") == "synced\n"
    assert output(fresh, "cat /data/b 2>/dev/null || true") == ""
    assert output(fresh, "date +%Y") == "1970\n"
    before = output(fresh, "cat /proc/sys/kernel/random/boot_id")
    output(fresh, "echo kept >/data/b")
    fresh.reboot()
    assert output(fresh, "cat /data/b") == "kept\n"
    assert output(fresh, "cat /proc/sys/kernel/random/boot_id") != before


def test_power_goes_while_a_program_runs(fresh, models):
    with fresh.load(models / "digits_int8.tflite") as session:
        zeros = np.zeros(session.inputs[0].shape, session.inputs[0].dtype)
        first = session.run(zeros)
        write = ["sh", "-c", "echo x >/data/x; sync; sleep 60"]
        assert fresh.power_cut(while_running=write, after_s=2)
        fresh.boot()
        assert output(fresh, "cat /data/x") == "x\n"
        again = session.run(zeros)
    for name in first:
        np.testing.assert_array_equal(first[name], again[name])


def test_a_runtime_that_was_plugged_in_is_there_after_a_power_cut(fresh, models):
    with fresh.load(models / "add_float.onnx") as session:
        ones = [np.ones(tensor.shape, tensor.dtype) for tensor in session.inputs]
        before = session.run(ones)
        fresh.power_cut()
        fresh.boot()
        np.testing.assert_array_equal(session.run(ones)[0], before[0])


def test_power_that_goes_after_the_program_ended_or_never_began_is_told(fresh):
    assert not fresh.power_cut(while_running=["true"], after_s=3)
    fresh.boot()
    with pytest.raises(InputError, match="'/no/such' cannot be started"):
        fresh.power_cut(while_running=["/no/such"], after_s=3)


def test_storage_full_read_only_and_failing(fresh):
    kept = fresh.storage.fill(keep_kib=64)
    assert kept <= 64
    result = fresh.run(["sh", "-c", "head -c 1000000 /dev/zero >/data/big"])
    assert "No space left" in result.stderr
    assert fresh.storage.free() > 1 << 20
    fresh.storage.read_only()
    assert "Read-only" in fresh.run(["sh", "-c", "echo x >/data/x"]).stderr
    fresh.storage.read_write()
    output(fresh, "echo x >/data/x")
    fresh.storage.fail_io(write=True)
    sync = "import os; f = open('/data/y', 'w'); f.write('y'); f.flush(); os.fsync(f.fileno())"
    assert "Input/output error" in fresh.run(["python3", "-c", sync]).stderr
    fresh.storage.heal_io()


def test_clock_jumps(board):
    moment = datetime.datetime(2038, 1, 19, 3, 14, 7, tzinfo=datetime.timezone.utc)
    board.set_clock(moment)
    assert output(board, "date +%Y").strip() == "2038"
    board.shift_clock(-366 * 86400)
    assert output(board, "date +%Y").strip() == "2037"
    board.set_clock(datetime.datetime.now(datetime.timezone.utc))


def test_processors_can_be_slowed(board):
    # Processor time against the board's own clock: the emulator's speed cancels.
    spin = (
        "import time\nt, c = time.monotonic(), time.process_time()\n"
        "while time.process_time() - c < 0.5: pass\n"
        "print((time.process_time() - c) / (time.monotonic() - t))"
    )
    share = float(board.run(["python3", "-c", spin]).stdout)
    board.throttle(0.2)
    slowed = float(board.run(["python3", "-c", spin]).stdout)
    board.throttle(None)
    assert share > 0.5
    assert slowed < 0.3


def test_network_is_absent_then_recorded(fresh):
    with pytest.raises(MissingAbility, match="no network was connected"):
        _ = fresh.egress
    fresh.connect_network()
    assert fresh.egress == []
    call = (
        "import socket\n"
        "for host in ('updates.example.com', '192.0.2.7'):\n"
        "    try: socket.create_connection((host, 8443), 2)\n"
        "    except OSError as error: print(error)"
    )
    assert len(fresh.run(["python3", "-c", call]).stdout.splitlines()) == 2
    seen = {(e.protocol, e.name or e.host) for e in fresh.egress}
    assert ("dns", "updates.example.com") in seen
    assert ("tcp", "192.0.2.7") in seen
    fresh.disconnect_network()
    assert output(fresh, "ls /sys/class/net") == "lo\n"


def test_pause_stops_the_boards_clock(board):
    import time

    uptime = "cut -d' ' -f1 /proc/uptime || read a b </proc/uptime"
    before = float(output(board, uptime))
    board.pause()
    time.sleep(3)
    board.resume()
    assert float(output(board, uptime)) - before < 2.5


def test_restored_boards_differ(open_on):
    with open_on("rpi3b", "vm") as one, open_on("rpi3b", "vm") as other:
        for path in ("/etc/machine-id", "/dev/urandom"):
            command = ["python3", "-c", f"print(open({path!r}, 'rb').read(16).hex())"]
            assert one.run(command).stdout != other.run(command).stdout
        year = datetime.datetime.now(datetime.timezone.utc).strftime("%Y")
        assert one.run(["date", "+%Y"]).stdout.strip() == year


@pytest.mark.parametrize("damaged", ["state", "storage.qcow2"])
def test_a_broken_snapshot_is_made_anew(open_on, damaged):
    import edge_harness.cache

    with open_on("rpi3b", "vm"):
        pass
    saved = list((edge_harness.cache.cache_dir() / "snapshots").glob("rpi3b-*"))
    for folder in saved:
        if damaged == "state":
            (folder / "state").write_bytes(b"garbage" * 1000)
        else:  # QEMU itself reads what is missing as zeros, and would not complain
            os.truncate(folder / "storage.qcow2", 1 << 17)
        (folder / "mark").touch()
    with open_on("rpi3b", "vm") as device:
        assert device.run(["true"]).returncode == 0
    assert [folder for folder in saved if not (folder / "mark").exists()]


def test_a_board_with_16_kib_pages(open_on):
    with open_on("rpi5", "vm") as device:
        assert device.info.page_size_kib == 16
        assert output(device, "getconf PAGESIZE 2>/dev/null || echo 16384") == "16384\n"
        result = device.run(["python3", "-c", MAP_SECOND_PAGE])
        with pytest.raises(ProcessDied, match=r"16 KiB.*4 KiB"):
            result.check()


def test_the_same_program_runs_on_4_kib_pages(board):
    board.run(["python3", "-c", MAP_SECOND_PAGE]).check()


def test_a_killed_board_comes_back(fresh):
    os.kill(fresh.hold.machine.record()["pid"], signal.SIGKILL)
    assert fresh.hold.wait_for_end()
    assert fresh.run(["true"]).returncode == 0


def test_a_killed_harness_leaves_no_board(tmp_path):
    script = (
        "import os, signal\nfrom edge_harness.opening import open_device\n"
        "from edge_harness.profiles import default_registry\n"
        "device = open_device(default_registry().get('rpi3b'), engine='vm')\n"
        "print(device.hold.machine.record()['pid'], flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    pid = int(done.stdout)
    from edge_harness.device.lease import sweep

    assert sweep() == 1
    assert (
        not Path(f"/proc/{pid}").exists() or "qemu" not in Path(f"/proc/{pid}/cmdline").read_text()
    )


def test_engine_auto_takes_the_board_for_what_only_it_proves():
    with open_device(default_registry().get("rpi3b"), needs={"page_size", "power_loss"}) as device:
        assert device.engine == "vm"


def test_a_shell_on_a_fresh_board():
    shell = [
        sys.executable,
        "-m",
        "edge_harness.cli",
        "shell",
        "--device",
        "rpi3b",
        "--engine",
        "vm",
    ]
    said = subprocess.run(
        shell, input="echo $((6*7)); uname -m; exit\n", capture_output=True, text=True, timeout=120
    )
    assert "42" in said.stdout, said.stderr
    assert "aarch64" in said.stdout


@pytest.mark.parametrize("limits", [{"memory_mib": 0}, {"memory_mib": 8}, {"cpus": -1}])
def test_a_limit_that_means_nothing_is_refused_and_the_board_lives_on(board, limits):
    with pytest.raises(OptionError, match=next(iter(limits))):
        board.limit(**limits)
    assert board.run(["true"]).returncode == 0


def test_memory_can_be_taken_away_while_it_runs(fresh):
    fresh.limit(memory_mib=200)
    result = fresh.run(["python3", "-c", "l = []\nwhile 1: l.append(b'x' * (8 << 20))"])
    assert isinstance(result.error, OutOfMemory)
    assert result.error.details["limit_mib"] == 200
