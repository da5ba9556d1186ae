"""Who holds which running device, so that several processes can share one and none outlives them.

``<cache>/run/<key>/`` belongs to one device: ``machine.json`` (how to find it again),
``holders/<pid>-<start time>`` (one empty file per process that uses it) and ``run/`` (its
sockets). ``<cache>/run/<key>.lock`` guards all three. The last holder to leave ends the device;
:func:`sweep` ends those whose holders were killed.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from edge_harness.cache import cache_dir, explained, private_folder, remove_tree
from edge_harness.engines import Machine
from edge_harness.engines.leftovers import end_marked, end_recorded
from edge_harness.engines.registry import blaming, engine_named, is_built_in
from edge_harness.errors import BrokenExtension, EdgeError, OptionError
from edge_harness.processes import process_start_time


def _folder() -> Path:
    return private_folder(cache_dir() / "run")


class Lease:
    """This process's share in the device ``key``."""

    def __init__(self, key: str) -> None:
        self.key = key
        self.state_dir = _folder() / key
        me = os.getpid()
        self._mine = self.state_dir / "holders" / f"{me}-{process_start_time(me)}"

    @contextmanager
    def locked(self, *, wait: bool = True) -> Iterator[None]:
        """Alone among all holders. Raises ``filelock.Timeout`` with ``wait=False``."""
        from filelock import FileLock

        path = self.state_dir.with_suffix(".lock")
        lock = FileLock(path)
        with explained(path):
            lock.acquire(timeout=-1 if wait else 0)
        try:
            yield
        finally:
            lock.release()

    def enter(self) -> None:
        """Count this process as a holder."""
        guardian = ""
        if "PYTEST_XDIST_WORKER" in os.environ:
            # A worker outlives a killed pytest for a while; it holds nothing then any more.
            parent = os.getppid()
            guardian = f"{parent}-{process_start_time(parent)}"
        private_folder(self.state_dir)
        with explained(self.state_dir):
            self._mine.parent.mkdir(exist_ok=True)
            self._mine.write_text(guardian)

    def leave(self) -> bool:
        """Stop counting this process; whether it was the last one alive."""
        self._mine.unlink(missing_ok=True)
        return not self.living_holders()

    def living_holders(self) -> list[int]:
        """Process ids of holders that still run; forgets the others."""
        alive = []
        for path in list((self.state_dir / "holders").glob("*")):
            try:
                guardian = path.read_text(errors="replace")
            except OSError:
                continue  # it left this moment
            if _lives(path.name) and (not guardian or _lives(guardian)):
                alive.append(int(path.name.partition("-")[0]))
            else:
                path.unlink(missing_ok=True)
        return alive

    def read(self) -> dict[str, Any] | None:
        """What the starter wrote about the machine."""
        try:
            record = json.loads((self.state_dir / "machine.json").read_text())
        except (OSError, ValueError):
            return None
        return record if isinstance(record, dict) else None

    def write(self, record: dict[str, Any]) -> None:
        path = self.state_dir / "machine.json"
        with explained(path):
            path.with_suffix(".new").write_text(json.dumps(record))
            path.with_suffix(".new").replace(path)

    def machine(self) -> Machine | None:
        """The machine as recorded, whether or not it still runs.

        Raises:
            OptionError: its engine is not installed any more.
            BrokenExtension: its engine is another distribution's, and fails.
        """
        record = self.read()
        if not record:
            return None
        name = str(record.get("engine", ""))
        engine = engine_named(name)
        with blaming(name, "attach"):
            return engine.attach(record)

    def end(self) -> None:
        """End the machine, also one that was half started or whose engine cannot be had any more;
        the lease is locked.

        Raises:
            EdgeError: it may still run.
        """
        record = self.read()
        if not record:
            return
        name = str(record.get("engine", ""))
        try:
            machine = self.machine()
            if machine is not None:
                with blaming(name, "stop"):
                    machine.stop()
        except OptionError:
            if not self._end_recorded(record):
                raise BrokenExtension(
                    f"its engine {name!r} is not installed any more, and nothing that can be "
                    f"ended without it is in {self.state_dir / 'machine.json'}",
                    next_step="install that engine again and run any test; or end the device by "
                    f"hand and remove {self.state_dir}",
                    details={"engine": name},
                ) from None
        else:
            if not is_built_in(name):
                # Its start may have failed, or its record names nothing to end.
                end_marked(self._own_dir(record))

    def end_without_engine(self) -> bool:
        """End what the record names of a machine whose engine fails; whether all is gone."""
        record = self.read()
        return record is None or self._end_recorded(record)

    def _end_recorded(self, record: dict[str, Any]) -> bool:
        return end_recorded(record, self._own_dir(record))

    def _own_dir(self, record: dict[str, Any]) -> Path:
        """As the machine has it; the cache may since be known by another path."""
        return Path(record.get("state_dir") or self.state_dir)

    def forget(self) -> None:
        """Remove the folder; only for the last holder."""
        remove_tree(self.state_dir)
        self.state_dir.with_suffix(".lock").unlink(missing_ok=True)


def _lives(process: str) -> bool:
    """Whether ``<pid>-<start time>`` still runs, and is not another of the same number."""
    pid, _, started = process.partition("-")
    return bool(started) and pid.isdecimal() and process_start_time(int(pid)) == started


def sweep(say: Callable[[str], None] | None = None) -> int:
    """End devices whose holders are all dead (killed test runs); how many there were.

    Args:
        say: called once for each device, over all runs, that cannot be ended because of its
            engine: it is another distribution's and fails, or is not installed any more.
    """
    from filelock import Timeout

    ended = 0
    for state_dir in [path for path in _folder().iterdir() if path.is_dir()]:
        lease = Lease(state_dir.name)
        try:
            with lease.locked(wait=False):
                if lease.living_holders():
                    continue
                try:
                    lease.end()
                except Exception as error:
                    # The next sweep tries again: Docker may be stopped, an engine be mended.
                    _tell(lease, error, say)
                    continue
                lease.forget()
                ended += 1
        except Timeout:
            continue
    return ended


def _tell(lease: Lease, error: Exception, say: Callable[[str], None] | None) -> None:
    """What keeps a device from being ended, where that does not pass by itself."""
    passes = isinstance(error, OSError | EdgeError) and not isinstance(error, BrokenExtension)
    told = lease.state_dir / "told"
    if say is None or passes or told.exists():
        return
    text = str(error) if isinstance(error, EdgeError) else f"{type(error).__name__}: {error}"
    say(f"the device {lease.key} of a killed run could not be ended: {text}")
    with contextlib.suppress(OSError):
        told.touch()
