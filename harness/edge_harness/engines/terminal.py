"""A terminal on a running device, over its agent: ``python -m edge_harness.engines.terminal
RECORD PROMPT``; what ``edge-harness shell`` runs where nothing better is there. For engines of
other distributions too (:func:`terminal_command`)."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import select
import shutil
import sys
import termios
import tty
from collections.abc import Iterator

from edge_harness import wire
from edge_harness.engines import Machine
from edge_harness.engines.abilities import ShellCommand
from edge_harness.engines.registry import engine_named
from edge_harness.errors import EdgeError

#: Writes down how the shell ended; a stream of raw bytes has no place for it.
_SHELL = '/bin/bash --norc -i; status=$?; echo $status >"$1"; exit $status'


def terminal_command(machine: Machine, name: str) -> ShellCommand:
    """The command that connects this terminal to a shell on ``machine``, prompting with
    ``name``."""
    argv = [sys.executable, "-m", "edge_harness.engines.terminal", json.dumps(machine.record())]
    return ShellCommand(argv=(*argv, f"{name}:\\w# "), env=dict(os.environ))


def main() -> int:
    """Connect this terminal to a shell on the device until the shell ends; its exit status."""
    record = json.loads(sys.argv[1])
    machine = engine_named(record["engine"]).attach(record)
    note = f"/dev/shm/edge-shell-{secrets.token_hex(6)}"
    try:
        _connect(machine, note, sys.argv[2])
        return _status(machine, note)
    except (OSError, EdgeError, wire.WireError) as error:
        sys.exit(f"edge-harness: no terminal on the board, it may have ended just now: {error}")


def _connect(machine: Machine, note: str, prompt: str) -> None:
    sock = machine.connect("agent", timeout_s=30)
    sock.settimeout(60)
    size = shutil.get_terminal_size()
    stream = wire.Stream(sock)
    stream.send(
        {
            "op": wire.Op.TERMINAL,
            "argv": ["/bin/sh", "-c", _SHELL, "sh", note],
            "env": {"PS1": prompt, "TERM": os.environ.get("TERM", "dumb"), "HOME": "/root"},
            "size": [size.lines, size.columns],
        }
    )
    stream.receive()
    sock.settimeout(None)
    with _raw():
        sources = [sys.stdin.fileno(), sock.fileno()]
        ended = False
        while True:
            ready, _, _ = select.select(sources, [], [], 1.0 if ended else None)
            if not ready:
                # The terminal drops what it holds when a shell sets it up: an end of input that
                # comes too early is never read, and the shell would wait for ever.
                sock.sendall(b"\x04")
            if sock.fileno() in ready:
                data = sock.recv(65536)
                if not data:
                    break
                os.write(sys.stdout.fileno(), data)
            if sys.stdin.fileno() in ready:
                data = os.read(sys.stdin.fileno(), 4096)
                if data:
                    sock.sendall(data)
                else:  # a script was piped in: let the shell finish it
                    ended = True
                    sources.remove(sys.stdin.fileno())
                    sock.sendall(b"\x04")
    stream.close()


def _status(machine: Machine, note: str) -> int:
    """How the shell ended. 255, as ssh(1) has it, where nobody can tell: the device ended, or the
    terminal was closed."""
    sock = machine.connect("agent", timeout_s=30)
    sock.settimeout(60)
    stream = wire.Stream(sock)
    try:
        argv = ["/bin/sh", "-c", 'cat "$1"; rm -f "$1"', "sh", note]
        stream.send({"op": wire.Op.EXEC, "argv": argv, "timeout_s": 30})
        answer, payload = stream.receive()
    finally:
        stream.close()
    text = payload[: answer.get("stdout_bytes", 0)].decode(errors="replace").strip()
    return int(text) if text.isdigit() else 255


@contextlib.contextmanager
def _raw() -> Iterator[None]:
    """Every key goes to the board, Ctrl-C included."""
    if not sys.stdin.isatty():
        yield
        return
    before = termios.tcgetattr(sys.stdin)
    try:
        tty.setraw(sys.stdin)
        yield
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)


if __name__ == "__main__":
    sys.exit(main())
