"""Two instructions that do nothing on a processor and tell the device clock where to count."""

from __future__ import annotations

import ctypes
import mmap
import os
import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

#: HINT #96 and #97 are unallocated and execute as NOP on every Arm core (Arm ARM, "HINT").
_CODE = {
    "aarch64": (0xD503201F | 96 << 5, 0xD503201F | 97 << 5, 0xD65F03C0),  # …, RET
    "armv7l": (0xE320F000 | 96, 0xE320F000 | 97, 0xE12FFF1E),  # …, BX LR
}
_pages: list[Any] = []


def markers() -> tuple[Callable[[], None], Callable[[], None]]:
    """Functions that execute the start and the stop marker.

    Raises:
        OSError: this processor is not an Arm one.
    """
    machine = os.uname().machine
    if machine == "armv8l":  # a 32-bit program on a 64-bit kernel
        machine = "armv7l"
    if machine not in _CODE:
        raise OSError(8, f"there are no markers for {machine}")
    start, stop, back = _CODE[machine]
    page = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    page.write(struct.pack("<4I", start, back, stop, back))
    address = ctypes.addressof(ctypes.c_char.from_buffer(page))
    _pages.append(page)  # or it would be unmapped
    kind = ctypes.CFUNCTYPE(None)
    return kind(address), kind(address + 8)


def undisturbed() -> None:
    """Have the last processor to oneself: nothing of user space runs there until this ends."""
    last = os.cpu_count() or 1
    os.sched_setaffinity(0, [last - 1])
    with open("/proc/sys/kernel/sched_rt_runtime_us", "w") as file:
        file.write("-1")
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(50))


def measure(invoke: Callable[[], Any], repeats: int) -> dict[str, Any]:
    """Call ``invoke`` ``repeats`` times, each between markers, and say what is mapped where."""
    start, stop = markers()
    undisturbed()
    try:
        for _ in range(repeats):
            start()
            invoke()
            stop()
    finally:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    with open("/proc/self/maps") as file:
        maps = [line.split(None, 5) for line in file if " r-x" in line or "r-xp" in line]
    return {
        "maps": [
            [int(m[0].split("-")[0], 16), int(m[0].split("-")[1], 16), int(m[2], 16), m[5].strip()]
            for m in maps
            if len(m) == 6
        ]
    }
