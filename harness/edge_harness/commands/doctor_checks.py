"""What this machine has, what it lacks, and the command that would add it.

Looks and tries, changes nothing; each check says what it saw. What an engine rests on it looks at
itself, and its verdict comes from its ``probe``, so the last rows are what a test run would find.
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from edge_harness.engines import Availability, Engine
from edge_harness.engines.choose import probed
from edge_harness.engines.registry import (
    blaming,
    broken,
    engine_named,
    engine_names,
    working_engines,
)
from edge_harness.errors import BrokenExtension, EdgeError
from edge_harness.profiles import Profile
from edge_harness.runtimes import RUNTIMES
from edge_harness.system.checks import Check, Status, output_of

ENGINES = "engines"
#: An image is about 80 MiB, a runtime 60 to 300 MiB, an archive for Docker as much as its image.
_ENOUGH_DISK_MIB = 2048
_LEAST_DISK_MIB = 500
_ENOUGH_MEMORY_MIB = 2048


def examine(profile: Profile) -> list[Check]:
    """All checks: of this machine, and what a test run would find. Starts no device, fetches
    nothing."""
    return host([profile]) + engines(profile)


def host(profiles: Sequence[Profile]) -> list[Check]:
    """Checks of this machine: what each engine rests on for any of ``profiles``, and what all of
    them do. About a second, most of it the mirror."""
    found, failing = working_engines()
    checks = [
        Check(
            group="extensions",
            name=f"{error.details['engine']} engine",
            status="missing",
            found=error.message,
            fix=error.next_step,
            optional=True,
        )
        for error in failing
    ]
    checks += [
        Check(
            group="extensions",
            name=f"{name} runtime",
            status="missing",
            found=error.message,
            fix=error.next_step,
            optional=True,
        )
        for name, error in RUNTIMES.outside.broken.items()
    ]
    for engine in found:
        checks += _foundations(engine, profiles)
    for name, look in (("parts", _parts), ("cache", _cache), ("memory", _memory)):
        checks += _looked(name, look)
    return _in_groups(checks)


def foundations(name: str, profiles: Sequence[Profile]) -> list[Check]:
    """What the engine ``name`` rests on for any of ``profiles``; [] where it cannot be had."""
    try:
        engine = engine_named(name)
    except BrokenExtension:  # its row says so
        return []
    return _in_groups(_foundations(engine, profiles))


def _foundations(engine: Engine, profiles: Sequence[Profile]) -> list[Check]:
    def look(profile: Profile) -> list[Check]:
        with blaming(engine.name, "checks"):
            checks = list(engine.checks(profile))
        for each in checks:
            if not isinstance(each, Check):
                raise broken(
                    engine.name,
                    f"is broken: checks() gives {each!r} and no Check",
                    next_step="have it return edge_harness.system.checks.Check",
                )
        return checks

    return [
        check
        for profile in profiles
        for check in _looked(f"{engine.name} engine", functools.partial(look, profile))
    ]


def _looked(name: str, look: Callable[[], list[Check]]) -> list[Check]:
    try:
        return look()
    except (OSError, subprocess.SubprocessError, EdgeError) as error:
        said = error.message if isinstance(error, EdgeError) else str(error)
        step = error.next_step if isinstance(error, EdgeError) else ""
        return [
            Check(
                group="other",
                name=name,
                status="missing",
                found=f"the check failed: {said}",
                fix=step,
            )
        ]


def _in_groups(checks: Sequence[Check]) -> list[Check]:
    """Each once, those of one group together."""
    groups = list(dict.fromkeys(check.group for check in checks))
    once = dict.fromkeys(checks)  # most are the same for all profiles
    return sorted(once, key=lambda check: groups.index(check.group))


def engines(profile: Profile, names: Sequence[str] = ()) -> list[Check]:
    """Whether each engine (of ``names``, if given) could run ``profile`` here."""
    return [_engine(profile, name) for name in names or engine_names()]


def _engine(profile: Profile, name: str) -> Check:
    emulates = True
    try:
        engine = engine_named(name)
        # What is chosen on request alone makes no machine fit for testing boards.
        emulates = engine.auto_rank is not None
        seen = probed(engine, profile)
    except EdgeError as error:
        seen = Availability(engine=name, available=False, reason=error.message, fix=error.next_step)
    found = seen.reason
    status: Status = "missing"
    if seen.available:
        found += f"; proves {', '.join(sorted(seen.abilities)) or 'nothing'}"
        status = "limited" if seen.fix else "ok"
    return Check(
        group=ENGINES,
        name=f"{name} for {profile.name}",
        status=status,
        found=found,
        fix=seen.fix,
        optional=not emulates,
    )


def can_run(checks: Sequence[Check]) -> bool:
    """Whether an engine that emulates the board is there."""
    return any(
        check.group == ENGINES and check.status != "missing" and not check.optional
        for check in checks
    )


def as_json(checks: Sequence[Check]) -> list[dict[str, Any]]:
    return [check.as_json() for check in checks]


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
    pip = output_of([sys.executable, "-m", "pip", "--version"]).split()
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
        output_of([helper, "download-file", f"{mirror}/dists/bookworm/InRelease", str(target)])
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
