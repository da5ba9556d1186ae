"""What this machine has, what it lacks, and the command that would add it.

Looks and tries, changes nothing; each check says what it saw. An engine's own verdict comes
from its ``probe``, so the last rows are what a test run would find.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from edge_harness.errors import EdgeError
from edge_harness.profiles import Profile

Status = Literal["ok", "limited", "missing"]
_SETUP = "edge-harness setup"
_SYSTEM = "edge-harness setup --system"
#: An image is about 80 MiB, a runtime 60 to 300 MiB, an archive for Docker as much as its image.
_ENOUGH_DISK_MIB = 2048
_LEAST_DISK_MIB = 500
_ENOUGH_MEMORY_MIB = 2048


@dataclass(frozen=True, kw_only=True)
class Check:
    """One thing looked at."""

    group: str
    name: str
    status: Status
    found: str
    fix: str = ""
    optional: bool = False
    """Whether engines of this version do without it."""


def examine(profile: Profile) -> list[Check]:
    """All checks. Starts no device, fetches nothing."""
    return host() + engines(profile)


def host() -> list[Check]:
    """Checks of this machine; about a second, most of it the mirror."""
    checks: list[Check] = []
    for look in (_emulator, _namespaces, _parts, _cache, _memory, _docker, _binfmt):
        try:
            checks += look()
        except (OSError, subprocess.SubprocessError, EdgeError) as error:
            name = look.__name__.strip("_")
            checks.append(
                Check(
                    group="other", name=name, status="missing", found=f"the check failed: {error}"
                )
            )
    return checks


def engines(
    profile: Profile, names: Sequence[str] = ("user", "docker", "vm", "host")
) -> list[Check]:
    """Whether each engine could run ``profile`` here."""
    from edge_harness.engines import Availability, engine_named

    checks = []
    for name in names:
        try:
            seen = engine_named(name).probe(profile)
        except EdgeError as error:
            seen = Availability(
                engine=name, available=False, reason=error.message, fix=error.next_step
            )
        found = seen.reason
        if seen.available:
            found += f"; proves {', '.join(sorted(seen.capabilities)) or 'nothing'}"
        status: Status = "missing"
        if seen.available:
            status = "limited" if seen.fix else "ok"
        checks.append(
            Check(
                group="engines",
                name=f"{name} for {profile.name}",
                status=status,
                found=found,
                fix=seen.fix,
            )
        )
    return checks


def can_run(checks: Sequence[Check]) -> bool:
    """Whether an engine that emulates the board is there."""
    return any(
        check.group == "engines"
        and check.status != "missing"
        and check.name.split()[0] in ("user", "docker", "vm")
        for check in checks
    )


def as_json(checks: Sequence[Check]) -> list[dict[str, object]]:
    return [asdict(check) for check in checks]


def _output(argv: Sequence[str], *, timeout_s: float = 20.0) -> str:
    try:
        result = subprocess.run(
            list(argv),
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout_s,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return result.stdout


def _emulator() -> list[Check]:
    from edge_harness.image.tools import MINIMUM_QEMU, installed_tools, qemu_version

    checks = []
    least = ".".join(map(str, MINIMUM_QEMU))
    tools = installed_tools()
    if tools is None:
        checks.append(
            Check(
                group="emulator",
                name="QEMU user mode",
                status="missing",
                found=f"neither fetched nor installed ({least} or newer is needed)",
                fix=_SETUP,
            )
        )
    else:
        path = tools.qemu_user("arm64")
        checks.append(
            Check(
                group="emulator",
                name="QEMU user mode",
                status="ok",
                found=f"{qemu_version(str(path)) or 'does not start'} ({path})",
            )
        )
        plugin = "-plugin" in _output([str(path), "-help"])
        checks.append(
            Check(
                group="emulator",
                name="QEMU user mode -plugin",
                status="ok" if plugin else "limited",
                found="supported" if plugin else "not in static builds; nothing here needs it",
                optional=True,
            )
        )
    system = shutil.which("qemu-system-aarch64")
    if system is None:
        checks.append(
            Check(
                group="emulator",
                name="QEMU system mode",
                status="missing",
                found="not installed; no engine of this version needs it",
                optional=True,
            )
        )
    else:
        plugin = "-plugin" in _output([system, "-help"])
        checks.append(
            Check(
                group="emulator",
                name="QEMU system mode",
                status="ok",
                found=f"{qemu_version(system)}, -plugin {'supported' if plugin else 'missing'}",
                optional=True,
            )
        )
    return checks


def _namespaces() -> list[Check]:
    from edge_harness.engines.user import isolation
    from edge_harness.image.tools import installed_tools

    tools = installed_tools()
    prefix = tools.bwrap if tools else None
    if prefix is None:
        return [
            Check(
                group="isolation",
                name="user namespaces",
                status="missing",
                found="bubblewrap is neither fetched nor installed",
                fix=_SETUP,
            )
        ]
    mode, why = isolation(tuple(prefix))
    found = {
        "overlay": "bubblewrap makes namespaces and overlays (tried)",
        "read-only": f"bubblewrap makes namespaces (tried), no overlays: {why}",
        "none": f"bubblewrap cannot make namespaces (tried): {why}",
    }[mode]
    status: Status = {"overlay": "ok", "read-only": "limited", "none": "missing"}[mode]  # type: ignore[assignment]
    fix = ""
    if mode == "none":
        fix = (
            "sudo sysctl kernel.unprivileged_userns_clone=1; on Ubuntu 24.04 and later sudo "
            "sysctl kernel.apparmor_restrict_unprivileged_userns=0"
        )
    return [Check(group="isolation", name="user namespaces", status=status, found=found, fix=fix)]


def _parts() -> list[Check]:
    from edge_harness.image import apt

    checks = []
    tools = [name for name in ("apt-get", "apt-config", "dpkg-deb") if shutil.which(name) is None]
    checks.append(
        Check(
            group="parts",
            name="apt-get and dpkg-deb",
            status="missing" if tools else "ok",
            found=f"not on PATH: {', '.join(tools)}" if tools else str(shutil.which("apt-get")),
            fix="use a Debian or Ubuntu machine or container to build images" if tools else "",
        )
    )
    if not tools:
        checks += [_mirror(), _keyring(apt.KEYRING_VARIABLE)]
    pip = _output([sys.executable, "-m", "pip", "--version"]).split()
    checks.append(
        Check(
            group="parts",
            name="pip",
            status="ok" if pip else "missing",
            found=" ".join(pip[:2]) or f"{sys.executable} has no pip",
            fix="" if pip else f"{sys.executable} -m ensurepip",
        )
    )
    return checks


def _mirror() -> Check:
    from edge_harness.image import apt

    try:
        mirror = apt.mirror()
    except EdgeError as error:
        return Check(
            group="parts",
            name="Debian mirror",
            status="missing",
            found=error.message,
            fix=error.next_step,
        )
    # apt's own downloader, so that its proxy and certificates are used.
    helper = "/usr/lib/apt/apt-helper"
    if not os.access(helper, os.X_OK):
        return Check(
            group="parts", name="Debian mirror", status="limited", found=f"{mirror} (not tried)"
        )
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "InRelease"
        _output([helper, "download-file", f"{mirror}/dists/bookworm/InRelease", str(target)])
        reached = target.exists()
    return Check(
        group="parts",
        name="Debian mirror",
        status="ok" if reached else "missing",
        found=f"{mirror} {'answers' if reached else 'does not answer or has no bookworm'}",
        fix=""
        if reached
        else f"check the network and proxy, or name another in {apt.MIRROR_VARIABLE}; what is in "
        "the cache works without",
    )


def _keyring(variable: str) -> Check:
    chosen = os.environ.get(variable)
    files = [Path(chosen)] if chosen else []
    if not chosen:
        files = sorted(Path("/usr/share/keyrings").glob("debian-archive-keyring.[gp][pg][gp]"))
    there = [path for path in files if path.is_file()]
    return Check(
        group="parts",
        name="Debian archive keys",
        status="ok" if there else ("missing" if chosen else "limited"),
        found=str(there[0])
        if there
        else (f"{chosen!r} is not there" if chosen else "not installed; fetched when needed"),
        fix="" if there else f"install debian-archive-keyring, or name the file in {variable}",
    )


def _cache() -> list[Check]:
    from edge_harness.cache import cache_dir

    try:
        folder = cache_dir()
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"x")
    except (EdgeError, OSError) as error:
        step = error.next_step if isinstance(error, EdgeError) else ""
        return [
            Check(
                group="cache",
                name="cache folder",
                status="missing",
                found=error.message if isinstance(error, EdgeError) else str(error),
                fix=step or "name another with EDGE_HARNESS_CACHE=DIR",
            )
        ]
    free = shutil.disk_usage(folder).free >> 20
    status: Status = "ok"
    if free < _ENOUGH_DISK_MIB:
        status = "missing" if free < _LEAST_DISK_MIB else "limited"
    return [
        Check(group="cache", name="cache folder", status="ok", found=f"{folder}, writable"),
        Check(
            group="cache",
            name="disk",
            status=status,
            found=f"{free / 1024:.1f} GiB free",
            fix=""
            if status == "ok"
            else "edge-harness image gc --days 0, or EDGE_HARNESS_CACHE on another disk",
        ),
    ]


def _memory() -> list[Check]:
    total = 0
    if hasattr(os, "sysconf"):
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20
    enough = total >= _ENOUGH_MEMORY_MIB
    return [
        Check(
            group="machine",
            name="RAM and processors",
            status="ok" if enough else "limited",
            found=f"{total / 1024:.1f} GiB, {os.cpu_count()} processors",
            fix="" if enough else "run tests without -n, one device at a time",
        )
    ]


def _docker() -> list[Check]:
    from edge_harness.engines.docker import client as docker_client

    client = shutil.which("docker")
    checks = [
        Check(
            group="docker",
            name="Docker client",
            status="ok" if client else "limited",
            found=_output([client, "--version"]).strip()
            if client
            else "no 'docker' command; "
            "needed for shells in devices and for daemons on other machines only",
            optional=True,
        )
    ]
    try:
        daemon = docker_client.daemon()
    except EdgeError as error:
        checks.append(
            Check(
                group="docker",
                name="Docker Engine",
                status="missing",
                found=error.message,
                fix=error.next_step,
            )
        )
        return checks
    kind = "rootless" if daemon.rootless else "with root"
    place = "this machine" if daemon.local else f"elsewhere ({daemon.system}), reached by relay"
    checks.append(
        Check(
            group="docker",
            name="Docker Engine",
            status="ok",
            found=f"{daemon.version}, {kind}, on {place}, {daemon.url}",
        )
    )
    limits: list[str] = []
    if not daemon.memory_limit:
        limits.append("no memory limits")
    if not daemon.cpu_quota:
        limits.append("no CPU limits")
    fix = ""
    if limits:
        fix = "rootless Docker needs cgroup version 2 with systemd delegation of memory and cpu"
    checks.append(
        Check(
            group="docker",
            name="control groups",
            status="limited" if limits else "ok",
            found=f"version {daemon.cgroup}, " + (", ".join(limits) or "memory and CPU limits"),
            fix=fix,
        )
    )
    checks.append(
        Check(
            group="docker",
            name="swap accounting",
            status="ok" if daemon.swap_limit else "limited",
            found="on" if daemon.swap_limit else "off: a memory limit does not stop swapping",
            fix="" if daemon.swap_limit else "boot with swapaccount=1 or cgroup version 2",
        )
    )
    return checks


def _binfmt() -> list[Check]:
    from edge_harness.image.tools import host_arch
    from edge_harness.system import binfmt
    from edge_harness.system.setup import usable

    if not sys.platform.startswith("linux"):
        return []
    if not binfmt.mounted():
        return [
            Check(
                group="docker",
                name="binfmt_misc",
                status="missing",
                found=f"not mounted at {binfmt.FOLDER}; the docker engine needs it",
                fix=_SYSTEM,
            )
        ]
    checks = []
    for arch in binfmt.foreign_archs(host_arch()):
        handler = binfmt.handler_for(arch, binfmt.handlers())
        why = usable(handler)
        found = why
        if handler is not None and not why:
            found = f"{handler.name}, flags {handler.flags}, {handler.interpreter}"
        checks.append(
            Check(
                group="docker",
                name=f"binfmt for {binfmt.qemu_target(arch)}",
                status="missing" if why else "ok",
                found=found,
                fix=_SYSTEM if why else "",
            )
        )
    return checks
