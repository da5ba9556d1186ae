"""Limits of a container: how they are asked for, and what the kernel says became of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from edge_harness.engines import Limits
from edge_harness.errors import OptionError
from edge_harness.profiles import Profile
from edge_harness.system.docker_client import Daemon

#: Docker's own lower bound.
MINIMUM_MEMORY_MIB = 6
_UNLIMITED = 1 << 60


@dataclass(frozen=True, kw_only=True)
class Applied:
    """What a container gets."""

    memory_mib: int
    cpus: float
    notes: tuple[str, ...] = ()
    """Where that is less than the board has."""

    @property
    def nano_cpus(self) -> int:
        return round(self.cpus * 1e9)


def check(limits: Limits, daemon: Daemon) -> None:
    """Raise :class:`OptionError` for limits that no container can have here."""
    if limits.memory_mib is not None and limits.memory_mib < MINIMUM_MEMORY_MIB:
        raise OptionError(
            f"memory_mib={limits.memory_mib!r} is less than Docker allows",
            next_step=f"use {MINIMUM_MEMORY_MIB} or more (an emulated Python alone needs about 60)",
        )
    if limits.cpus is not None and not 0.01 <= limits.cpus <= daemon.cpus:
        raise OptionError(
            f"cpus={limits.cpus!r}, but Docker's machine has {daemon.cpus}",
            next_step=f"use 0.01 to {daemon.cpus}",
        )


def wanted(profile: Profile, limits: Limits, daemon: Daemon) -> Applied:
    """``limits``, else the profile's figures, as far as the daemon's machine has them.

    Raises:
        OptionError: ``limits`` themselves are impossible.
    """
    check(limits, daemon)
    notes = []
    memory_mib = limits.memory_mib or profile.memory.usable_mib
    if daemon.memory_mib and memory_mib > daemon.memory_mib:
        notes.append(f"{daemon.memory_mib} MiB of RAM instead of {memory_mib}: this machine's")
        memory_mib = daemon.memory_mib
    cpus = limits.cpus or float(profile.cpu.cores)
    if cpus > daemon.cpus:
        notes.append(f"the CPU time of {daemon.cpus} cores instead of {cpus:g}: this machine's")
        cpus = float(daemon.cpus)
    return Applied(memory_mib=memory_mib, cpus=cpus, notes=tuple(notes))


class ControlGroup:
    """A process's control group, read from the host; version 1 and 2."""

    def __init__(self, memory: Path, cpu: Path, version: int) -> None:
        self.memory = memory
        self.cpu = cpu
        self.version = version

    @classmethod
    def of(
        cls, pid: int, *, proc: Path = Path("/proc"), root: Path = Path("/sys/fs/cgroup")
    ) -> ControlGroup | None:
        """The group of process ``pid``; None if it cannot be read from here."""
        paths = {}
        try:
            for line in (proc / str(pid) / "cgroup").read_text().splitlines():
                _, names, path = line.split(":", 2)
                for name in names.split(","):
                    paths[name] = path.lstrip("/")
        except (OSError, ValueError):
            return None
        if "memory" in paths:
            group = cls(
                root / "memory" / paths["memory"], root / "cpu" / paths.get("cpu", ""), version=1
            )
        else:
            unified = root / paths.get("", "")
            group = cls(unified, unified, version=2)
        # Seen from within another container the path is somebody else's, or nothing.
        return group if paths.get("memory", paths.get("")) and group.memory.is_dir() else None

    def memory_events(self) -> dict[str, int]:
        """``oom_kills``, ``peak_mib``, ``limit_mib``; those that the kernel tells."""
        one = self.version == 1
        facts = {}
        for line in _read(
            self.memory / ("memory.oom_control" if one else "memory.events")
        ).splitlines():
            name, _, value = line.partition(" ")
            if name == "oom_kill":
                facts["oom_kills"] = int(value)
        for key, name in (
            ("peak_mib", "memory.max_usage_in_bytes" if one else "memory.peak"),
            ("limit_mib", "memory.limit_in_bytes" if one else "memory.max"),
        ):
            number = _number(self.memory / name)
            if number is not None and number < _UNLIMITED:
                facts[key] = number >> 20
        return facts

    def differences(self, memory_mib: int | None, cpus: float | None) -> list[str]:
        """Where the kernel's figures are not these; [] where all is as it should be."""
        one = self.version == 1
        found = []
        if memory_mib is not None:
            limit = _number(self.memory / ("memory.limit_in_bytes" if one else "memory.max"))
            if limit != memory_mib << 20:
                found.append(f"the memory limit is {_mib(limit)}, not {memory_mib} MiB")
            # Version 1 counts memory and swap together, version 2 swap alone; where the kernel
            # does not count swap there is no file, and the daemon says so in advance.
            swap = _number(
                self.memory / ("memory.memsw.limit_in_bytes" if one else "memory.swap.max")
            )
            expected = memory_mib << 20 if one else 0
            if swap is not None and swap != expected:
                found.append(f"the swap limit is {_mib(swap)}, not {_mib(expected)}")
        if cpus is not None:
            quota = self._quota()
            if quota is None or abs(quota - cpus) > 0.005:
                found.append(f"the CPU limit is {quota or 'none'}, not {cpus:g} cores")
        return found

    def _quota(self) -> float | None:
        if self.version == 1:
            quota = _number(self.cpu / "cpu.cfs_quota_us")
            period = _number(self.cpu / "cpu.cfs_period_us")
            return quota / period if quota and quota > 0 and period else None
        fields = _read(self.cpu / "cpu.max").split()
        return int(fields[0]) / int(fields[1]) if fields and fields[0].isdigit() else None


def memory_notes(events: Mapping[str, int]) -> str:
    """``limit 256 MiB, peak 256 MiB``; "" where nothing is known."""
    words = (("limit", events.get("limit_mib")), ("peak", events.get("peak_mib")))
    return ", ".join(f"{name} {figure} MiB" for name, figure in words if figure is not None)


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def _number(path: Path) -> int | None:
    text = _read(path).strip()
    if text == "max":
        return _UNLIMITED
    return int(text) if text.lstrip("-").isdigit() else None


def _mib(size: int | None) -> str:
    if size is None or size >= _UNLIMITED:
        return "none"
    return f"{size >> 20} MiB"
