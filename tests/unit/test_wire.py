import contextlib
import json
import socket
import struct
import threading

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


def frame(header, payload=b"", *, request=1, protocol=wire.PROTOCOL, magic=wire.MAGIC):
    text = json.dumps(header).encode()
    return wire.PREFIX.pack(magic, protocol, request, len(text), len(payload)) + text + payload


def received(data):
    """What a stream makes of ``data``."""
    left, right = socket.socketpair()
    left.sendall(data)
    left.close()
    stream = wire.Stream(right)
    try:
        return stream.receive()
    finally:
        stream.close()


def test_a_frame_arrives_as_it_was_sent(pair):
    left, right = pair
    left.send({"op": "run", "tensors": [["int8", [2]]]}, b"\x01\x02", b"", b"\x03")
    assert right.receive() == ({"op": "run", "tensors": [["int8", [2]]]}, b"\x01\x02\x03")


def test_the_bytes_of_a_frame():
    assert wire.PREFIX.pack(wire.MAGIC, 2, 7, 3, 5) == (b"EDG\x02" + struct.pack("<IIQ", 7, 3, 5))
    assert received(frame({"a": 1}, b"xyz")) == ({"a": 1}, b"xyz")


def test_an_end_between_frames_is_told_from_an_end_inside_one(pair):
    left, right = pair
    left.close()
    with pytest.raises(wire.Closed):
        right.receive()


@pytest.mark.parametrize("cut", [1, wire.PREFIX.size, -1])
def test_an_end_inside_a_frame_is_an_error(cut):
    with pytest.raises(wire.WireError, match="inside a frame"):
        received(frame({"op": "x"}, b"payload")[:cut])


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 400 Bad Request, and more",
        wire.PREFIX.pack(wire.MAGIC, wire.PROTOCOL, 1, wire.MAX_HEADER_BYTES + 1, 0),
        wire.PREFIX.pack(wire.MAGIC, wire.PROTOCOL, 1, 2, wire.MAX_PAYLOAD_BYTES + 1) + b"{}",
        wire.PREFIX.pack(wire.MAGIC, wire.PROTOCOL, 1, 3, 0) + b"{]}",
        wire.PREFIX.pack(wire.MAGIC, wire.PROTOCOL, 1, 2, 0) + b"[]",
        wire.PREFIX.pack(wire.MAGIC, wire.PROTOCOL, 1, 2, 0) + b"\xff\xfe",
        wire.PREFIX.pack(wire.MAGIC, wire.PROTOCOL, 1, 200_000, 0) + b"[" * 200_000,
        wire.PREFIX.pack(b"EDH", wire.PROTOCOL, 1, 2, 0) + b"{}",
    ],
)
def test_garbage_is_refused_before_memory_is_reserved(data):
    with pytest.raises(wire.WireError):
        received(data)


FRAME = wire.PREFIX.pack(wire.MAGIC, wire.PROTOCOL, 7, 14, 3) + b'{"op": "ping"}' + b"abc"


@given(st.lists(st.tuples(st.integers(0, len(FRAME) - 1), st.integers(0, 255)), max_size=3))
def test_a_damaged_frame_is_a_wire_error_or_another_whole_frame(changes):
    data = bytearray(FRAME)
    for place, value in changes:
        data[place] = value
    magic, protocol, _, header_bytes, payload_bytes = wire.PREFIX.unpack_from(data)
    rest = bytes(data[wire.PREFIX.size :])
    sound = (magic, protocol) == (wire.MAGIC, wire.PROTOCOL)
    if sound and (header_bytes, payload_bytes, rest) == (14, 3, FRAME[wire.PREFIX.size :]):
        assert received(bytes(data)) == ({"op": "ping"}, b"abc")
        return
    with contextlib.suppress(wire.WireError):
        header, payload = received(bytes(data))
        assert sound
        assert header == json.loads(rest[:header_bytes])
        assert payload == rest[header_bytes : header_bytes + payload_bytes]
        assert len(payload) == payload_bytes


@given(st.binary(max_size=64).filter(lambda data: data[:3] != wire.MAGIC))
def test_what_does_not_begin_as_a_frame_is_none(data):
    with pytest.raises(wire.WireError):
        received(data)


def test_only_short_headers_are_kept_and_not_too_many(pair):
    left, right = pair
    for number in range(100):
        left.send({"number": number})
        assert right.receive()[0] == {"number": number}
    assert len(right._parsed) == 64
    long = {"text": "x" * 5000}
    fresh = wire.Stream(right.sock)
    left.send(long)
    assert fresh.receive()[0] == long
    assert fresh._parsed == {}


def test_a_payload_larger_than_the_socket_buffer_arrives_whole(pair):
    left, right = pair
    blob = bytes(range(256)) * 40_000
    sender = threading.Thread(target=left.send, args=({"big": True}, blob[:7], blob[7:]))
    sender.start()
    header, payload = right.receive()
    sender.join()
    assert header == {"big": True}
    assert payload == blob


# -- the protocol's number and the request's -----------------------------------------------------


@pytest.mark.parametrize("protocol", [1, wire.PROTOCOL + 1, ord("1")])
def test_another_protocol_is_refused_in_one_sentence(protocol):
    with pytest.raises(wire.WrongProtocol) as error:
        received(frame({"ok": True}, protocol=protocol))
    assert str(error.value) == f"it speaks version {protocol} of the protocol, not {wire.PROTOCOL}"


def test_an_answer_carries_the_number_of_its_request(pair):
    client, server = pair
    for number in (1, 2, 3):
        client.request({"op": "x"})
        server.receive()
        assert server.number == client.number == number
        server.send({"ok": number})
        assert client.answer() == ({"ok": number}, b"")


def test_one_request_may_have_several_answers(pair):
    client, server = pair
    client.request({"op": "load"})
    server.receive()
    server.send({"hello": 1})
    server.send({"ok": True})
    assert [client.answer()[0], client.answer()[0]] == [{"hello": 1}, {"ok": True}]


def test_the_answer_to_a_request_that_was_given_up_is_not_taken_for_the_next_ones(pair):
    client, server = pair
    client.request({"op": "run"}, b"first")
    client.request({"op": "run"}, b"second")  # nobody read the first answer
    for _ in range(2):
        _, payload = server.receive()
        server.send({"ok": True}, payload.upper())
    assert client.answer() == ({"ok": True}, b"SECOND")


def test_an_answer_to_what_was_never_asked_is_an_error(pair):
    client, server = pair
    client.request({"op": "run"})
    server.receive()
    server.number = 7
    server.send({"ok": True})
    with pytest.raises(wire.WireError, match="request 7, which was never asked"):
        client.answer()


def test_numbers_begin_again_after_the_largest(pair):
    client, server = pair
    client.number = wire.MAX_REQUEST
    client.request({"op": "x"})
    server.receive()
    assert server.number == 1


def test_operations_have_one_name_each():
    for names in (wire.Op, wire.Act):
        values = [value for name, value in vars(names).items() if name.isupper()]
        assert len(values) == len(set(values))
        assert all(isinstance(value, str) for value in values)


def test_sockets_of_parents_are_told_apart_by_layer_and_runtime():
    assert wire.socket_name(["abc"], "tflite") == "abc-tflite.sock"
    assert wire.socket_name(["abc", "def"], "npy") == "def-npy.sock"
    assert wire.socket_name([], "npy") == "none-npy.sock"
    assert len(wire.socket_name(["0" * 16], "a" * 30)) < 60  # a Unix path has 107 bytes
