"""Carries connections of the harness from a board's virtio-serial ports to the agent's sockets.

A port is a cable that is always there; a connection comes and goes. So bytes travel in frames
``<B I``: kind and length. The harness sends OPEN with a socket's name (or WAIT, to be answered
once that socket exists); the answer is ACCEPT or REFUSE; then DATA both ways until both have
sent CLOSE.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import struct
import time

FRAME = struct.Struct("<BI")
OPEN, WAIT, DATA, CLOSE, ACCEPT, REFUSE = b"OWDCAR"
CHUNK = 1 << 16
#: Stop reading from one side while the other is this far behind.
HIGH_BYTES = 4 << 20
PATIENCE_S = 0.3

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Port:
    """One port and, while it carries a connection, the socket behind it."""

    def __init__(self, fd: int, poll: Any) -> None:
        self.fd = fd
        self.poll = poll
        self.incoming = bytearray()
        self.outgoing = bytearray()
        self.sock: socket.socket | None = None
        self.to_sock = bytearray()
        self.waiting = ""
        self.gone_at = 0.0

    # -- from the harness --------------------------------------------------------------------

    def readable(self) -> None:
        """Take in all there is: the port is watched for changes, not for states."""
        while len(self.to_sock) < HIGH_BYTES:
            try:
                data = os.read(self.fd, CHUNK)
            except OSError as error:
                if error.errno == errno.EAGAIN:
                    self.gone_at = 0.0
                    return
                data = b""
            if not data:
                # Nobody at the other end. Word of a client's coming and going is slower than its
                # bytes, so the next one's may be here already: look again in a moment.
                if not self.gone_at:
                    self.gone_at = time.monotonic()
                elif time.monotonic() - self.gone_at > PATIENCE_S:
                    self.gone_at = 0.0
                    self.incoming.clear()
                    self.outgoing.clear()
                    self.hang_up()
                return
            self.gone_at = 0.0
            self.incoming += data
            self.frames()

    def frames(self) -> None:
        at = 0
        while len(self.incoming) - at >= FRAME.size:
            kind, length = FRAME.unpack_from(self.incoming, at)
            if len(self.incoming) - at < FRAME.size + length:
                break
            at += FRAME.size
            self.frame(kind, bytes(self.incoming[at : at + length]))
            at += length
        del self.incoming[:at]

    def frame(self, kind: int, data: bytes) -> None:
        if kind == OPEN:
            self.hang_up()
            self.open(data.decode())
        elif kind == WAIT:
            self.hang_up()
            self.waiting = data.decode()
        elif kind == DATA:
            if self.sock is not None:
                self.to_sock += data
                self.flush_sock()
        elif kind == CLOSE:
            was_open = self.sock is not None or self.waiting
            self.hang_up()
            if was_open:
                self.send(CLOSE, b"")

    def open(self, name: str) -> None:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.connect(name)
        except OSError as error:
            sock.close()
            self.send(REFUSE, str(error).encode())
            return
        sock.setblocking(False)
        self.sock = sock
        self.poll.attach(sock.fileno(), self)
        self.send(ACCEPT, b"")

    # -- to the harness ----------------------------------------------------------------------

    def send(self, kind: int, data: bytes) -> None:
        self.outgoing += FRAME.pack(kind, len(data))
        self.outgoing += data
        self.flush_port()

    def flush_port(self) -> None:
        while self.outgoing:
            try:
                sent = os.write(self.fd, self.outgoing[: 1 << 15])
            except OSError as error:
                if error.errno != errno.EAGAIN:
                    self.outgoing.clear()
                return
            del self.outgoing[:sent]

    # -- the socket --------------------------------------------------------------------------

    def sock_readable(self) -> None:
        assert self.sock is not None
        try:
            data = self.sock.recv(CHUNK)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data:
            self.send(DATA, data)
        else:
            self.hang_up()
            self.send(CLOSE, b"")

    def flush_sock(self) -> None:
        while self.to_sock and self.sock is not None:
            try:
                sent = self.sock.send(self.to_sock[:CHUNK])
            except BlockingIOError:
                return
            except OSError:
                self.to_sock.clear()
                return  # the close will be read
            del self.to_sock[:sent]

    def hang_up(self) -> None:
        self.waiting = ""
        self.to_sock.clear()
        if self.sock is not None:
            self.poll.detach(self.sock.fileno())
            self.sock.close()
            self.sock = None


class Poll:
    """Ports by change (they say "hung up" all the time), sockets by state."""

    def __init__(self) -> None:
        self.epoll = select.epoll()
        self.ports: dict[int, Port] = {}
        self.socks: dict[int, Port] = {}

    def attach(self, fd: int, port: Port) -> None:
        self.socks[fd] = port
        self.epoll.register(fd, select.EPOLLIN)

    def detach(self, fd: int) -> None:
        if self.socks.pop(fd, None) is not None:
            self.epoll.unregister(fd)

    def serve(self) -> None:
        for name in sorted(os.listdir("/sys/class/virtio-ports")):
            fd = os.open("/dev/" + name, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
            self.ports[fd] = Port(fd, self)
            self.epoll.register(fd, select.EPOLLIN | select.EPOLLOUT | select.EPOLLET)
        while True:
            waiting = any(port.waiting for port in self.ports.values())
            gone = any(port.gone_at for port in self.ports.values())
            for fd, events in self.epoll.poll(0.02 if waiting else 0.1 if gone else None):
                port = self.ports.get(fd)
                if port is not None:
                    port.flush_port()
                    port.readable()
                elif fd in self.socks and events:
                    port = self.socks[fd]
                    port.sock_readable()
            self.settle(waiting)

    def settle(self, waiting: bool) -> None:
        for port in self.ports.values():
            if port.gone_at:
                port.readable()
            if waiting and port.waiting and os.path.exists(port.waiting):
                port.waiting = ""
                port.send(ACCEPT, b"")
            if port.sock is None:
                continue
            if port.to_sock:
                port.flush_sock()
                if len(port.to_sock) < HIGH_BYTES:
                    port.readable()
            # Read what the agent says only as fast as the harness takes it; wake up for the
            # socket's room only while something waits for it.
            if port.sock is not None:
                wanted = select.EPOLLIN if len(port.outgoing) < HIGH_BYTES else 0
                wanted |= select.EPOLLOUT if port.to_sock else 0
                self.epoll.modify(port.sock.fileno(), wanted)


def serve() -> None:
    """Never returns."""
    try:  # what slows the device's programs down must not slow the way to them
        with open("/sys/fs/cgroup/cgroup.procs", "w") as file:
            file.write("0")
    except OSError:
        pass
    Poll().serve()
