"""What is left of a device whose first process, starter or engine is gone: found and ended.

A process group's number says nothing once its first process is gone, as it may be somebody
else's by then. What belongs to a device is told by the mark that
:func:`edge_harness.engines.process_machine.start_process` puts into its environment.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edge_harness.engines.launch import STATE_VARIABLE
from edge_harness.processes import Watched, process_start_time, wait_until


def marked(state_dir: Path | str) -> list[int]:
    """Processes of the device in ``state_dir``; [] without /proc.

    Of a device with namespaces that is what made them and the first process in there, which has
    its environment from outside: with it the kernel ends all others.
    """
    mark = f"{STATE_VARIABLE}={state_dir}".encode()
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if _has(path / "environ", mark):
                found.append(int(path.name))
        except PermissionError:
            # Another user's, or what made namespaces: its command line is readable to all.
            with contextlib.suppress(OSError):
                if _has(path / "cmdline", f"{state_dir}/run".encode()):
                    found.append(int(path.name))
        except OSError:
            continue  # it ended
    return found


def _has(path: Path, part: bytes) -> bool:
    return part in path.read_bytes().split(b"\0")


def end_marked(state_dir: Path | str, *, deadline_s: float = 5.0) -> int:
    """End them at once and wait until they are gone; how many there were."""
    started = {pid: process_start_time(pid) for pid in marked(state_dir) if pid != os.getpid()}
    for pid in started:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)
    wait_until(
        lambda: not any(mark and process_start_time(pid) == mark for pid, mark in started.items()),
        deadline_s=deadline_s,
    )
    return len(started)


def end_recorded(record: Mapping[str, Any], state_dir: Path) -> bool:
    """End a device without its engine: the process that its machine's ``record`` names, with its
    group, and what is marked as the device's.

    Returns:
        Whether there was anything to go by, and it is gone now.
    """
    pid, started = record.get("pid"), record.get("started")
    first = Watched(0, "")
    if isinstance(pid, int) and pid > 1 and isinstance(started, str) and started not in ("", "?"):
        first = Watched(pid, started)
    first.kill_group()
    ended = end_marked(state_dir)
    return (first.pid > 0 or ended > 0) and not first.alive() and not marked(state_dir)
