"""The wire client of one worker, against an agent that is a thread of this process."""

import contextlib
import socket
import threading
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from edge_harness import wire
from edge_harness.device.hold import Hold
from edge_harness.device.results import Said
from edge_harness.device.worker import Worker
from edge_harness.errors import BootFailed, DeviceTimeout, RuntimeFailed
from edge_harness.runtimes import FORMATS, RUNTIMES, LoadRequest

REQUEST = LoadRequest(
    content=b"the model",
    file_name="model.tflite",
    format=FORMATS["tflite"],
    runtime=RUNTIMES["tflite"],
    requirement="tflite-runtime==2.14.0",
    threads=2,
)
HELLO = {"ok": True, "runtime": "tflite-runtime", "version": "2.14.0"}


class Agent:
    """Answers each connection by ``serve(stream, header, payload)`` until that returns False."""

    def __init__(self, serve):
        self.serve = serve
        self.loads = []
        self.ended = []
        self.pid = 100
        self.threads = []

    # what a worker sees of the device

    generation = 1
    name = "rpi4"

    speaker = None

    def log_mark(self):
        return None

    def shared(self):
        return False

    def connect(self, _name, *, timeout_s):
        ours, theirs = socket.socketpair()
        ours.settimeout(timeout_s)
        self.pid += 1
        thread = threading.Thread(target=self._live, args=(wire.Stream(theirs), self.pid))
        thread.start()
        self.threads.append(thread)
        return wire.Stream(ours)

    def _live(self, stream, pid):
        with contextlib.suppress(wire.WireError, OSError):
            self.loads.append(stream.receive())
            stream.send({**HELLO, "pid": pid})
            stream.send({"ok": True, "inputs": [], "outputs": []})
            while self.serve(stream, *stream.receive()):
                pass
        stream.close()

    def end_worker(self, socket_name, pid, *, kill=False):
        self.ended.append((socket_name, pid, kill))

    def worker_death(self, _socket, pid, doing, *, said):
        return RuntimeFailed(f"{pid} died {doing}")

    def said_since(self, _mark):
        return Said(text="", alone=True)

    def timed_out(self, who, doing, after_s, *, said):
        return DeviceTimeout(f"{who} was not done {doing} after {after_s:g} s")

    def out_of_memory(self, doing, text):
        return MemoryError(f"{doing}: {text}")


@pytest.fixture
def agent():
    made = []

    def make(serve, timeout_s=20.0, request=REQUEST):
        agent = Agent(serve)
        parent = SimpleNamespace(socket="abc-tflite.sock")
        loading = SimpleNamespace(
            hold=agent, endings=agent, parent=lambda *_: parent, forget=lambda _: None
        )
        worker = Worker(loading, request, timeout_s, lambda _answer: None)
        made.append((agent, worker))
        return agent, worker

    yield make
    for agent, worker in made:
        worker.close()
        for thread in agent.threads:
            thread.join(10)
            assert not thread.is_alive()


def double(stream, header, payload):
    """A model that doubles its input."""
    stream.send({"ok": True, "op": header["op"]}, (np.frombuffer(payload, "u1") * 2).tobytes())
    return True


def run(worker, *values):
    worker.ready()
    array = np.array(values, np.uint8)
    return list(worker.exchange(wire.encode({"op": wire.Op.RUN}, array.nbytes), [array])[1])


def test_the_model_and_every_option_go_to_the_worker(agent):
    made, worker = agent(double)
    worker.ready()
    assert made.loads == [
        (
            {
                "op": "load",
                "threads": 2,
                "kernels": "xnnpack",
                "preserve_all_tensors": False,
                "delegates": [],
            },
            b"the model",
        )
    ]
    assert worker.runtime == "tflite-runtime 2.14.0"
    assert worker.pid == 101


def test_tables_among_options_arrive_as_pairs(agent):
    options = RUNTIMES["tflite"].checked({"delegates": {"a.so": {"key": "value"}}})
    made, worker = agent(double, request=replace(REQUEST, options=options))
    worker.ready()
    assert made.loads[0][0]["delegates"] == [["a.so", [["key", "value"]]]]


