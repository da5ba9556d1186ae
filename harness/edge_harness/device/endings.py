"""What is found out when something on a device dies."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_harness import wire
from edge_harness.device.hold import Hold
from edge_harness.device.results import Finding, Said
from edge_harness.diagnose import Explainer, FailedLoad
from edge_harness.engines.abilities import Crashes, HostTrouble, bound
from edge_harness.errors import CacheError, DeviceTimeout, EdgeError, OutOfMemory

if TYPE_CHECKING:
    from edge_harness.diagnose import Diagnosis


class Endings:
    """Turns the end of something on a device into the error that explains it, and into a finding
    of the device.

    Args:
        hold: the machine.
        explainer: knows why things end.
        findings: of the device; crashes are added.
        state_dir: of the device on this host.
    """

    def __init__(
        self,
        *,
        hold: Hold,
        explainer: Explainer,
        findings: list[Finding],
        state_dir: Path,
    ) -> None:
        self._hold = hold
        self._explainer = explainer
        self._findings = findings
        self._state_dir = state_dir

    def end_worker(
        self, socket_name: str, pid: int, *, kill: bool = False
    ) -> dict[str, Any] | None:
        """How the worker ``pid`` ended, from its parent at ``socket_name``; None if that is gone
        too. With ``kill`` it is ended first."""
        try:
            stream = self._hold.connect(f"{socket_name}.end", timeout_s=20.0)
            try:
                answer, _ = stream.ask({"op": wire.Op.END, "pid": pid, "kill": kill})
            finally:
                stream.close()
        except (wire.WireError, OSError):
            return None
        status = answer.get("status")
        return None if status is None else {**status, "pid": pid}

    def worker_death(
        self, socket_name: str, pid: int, doing: str, *, said: Callable[[], Said]
    ) -> EdgeError:
        """Why the worker ``pid`` hung up while ``doing`` something.

        Args:
            socket_name: where its parent listens.
            pid: of the worker, in the device; 0 before it said.
            doing: for the message, as ``running 'model.tflite'``.
            said: its last words, asked for once it has ended.
        """
        status = self.end_worker(socket_name, pid)
        if status is None:
            if self._hold.wait_for_end():
                return self.machine_death(doing)
            status = {"signal": 9, "pid": pid}
        return self.death(status, doing, said=said())

    def death(self, status: Mapping[str, Any], doing: str, *, said: Said) -> EdgeError:
        """The error for a process of the agent's that ended with ``status`` and last ``said``
        something."""
        host = self.host_failed(doing)
        if host is not None:
            return host
        error, _ = self._explained(status, doing, said=said, crashed=bool(status.get("signal")))
        self._report(error)
        return error

    def program_death(
        self, status: Mapping[str, Any], doing: str, *, log: str
    ) -> tuple[EdgeError, Diagnosis | None]:
        """The error for a program that ended with ``status``, and what its remains tell. Only an
        end with a diagnosis is a finding: others may be what the program is meant to do.

        Args:
            status: the agent's answer.
            doing: for the message, as ``running ['app']``.
            log: what it wrote to standard error.
        """
        crashed = bool(status["signal"]) or int(status["code"]) > 128
        error, diagnosis = self._explained(
            status, doing, said=Said(text=log, alone=True), crashed=crashed
        )
        if diagnosis is not None:
            self._report(error)
        return error, diagnosis

    def _explained(
        self, status: Mapping[str, Any], doing: str, *, said: Said, crashed: bool
    ) -> tuple[EdgeError, Diagnosis | None]:
        if crashed:
            self._fetch_cores()
        oom = self._hold.new_oom_kills() > 0
        return self._explainer.process_end(
            status,
            doing,
            log=said.text,
            alone=said.alone,
            memory=self._hold.memory_events() if oom else None,
        )

    def host_failed(self, doing: str, *, ended_well: bool = False) -> CacheError | None:
        """What went wrong if it was this machine's disk: no finding about the device. The device
        is ended then, as its file system will not recover."""
        machine = bound(self._hold.machine, HostTrouble)
        trouble = machine.host_trouble(ended_well=ended_well) if machine is not None else ""
        if not trouble:
            return None
        self._hold.machine.stop()
        return CacheError(
            f"{trouble}, so {self._hold.name} cannot be trusted {doing}; this says nothing about "
            "the device or its programs",
            next_step="free some space (edge-harness image gc removes unused images), or name a "
            "folder on another disk with EDGE_HARNESS_CACHE=DIR",
            details={"device": self._hold.name, "doing": doing},
        )

    def machine_death(self, doing: str) -> EdgeError:
        """The whole device went down while ``doing`` something."""
        host = self.host_failed(doing)
        if host is not None:
            return host
        reason = self._hold.wait_for_end()
        oom = self._hold.new_oom_kills() > 0
        error = self._explainer.device_end(
            doing,
            reason,
            log=self._hold.log(),
            memory=self._hold.memory_events() if oom else None,
        )
        self._report(error)
        return error

    def out_of_memory(self, doing: str, text: str) -> OutOfMemory:
        """The error for want of memory, told by ``text``: the runtime's own words, or how it
        ended."""
        events = self._hold.memory_events()
        error = self._explainer.out_of_memory(doing, events, why=text)
        self._report(error)
        return error

    def load_failed(self, load: FailedLoad, answer: Mapping[str, Any]) -> EdgeError:
        """The error for a worker that answered that it could not load its model."""
        said = f"{answer['type']}: {answer['error']}" if "type" in answer else answer["error"]
        if answer["kind"] == "memory":
            return self.out_of_memory(f"loading {load.model!r}", said)
        return load.error(said)

    def timed_out(
        self,
        who: str,
        doing: str,
        after_s: float,
        *,
        said: Said,
        details: Mapping[str, Any] | None = None,
    ) -> DeviceTimeout:
        """The error for ``who``, ended as it was not done ``doing`` that after ``after_s``
        seconds. ``said`` are its last words."""
        return self._explainer.timed_out(
            who,
            doing,
            after_s,
            said=said.text,
            alone=said.alone,
            details=details or {},
        )

    def _fetch_cores(self) -> None:
        """Bring core dumps over from a device whose files this machine does not see."""
        machine = bound(self._hold.machine, Crashes)
        if machine is not None and self._hold.machine.alive():
            try:
                machine.core_dumps(self._state_dir / "run")
            except EdgeError:
                pass  # the death is reported without a diagnosis

    def _report(self, error: EdgeError) -> None:
        self._findings.append(Finding(kind="crash", device=self._hold.name, text=error.message))


__all__ = ["Endings"]
