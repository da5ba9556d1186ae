"""Byte streams into a container whose files this machine does not see.

With Docker Desktop, or a daemon on another machine, the Unix sockets in the device's run folder
cannot be opened from here. ``docker exec -i`` starts a small Python in the container that
copies between its standard streams and the socket; the client takes care of TLS and SSH.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path

from edge_harness.engines.launch import RUN_DIR
from edge_harness.errors import MissingTool
from edge_harness.processes import wait_for

#: Runs in the device: says "+" when connected, then copies until either side hangs up.
_COPY = """
import os, selectors, socket, sys
s = socket.socket(socket.AF_UNIX)
os.chdir(sys.argv[1])
s.connect(sys.argv[2])
os.write(1, b"+")
def write(fd, data):
    while data:
        data = data[os.write(fd, data):]
ends = selectors.DefaultSelector()
ends.register(0, 1)
ends.register(s, 1)
while True:
    for key, _ in ends.select():
        if key.fd == 0:
            data = os.read(0, 65536)
            if not data:
                sys.exit()
            s.sendall(data)
        else:
            data = s.recv(65536)
            if not data:
                sys.exit()
            write(1, data)
"""
#: Waits in the device until its agent is up, at most argv[2] seconds.
_WAIT = """
import os, sys, time
end = time.monotonic() + float(sys.argv[2])
while not os.path.exists(sys.argv[1] + "/agent.sock"):
    if time.monotonic() > end:
        sys.exit(3)
    time.sleep(0.02)
"""
#: Copiers this process started; each ends with its stream and is reaped at the next one.
_copiers: set[int] = set()


def exec_argv(url: str, container: str, python: str, program: str, *arguments: str) -> list[str]:
    """``docker exec -i`` of a Python ``program`` in ``container``."""
    client = shutil.which("docker")
    if client is None:
        raise MissingTool(
            "the 'docker' command is not on this machine; the streams into a container of a "
            f"daemon elsewhere ({url!r}) go through it",
            next_step="install the Docker command-line client, or use --engine=user on Linux",
        )
    argv = [client, "--host", url, "exec", "--interactive", container]
    # -S -E: nothing but the standard library, as fast as emulation allows.
    return [*argv, python, "-I", "-S", "-E", "-c", program, *arguments]


def connect(url: str, container: str, python: str, name: str, *, timeout_s: float) -> socket.socket:
    """A stream to the socket ``name`` of the agent in ``container``.

    Raises:
        OSError: nobody listens there, or the container is gone.
        MissingTool: there is no ``docker`` command.
    """
    _reap()
    argv = exec_argv(url, container, python, _COPY, RUN_DIR, name)
    near, far = socket.socketpair()
    with tempfile.TemporaryFile() as errors:
        try:
            process = subprocess.Popen(
                argv, stdin=far.fileno(), stdout=far.fileno(), stderr=errors, start_new_session=True
            )
        finally:
            far.close()
        near.settimeout(timeout_s)
        try:
            answer = near.recv(1)
        except TimeoutError:
            answer = b""
            process.kill()
        if answer != b"+":
            near.close()
            process.wait(10)
            errors.seek(0)
            said = errors.read().decode(errors="replace").strip().splitlines()
            raise ConnectionRefusedError(
                f"no stream to {name!r} in the container: {said[-1] if said else 'no answer'}"
            )
    # It ends when its stream is closed; a Popen would complain when it is forgotten earlier.
    _copiers.add(process.pid)
    process.returncode = 0
    return near


def _reap() -> None:
    for pid in list(_copiers):
        with contextlib.suppress(ChildProcessError):
            if os.waitpid(pid, os.WNOHANG) == (0, 0):
                continue
        _copiers.discard(pid)


def wait_for_agent(url: str, container: str, python: str, *, timeout_s: float) -> str:
    """Wait until the agent accepts connections; "" then, else what was wrong."""
    argv = exec_argv(url, container, python, _WAIT, RUN_DIR, f"{timeout_s:g}")
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=errors
        )

        def said() -> str:
            errors.seek(0)
            return errors.read().decode(errors="replace").strip()

        def status() -> str:
            code = process.poll()
            if code is None:
                return ""
            if code == 3:
                return f"its agent was silent for {timeout_s:g} s"
            return said() or f"docker exec ended with exit status {code}"

        try:
            vain = wait_for(
                "answer of its agent",
                lambda: process.poll() == 0,
                alive=lambda: process.poll() is None,
                status=status,
                last_words=said,
                deadline_s=timeout_s + 30,
                step_s=0.02,
            )
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()
    return vain.reason if vain else ""


def layers_for(folder: Path, arch: str) -> dict[str, Path]:
    """Finished runtime layers of Debian architecture ``arch`` below ``folder``."""
    import json

    return {
        lock.parent.name: lock.parent
        for lock in sorted(folder.glob("*/lock.json"))
        if json.loads(lock.read_text())["arch"] == arch
    }
