"""A device that is a group of processes on this host, with or without namespaces around it.

For engines of other distributions too: :func:`start_process` takes a command line and an
environment, as :func:`edge_harness.engines.launch.plain_process` makes them, and gives a machine
with its whole life. Machines that can do or prove more subclass :class:`ProcessMachine` and add
the methods of :mod:`edge_harness.engines.abilities`.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from edge_harness.cache import private_folder
from edge_harness.engines import StartSpec
from edge_harness.engines.launch import LAYERS_DIR, STATE_VARIABLE, boot_failed, connect_unix
from edge_harness.engines.leftovers import end_marked
from edge_harness.engines.log_mark import LogMark, mark_of, said_since
from edge_harness.engines.registry import in_words
from edge_harness.errors import MissingTool
from edge_harness.processes import Watched, process_start_time, signal_name, wait_for

BOOT_TIMEOUT_S = 60.0


class ProcessMachine:
    """A process of this host and all that it starts.

    It may outlive the process that started it (others share it), so there is no ``Popen`` that
    would insist on waiting for it; the starter reaps it when it looks.

    Args:
        record: ``engine``, ``state_dir``, and once it runs ``pid`` and ``started``. ``layers_dir``
            of a device without namespaces: :func:`edge_harness.image.layers_dir`. ``root`` where
            its files are not this host's: the folder they are in.
    """

    def __init__(self, record: Mapping[str, Any]) -> None:
        self.engine: str = record["engine"]
        self.facts = dict(record)
        """Of the start; plain JSON values."""
        self._state_dir = Path(record["state_dir"])
        self._log = self._state_dir / "device.log"
        self._process = Watched(record.get("pid", 0), str(record.get("started", "")))

    @property
    def layers_dir(self) -> str:
        return str(self.facts.get("layers_dir", LAYERS_DIR))

    def record(self) -> dict[str, Any]:
        return dict(self.facts)

    def connect(self, name: str, *, timeout_s: float) -> socket.socket:
        return connect_unix(
            self._state_dir / "run", name if name != "agent" else "agent.sock", timeout_s=timeout_s
        )

    def alive(self) -> bool:
        return self._process.alive()

    def end_reason(self) -> str:
        if self.alive():
            return ""
        status = self._process.status
        if status is None:
            return "its first process is gone"
        if status < 0:
            return f"its first process was ended by {signal_name(-status)}"
        return f"its first process ended with exit status {status}"

    def log(self) -> str:
        try:
            return self._log.read_text(errors="replace")
        except OSError:
            return ""

    def log_mark(self) -> LogMark:
        return mark_of([self._log])

    def log_since(self, mark: LogMark) -> str:
        return said_since([self._log], mark)

    def stop(self) -> None:
        # Nothing in the device is worth an orderly end.
        whole = self._process.alive()
        self._process.kill_group()
        # With the first process of a namespace the kernel ends all others in it. Without one,
        # programs have sessions of their own, and some outlived whoever started them. Where the
        # process that made the namespaces is gone, they and their programs may live on.
        if not whole or "layers_dir" in self.facts:
            end_marked(self._state_dir)

    # -- abilities ---------------------------------------------------------------------------

    def core_dumps(self, into: Path) -> None:
        """The agent leaves them in ``state_dir / "run"``, which is ``into``."""

    def host_root(self) -> Path:
        return Path(self.facts.get("root", "/"))


_M = TypeVar("_M", bound=ProcessMachine)


def start_process(
    argv: Sequence[str],
    *,
    spec: StartSpec,
    engine: str,
    env: Mapping[str, str],
    machine_type: type[_M],
    facts: Mapping[str, Any] | None = None,
) -> _M:
    """Start ``argv`` as the device and wait until its agent accepts connections.

    Args:
        argv: the command, ending in the agent's (:func:`edge_harness.engines.launch.agent_argv`).
        spec: of the device.
        engine: the engine's name.
        env: the whole environment; what marks the device's processes is added.
        machine_type: what is made of the record.
        facts: for the machine's record, besides ``engine``, ``state_dir``, ``pid`` and
            ``started``; plain JSON values.

    Raises:
        MissingTool: there is no such program, or it cannot be started.
        BootFailed: it ended or stayed silent for a minute; the message ends with its log.
    """
    private_folder(spec.state_dir)
    run = private_folder(spec.state_dir / "run")
    log = str(spec.state_dir / "device.log")
    # A session of its own, so that Ctrl-C reaches pytest alone and the whole device can be
    # ended as one group. It must outlive this process: other workers may share it.
    try:
        pid = os.posix_spawnp(
            argv[0],
            list(argv),
            {**env, STATE_VARIABLE: str(spec.state_dir)},
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_OPEN, 1, log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600),
                (os.POSIX_SPAWN_DUP2, 1, 2),
            ],
            setsid=True,
        )
    except OSError as error:
        raise MissingTool(
            f"{in_words(engine)} cannot start {argv[0]} for {spec.profile.name}: {error.strerror}",
            next_step="install that program, or run 'edge-harness doctor' to check this machine",
            details={"engine": engine, "program": argv[0]},
        ) from error
    machine = machine_type(
        {
            **(facts or {}),
            "engine": engine,
            "state_dir": str(spec.state_dir),
            "pid": pid,
            "started": process_start_time(pid),
        }
    )
    try:
        vain = wait_for(
            "answer of its agent",
            (run / "agent.sock").exists,
            alive=machine.alive,
            status=machine.end_reason,
            last_words=machine.log,
            deadline_s=BOOT_TIMEOUT_S,
        )
        if vain:
            raise boot_failed(spec.profile.name, engine, vain.reason, vain.last_words)
    except BaseException:
        machine.stop()
        raise
    return machine
