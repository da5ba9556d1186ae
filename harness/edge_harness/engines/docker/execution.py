"""How programs of a board's architecture run in a daemon's containers: by QEMU through the kernel's
binfmt_misc, or on the machine's own processor."""

from __future__ import annotations

import os
import platform
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edge_harness.evidence import FigureKind
from edge_harness.system.docker_client import Daemon

if TYPE_CHECKING:
    from edge_harness.profiles import Profile

NO_BINFMT = "run 'edge-harness setup --system' (root), which registers QEMU with the F flag"


@dataclass(frozen=True, kw_only=True)
class Execution:
    """How programs of the device's architecture run in a daemon's containers."""

    possible: bool
    pinned: bool
    """Whether the processor that programs see is the board's."""
    text: str
    fix: str = ""
    figure_kind: FigureKind = "emulated"


def execution(profile: Profile, daemon: Daemon) -> Execution:
    """Find out without starting anything."""
    arch = profile.os.arch
    core = profile.emulation.qemu_cpu
    if not daemon.local:
        if arch == daemon.arch:
            return Execution(
                possible=True,
                pinned=False,
                text=f"on the {arch} processor of {daemon.system} itself, no emulation",
            )
        # Only a container could tell whether QEMU is there: start() does.
        return Execution(
            possible=True, pinned=True, text=f"QEMU of {daemon.system} with QEMU_CPU={core}"
        )
    from edge_harness.image.tools import qemu_version
    from edge_harness.system import binfmt

    handler = binfmt.handler_for(arch, binfmt.handlers())
    if handler is not None and not (why := binfmt.usable(handler)):
        version = ""
        if os.access(handler.interpreter, os.X_OK):
            version = qemu_version(handler.interpreter)
        return Execution(
            possible=True,
            pinned=True,
            text=f"QEMU {version or 'of unknown version'} -cpu {core} through binfmt",
        )
    if arch == daemon.arch:
        from edge_harness.profiles import hwcap_verdict

        verdict = hwcap_verdict(profile, host_features(), trust_cpuinfo=True)
        differs = "" if verdict.ok else f", which is not the board's: {verdict.message}"
        return Execution(
            possible=True,
            pinned=verdict.ok,
            text=f"on this machine's own {arch} processor, no emulation{differs}",
            figure_kind="native",
            fix="" if verdict.ok else "--engine=user emulates the board's processor",
        )
    why = binfmt.usable(handler)
    return Execution(
        possible=False,
        pinned=False,
        text=f"containers cannot run {arch} programs here: {why} in binfmt_misc",
        fix=NO_BINFMT,
    )


def host_features(cpuinfo: Path = Path("/proc/cpuinfo")) -> list[str]:
    """The first processor's features as Linux names them."""
    try:
        found = re.search(r"^(?:Features|flags)\s*:(.*)$", cpuinfo.read_text(), re.MULTILINE)
    except OSError:
        return []
    return found[1].split() if found else []


def host_swaps(meminfo: Path = Path("/proc/meminfo")) -> bool:
    """Whether this machine has any swap space."""
    try:
        found = re.search(r"^SwapTotal:\s+(\d+)", meminfo.read_text(), re.MULTILINE)
    except OSError:
        return platform.system() != "Linux"
    return found is not None and int(found[1]) > 0
