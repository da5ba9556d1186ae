"""Processes on this host: which one it is, the end of what it said, and waiting for it.

Every wait here has an end. :func:`wait_for` is the one way to wait for something a process is to
do: it gives up at once when the process is gone, and says how things stood and what the process
said last (as the wait strategies of testcontainers do).
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from edge_harness.errors import InfrastructureError


def process_start_time(pid: int) -> str:
    """A mark that tells process ``pid`` from a later one of the same number; "" if it is gone.

    Linux: field 22 of /proc/PID/stat, proc(5). Elsewhere only whether it exists.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        if Path("/proc/self").is_dir():
            return ""
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return ""
        except PermissionError:
            pass
        return "?"
    fields = stat.rpartition(b")")[2].split()
    return "" if fields[0] in (b"Z", b"X") else fields[19].decode()


class Watched:
    """A process that this one started, or another that has told its number."""

    def __init__(self, pid: int, started: str) -> None:
        """``started`` is its :func:`process_start_time`; a ``pid`` of 0 is a process that never
        was."""
        self.pid = pid
        self.status: int | None = None
        """Exit status, or minus the signal that ended it; None while it runs, and where only the
        process that started it can know."""
        self._started = started

    def alive(self) -> bool:
        """Whether it still runs. A child is reaped here when it has ended."""
        if not self.pid or self.status is not None:
            return False
        try:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
        except ChildProcessError:  # another process started it
            return process_start_time(self.pid) == self._started
        if pid:
            self.status = os.waitstatus_to_exitcode(status)
        return pid == 0

    def kill_group(self, *, deadline_s: float = 5.0) -> None:
        """End it and its process group at once, and wait for it to be gone."""
        if self.alive():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                try:
                    os.killpg(self.pid, signal.SIGKILL)
                except ProcessLookupError:  # it leads no group
                    os.kill(self.pid, signal.SIGKILL)
            wait_until(lambda: not self.alive(), deadline_s=deadline_s)


def signal_name(number: int) -> str:
    """E.g. ``SIGILL``; ``signal 40`` for one that has no name."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def tail(text: str, lines: int = 20) -> str:
    """The last ``lines`` lines of ``text``."""
    return "\n".join(text.rstrip().splitlines()[-lines:])


def completed(
    argv: Sequence[str],
    *,
    what: str,
    timeout_s: float,
    error: type[InfrastructureError] = InfrastructureError,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run ``argv`` to its end, without input; whether it did well is the caller's to judge.

    Args:
        what: what it does, for a message: ``download packages for arm64``.
        timeout_s: after how many seconds it is ended.
        error: what to raise then.
        env: its whole environment; None for this process's own.
        cwd: the folder that it runs in; None for this process's own.

    Raises:
        InfrastructureError: it was not done in time; its last words are in the message.
    """
    try:
        return subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            env=env,
            cwd=cwd,
            timeout=timeout_s,
        )
    except subprocess.TimeoutExpired as expired:
        said = [each for each in (expired.stdout, expired.stderr) if each]
        words = "\n".join(e.decode(errors="replace") if isinstance(e, bytes) else e for e in said)
        raise error(
            f"could not {what}: {argv[0]} was not done after {timeout_s:g} s"
            + (f"; it said last:\n{tail(words, 8)}" if words.strip() else " and said nothing"),
            next_step="run the same command again; if it stays so, look at what holds it: the "
            "network, a mirror, the disk",
        ) from expired


def wait_until(
    condition: Callable[[], object], *, deadline_s: float, step_s: float = 0.005
) -> bool:
    """Poll ``condition()`` until it is true or ``deadline_s`` seconds have passed.

    For what needs no explanation when it does not come, such as the end of a process that was
    killed; anything else is waited for with :func:`wait_for`.
    """
    end = time.monotonic() + deadline_s
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(step_s)
    return True


@dataclass(frozen=True, kw_only=True)
class Vain:
    """Why a wait was in vain; true wherever the wait's answer is tested."""

    reason: str
    """How things stood, in half a sentence: why the process ended, or what did not come in how
    many seconds."""
    last_words: str
    """All that it wrote so far; "" if nothing. Cut with :func:`tail` for a message."""

    def __str__(self) -> str:
        said = tail(self.last_words)
        return self.reason + (f"\n--- it said ---\n{said}\n---" if said else " (it said nothing)")


def wait_for(
    what: str,
    ready: Callable[[], object],
    *,
    alive: Callable[[], bool],
    status: Callable[[], str],
    last_words: Callable[[], str],
    deadline_s: float,
    step_s: float = 0.005,
    alive_step_s: float = 0.0,
) -> Vain | None:
    """Wait until ``ready()`` is true; None then, else why it did not come to that.

    Args:
        what: what is to come, without article: ``answer of its agent``.
        alive: whether the process it is to come from still runs; the wait ends at once when not.
        status: how that process ended, or how it stands while it runs; may be "".
        last_words: what the process wrote; asked only when the wait was in vain.
        deadline_s: after how many seconds the wait is given up.
        step_s: seconds between two looks at ``ready``.
        alive_step_s: seconds between two looks at ``alive``, where looking is not cheap.
    """
    start = time.monotonic()
    next_look = start + alive_step_s
    while not ready():
        now = time.monotonic()
        if now >= next_look:
            if not alive():
                if ready():  # the last that it did
                    return None
                return Vain(reason=status() or "it is gone", last_words=last_words())
            next_look = now + alive_step_s
        if now > start + deadline_s:
            stood = status()
            reason = f"no {what} within {deadline_s:g} s" + (f" ({stood})" if stood else "")
            return Vain(reason=reason, last_words=last_words())
        time.sleep(step_s)
    return None
