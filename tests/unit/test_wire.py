import json
import socket
import struct

import pytest
from edge_harness import wire
from hypothesis import given
from hypothesis import strategies as st


@pytest.fixture
def pair():
    left, right = socket.socketpair()
    streams = wire.Stream(left), wire.Stream(right)
    yield streams
    for stream in streams:
        stream.close()


def test_a_frame_arrives_as_it_was_sent(pair):
    left, right = pair
    left.send({"op": "run", "tensors": [["int8", [2]]]}, b"\x01\x02", b"", b"\x03")
    assert right.receive() == ({"op": "run", "tensors": [["int8", [2]]]}, b"\x01\x02\x03")


def test_an_end_between_frames_is_told_from_an_end_inside_one(pair):
    left, right = pair
    left.close()
    with pytest.raises(wire.Closed):
        right.receive()


def test_an_end_inside_a_frame_is_an_error():
    left, right = socket.socketpair()
    left.sendall(wire.encode({"op": "x"}, 100) + b"only this")
    left.close()
    stream = wire.Stream(right)
    with pytest.raises(wire.WireError, match="inside a frame"):
        stream.receive()
    stream.close()


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 400 Bad",
        wire.PREFIX.pack(wire.MAGIC, wire.MAX_HEADER_BYTES + 1, 0),
        wire.PREFIX.pack(wire.MAGIC, 2, wire.MAX_PAYLOAD_BYTES + 1) + b"{}",
        wire.PREFIX.pack(wire.MAGIC, 3, 0) + b"{]}",
        wire.PREFIX.pack(wire.MAGIC, 2, 0) + b"[]",
    ],
)
def test_garbage_is_refused_before_memory_is_reserved(data):
    left, right = socket.socketpair()
    left.sendall(data)
    left.close()
    stream = wire.Stream(right)
    with pytest.raises(wire.WireError):
        stream.receive()
    stream.close()


@given(st.binary(max_size=64))
def test_no_bytes_lead_to_anything_but_a_wire_error(data):
    left, right = socket.socketpair()
    left.sendall(data)
    left.close()
    stream = wire.Stream(right)
    try:
        header, payload = stream.receive()
    except wire.WireError:
        pass
    else:
        head = json.dumps(header, separators=(",", ":")).encode()
        assert isinstance(header, dict)
        assert struct.calcsize("<4sIQ") + len(head) + len(payload) <= len(data) + len(head)
    finally:
        stream.close()


def test_a_payload_larger_than_the_socket_buffer_arrives_whole(pair):
    import threading

    left, right = pair
    blob = bytes(range(256)) * 40_000
    sender = threading.Thread(target=left.send, args=({"big": True}, blob[:7], blob[7:]))
    sender.start()
    header, payload = right.receive()
    sender.join()
    assert header == {"big": True}
    assert payload == blob
