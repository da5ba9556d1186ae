"""A terminal on a running board: ``python -m edge_harness.system.console RECORD``; used by
``edge-harness shell``."""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import sys
import termios
import tty
from collections.abc import Iterator

from edge_harness import wire
from edge_harness.engines.vm.machine import VmMachine
from edge_harness.errors import EdgeError


def main() -> None:
    """Connect this terminal to a shell on the board until the shell ends."""
    machine = VmMachine(json.loads(sys.argv[1]))
    try:
        sock = machine.connect("agent", timeout_s=30)
    except (OSError, EdgeError) as error:
        sys.exit(f"edge-harness: no terminal on the board, it may have ended just now: {error}")
    sock.settimeout(60)
    size = shutil.get_terminal_size()
    stream = wire.Stream(sock)
    stream.send(
        {
            "op": "terminal",
            "argv": ["/bin/bash", "--norc", "-i"],
            "env": {"PS1": sys.argv[2], "TERM": os.environ.get("TERM", "dumb"), "HOME": "/root"},
            "size": [size.lines, size.columns],
        }
    )
    stream.receive()
    sock.settimeout(None)
    with _raw():
        sources = [sys.stdin.fileno(), sock.fileno()]
        while True:
            ready, _, _ = select.select(sources, [], [])
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
                    sources.remove(sys.stdin.fileno())
                    sock.sendall(b"\x04")
    stream.close()


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
    main()
