"""What is found out when something on a device dies."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_harness import wire
from edge_harness.device.hold import Running
from edge_harness.device.results import Finding
from edge_harness.diagnose.explain_end import Deaths
from edge_harness.errors import CacheError, EdgeError, OutOfMemory, RuntimeFailed


class PostMortem:
    """Methods of :class:`edge_harness.device.device.Device` that turn an end into the error that
    explains it, and into a finding of the device."""

    findings: list[Finding]
    _deaths: Deaths
    _running: Running
    _state_dir: Path
    _warmed: dict[str, tuple[int, str]]

    if TYPE_CHECKING:

        @property
        def name(self) -> str: ...

    def _end_worker(
        self, socket_name: str, pid: int, *, kill: bool = False
    ) -> dict[str, Any] | None:
        """How the worker ``pid`` ended, from its parent; None if that is gone too."""
        try:
            stream = self._running.connect(f"{socket_name}.end", timeout_s=20.0)
            try:
                stream.send({"op": "end", "pid": pid, "kill": kill})
                answer, _ = stream.receive()
            finally:
                stream.close()
        except (wire.WireError, OSError):
            return None
        status = answer.get("status")
        return None if status is None else {**status, "pid": pid}

    def _worker_death(self, spec: str, socket_name: str, pid: int, doing: str) -> EdgeError:
        status = self._end_worker(socket_name, pid)
        if status is None:
            self._warmed.pop(spec, None)
            if self._running.wait_for_end():
                return self._machine_death(doing)
            status = {"signal": 9, "pid": pid}
        return self._death(status, doing)

    def _fetch_cores(self) -> None:
        """Bring core dumps over from a device whose files this machine does not see."""
        fetch = getattr(self._running.machine, "cores", None)
        if fetch is not None and self._running.machine.alive():
            try:
                fetch(self._state_dir / "run")
            except EdgeError:
                pass  # the death is reported without a diagnosis

    def _host_failed(self, doing: str, *, ended_well: bool = False) -> CacheError | None:
        """What went wrong if it was this machine's disk: no finding about the device. The device
        is ended then, as its file system will not recover."""
        look = getattr(self._running.machine, "host_trouble", None)
        trouble = look(ended_well=ended_well) if look is not None else ""
        if not trouble:
            return None
        self._running.machine.stop()
        return CacheError(
            f"{trouble}, so {self.name} cannot be trusted {doing}; this says nothing about the "
            "device or its programs",
            next_step="free some space (edge-harness image gc removes unused images), or name a "
            "folder on another disk with EDGE_HARNESS_CACHE=DIR",
            details={"device": self.name, "doing": doing},
        )

    def _death(self, status: Mapping[str, Any], doing: str) -> EdgeError:
        host = self._host_failed(doing)
        if host is not None:
            return host
        if status.get("signal"):
            self._fetch_cores()
        oom = self._running.new_oom_kills() > 0
        error, _ = self._deaths.explain(
            status,
            doing,
            device=self.name,
            log=self._running.log(),
            memory=self._running.memory_events() if oom else None,
        )
        self._report(error)
        return error

    def _machine_death(self, doing: str) -> EdgeError:
        """The whole device went down."""
        host = self._host_failed(doing)
        if host is not None:
            return host
        reason = self._running.wait_for_end()
        if self._running.new_oom_kills() > 0:
            return self._out_of_memory(doing, reason)
        error = RuntimeFailed(
            f"{self.name} went down while {doing}: {reason or 'its agent hung up'}\n"
            + self._running.log_tail(),
            next_step="it is started again for the next test; the log above says what it saw",
            details={"device": self.name, "reason": reason},
        )
        self._report(error)
        return error

    def _out_of_memory(self, doing: str, why: str) -> OutOfMemory:
        events = self._running.memory_events()
        error = self._deaths.out_of_memory(doing, events, device=self.name, why=why)
        self._report(error)
        return error

    def _report(self, error: EdgeError) -> None:
        self.findings.append(Finding(kind="crash", device=self.name, text=error.message))


__all__ = ["PostMortem"]
