"""Docker Engine as a process: is it there, start it, stop it again.

Where systemd runs the machine it starts Docker; elsewhere (containers, small virtual machines)
``dockerd`` is started directly, in a session of its own, its log in the cache.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edge_harness.cache import cache_dir, explained
from edge_harness.errors import BootFailed, EdgeError, InfrastructureError
from edge_harness.processes import completed, process_start_time, tail, wait_for, wait_until

START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 30.0
#: Where the kernel lacks parts of netfilter; devices have no network anyway.
WITHOUT_NETWORK = ("--iptables=false", "--ip6tables=false", "--bridge=none")


def installed() -> str | None:
    """The path of ``dockerd``."""
    # Ordinary users do not have the system folders on their PATH.
    places = os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin:/usr/local/sbin"
    return shutil.which("dockerd", path=places)


def systemd_runs() -> bool:
    """As sd_booted(3) has it."""
    return Path("/run/systemd/system").is_dir()


def log_file() -> Path:
    return cache_dir() / "dockerd.log"


def pid_file() -> Path:
    return cache_dir() / "dockerd.pid"


def start_argv(extra: tuple[str, ...] = ()) -> tuple[str, ...]:
    """The command that starts the engine on this machine."""
    if systemd_runs():
        return ("systemctl", "start", "docker.service")
    return (installed() or "dockerd", "--pidfile", str(pid_file()), *extra)


def reachable() -> bool:
    """Whether a daemon answers, or at least is there and refuses this user."""
    from edge_harness.system import docker_client

    try:
        docker_client.connect()
    except EdgeError as error:
        return bool(error.details.get("cause") == "permission")
    return True


def start(prefix: tuple[str, ...], say: Callable[[str], None]) -> dict[str, Any]:
    """Start the engine and wait until it answers; what :func:`stop` needs to know.

    Raises:
        BootFailed: it ended or stayed silent; the message ends with its log.
    """
    if systemd_runs():
        result = completed(
            [*prefix, *start_argv()],
            what="start Docker Engine",
            timeout_s=120,
            error=BootFailed,
        )
        if result.returncode or not wait_until(reachable, deadline_s=START_TIMEOUT_S, step_s=0.1):
            raise BootFailed(
                f"systemd could not start Docker: {tail(result.stderr, 8)}",
                next_step="see 'journalctl -u docker', then run 'edge-harness setup --system'",
            )
        return {"how": "systemd"}
    try:
        return _start_directly(prefix, ())
    except BootFailed as error:
        log = error.details["log"]
        if not any(
            word in log for word in ("iptables", "nf_tables", "bridge", "network controller")
        ):
            raise
        say("dockerd could not set up container networks; starting it without them")
        return _start_directly(prefix, WITHOUT_NETWORK)


def _start_directly(prefix: tuple[str, ...], extra: tuple[str, ...]) -> dict[str, Any]:
    log = log_file()
    with explained(log), log.open("w") as output:
        process = subprocess.Popen(
            [*prefix, *start_argv(extra)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            cwd="/",
        )
    vain = wait_for(
        "answer of dockerd",
        reachable,
        alive=lambda: process.poll() is None,
        status=lambda: (
            "" if process.poll() is None else f"it ended with exit status {process.returncode}"
        ),
        last_words=lambda: log.read_text(errors="replace"),
        deadline_s=START_TIMEOUT_S,
        step_s=0.1,
    )
    if vain:
        if process.poll() is None:
            process.terminate()
            process.wait(STOP_TIMEOUT_S)
        raise BootFailed(
            f"dockerd did not come up: {vain.reason}\n--- {log} ---\n"
            f"{tail(vain.last_words, 15)}\n---",
            next_step="fix what its log says, or go on with --engine=user, which needs no Docker",
            details={"log": vain.last_words[-20_000:]},
        )
    # It is to outlive this process; nobody will wait for it.
    process.returncode = 0
    pid = int(pid_file().read_text())
    return {"how": "direct", "pid": pid, "started": process_start_time(pid)}


def stop(record: dict[str, Any], prefix: tuple[str, ...]) -> bool:
    """Stop the engine that :func:`start` started; whether it still ran.

    Raises:
        InfrastructureError: it does not end.
    """
    if record["how"] == "systemd":
        # The socket unit would start it again at the next question.
        completed(
            [*prefix, "systemctl", "stop", "docker.socket", "docker.service"],
            what="stop Docker Engine",
            timeout_s=120,
        )
        return True
    pid, started = int(record["pid"]), record["started"]

    def gone() -> bool:
        _reap(pid)
        return bool(process_start_time(pid) != started)

    if gone():
        return False
    for number in (signal.SIGTERM, signal.SIGKILL):
        _kill(pid, number, prefix)
        if wait_until(gone, deadline_s=STOP_TIMEOUT_S, step_s=0.05):
            return True
    raise InfrastructureError(
        f"dockerd (process {pid}) does not end", next_step=f"end it by hand: kill -9 {pid}"
    )


def _reap(pid: int) -> None:
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        pass


def _kill(pid: int, number: signal.Signals, prefix: tuple[str, ...]) -> None:
    if prefix:
        subprocess.run([*prefix, "kill", f"-{number.value}", str(pid)], check=False)
        return
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass
