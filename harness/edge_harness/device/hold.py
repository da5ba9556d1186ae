"""The machine behind a device: shared by lease, started, reached, revived, ended."""

from __future__ import annotations

import contextlib
import os
import threading
import weakref
from collections.abc import Callable, Mapping
from dataclasses import replace

from edge_harness import wire
from edge_harness.device.lease import Lease
from edge_harness.device.results import Said
from edge_harness.engines import Boot, Engine, Machine, StartSpec
from edge_harness.engines.abilities import MarksLog, MemoryLimit, bound
from edge_harness.engines.launch import boot_failed
from edge_harness.engines.log_mark import LogMark
from edge_harness.engines.registry import blaming, broken
from edge_harness.errors import BootFailed, BrokenExtension, DeviceTimeout, EdgeError, InputError
from edge_harness.processes import tail, wait_until

#: What a machine has; looked at when an engine has started one.
_PARTS = ("engine", "layers_dir", "record", "connect", "alive", "end_reason", "log", "stop")


class Gone(Exception):
    """The machine hung up; who asked finds out why it died."""


class Hold:
    """One process's hold on a running machine.

    Raises (from the constructor): BootFailed, MissingTool, CacheError.
    """

    def __init__(
        self,
        *,
        engine: Engine,
        lease: Lease,
        spec: StartSpec,
        progress: Callable[[str], None] | None,
    ) -> None:
        self.generation = 0
        """Counts how often the machine was reached anew; what was warm before is cold after."""
        self.speaker: object | None = None
        """Of all workers of this process the one that was asked last; what is written to the log
        is its own."""
        self._marks: MarksLog | None = None
        self._engine = engine
        self._lease = lease
        self._spec = spec
        self._progress = progress
        self._control: wire.Stream | None = None
        self._lock = threading.RLock()
        self._last_log = ""
        self._oom_kills = 0
        self.machine = self._enter()
        self._release = weakref.finalize(self, _release, lease, os.getpid())
        try:
            self._attach()
        except BaseException:
            self.close()
            raise

    @property
    def name(self) -> str:
        return self._spec.profile.name

    @property
    def open(self) -> bool:
        return self._release.alive

    @property
    def program_hint(self) -> str:
        """What to do about a program that cannot be started: which ones there are."""
        if self._spec.image is None:  # it has files of its own: a board's, or this machine's
            return "name a program that is installed there"
        return "name a program of the device's image"

    def log(self) -> str:
        """All that the device wrote, also after its end."""
        return self.machine.log() if self.open else self._last_log

    def log_mark(self) -> LogMark | None:
        """How far the log has come; None if that is not known."""
        return self._marks.log_mark() if self._marks is not None else None

    def said_since(self, mark: LogMark | None) -> Said:
        """What was written to the log after ``mark``; all of it if that is not known."""
        if mark is None or self._marks is None or not self.open:
            return Said(text=self.log(), alone=False)
        return Said(text=self._marks.log_since(mark), alone=not self.shared())

    def shared(self) -> bool:
        """Whether other processes use the machine too, and may write to its log."""
        return len(self._lease.living_holders()) > 1

    def log_tail(self) -> str:
        text = tail(self.log())
        if not text:
            return f"(the log of {self.name} is empty)"
        return f"--- log of {self.name} ---\n{text}\n---"

    def connect(self, name: str, *, timeout_s: float) -> wire.Stream:
        """A new stream to the agent's socket ``name``."""
        with blaming(self._engine.name, "connect", passes=(OSError,)):
            sock = self.machine.connect(name, timeout_s=timeout_s)
        sock.settimeout(timeout_s)
        return wire.Stream(sock)

    def ask(self, header: wire.Header, *, timeout_s: float = 60.0) -> wire.Header:
        """The supervisor's answer to ``header``.

        Raises:
            DeviceTimeout: it took longer than ``timeout_s``.
            BootFailed: another version of this package started the device.
            Gone: the machine hung up.
        """
        with self._lock:
            answered = False
            try:
                if self._control is None:
                    self._control = self.connect("agent", timeout_s=timeout_s)
                self._control.sock.settimeout(timeout_s)
                answer, _ = self._control.ask(header)
                answered = True
                return answer
            except TimeoutError:
                raise DeviceTimeout(
                    f"{self.name} did not answer {header['op']!r} within {timeout_s:g} s\n"
                    + self.log_tail(),
                    next_step="look at the load of this machine, then run again",
                ) from None
            except wire.WrongProtocol as error:
                raise self.other_version(error) from None
            except (wire.WireError, OSError) as error:
                raise Gone from error
            finally:
                # Whatever interrupted it, Ctrl-C too: nobody may read the rest of this answer.
                if not answered:
                    self._hang_up()

    def other_version(self, error: wire.WrongProtocol) -> BootFailed:
        """The error for an agent that another version of this package started."""
        return BootFailed(
            f"the agent on {self.name} is another version's: {error}",
            next_step="end the run of the other version of pytest-edge-harness that started this "
            "device, then run again",
        )

    def revive(self) -> None:
        """Start the machine again where it died since (an OOM kill, an earlier crash)."""
        if not self.open:
            raise InputError(
                f"the device {self.name} is closed", next_step="open it again, or use it earlier"
            )
        if not self.machine.alive():
            self._replace(only_if_dead=True)

    def restart(self, boot: Boot | None = None) -> None:
        """End the machine, whatever state it is in, and start it again."""
        if boot is not None:
            self._spec = replace(self._spec, boot=boot)
        try:
            self._replace(only_if_dead=False)
        finally:
            # A clock is for one boot, storage stays once it was kept.
            self._spec = replace(self._spec, boot=replace(self._spec.boot, clock_s=None))

    def switch_off(self) -> None:
        """End the machine at once; it comes up again with the storage it had."""
        with self._lock:
            self._hang_up()
            self.machine.stop()
            self._spec = replace(self._spec, boot=Boot(keep_storage=True))

    def _replace(self, *, only_if_dead: bool) -> None:
        with self._lock:
            self._hang_up()
            with self._lease.locked():
                recorded = self._lease.machine()
                if only_if_dead and recorded is not None and recorded.alive():
                    self.machine = recorded  # another process was quicker
                else:
                    self.machine.stop()
                    self.machine = self._start()
            self._attach()

    def memory_events(self) -> Mapping[str, int]:
        """The control group's figures, {} where there is none."""
        limited = bound(self.machine, MemoryLimit)
        try:
            return limited.memory_events() if limited is not None else {}
        except (OSError, EdgeError):
            return {}

    def new_oom_kills(self) -> int:
        """How often the OOM killer struck since this was last asked."""
        now = self.memory_events().get("oom_kills", 0)
        new, self._oom_kills = now - self._oom_kills, now
        return new

    def wait_for_end(self, patience_s: float = 2.0) -> str:
        """Why the machine ended; "" if it still runs after ``patience_s``."""
        wait_until(lambda: not self.machine.alive(), deadline_s=patience_s, step_s=0.01)
        return self.machine.end_reason()

    def close(self) -> None:
        """Let go of the machine, and end it if this was the last hold. Idempotent."""
        if not self.open:
            return
        try:
            self._last_log = self.machine.log()
        except (OSError, EdgeError):
            self._last_log = ""
        self._hang_up()
        self._release()

    def _enter(self) -> Machine:
        """Share the running machine of this lease, or start one."""
        with self._lease.locked():
            self._lease.enter()
            try:
                machine = self._lease.machine()
                with blaming(self._engine.name, "alive"):
                    if machine is not None and machine.alive():
                        return machine
                return self._start()
            except BaseException:
                if self._lease.leave():
                    with contextlib.suppress(EdgeError, OSError):  # the first error says more
                        _end(self._lease)
                raise

    def _start(self) -> Machine:
        """Start the machine; the lease is locked."""
        state_dir = self._spec.state_dir
        for stale in (state_dir / "run").glob("*"):
            if stale.is_socket():
                stale.unlink()
        # Written before anything runs, so that a sweep finds what a kill at this moment leaves.
        self._lease.write({"engine": self._engine.name, "state_dir": str(state_dir)})
        if self._progress:
            self._progress(f"starting {self.name} on the {self._engine.name} engine")
        with blaming(self._engine.name, "start"):
            machine = self._engine.start(self._spec)
        lacking = [part for part in _PARTS if not hasattr(machine, part)]
        if lacking:
            raise broken(
                self._engine.name,
                f"is broken: start() gives {machine!r}, which is no machine: it has no "
                + ", ".join(lacking),
                next_step="have its start() return what edge_harness.engines.Machine describes",
            )
        with blaming(self._engine.name, "record"):
            self._lease.write(machine.record())
        return machine

    def _attach(self) -> None:
        self.generation += 1
        self._marks = bound(self.machine, MarksLog)
        try:
            self._control = self.connect("agent", timeout_s=30.0)
        except OSError as error:
            reason = self.machine.end_reason() or str(error)
            raise boot_failed(self.name, self._engine.name, reason, self.machine.log()) from error
        self._oom_kills = self.memory_events().get("oom_kills", 0)

    def _hang_up(self) -> None:
        control, self._control = self._control, None
        if control is not None:
            control.close()


def _release(lease: Lease, owner: int) -> None:
    if os.getpid() != owner:  # a forked child must not end its parent's device
        return
    with lease.locked():
        if lease.leave():
            _end(lease)


def _end(lease: Lease) -> None:
    """End the machine, also one that was half started, and forget it; the lease is locked."""
    try:
        lease.end()
    except BrokenExtension:
        if not lease.end_without_engine():
            raise  # kept: a sweep ends it once the engine is mended
    except BaseException:
        lease.forget()
        raise
    lease.forget()
