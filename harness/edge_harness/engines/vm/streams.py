"""Byte streams into a board, over its virtio-serial ports; the board's side is
``edge_harness.agent.ports``.

Each port is a Unix socket of QEMU's that takes one client at a time, so a stream holds its port
by a file lock, which other processes see and the kernel drops if this one is killed.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import socket
import threading
from collections.abc import Callable
from pathlib import Path

from edge_harness.agent.ports import ACCEPT, CHUNK, CLOSE, DATA, FRAME, OPEN, REFUSE, WAIT
from edge_harness.engines.launch import connect_unix
from edge_harness.errors import InputError
from edge_harness.processes import Vain, wait_for, wait_until

#: virtio-serial has 31 ports at most, and the first is kept for a console.
PORTS = 30


def port_name(number: int) -> str:
    """Name of the port's socket in the device's run folder."""
    return f"p{number:02d}"


#: Content of a port's lock file: free, and held. Written in place, so that a full disk does not
#: matter.
_FREE, _HELD = b"-", b"x"


def make_locks(run_dir: Path) -> None:
    """The lock file of every port; made with the board."""
    for number in range(1, PORTS + 1):
        (run_dir / f"{port_name(number)}.lock").write_bytes(_FREE)


class _Port:
    """A port that this process holds."""

    def __init__(self, run_dir: Path, timeout_s: float) -> None:
        self._lock = -1
        self._name = ""
        if not wait_until(lambda: self._hold(run_dir), deadline_s=timeout_s, step_s=0.02):
            raise InputError(
                f"all {PORTS} streams into the board are in use",
                next_step="close sessions that are done with, or wait for programs to end",
            )
        try:
            self.sock = connect_unix(run_dir, self._name, timeout_s=timeout_s)
        except BaseException:
            os.close(self._lock)
            raise

    def _hold(self, run_dir: Path) -> bool:
        """Take the first port that is free, if one is."""
        for number in range(1, PORTS + 1):
            self._name = port_name(number)
            path = run_dir / f"{self._name}.lock"
            self._lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                # Still marked: its last holder was killed, and what it left unsaid may still be
                # under way.
                if os.read(self._lock, 1) != _HELD:
                    os.pwrite(self._lock, _HELD, 0)
                    return True
            except BlockingIOError:
                pass
            os.close(self._lock)
        return False

    def release(self, *, clean: bool) -> None:
        self.sock.close()
        if clean:
            os.pwrite(self._lock, _FREE, 0)
        os.close(self._lock)


def _receive(sock: socket.socket, count: int) -> bytes:
    parts = bytearray()
    while len(parts) < count:
        data = sock.recv(count - len(parts))
        if not data:
            raise ConnectionResetError("the board hung up")
        parts += data
    return bytes(parts)


def _frame(sock: socket.socket) -> tuple[int, bytes]:
    kind, length = FRAME.unpack(_receive(sock, FRAME.size))
    return kind, _receive(sock, length) if length else b""


def wait_for_agent(
    run_dir: Path,
    name: str,
    *,
    alive: Callable[[], bool],
    status: Callable[[], str],
    last_words: Callable[[], str],
    deadline_s: float,
) -> Vain | None:
    """Wait until the agent's socket ``name`` exists; None then, else why it did not come to that.
    Arguments as of :func:`edge_harness.processes.wait_for`."""
    try:
        port = _Port(run_dir, deadline_s)
    except ConnectionRefusedError:  # QEMU opened its sockets and ended
        return Vain(reason=status() or "QEMU hung up", last_words=last_words())
    clean = False
    try:
        text = name.encode()
        port.sock.sendall(FRAME.pack(WAIT, len(text)) + text)
        vain = wait_for(
            "answer of its agent",
            lambda: select.select([port.sock], [], [], 0.2)[0],
            alive=alive,
            status=status,
            last_words=last_words,
            deadline_s=deadline_s,
            step_s=0.0,
        )
        if vain is None:
            port.sock.settimeout(10)
            clean = _frame(port.sock)[0] == ACCEPT
        if vain or clean:
            return vain
    except OSError:
        pass
    finally:
        port.release(clean=clean)
    return Vain(reason=status() or "the board hung up", last_words=last_words())


def open_stream(run_dir: Path, name: str, *, timeout_s: float) -> socket.socket:
    """A stream to the agent's socket ``name``.

    Raises:
        OSError: nobody listens there, or the board is gone.
        InputError: as many streams as there can be are in use.
    """
    port = _Port(run_dir, timeout_s)
    text = name.encode()
    try:
        port.sock.sendall(FRAME.pack(OPEN, len(text)) + text)
        kind, answer = _frame(port.sock)
    except BaseException:
        port.release(clean=False)
        raise
    if kind != ACCEPT:
        port.release(clean=kind == REFUSE)
        raise ConnectionRefusedError(f"no stream to {name!r}: {answer.decode(errors='replace')}")
    port.sock.settimeout(None)
    near, far = socket.socketpair()
    _Pump(port, far).start()
    return near


class _Pump:
    """Copies between a stream's far end and its port, one thread each way."""

    def __init__(self, port: _Port, far: socket.socket) -> None:
        self._port = port
        self._far = far
        self._left = 2
        self._clean = True
        self._lock = threading.Lock()

    def start(self) -> None:
        for work in (self._up, self._down):
            threading.Thread(target=self._guarded, args=(work,), daemon=True).start()

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except OSError:
            self._clean = False
            for sock in (self._far, self._port.sock):
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)
        with self._lock:
            self._left -= 1
            last = self._left == 0
        if last:
            self._far.close()
            self._port.release(clean=self._clean)

    def _up(self) -> None:
        buffer = bytearray(FRAME.size + CHUNK)
        view = memoryview(buffer)
        while True:
            count = self._far.recv_into(view[FRAME.size :])
            FRAME.pack_into(buffer, 0, DATA if count else CLOSE, count)
            self._port.sock.sendall(view[: FRAME.size + count])
            if not count:
                return

    def _down(self) -> None:
        while True:
            kind, data = _frame(self._port.sock)
            if kind == DATA:
                try:
                    self._far.sendall(data)
                except OSError:
                    continue  # its client left; read on to the end of the connection
            elif kind == CLOSE:
                with contextlib.suppress(OSError):
                    self._far.shutdown(socket.SHUT_WR)
                return
