"""The emulator's command line for a board, and whether the host's processor may help."""

from __future__ import annotations

import platform
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edge_harness.engines.vm.streams import PORTS, port_name
from edge_harness.profiles import Profile

#: Memory that the kernel keeps before it says MemTotal: 1/64 for the page table of 64 bytes a
#: page, and its own code and data. Measured with Debian's kernels; see tests/device.
_KERNEL_MIB = {4: 44, 16: 44}
#: QEMU 10's ``-M virt`` takes these cores (``-M virt -cpu help``); arm1176 is not among them.
_CORES = re.compile(r"^(cortex-a(7|15|35|53|55|57|72|76|710)|neoverse-[nv][12]|a64fx|max)(,|$)")
#: CPU part numbers of Arm Ltd. (implementer 0x41) in /proc/cpuinfo; Arm TRMs, MIDR_EL1.
_PARTS = {
    0xD03: "cortex-a53",
    0xD05: "cortex-a55",
    0xD07: "cortex-a57",
    0xD08: "cortex-a72",
    0xD0B: "cortex-a76",
    0xD0C: "neoverse-n1",
    0xD40: "neoverse-v1",
    0xD49: "neoverse-n2",
}


@dataclass(frozen=True, kw_only=True)
class Acceleration:
    """What executes the guest's instructions."""

    name: str
    """``tcg``, ``kvm`` or ``hvf``."""
    why: str

    @property
    def emulated(self) -> bool:
        """Whether QEMU translates them; else this machine's own processor executes them."""
        return self.name == "tcg"


def acceleration(
    qemu_cpu: str, *, arch: str, system: str, machine: str, cpuinfo: str, kvm: bool
) -> Acceleration:
    """KVM where the host's own core is the board's; emulation everywhere else, because a
    processor that runs guest code directly cannot be kept from its own instructions.

    Args:
        qemu_cpu: the pinned core.
        arch: Debian architecture of the board's system.
        system: ``platform.system()``.
        machine: ``platform.machine()``.
        cpuinfo: text of /proc/cpuinfo.
        kvm: whether /dev/kvm can be opened.
    """
    if system == "Darwin" and machine == "arm64":
        return Acceleration(
            name="tcg", why=f"no hvf: Apple's processor is no {qemu_cpu} and would run more"
        )
    if machine != "aarch64" or system != "Linux":
        return Acceleration(name="tcg", why="emulated")
    if arch != "arm64":
        # Linux's KVM on 64-bit hosts runs 32-bit systems, but qemu-system-arm has no KVM there.
        return Acceleration(name="tcg", why=f"emulated; no KVM for {arch}")
    if not kvm:
        return Acceleration(name="tcg", why="emulated; no access to /dev/kvm")
    parts = {int(part, 16) for part in re.findall(r"^CPU part\s*: (0x\w+)", cpuinfo, re.M)}
    cores = {_PARTS.get(part, "?") for part in parts}
    if cores == {qemu_cpu}:
        return Acceleration(name="kvm", why=f"KVM on this machine's own {qemu_cpu}")
    return Acceleration(
        name="tcg",
        why=f"emulated; no KVM: this machine's {', '.join(sorted(cores)) or 'processor'} is no "
        f"{qemu_cpu}",
    )


def host_acceleration(qemu_cpu: str, arch: str) -> Acceleration:
    """:func:`acceleration` on this machine."""
    import os

    try:
        cpuinfo = Path("/proc/cpuinfo").read_text()
    except OSError:
        cpuinfo = ""
    return acceleration(
        qemu_cpu,
        arch=arch,
        system=platform.system(),
        machine=platform.machine(),
        cpuinfo=cpuinfo,
        kvm=os.access("/dev/kvm", os.R_OK | os.W_OK),
    )


def has_core(qemu_cpu: str) -> bool:
    """Whether QEMU's ``virt`` board can have this core."""
    return bool(_CORES.match(qemu_cpu))


def board_memory_mib(profile: Profile, limit_mib: int | None = None) -> int:
    """RAM to give the board, in MiB, so that Linux on it has what it has on the real one.

    What firmware and GPU keep of a real board is left out; what the kernel keeps is added.
    """
    usable = limit_mib or profile.memory.usable_mib
    kernel = _KERNEL_MIB[profile.os.page_size_kib] + usable // 60
    wanted = usable + kernel
    return wanted if limit_mib else min(profile.memory.ram_mib, wanted)


@dataclass(frozen=True, kw_only=True)
class Disk:
    """One disk of the board; its place on the bus is its place in the list."""

    path: Path
    format: str
    """``raw`` or ``qcow2``."""
    writable: bool = False


def disk_nodes(number: int, disk: Disk) -> list[dict[str, object]]:
    """Block nodes of ``disk``, bottom up: file, format, and on writable ones a gate, above
    which faults can be put in while the board runs."""
    read_only = not disk.writable
    nodes: list[dict[str, object]] = [
        {
            "driver": "file",
            "node-name": f"file{number}",
            "filename": str(disk.path),
            "read-only": read_only,
            "discard": "unmap",
            # Devices share read-only disks, and QEMU's own lock is of no use on a base that
            # nobody writes.
            "locking": "off" if read_only else "auto",
        },
        {
            "driver": disk.format,
            "node-name": f"disk{number}",
            "file": f"file{number}",
            "read-only": read_only,
        },
    ]
    if disk.writable:
        nodes.append({"driver": "raw", "node-name": f"gate{number}", "file": f"disk{number}"})
    return nodes


