"""Frames between the harness and the agent; standard library only, used on both sides.

A frame is ``<3s B I I Q>``: the magic ``EDG``, the protocol's number, the request's number, the
length of a JSON header and the length of a payload of raw bytes, then both. Tensors travel in the
payload one after another, C order, little endian, described by ``header["tensors"] = [[dtype,
shape], ...]`` with numpy's dtype names. Nothing is pickled, and lengths are checked before memory
is reserved.

Whoever asks numbers its requests; an answer carries the number of the request it is to. So an
answer that comes after its request was given up is never taken for that of the next one.
"""

from __future__ import annotations

import json
import socket
import struct

#: Raised with every change of frames, operations or their fields.
PROTOCOL = 3
PREFIX = struct.Struct("<3sBIIQ")
MAGIC = b"EDG"
#: The same bytes, with magic and protocol as one field: what a frame of ours begins with.
_FAST = struct.Struct("<4sIIQ")
_START = MAGIC + bytes([PROTOCOL])
MAX_HEADER_BYTES = 16 << 20
MAX_PAYLOAD_BYTES = 8 << 30
MAX_REQUEST = (1 << 32) - 1

TYPE_CHECKING = False  # importing typing costs 20 ms under emulation
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    Header = dict[str, Any]
    Head = tuple[bytes, int]
    """A header made ready, and the size of the payload that goes with it."""


class Op:
    """What can be asked of the agent: ``header["op"]``."""

    # of the supervisor
    INFO = "info"
    WARM = "warm"
    EXEC = "exec"
    CONNECT = "connect"
    BOARD = "board"
    TERMINAL = "terminal"
    STOP = "stop"
    # of the parent of workers
    END = "end"
    # of a worker
    LOAD = "load"
    RUN = "run"
    BATCH = "batch"
    RESIZE = "resize"
    BENCH = "bench"
    CLOCK = "clock"
    # of several
    PING = "ping"
    MEMORY = "memory"


class Act:
    """What :attr:`Op.BOARD` can be asked to do to a whole emulated board: ``header["act"]``."""

    REFRESH = "refresh"
    CLOCK = "clock"
    MOUNT_LAYER = "mount_layer"
    NETWORK = "network"
    THROTTLE = "throttle"
    LIMIT_MEMORY = "limit_memory"
    STORAGE = "storage"
    CORES = "cores"
    SYNC = "sync"


class WireError(Exception):
    """The other side does not speak this protocol, or went away in the middle of a frame."""


class WrongProtocol(WireError):
    """The other side speaks another version of this protocol."""


class Closed(WireError):
    """The other side closed the stream between frames."""


def encode(header: Header, payload_bytes: int = 0) -> Head:
    """A header made ready to go before payloads of ``payload_bytes``."""
    return json.dumps(header, separators=(",", ":")).encode(), payload_bytes


def socket_name(layers: Sequence[str], runtime: str) -> str:
    """Where the parent of workers listens that was warmed for ``runtime`` over ``layers``: the
    last one's key covers those below it."""
    return f"{layers[-1] if layers else 'none'}-{runtime}.sock"


class Stream:
    """Frames over one connected socket. Headers seen before are not parsed again, which is
    what keeps the cost of an example small inside an emulator.

    One side asks (:meth:`request`, :meth:`answer`), the other one serves (:meth:`receive`,
    :meth:`send`).
    """

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.number = 0
        """Of the request that was asked, or is being answered."""
        self._reader = sock.makefile("rb", buffering=1 << 16)
        self._parsed: dict[bytes, Header] = {}

    def fileno(self) -> int:
        return self.sock.fileno()

    def request(self, header: Header, *buffers: Any) -> None:
        """Ask something new; ``buffers`` are bytes-like and contiguous."""
        self.number = self.number + 1 if self.number < MAX_REQUEST else 1
        self.send(header, *buffers)

    def request_encoded(self, head: Head, *views: Any) -> None:
        """Ask something new with a header that :func:`encode` made ready."""
        self.number = self.number + 1 if self.number < MAX_REQUEST else 1
        self.send_encoded(head, *views)

    def answer(self) -> tuple[Header, bytes]:
        """The next answer to the last request; those to earlier ones are dropped.

        Raises as :meth:`receive` does.
        """
        while True:
            number, header, payload = self._frame()
            if number == self.number:
                return header, payload
            if number > self.number:
                raise WireError(f"an answer to request {number}, which was never asked")

    def ask(self, header: Header, *buffers: Any) -> tuple[Header, bytes]:
        """The first answer to a new request."""
        self.request(header, *buffers)
        return self.answer()

    def send(self, header: Header, *buffers: Any) -> None:
        """Send one frame under the number of the request at hand."""
        views = [memoryview(b).cast("B") if memoryview(b).nbytes else b"" for b in buffers]
        self.send_encoded(encode(header, sum(len(v) for v in views)), *views)

    def send_encoded(self, head: Head, *views: Any) -> None:
        """Send a frame whose header :func:`encode` made ready."""
        text, payload_bytes = head
        first = _FAST.pack(_START, self.number, len(text), payload_bytes) + text
        total = len(first) + payload_bytes
        sent = self.sock.sendmsg([first, *views])
        if sent == total:
            return
        for part in (first, *views):
            if sent >= len(part):
                sent -= len(part)
                continue
            self.sock.sendall(memoryview(part)[sent:])
            sent = 0

    def receive(self) -> tuple[Header, bytes]:
        """The next frame; what is sent from here on is the answer to it.

        Raises:
            Closed: the other side closed between frames.
            WrongProtocol: the other side speaks another version of this protocol.
            WireError: garbage, or the stream ended inside a frame.
        """
        self.number, header, payload = self._frame()
        return header, payload

    def _frame(self) -> tuple[int, Header, bytes]:
        start = self._reader.read(PREFIX.size)
        if not start:
            raise Closed("the other side closed the connection")
        if len(start) < PREFIX.size:
            raise WireError("the stream ended inside a frame")
        begins, number, header_bytes, payload_bytes = _FAST.unpack(start)
        if begins != _START and begins[:3] == MAGIC:
            raise WrongProtocol(f"it speaks version {begins[3]} of the protocol, not {PROTOCOL}")
        if begins != _START or header_bytes > MAX_HEADER_BYTES or payload_bytes > MAX_PAYLOAD_BYTES:
            raise WireError(f"not a frame of this protocol: {start!r}")
        text = self._read(header_bytes)
        header = self._parsed.get(text)
        if header is None:
            try:
                header = json.loads(text)
            except (ValueError, RecursionError) as error:
                raise WireError(f"the frame's header is not JSON: {text[:80]!r}") from error
            if not isinstance(header, dict):
                raise WireError(f"the frame's header is not an object: {text[:80]!r}")
            if len(self._parsed) < 64 and header_bytes < 4096:
                self._parsed[text] = header
        return number, header, self._read(payload_bytes) if payload_bytes else b""

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
