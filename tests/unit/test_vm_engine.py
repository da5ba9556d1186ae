"""What the vm engine decides before anything runs."""

import io
import shlex
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from edge_harness.diagnose.pages import page_size_hint
from edge_harness.egress.packets import Egress, egress_in
from edge_harness.engines.registry import engine_named
from edge_harness.engines.vm.argv import (
    Board,
    Disk,
    acceleration,
    board_argv,
    board_memory_mib,
    has_core,
)
from edge_harness.engines.vm.machine import VmMachine
from edge_harness.errors import MissingAbility
from edge_harness.image.initrd import Archive
from edge_harness.image.kernel import flavour
from edge_harness.processes import process_start_time
from edge_harness.profiles import default_registry

PROFILES = default_registry()
A72 = "processor\t: 0\nCPU implementer\t: 0x41\nCPU part\t: 0xd08\n"


def board(**changes):
    fields = {
        "qemu": ["qemu-system-aarch64"],
        "name": "edge-rpi4",
        "arch": "arm64",
        "qemu_cpu": "cortex-a72",
        "cores": 4,
        "memory_mib": 1024,
        "kernel": Path("/k/vmlinuz"),
        "initrd": Path("initrd"),
        "append": "console=ttyAMA0",
        "disks": [
            Disk(path=Path("/d/base"), format="raw"),
            Disk(path=Path("/d/rw"), format="qcow2", writable=True),
        ],
    }
    return Board(**{**fields, **changes})


def test_the_core_the_memory_and_the_cores_are_pinned():
    line = shlex.join(board_argv(board()))
    assert "-cpu cortex-a72 -smp 4 -m 1024M" in line
    assert "restrict=on" in line
    assert "-no-reboot" in line
    assert '"werror": "report"' in line  # a full disk must not stop the board for ever


def test_only_storage_is_writable():
    nodes = [word for word in board_argv(board()) if '"node-name": "disk' in word]
    assert ['"read-only": true' in node for node in nodes] == [True, False]


def test_memory_is_shared_when_saved_and_private_when_restored():
    saved = shlex.join(board_argv(board(ram=Path("ram"))))
    restored = shlex.join(board_argv(board(ram=Path("/s/ram"), ram_private=True, incoming=True)))
    assert "mem-path=ram,share=on" in saved
    assert "mem-path=/s/ram,share=off,readonly=on" in restored
    assert "-incoming defer" in restored
    assert "-incoming" not in saved


def test_a_board_without_clock_starts_in_1970():
    assert "base=1970-01-01T00:00:00" in board_argv(board(clock_s=0))
    assert "base=utc" in board_argv(board())


@pytest.mark.parametrize(
    ("arch", "system", "machine", "cpuinfo", "kvm", "expected", "why"),
    [
        ("arm64", "Linux", "x86_64", "", True, "tcg", "emulated"),
        ("arm64", "Linux", "aarch64", A72, True, "kvm", "KVM on this machine's own cortex-a72"),
        ("arm64", "Linux", "aarch64", A72, False, "tcg", "no access to /dev/kvm"),
        ("armhf", "Linux", "aarch64", A72, True, "tcg", "no KVM for armhf"),
        ("arm64", "Linux", "aarch64", A72.replace("d08", "d0b"), True, "tcg", "cortex-a76 is no"),
        ("arm64", "Linux", "aarch64", A72 + A72.replace("d08", "d03"), True, "tcg", "a53, cortex"),
        ("arm64", "Darwin", "arm64", "", False, "tcg", "no hvf: Apple's processor"),
    ],
)
def test_the_hosts_processor_helps_only_if_it_is_the_boards(
    arch, system, machine, cpuinfo, kvm, expected, why
):
    chosen = acceleration(
        "cortex-a72", arch=arch, system=system, machine=machine, cpuinfo=cpuinfo, kvm=kvm
    )
    assert chosen.name == expected
    assert chosen.emulated is (expected == "tcg")
    assert why in chosen.why


def test_kvm_takes_the_hosts_own_core_and_interrupt_controller():
    emulated, native = (board_argv(board(accel=accel)) for accel in ("tcg", "kvm"))
    changed = [(a, b) for a, b in zip(emulated, native, strict=True) if a != b]
    assert changed == [
        ("virt,memory-backend=ram,gic-version=2", "virt,memory-backend=ram,gic-version=host"),
        ("tcg,thread=multi,tb-size=192", "kvm"),
        ("cortex-a72", "host"),
    ]


