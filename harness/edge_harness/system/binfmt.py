"""binfmt_misc: how the kernel is told to start another processor's programs with QEMU.

Flags of our entries, as Documentation/admin-guide/binfmt-misc.rst has them and Debian's own
static QEMU registers them:

- ``F``: the emulator is opened when it is registered, so it is found in containers too, where
  its path does not exist. Without it containers fail with "exec format error".
- ``P``: the program's ``argv[0]`` is kept (``sh -c 'echo $0'`` says ``sh``). From Linux 5.12 on
  the kernel tells QEMU of it (``AT_FLAGS_PRESERVE_ARGV0``); before, QEMU would read the arguments
  shifted by one, so it is left out there.
- ``O``: the kernel passes the program as an open file, so that unreadable ones run.
- not ``C``: nobody needs setuid programs of a device to become root on the host.
"""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path("/proc/sys/fs/binfmt_misc")
PREFIX = "edge-harness-"

#: Debian architecture: (name of QEMU's program, ELF class, ELF machine)
_TARGETS = {
    "arm64": ("aarch64", 2, 0xB7),
    "armhf": ("arm", 1, 0x28),
    "armel": ("arm", 1, 0x28),
    "amd64": ("x86_64", 2, 0x3E),
}
#: What of an ELF header must match: all but the OS ABI; executables (2) and shared objects (3),
#: which position-independent programs are.
_MASK = bytes.fromhex("ffffffffffffff00fffffffffffffffffeffffff")


@dataclass(frozen=True, kw_only=True)
class Handler:
    """One entry of binfmt_misc that goes by magic bytes."""

    name: str
    enabled: bool
    interpreter: str
    flags: str
    offset: int
    magic: bytes
    mask: bytes

    @property
    def works_in_containers(self) -> bool:
        """Whether it has the F flag."""
        return "F" in self.flags

    def matches(self, header: bytes) -> bool:
        part = header[self.offset : self.offset + len(self.magic)]
        mask = self.mask or b"\xff" * len(self.magic)
        return len(part) == len(self.magic) and all(
            (byte ^ wanted) & bits == 0
            for byte, wanted, bits in zip(part, self.magic, mask, strict=True)
        )


def elf_header(arch: str) -> bytes:
    """The first 20 bytes of a little-endian program for Debian architecture ``arch``."""
    _, elf_class, machine = _TARGETS[arch]
    return (
        b"\x7fELF"
        + bytes([elf_class, 1, 1])
        + bytes(9)
        + b"\x02\x00"
        + machine.to_bytes(2, "little")
    )


def qemu_target(arch: str) -> str:
    """QEMU's name of Debian architecture ``arch``: ``arm64`` is ``aarch64``."""
    return _TARGETS[arch][0]


def parse(name: str, text: str) -> Handler | None:
    """One file of ``/proc/sys/fs/binfmt_misc``; None for entries that go by file name."""
    fields = {}
    for line in text.splitlines():
        key, _, value = line.partition(" ")
        fields[key.rstrip(":")] = value.strip()
    if "magic" not in fields or "interpreter" not in fields:
        return None
    return Handler(
        name=name,
        enabled="enabled" in fields,
        interpreter=fields["interpreter"],
        flags=fields.get("flags", ""),
        offset=int(fields.get("offset", "0")),
        magic=bytes.fromhex(fields["magic"]),
        mask=bytes.fromhex(fields.get("mask", "")),
    )


def mounted(folder: Path | None = None) -> bool:
    """Whether binfmt_misc can be looked at."""
    return ((folder or FOLDER) / "status").exists()


def handlers(folder: Path | None = None) -> list[Handler]:
    """All enabled entries; [] where binfmt_misc is not mounted."""
    folder = folder or FOLDER
    found = []
    for path in sorted(folder.glob("*")) if mounted(folder) else []:
        if path.name in ("register", "status"):
            continue
        try:
            handler = parse(path.name, path.read_text(errors="replace"))
        except (OSError, ValueError):
            continue
        if handler is not None and handler.enabled:
            found.append(handler)
    return found


def handler_for(arch: str, entries: Iterable[Handler]) -> Handler | None:
    """The entry that starts programs of ``arch``, as far as can be told from outside.

    The kernel takes the one registered last, and lists them in no order: ours is only ever
    registered over one that will not do, so it goes first; then those with the F flag.
    """
    header = elf_header(arch)
    fitting = [entry for entry in entries if entry.matches(header)]
    fitting.sort(key=lambda entry: (not entry.name.startswith(PREFIX), "F" not in entry.flags))
    return fitting[0] if fitting else None


def usable(handler: Handler | None) -> str:
    """Why ``handler`` will not do for containers; "" if it will."""
    from edge_harness.image.tools import MINIMUM_QEMU, qemu_version

    if handler is None:
        return "nothing is registered"
    if not handler.works_in_containers:
        return f"{handler.name!r} lacks the F flag, so containers do not find its emulator"
    if os.access(handler.interpreter, os.X_OK):
        version = qemu_version(handler.interpreter)
        numbers = tuple(int(n) for n in version.split(".")[:2] if n.isdigit())
        if version and numbers < MINIMUM_QEMU:
            least = ".".join(map(str, MINIMUM_QEMU))
            return f"{handler.name!r} is QEMU {version}, older than {least}"
    return ""


def flags(kernel: str | None = None) -> str:
    """Flags to register with on a kernel of release ``kernel`` (default: this one)."""
    numbers = re.findall(r"\d+", kernel or platform.release())
    version = tuple(int(number) for number in numbers[:2])
    return "OPF" if version >= (5, 12) else "OF"


def entry_name(arch: str) -> str:
    return PREFIX + qemu_target(arch)


def register_line(arch: str, interpreter: Path | str, *, kernel: str | None = None) -> str:
    """What to write to ``/proc/sys/fs/binfmt_misc/register``."""
    path = str(interpreter)
    # Its first character separates the fields.
    separator = next(mark for mark in ":|,;!%" if mark not in path)
    magic = "".join(f"\\x{byte:02x}" for byte in elf_header(arch))
    mask = "".join(f"\\x{byte:02x}" for byte in _MASK)
    fields = ["", entry_name(arch), "M", "", magic, mask, path, flags(kernel)]
    return separator.join(fields)


def foreign_archs(host: str) -> tuple[str, ...]:
    """Which architectures a host of Debian architecture ``host`` emulates.

    32-bit Arm on 64-bit Arm is left alone: an entry would catch programs that many of these
    processors run themselves.
    """
    return {"amd64": ("arm64", "armhf"), "arm64": ("amd64",)}.get(host, ())