def scsi_disk(number: int, *, writable: bool) -> dict[str, object]:
    """The disk ``number`` as a device. A full disk of this machine is an error in the guest;
    by default QEMU would stop and wait."""
    return {
        "driver": "scsi-hd",
        "id": f"scsi{number}",
        "bus": "bus.0",
        "scsi-id": number,
        "drive": f"{'gate' if writable else 'disk'}{number}",
        "werror": "report",
        "rerror": "report",
    }


@dataclass(frozen=True, kw_only=True)
class Board:
    """All that decides a board's command line. Paths are relative to the folder QEMU runs in
    or absolute."""

    qemu: Sequence[str]
    name: str
    arch: str
    qemu_cpu: str
    cores: int
    memory_mib: int
    kernel: Path
    initrd: Path
    append: str
    disks: Sequence[Disk]
    accel: str = "tcg"
    ram: Path | None = None
    """A file for the board's memory; None for memory of the process alone."""
    ram_private: bool = False
    """Map ``ram`` copy-on-write, to start from what it holds."""
    incoming: bool = False
    """Wait for a saved state instead of starting."""
    clock_s: float | None = None
    plugin: str = ""
    """A TCG plugin and its arguments."""
    icount: bool = False
    """Let the board's clock count instructions, one a nanosecond; one processor at a time."""


def board_argv(board: Board) -> list[str]:
    """QEMU's command line for ``board``."""
    import json

    # KVM offers the interrupt controller that the host has, and servers have no version 2.
    # GICv2 has room for eight processors (Arm IHI 0048B).
    gic = "host" if board.accel == "kvm" else "2" if board.cores <= 8 else "3"
    machine = f"virt,memory-backend=ram,gic-version={gic}"
    if board.arch == "armhf":
        # A kernel without LPAE reaches nothing above 4 GiB, PCI included.
        machine += ",highmem=off"
    size = f"size={board.memory_mib}M"
    if board.ram is None:
        memory = f"memory-backend-ram,id=ram,{size}"
    elif board.ram_private:
        memory = f"memory-backend-file,id=ram,{size},mem-path={board.ram},share=off"
        # A board may have more memory than this machine: only what it touches is to count.
        memory += ",readonly=on,rom=off,reserve=off"
    else:
        memory = f"memory-backend-file,id=ram,{size},mem-path={board.ram},share=on"
    cpu = "host" if board.accel == "kvm" else board.qemu_cpu
    accel = "tcg,thread=multi,tb-size=192" if board.accel == "tcg" else board.accel
    if board.icount:
        accel = "tcg,thread=single,tb-size=192"
    argv = [*board.qemu, "-name", board.name, "-nodefaults", "-no-user-config"]
    argv += ["-display", "none", "-no-reboot", "-pidfile", "qemu.pid"]
    argv += ["-machine", machine, "-accel", accel, "-cpu", cpu, "-smp", str(board.cores)]
    argv += ["-m", f"{board.memory_mib}M", "-object", memory]
    argv += ["-kernel", str(board.kernel), "-initrd", str(board.initrd), "-append", board.append]
    argv += ["-rtc", f"base={_iso(board.clock_s)}"]
    argv += ["-chardev", "file,id=console,path=console.log,append=on", "-serial", "chardev:console"]
    argv += ["-qmp", "unix:qmp.sock,server=on,wait=off"]
    argv += ["-device", "virtio-serial-pci,id=serial,max_ports=31"]
    for number in range(1, PORTS + 1):
        name = port_name(number)
        argv += ["-chardev", f"socket,id={name},path=run/{name},server=on,wait=off"]
        argv += ["-device", f"virtserialport,bus=serial.0,nr={number},chardev={name},name={name}"]
    argv += ["-device", "virtio-scsi-pci,id=bus"]
    for number, disk in enumerate(board.disks):
        for node in disk_nodes(number, disk):
            argv += ["-blockdev", json.dumps(node)]
        argv += ["-device", json.dumps(scsi_disk(number, writable=disk.writable))]
    # The card is always there; without its driver, which only a test loads, Linux has no
    # interface. restrict: nothing on it reaches this machine or any other.
    argv += ["-netdev", "user,id=net,restrict=on"]
    argv += ["-device", "virtio-net-pci,netdev=net,romfile=,mac=52:54:00:ed:9e:01"]
    if board.incoming:
        argv += ["-incoming", "defer"]
    if board.icount:
        argv += ["-icount", "shift=0,sleep=off"]
    if board.plugin:
        argv += ["-plugin", board.plugin]
    return argv


def _iso(clock_s: float | None) -> str:
    if clock_s is None:
        return "utc"
    import datetime

    moment = datetime.datetime.fromtimestamp(clock_s, datetime.timezone.utc)
    return moment.strftime("%Y-%m-%dT%H:%M:%S")