def test_more_than_eight_cores_need_another_interrupt_controller():
    eight, twelve = (board_argv(board(cores=n)) for n in (8, 12))
    assert "virt,memory-backend=ram,gic-version=2" in eight
    assert "virt,memory-backend=ram,gic-version=3" in twelve


def test_a_restored_board_reserves_no_memory_that_it_does_not_touch():
    argv = board_argv(board(ram=Path("ram"), ram_private=True, memory_mib=32768))
    assert argv[argv.index("-object") + 1] == (
        "memory-backend-file,id=ram,size=32768M,mem-path=ram,share=off,readonly=on,rom=off,"
        "reserve=off"
    )


def test_a_board_that_counts_runs_one_processor_at_a_time():
    argv = board_argv(board(icount=True))
    assert argv[argv.index("-accel") + 1] == "tcg,thread=single,tb-size=192"
    assert argv[-2:] == ["-icount", "shift=0,sleep=off"]
    plugged = board_argv(board(plugin="edge.so,out=clock"))
    assert plugged[-2:] == ["-plugin", "edge.so,out=clock"]


HOLD = """
import fcntl, os, sys, time
file = open(sys.argv[1], "w")
fcntl.lockf(file, fcntl.LOCK_EX)
file.write(f"{os.getpid()}\\n")
file.flush()
time.sleep(60)
"""


def test_an_emulator_whose_starter_was_killed_is_ended_by_its_pid_file(tmp_path):
    saving = tmp_path / "saving-folder"
    saving.mkdir()
    (tmp_path / "saving").write_text(str(saving))
    holders = [
        subprocess.Popen(
            [sys.executable, "-c", HOLD, str(folder / "qemu.pid")], start_new_session=True
        )
        for folder in (tmp_path, saving)
    ]
    deadline = time.monotonic() + 30
    while not all(f.exists() and f.read_text() for f in tmp_path.rglob("qemu.pid")) or (
        len(list(tmp_path.rglob("qemu.pid"))) < 2
    ):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    VmMachine({"engine": "vm", "state_dir": str(tmp_path)}).stop()
    assert [holder.wait(10) for holder in holders] == [-signal.SIGKILL] * 2
    assert not saving.exists()


def test_a_pid_file_that_nobody_locks_is_of_the_past(tmp_path):
    sleeper = subprocess.Popen(["sleep", "60"], start_new_session=True)
    (tmp_path / "qemu.pid").write_text(f"{sleeper.pid}\n")
    VmMachine({"engine": "vm", "state_dir": str(tmp_path)}).stop()
    assert sleeper.poll() is None
    sleeper.kill()
    sleeper.wait()


def test_why_a_restored_board_ended_is_not_that_it_was_restored(tmp_path):
    (tmp_path / "console.log").write_text("edge: restored\n")
    qemu = subprocess.Popen(["sleep", "60"], start_new_session=True)
    record = {"pid": qemu.pid, "started": process_start_time(qemu.pid)}
    machine = VmMachine({"engine": "vm", "state_dir": str(tmp_path), **record})
    assert machine.alive()
    machine.stop()
    qemu.returncode = -signal.SIGKILL  # it was reaped by the machine
    assert machine.end_reason() == "QEMU was ended by SIGKILL"
    (tmp_path / "console.log").write_text("edge: restored\nedge: boot failed: no overlay\n")
    assert machine.end_reason() == "edge: boot failed: no overlay"


def test_memory_follows_the_profile():
    rpi3b = PROFILES.get("rpi3b")
    assert rpi3b.memory.usable_mib < board_memory_mib(rpi3b) <= rpi3b.memory.ram_mib
    assert 256 < board_memory_mib(rpi3b, 256) < 320


def test_cores_and_kernels_that_are_not_there():
    assert has_core("cortex-a7")
    assert not has_core("arm1176")
    assert flavour("arm64", 16) == ("trixie", "linux-image-arm64-16k")
    with pytest.raises(MissingAbility, match="64 KiB"):
        flavour("arm64", 64)
    assert not engine_named("vm").probe(PROFILES.get("rpi-zero")).available
    assert not engine_named("vm").probe(PROFILES.get("edge-server")).available


