"""Frames between the harness and the agent; standard library only, used on both sides.

A frame is ``<4s I Q>``: the magic ``EDG1``, the length of a JSON header and the length of a
payload of raw bytes, then both. Tensors travel in the payload one after another, C order,
little endian, described by ``header["tensors"] = [[dtype, shape], ...]`` with numpy's dtype
names. Nothing is pickled, and lengths are checked before memory is reserved.
"""

from __future__ import annotations

import json
import socket
import struct

PREFIX = struct.Struct("<4sIQ")
MAGIC = b"EDG1"
MAX_HEADER_BYTES = 16 << 20
MAX_PAYLOAD_BYTES = 8 << 30

TYPE_CHECKING = False  # importing typing costs 20 ms under emulation
if TYPE_CHECKING:
    from typing import Any

    Header = dict[str, Any]


class WireError(Exception):
    """The other side does not speak this protocol, or went away in the middle of a frame."""


class Closed(WireError):
    """The other side closed the stream between frames."""


def encode(header: Header, payload_bytes: int = 0) -> bytes:
    """The bytes that go before a payload of ``payload_bytes``."""
    text = json.dumps(header, separators=(",", ":")).encode()
    return PREFIX.pack(MAGIC, len(text), payload_bytes) + text


class Stream:
    """Frames over one connected socket. Headers seen before are not parsed again, which is
    what keeps the cost of an example small inside an emulator."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._reader = sock.makefile("rb", buffering=1 << 16)
        self._parsed: dict[bytes, Header] = {}

    def fileno(self) -> int:
        return self.sock.fileno()

    def send(self, header: Header, *buffers: Any) -> None:
        """Send one frame; ``buffers`` are bytes-like and contiguous."""
        views = [memoryview(b).cast("B") if memoryview(b).nbytes else b"" for b in buffers]
        self.send_encoded(encode(header, sum(len(v) for v in views)), *views)

    def send_encoded(self, head: bytes, *views: Any) -> None:
        """Send a frame whose head :func:`encode` already made."""
        total = len(head) + sum(len(v) for v in views)
        sent = self.sock.sendmsg([head, *views])
        if sent == total:
            return
        for part in (head, *views):
            if sent >= len(part):
                sent -= len(part)
                continue
            self.sock.sendall(memoryview(part)[sent:])
            sent = 0

    def receive(self) -> tuple[Header, bytes]:
        """The next frame.

        Raises:
            Closed: the other side closed between frames.
            WireError: garbage, or the stream ended inside a frame.
        """
        prefix = self._reader.read(PREFIX.size)
        if not prefix:
            raise Closed("the other side closed the connection")
        if len(prefix) < PREFIX.size:
            raise WireError("the stream ended inside a frame")
        magic, header_bytes, payload_bytes = PREFIX.unpack(prefix)
        if magic != MAGIC or header_bytes > MAX_HEADER_BYTES or payload_bytes > MAX_PAYLOAD_BYTES:
            raise WireError(f"not a frame of this protocol: {prefix!r}")
        text = self._read(header_bytes)
        header = self._parsed.get(text)
        if header is None:
            try:
                header = json.loads(text)
            except ValueError as error:
                raise WireError(f"the frame's header is not JSON: {text[:80]!r}") from error
            if not isinstance(header, dict):
                raise WireError(f"the frame's header is not an object: {text[:80]!r}")
            if len(self._parsed) < 64 and header_bytes < 4096:
                self._parsed[text] = header
        return header, self._read(payload_bytes)

    def _read(self, count: int) -> bytes:
        data: bytes = self._reader.read(count)
        if len(data) != count:
            raise WireError("the stream ended inside a frame")
        return data

    def forget(self) -> None:
        """Close this process's copy only; a forked child goes on using its own.

        The reader first: a socket stays open as long as a file made from it does, and the peer
        would wait for ever for a child that died.
        """
        self._reader.close()
        self.sock.close()

    def close(self) -> None:
        """Close both directions; a peer waiting in receive sees ``Closed``."""
        try:
            self.sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        try:
            self._reader.close()
        except (OSError, ValueError):
            pass
        self.sock.close()
