"""What this machine has and lacks, each with the way to mend it. Changes and fetches nothing."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import EdgeError

if TYPE_CHECKING:
    from rich.console import Console

    from harness.profile import Profile

OK, LIMITED, MISSING = "ok", "limited", "missing"
_SETUP = "run 'edge-harness setup' (needs no root)"
_SYSTEM = "run 'edge-harness setup --system' (needs root)"
#: An image, a runtime layer and the tools together; measured 0.45 GiB with package lists.
_DISK_GIB = 1.0


@dataclass(frozen=True, kw_only=True)
class Check:
    """One line of the table."""

    name: str
    status: str
    """``ok``, ``limited`` or ``missing``."""
    found: str
    fix: str = ""

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def examine(profile: Profile) -> list[Check]:
    """All checks, for running ``profile``."""
    found: list[Check] = []
    for check in (_engines, _qemu, _namespaces, _docker, _binfmt, _fetching, _cache):
        try:
            found += list(check(profile))
        except EdgeError as error:
            found.append(
                Check(
                    name=check.__name__.strip("_"),
                    status=MISSING,
                    found=error.message,
                    fix=error.next_step,
                )
            )
    return found


def can_run(checks: Sequence[Check]) -> bool:
    """Whether some engine can run the device."""
    return any(check.name.startswith("engine ") and check.status != MISSING for check in checks)


def _engines(profile: Profile) -> Iterator[Check]:
    from harness.engines import ENGINE_NAMES, engine_named

    for name in ENGINE_NAMES:
        if name == "host":
            continue
        availability = engine_named(name).probe(profile)
        status = MISSING if not availability.available else LIMITED if availability.fix else OK
        yield Check(
            name=f"engine {name}",
            status=status,
            found=availability.reason,
            fix=availability.fix,
        )


def _qemu(profile: Profile) -> Iterator[Check]:
    from harness.image.tools import installed_tools, qemu_version

    tools = installed_tools()
    if tools is None:
        yield Check(name="QEMU user", status=MISSING, found="not fetched yet", fix=_SETUP)
    else:
        path = tools.qemu_user(profile.os.arch)
        plugin = _says(f"{path}", "--help").find("-plugin") >= 0
        yield Check(
            name="QEMU user",
            status=OK,
            found=f"{qemu_version(str(path))}, {path}, "
            + ("takes -plugin" if plugin else "no -plugin (static build)"),
        )
    system = shutil.which("qemu-system-aarch64")
    if system is None:
        yield Check(
            name="QEMU system",
            status=LIMITED,
            found="not installed; no engine of this version uses it",
        )
    else:
        plugin = "-plugin" in _says(system, "--help")
        yield Check(
            name="QEMU system",
            status=OK,
            found=f"{qemu_version(system)}, " + ("takes -plugin" if plugin else "no -plugin"),
        )


def _says(*argv: str) -> str:
    try:
        result = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return result.stdout + result.stderr


def _namespaces(profile: Profile) -> Iterator[Check]:
    from harness.engines.user import isolation
    from harness.image.tools import installed_tools

    tools = installed_tools()
    if tools is None or tools.bwrap is None:
        yield Check(
            name="user namespaces",
            status=LIMITED,
            found="not tried: bubblewrap is not fetched yet",
            fix=_SETUP,
        )
        return
    mode, why = isolation(tuple(tools.bwrap))
    if mode == "none":
        yield Check(
            name="user namespaces",
            status=LIMITED,
            found=why,
            fix="sysctl kernel.unprivileged_userns_clone=1 (Debian), "
            "kernel.apparmor_restrict_unprivileged_userns=0 (Ubuntu 24.04)",
        )
    else:
        yield Check(name="user namespaces", status=OK, found=f"work, root is {mode}")


def _docker(profile: Profile) -> Iterator[Check]:
    client = shutil.which("docker")
    yield Check(
        name="Docker client",
        status=OK if client else LIMITED,
        found=_says(client, "--version").strip() if client else "no docker command (not needed)",
    )
    from harness.engines import docker_client

    try:
        daemon = docker_client.daemon()
        info = docker_client.connect().info()
    except EdgeError as error:
        yield Check(name="Docker Engine", status=LIMITED, found=error.message, fix=_SYSTEM)
        return
    rootless = any("rootless" in option for option in info.get("SecurityOptions") or ())
    yield Check(
        name="Docker Engine",
        status=OK,
        found=f"{info.get('ServerVersion')} on {daemon.system} ({daemon.arch}), "
        f"{'rootless' if rootless else 'as root'}, cgroup v{info.get('CgroupVersion', '1')}",
    )
    memory, swap = info.get("MemoryLimit"), info.get("SwapLimit")
    yield Check(
        name="swap accounting",
        status=OK if memory and swap else LIMITED,
        found="memory and swap can be limited"
        if memory and swap
        else f"memory limit: {bool(memory)}, swap limit: {bool(swap)}",
        fix="" if swap else "boot with swapaccount=1, or switch swap off",
    )


def _binfmt(profile: Profile) -> Iterator[Check]:
    from harness.image.tools import host_arch
    from harness.system import binfmt
    from harness.system.setup import usable

    entries = binfmt.handlers()
    for arch in binfmt.foreign_archs(host_arch()):
        handler = binfmt.handler_for(arch, entries)
        why = usable(handler)
        name = handler.name if handler is not None else ""
        yield Check(
            name=f"binfmt {arch}",
            status=LIMITED if why else OK,
            found=why or f"{name}, with the F flag",
            fix=_SYSTEM if why else "",
        )


def _fetching(profile: Profile) -> Iterator[Check]:
    from harness.image import apt

    for name in ("apt-get", "dpkg-deb"):
        path = shutil.which(name)
        yield Check(
            name=name,
            status=OK if path else MISSING,
            found=path or "not on this machine",
            fix="" if path else "use a Debian or Ubuntu machine or container to fill the cache",
        )
    for name, ask in (("Debian mirror", apt.mirror), ("Debian keyring", apt.keyring)):
        yield _asked(name, ask)
    pip = _says(sys.executable, "-m", "pip", "--version").strip()
    yield Check(
        name="pip",
        status=OK if pip.startswith("pip ") else MISSING,
        found=pip.split(" from ")[0] or "not in this environment",
        fix="" if pip.startswith("pip ") else "python -m ensurepip",
    )


def _asked(name: str, ask: Callable[[], object]) -> Check:
    try:
        return Check(name=name, status=OK, found=str(ask()))
    except EdgeError as error:
        return Check(name=name, status=MISSING, found=error.message, fix=error.next_step)


def _cache(profile: Profile) -> Iterator[Check]:
    from harness.cache import cache_dir

    folder = cache_dir()
    free_gib = shutil.disk_usage(folder).free / 2**30
    yield Check(
        name="cache folder",
        status=OK if free_gib >= _DISK_GIB else LIMITED,
        found=f"{folder}, {free_gib:.1f} GiB free",
        fix="" if free_gib >= _DISK_GIB else "free some space, or set EDGE_HARNESS_CACHE",
    )
    total_mib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**20
    yield Check(
        name="memory",
        status=OK if total_mib >= 2048 else LIMITED,
        found=f"{total_mib:.0f} MiB, {os.cpu_count()} processors",
        fix="" if total_mib >= 2048 else "emulated processes need about 2.4 times the board's",
    )
    sample = Path("/proc/sys/kernel/osrelease")
    if sample.exists():
        yield Check(name="kernel", status=OK, found=sample.read_text().strip())


def show(checks: Sequence[Check], console: Console) -> None:
    """Print the table."""
    from rich.table import Table

    colour = {OK: "green", LIMITED: "yellow", MISSING: "red"}
    table = Table("what", "status", "found", "fix")
    for check in checks:
        status = f"[{colour[check.status]}]{check.status}[/]"
        table.add_row(check.name, status, check.found, check.fix)
    console.print(table)