def test_the_archive_is_one_that_others_read(tmp_path):
    archive = Archive()
    archive.file("bin/tool", b"#!/bin/sh\n", mode=0o755)
    archive.folder("proc")
    data = archive.data()
    assert data.startswith(b"070701")
    assert data.count(b"070701") == 4  # bin, bin/tool, proc, TRAILER
    assert len(data) % 4 == 0
    assert archive.data() == data


def test_oom_kills_are_counted_from_the_console(tmp_path):
    (tmp_path / "console.log").write_text(
        "[   31.1] Out of memory: Killed process 207 (python3) total-vm:3690340kB, "
        "anon-rss:522240kB, file-rss:2048kB, shmem-rss:0kB, UID:0 pgtables:1kB oom_score_adj:0\n"
    )
    machine = VmMachine({"state_dir": str(tmp_path), "usable_mib": 909})
    assert machine.memory_events() == {"oom_kills": 1, "limit_mib": 909, "peak_mib": 512}


def test_page_size_hints():
    said = "mmap: Invalid argument"
    assert "16 KiB" in page_size_hint(said, 16)
    assert page_size_hint(said, 4) == ""
    assert page_size_hint("KeyError: 'a'", 16) == ""
    assert "jemalloc" in page_size_hint("<jemalloc>: Unsupported system page size", 16)


def packet(dpkt, destination, transport, protocol):
    layer = dpkt.ip.IP(
        src=socket.inet_aton("10.0.2.15"),
        dst=socket.inet_aton(destination),
        p=protocol,
        data=transport,
    )
    layer.len = len(layer)
    return bytes(
        dpkt.ethernet.Ethernet(
            src=b"\x52\x54\x00\xed\x9e\x01", dst=b"\x52\x55\x0a\0\2\2", data=layer
        )
    )


def test_egress_is_read_from_packets(tmp_path):
    import dpkt

    question = dpkt.dns.DNS(id=1, qd=[dpkt.dns.DNS.Q(name="updates.example.com")])
    syn = dpkt.tcp.TCP(sport=40000, dport=8443, flags=dpkt.tcp.TH_SYN)
    ack = dpkt.tcp.TCP(sport=40000, dport=8443, flags=dpkt.tcp.TH_ACK)
    welcome = dpkt.tcp.TCP(sport=22, dport=40001, flags=dpkt.tcp.TH_SYN | dpkt.tcp.TH_ACK)
    ask = dpkt.udp.UDP(sport=5000, dport=53, data=bytes(question))
    ask.ulen = len(ask)
    data = io.BytesIO()
    writer = dpkt.pcap.Writer(data)
    for frame in (
        packet(dpkt, "10.0.2.3", ask, 17),
        packet(dpkt, "192.0.2.7", syn, 6),
        packet(dpkt, "192.0.2.7", syn, 6),
        packet(dpkt, "192.0.2.9", welcome, 6),  # it was called, and answers
        packet(dpkt, "192.0.2.7", ack, 6),
    ):
        writer.writepkt(frame, ts=0)
    path = tmp_path / "network.pcap"
    path.write_bytes(data.getvalue()[:-7])  # killed in the middle of the last packet
    assert egress_in(path) == [
        Egress(protocol="dns", host="10.0.2.3", port=53, name="updates.example.com"),
        Egress(protocol="tcp", host="192.0.2.7", port=8443),
    ]
    assert egress_in(tmp_path / "none.pcap") == []


def test_a_frame_that_is_none_hides_nothing_after_it(tmp_path):
    import dpkt

    syn = dpkt.tcp.TCP(sport=40000, dport=8443, flags=dpkt.tcp.TH_SYN)
    cut_short = bytes(12) + b"\x81\x00\x00"  # a VLAN tag of one byte
    with open(tmp_path / "network.pcap", "wb") as file:
        writer = dpkt.pcap.Writer(file)
        for frame in (b"abc", cut_short, packet(dpkt, "192.0.2.7", syn, 6)):
            writer.writepkt(frame, ts=0)
    assert [str(each) for each in egress_in(tmp_path / "network.pcap")] == ["tcp 192.0.2.7:8443"]
