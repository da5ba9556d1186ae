"""From how something on a device ended to the error that says why.

The one home of that question: a process, the whole device, memory, time. What is known of the
device is handed in once (:class:`Explainer`), the remains with each question.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_harness.diagnose.explain import CRASHES, Diagnosis, explain_death
from edge_harness.diagnose.memory import memory_sign
from edge_harness.diagnose.pages import page_size_hint
from edge_harness.errors import (
    BusError,
    DeviceFailed,
    DeviceTimeout,
    IllegalInstruction,
    OutOfMemory,
    ProcessDied,
    RuntimeFailed,
    Segfault,
)
from edge_harness.processes import signal_name, tail

if TYPE_CHECKING:
    from edge_harness.profiles import Profile

_CLASS: Mapping[int, type[DeviceFailed]] = {
    signal.SIGILL: IllegalInstruction,
    signal.SIGSEGV: Segfault,
    signal.SIGBUS: BusError,
}
_PAGES = (
    "make the program ask for the page size (sysconf(_SC_PAGESIZE)), or use a build for larger "
    "pages"
)
_ALONE = "run it alone on a device of its own (fresh_device, without -n) to see its own words"
_OTHER_CPU = "run the same on another device profile to see whether it is this CPU"
_BOARD_CPU = (
    "run the same on an engine that has the board's CPU (ability isa) to see whether the board "
    "does it too: here this machine's own processor runs it"
)
_SLOW = "raise timeout_s (emulation is 10 to 100 times slower than the board)"


@dataclass(frozen=True, kw_only=True)
class Explainer:
    """Explains what ends on one device."""

    device: str
    """Its name, as messages say it."""
    profile: Profile
    find: Callable[[str], Path | None]
    """Where a file of the device lies on this machine (:class:`DeviceFiles`)."""
    cores: Path
    """The folder in which core dumps are left; they are deleted once they were read."""
    emulator_counts: bool
    """Whether the emulator's own memory counts against the device's limit, and its kernel's
    pages stand for the device's."""
    emulated: bool = True
    """Whether an emulator runs its programs; not on a board, nor natively."""
    board_cpu: bool = True
    """Whether programs see the board's own kind of processor, and not this machine's."""
    memory_limit: bool = True
    """Whether the engine limits memory, and counts the kills of the kernel for want of it."""
    profiles: Sequence[Profile] = ()
    """Boards to look for a missing feature on; none: all that are known."""

    def process_end(
        self,
        status: Mapping[str, Any],
        doing: str,
        *,
        log: str,
        memory: Mapping[str, int] | None,
        alone: bool = True,
    ) -> tuple[DeviceFailed, Diagnosis | None]:
        """The error for a process that ended with ``status`` (``signal`` or ``code``, and the
        name of its ``core``), and what its remains tell.

        ``log`` is what it said, or if not ``alone`` what it or another said: no cause is read
        from that. ``memory`` holds the control group's figures if its OOM killer struck
        meanwhile.
        """
        number = ending_signal(status)
        if memory is not None and number in (signal.SIGKILL, None):
            return self.out_of_memory(doing, memory, why="SIGKILL", killed=True), None
        if number is None:
            return self._exited(status.get("code"), doing, log, alone), None
        diagnosis = self._diagnosed(number, status) if number in CRASHES else None
        own = log if alone else ""
        sign = memory_sign(own) if number == signal.SIGABRT else ""
        if sign:
            return self.out_of_memory(doing, {}, why=sign), diagnosis
        message = f"{self.device} died of {signal_name(number)} while {doing}"
        details: dict[str, Any] = {"device": self.device, "signal": number, "doing": doing}
        next_step = _OTHER_CPU if self.board_cpu else _BOARD_CPU
        if diagnosis is not None:
            message += "\n" + diagnosis.text()
            details.update(diagnosis.details())
            if diagnosis.first_profile:
                next_step = (
                    f"use a build without that feature, or a board that has it: "
                    f"--device={diagnosis.first_profile}"
                )
        elif number == signal.SIGKILL:
            next_step = "find out what ended it: a program of the device, or somebody on this host"
            if self.memory_limit:
                message += " (killed from outside: no memory limit was hit)"
            else:
                message += (
                    " (killed from outside, or by the kernel for want of memory: this engine "
                    "cannot tell which)"
                )
                next_step += "; the kernel's log (dmesg) tells of kills for want of memory"
        pages = page_size_hint(own, self._pages_kib())
        if pages:
            message += f"\n{pages}"
            next_step = _PAGES
        said = tail(log, 8)
        if said and number != signal.SIGILL:
            message += self._quoted(said, alone)
        error = _CLASS.get(number, ProcessDied)
        return error(message, next_step=next_step, details=details), diagnosis

    def _exited(self, code: int | None, doing: str, log: str, alone: bool) -> DeviceFailed:
        own = log if alone else ""
        sign = memory_sign(own)
        if sign:
            return self.out_of_memory(doing, {}, why=sign)
        said = tail(log, 12)
        pages = page_size_hint(own, self._pages_kib())
        if pages:
            next_step = _PAGES
        elif not said:
            next_step = (
                "it wrote nothing to standard error: look for what ends it with that status "
                "(exit, _exit), and have it say why"
            )
        else:
            next_step = "its output above says why" if alone else _ALONE
        return ProcessDied(
            f"{self.device} ended with exit status {code} while {doing}"
            + (self._quoted(said, alone) if said else "")
            + (f"\n{pages}" if pages else ""),
            next_step=next_step,
            details={"device": self.device, "code": code, "doing": doing},
        )

    def device_end(
        self, doing: str, reason: str, *, log: str, memory: Mapping[str, int] | None
    ) -> DeviceFailed:
        """The error for a device that went down as a whole; ``reason`` is its engine's word."""
        if memory is not None:
            return self.out_of_memory(doing, memory, why=reason or "its agent hung up", killed=True)
        said = tail(log)
        return RuntimeFailed(
            f"{self.device} went down while {doing}: {reason or 'its agent hung up'}\n"
            + (f"--- log of {self.device} ---\n{said}\n---" if said else "(its log is empty)"),
            next_step="it is started again for the next test; the log above says what it saw",
            details={"device": self.device, "reason": reason, "doing": doing},
        )

    def out_of_memory(
        self, doing: str, events: Mapping[str, int], *, why: str, killed: bool = False
    ) -> OutOfMemory:
        """The error for a process that needed more memory than there is; ``killed`` by the kernel,
        or told by its own words."""
        limit, peak = events.get("limit_mib"), events.get("peak_mib")
        figures = ", ".join(
            f"{name} {value} MiB"
            for name, value in (("limit", limit), ("peak", peak))
            if value is not None
        )
        return OutOfMemory(
            f"{self.device} ran out of memory while {doing}: {figures or 'no limit known'} "
            f"({why})" + self._whose_memory(killed),
            next_step="use a smaller model or input"
            + (
                ", or raise the limit (--edge-memory-mib)"
                if self.memory_limit
                else "; its engine has no memory limit that could be raised"
            ),
            details={"device": self.device, "limit_mib": limit, "peak_mib": peak, "doing": doing},
        )

    def timed_out(
        self,
        who: str,
        doing: str,
        after_s: float,
        *,
        said: str,
        details: Mapping[str, Any],
        alone: bool = True,
    ) -> DeviceTimeout:
        """The error for ``who``, which was ended as it was not done ``doing`` that after
        ``after_s`` seconds; ``said`` are its last words, or if not ``alone`` its or another's."""
        said = tail(said)
        return DeviceTimeout(
            f"{who} on {self.device} was not done {doing} after {after_s:g} s and was ended"
            + (self._quoted(said, alone) if said else "; it said nothing"),
            next_step=f"{_SLOW if self.emulated else 'raise timeout_s'}, or look for an endless "
            "loop",
            details={"device": self.device, "timeout_s": after_s, **details},
        )

    def _whose_memory(self, killed: bool) -> str:
        if not self.emulator_counts:
            told = "; killed by the board's own kernel, peak is that of the process"
            return told if killed else ""
        if not self.emulated:
            return ""
        return "; the emulator's own memory counts" + (
            " against the limit" if self.memory_limit else " too"
        )

    def _quoted(self, said: str, alone: bool) -> str:
        """``said`` as the end of a message, whose first line is whole without it."""
        title = (
            "its last words"
            if alone
            else f"said on {self.device} by it or by another program there: whose words these are "
            "is not known"
        )
        return f"\n--- {title} ---\n{said}\n---"

    def _pages_kib(self) -> int:
        """Page size that the device really has; only its own kernel can have another than 4."""
        return 4 if self.emulator_counts else self.profile.os.page_size_kib

    def _diagnosed(self, number: int, status: Mapping[str, Any]) -> Diagnosis | None:
        cores = sorted(
            {*self.cores.glob("*.core"), *self.cores.glob("core*")},
            key=lambda path: path.stat().st_mtime,
        )
        named = [path for path in cores if path.name == status.get("core")]
        found = named or cores
        try:
            return explain_death(
                signal=number,
                core_file=found[-1] if found else None,
                find=self.find,
                profile=self.profile,
                profiles=self.profiles or _all_profiles(),
                emulated=self.emulated,
                board_cpu=self.board_cpu,
            )
        finally:
            for path in cores:
                path.unlink(missing_ok=True)


def ending_signal(status: Mapping[str, Any]) -> int | None:
    """The signal that ended a process, or its child where a shell says 128 + N; None: it exited."""
    number: int | None = status.get("signal")
    code = status.get("code")
    if number is None and code is not None and 128 < code < 160:
        return int(code) - 128
    return number


def _all_profiles() -> Sequence[Profile]:
    from edge_harness.profiles import default_registry

    profiles, _broken = default_registry().working()
    return profiles
