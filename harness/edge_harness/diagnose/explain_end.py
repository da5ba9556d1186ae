"""From how a process on the device ended to the error that says why."""

from __future__ import annotations

import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_harness.diagnose.pages import page_size_hint
from edge_harness.engines.launch import AGENT_DIR, LAYERS_DIR, RUN_DIR
from edge_harness.errors import (
    BusError,
    DeviceFailed,
    IllegalInstruction,
    OutOfMemory,
    ProcessDied,
    Segfault,
)
from edge_harness.processes import tail

if TYPE_CHECKING:
    from edge_harness.diagnose import Diagnosis
    from edge_harness.image import Image
    from edge_harness.profiles import Profile

_CLASS: Mapping[int, type[DeviceFailed]] = {
    signal.SIGILL: IllegalInstruction,
    signal.SIGSEGV: Segfault,
    signal.SIGBUS: BusError,
}
_CRASHES = frozenset(
    {
        signal.SIGILL,
        signal.SIGSEGV,
        signal.SIGBUS,
        signal.SIGABRT,
        signal.SIGFPE,
        signal.SIGTRAP,
        signal.SIGSYS,
    }
)


class Deaths:
    """Explains the deaths on one device."""

    def __init__(
        self,
        *,
        profile: Profile,
        image: Image,
        state_dir: Path,
        profiles: Sequence[Profile],
        emulator_counts: bool = True,
    ) -> None:
        self._emulator_counts = emulator_counts
        self._profile = profile
        self._image = image
        self._state_dir = state_dir
        self._profiles = profiles

    def resolve(self, path: str) -> Path | None:
        """Where a file of the device lies on the host."""
        from edge_harness.image import agent_dir, layers_dir

        for inside, outside in (
            (LAYERS_DIR, layers_dir()),
            (AGENT_DIR, agent_dir()),
            (RUN_DIR, self._state_dir / "run"),
        ):
            if path == inside or path.startswith(inside + "/"):
                found = outside / path[len(inside) + 1 :]
                return found if found.exists() else None
        for found in (Path(str(self._image.root) + path), Path(path)):
            # The second: without namespaces the device's paths are the host's.
            inside_tree = found.is_relative_to(self._image.root) or found.is_relative_to(
                layers_dir()
            )
            if inside_tree and found.exists():
                return found
        return None

    def explain(
        self,
        status: Mapping[str, Any],
        doing: str,
        *,
        device: str,
        log: str,
        memory: Mapping[str, int] | None,
    ) -> tuple[DeviceFailed, Diagnosis | None]:
        """The error for a process that ended with ``status``, and what its remains tell.

        ``memory`` holds the control group's figures if its OOM killer struck meanwhile.
        """
        number = status.get("signal")
        code = status.get("code")
        if number is None and code is not None and 128 < code < 160:
            number = code - 128  # a shell reports its child's signal this way
        if memory is not None and number in (signal.SIGKILL, None):
            return self.out_of_memory(doing, memory, device=device, why="SIGKILL"), None
        diagnosis = self._diagnose(number, status) if number in _CRASHES else None
        if number is None:
            said = tail(log, 12)
            pages = page_size_hint(log, self._pages_kib())
            return ProcessDied(
                f"{device} ended with exit status {code} while {doing}"
                + (f"; its last words:\n{said}" if said else "")
                + (f"\n{pages}" if pages else ""),
                next_step="make the program ask for the page size (sysconf(_SC_PAGESIZE)), or use "
                "a build for larger pages"
                if pages
                else "its output above says why",
                details={"device": device, "code": code},
            ), None
        if number == signal.SIGABRT and "bad_alloc" in log[-4000:]:
            return self.out_of_memory(doing, {}, device=device, why="std::bad_alloc"), diagnosis
        name = _signal_name(number)
        error = _CLASS.get(number, ProcessDied)
        message = f"{device} died of {name} while {doing}"
        details: dict[str, Any] = {"device": device, "signal": number, "doing": doing}
        next_step = "run the same on another device profile to see whether it is this CPU"
        if diagnosis is not None:
            message += "\n" + diagnosis.text()
            details.update(diagnosis.details())
            if diagnosis.first_profile:
                next_step = (
                    f"use a build without that feature, or a board that has it: "
                    f"--device={diagnosis.first_profile}"
                )
        elif number == signal.SIGKILL:
            message += " (killed from outside: no memory limit was hit)"
        pages = page_size_hint(log, self._pages_kib())
        message += f"\n{pages}" if pages else ""
        said = tail(log, 8)
        if said and number != signal.SIGILL:
            message += f"\n--- its last words ---\n{said}\n---"
        return error(message, next_step=next_step, details=details), diagnosis

    def _pages_kib(self) -> int:
        """Page size that the device really has; only its own kernel can have another than 4."""
        return 4 if self._emulator_counts else self._profile.os.page_size_kib

    def out_of_memory(
        self, doing: str, events: Mapping[str, int], *, device: str, why: str
    ) -> OutOfMemory:
        """The error for a process that needed more memory than there is."""
        limit, peak = events.get("limit_mib"), events.get("peak_mib")
        figures = ", ".join(
            text
            for text in (
                limit is not None and f"limit {limit} MiB",
                peak is not None and f"peak {peak} MiB",
            )
            if text
        )
        return OutOfMemory(
            f"{device} ran out of memory while {doing}: {figures or 'no limit known'} ({why}); "
            + (
                "the emulator's own memory counts against the limit"
                if self._emulator_counts
                else "killed by the board's own kernel, peak is that of the process"
            ),
            next_step="use a smaller model or input, or raise the limit (--edge-memory-mib)",
            details={"device": device, "limit_mib": limit, "peak_mib": peak, "doing": doing},
        )

    def _diagnose(self, number: int | None, status: Mapping[str, Any]) -> Diagnosis | None:
        from edge_harness.diagnose import explain_death

        run = self._state_dir / "run"
        cores = sorted(
            [*run.glob("*.core"), *run.glob("core*")], key=lambda path: path.stat().st_mtime
        )
        named = [path for path in cores if path.name == status.get("core")]
        found = named or cores
        core = found[-1] if found else None
        try:
            return explain_death(
                signal=number,
                core_file=core,
                resolve=self.resolve,
                profile=self._profile,
                profiles=self._profiles or _all_profiles(),
            )
        finally:
            for path in cores:
                path.unlink(missing_ok=True)


def _all_profiles() -> Sequence[Profile]:
    from edge_harness.profiles import default_registry

    profiles, _broken = default_registry().working()
    return profiles


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