def test_a_worker_is_kept_from_run_to_run(agent):
    made, worker = agent(double)
    assert run(worker, 1, 2) == [2, 4]
    assert run(worker, 3) == [6]
    assert len(made.loads) == 1


class Stopped(BaseException):
    """As KeyboardInterrupt, which pytest would take for its own."""


def test_an_interrupted_run_leaves_no_answer_for_the_next_one(agent, monkeypatch):
    late = threading.Event()

    def slow(stream, header, payload):
        if list(payload) == [7]:
            late.wait(10)  # until nobody waits any more
        return double(stream, header, payload)

    made, worker = agent(slow)
    assert run(worker, 1) == [2]

    def interrupted(_self):
        raise Stopped

    with monkeypatch.context() as patched:
        patched.setattr(wire.Stream, "answer", interrupted)
        with pytest.raises(Stopped):
            run(worker, 7)
    late.set()
    assert run(worker, 5) == [10]
    # The worker that was given up is ended, as it may compute for ever.
    assert made.ended == [("abc-tflite.sock", 101, True)]
    assert worker.pid == 102


def test_an_answer_to_another_request_is_never_this_ones(agent):
    def mixed_up(stream, header, payload):
        number = stream.number
        stream.number = number - 1
        double(stream, header, b"\x09")  # to the request before
        stream.number = number
        return double(stream, header, payload)

    _, worker = agent(mixed_up)
    assert run(worker, 4) == [8]


def test_a_run_out_of_time_ends_its_worker_and_the_next_one_works(agent):
    hang = threading.Event()

    def hanging(stream, header, payload):
        if list(payload) == [7]:
            hang.wait(10)
            return False
        return double(stream, header, payload)

    made, worker = agent(hanging, timeout_s=0.2)
    with pytest.raises(DeviceTimeout, match=r"the worker was not done answering after 0\.2 s"):
        run(worker, 7)
    hang.set()
    assert made.ended == [("abc-tflite.sock", 101, True)]
    assert run(worker, 1) == [2]


def test_a_worker_that_dies_is_replaced(agent):
    def dying(stream, header, payload):
        return list(payload) != [7] and double(stream, header, payload)

    _, worker = agent(dying)
    with pytest.raises(RuntimeFailed, match=r"101 died running the model 'model\.tflite'"):
        run(worker, 7)
    assert run(worker, 1) == [2]
    assert worker.pid == 102


def test_another_machine_knows_nothing_of_the_worker(agent):
    made, worker = agent(double)
    assert run(worker, 1) == [2]
    made.generation = 2
    assert run(worker, 2) == [4]
    assert len(made.loads) == 2


def test_what_the_runtime_complains_of_ends_no_worker(agent):
    def complaining(stream, header, payload):
        if list(payload) != [7]:
            return double(stream, header, payload)
        stream.send({"ok": False, "kind": "runtime", "type": "ValueError", "error": "too odd"})
        return True

    made, worker = agent(complaining)
    with pytest.raises(RuntimeFailed, match=r"tflite-runtime 2\.14\.0 on rpi4 failed: ValueError"):
        run(worker, 7)
    assert run(worker, 1) == [2]
    assert len(made.loads) == 1


def test_an_agent_of_another_protocol_is_refused_with_one_sentence(agent):
    made, worker = agent(double)
    ours, theirs = socket.socketpair()
    theirs.sendall(wire.PREFIX.pack(wire.MAGIC, 9, 1, 2, 0) + b"{}")
    made.connect = lambda _name, *, timeout_s: wire.Stream(ours)
    made.other_version = Hold.other_version.__get__(made)
    with pytest.raises(BootFailed) as error:
        worker.ready()
    assert error.value.message == (
        "the agent on rpi4 is another version's: it speaks version 9 of the protocol, not "
        f"{wire.PROTOCOL}"
    )
    assert "end the run of the other version" in error.value.next_step
    theirs.close()
