"""What a runtime of another distribution says, and what it raises, by the agent's own code in a
thread of this process."""

import contextlib
import socket
import threading
from types import SimpleNamespace

import numpy as np
import pytest
from edge_harness import wire
from edge_harness.agent import parent
from edge_harness.agent.runtimes.arrays import ArraySession
from edge_harness.device.session import Session
from edge_harness.errors import BrokenExtension, InternalError, RuntimeFailed
from edge_harness.runtimes import Format, LoadRequest, Runtime

NPY = Format(name="npy", title="NumPy matrix", suffixes=(".npy",))
ROW = Runtime(
    name="npy",
    distribution="numpy",
    imports="numpy",
    formats=(NPY,),
    agent_source=b"file",
    origin="npy-runtime 1.0",
)
SAMPLE = np.ones((1, 3), np.float32)


class Sound(ArraySession):
    """Doubles its input."""

    def __init__(self, header, payload):
        super().__init__()

    def describe(self):
        return {
            "inputs": [self.tensor("x", "float32", [-1, 3])],
            "outputs": [self.tensor("y", "float32", [-1, 3])],
            "signatures": {},
            "kernels": "numpy",
            "delegates": [],
            "threads": 1,
        }

    def infer(self, arrays):
        return [arrays[0] * 2]


class Endings:
    def load_failed(self, load, answer):
        return load.error(f"{answer['type']}: {answer['error']}")

    def end_worker(self, *_, **__):
        pass


@pytest.fixture
def load():
    """Opens a session by ``kind``, as the agent would."""
    threads, sessions = [], []
    hello = {"runtime": "numpy", "version": "2.4.6"}

    def make(kind=Sound, *, facts=hello, row=ROW):
        module = SimpleNamespace(Session=kind)

        def live(sock):
            stream = wire.Stream(sock)
            with contextlib.suppress(wire.WireError, OSError):
                parent.work(stream, module, facts, *stream.receive())
            stream.close()

        def connect(_name, *, timeout_s):
            ours, theirs = socket.socketpair()
            ours.settimeout(timeout_s)
            threads.append(threading.Thread(target=live, args=(theirs,)))
            threads[-1].start()
            return wire.Stream(ours)

        loading = SimpleNamespace(
            hold=SimpleNamespace(
                generation=1,
                name="rpi4",
                connect=connect,
                log_mark=lambda: None,
                shared=lambda: False,
            ),
            endings=Endings(),
            parent=lambda *_: SimpleNamespace(socket="npy.sock"),
            forget=lambda _: None,
        )
        device = SimpleNamespace(
            name="rpi4", engine="user", loading=loading, figure_kind="emulated"
        )
        request = LoadRequest(
            content=b"1", file_name="m.npy", format=NPY, runtime=row, requirement="numpy==2.4.6"
        )
        sessions.append(Session(device, request, 20.0))
        return sessions[-1]

    yield make
    for session in sessions:
        session.close()
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()


def infers(function):
    return type("Given", (Sound,), {"infer": lambda self, arrays: function(arrays[0])})


def describes(**changes):
    def describe(self):
        said = {**Sound.describe(self), **changes}
        return {key: value for key, value in said.items() if value is not None}

    return type("Given", (Sound,), {"describe": describe})


def test_a_sound_runtime_runs_one_and_many(load):
    session = load()
    assert session.run(SAMPLE)["y"].tolist() == [[2, 2, 2]]
    many = session.run_many([SAMPLE * n for n in range(5)])
    assert [each["y"][0, 0] for each in many] == [0, 2, 4, 6, 8]
    assert session.run(np.ones((4, 3), np.float32))["y"].shape == (4, 3)  # a free size


@pytest.mark.parametrize(
    ("infer", "says"),
    [
        (lambda x: [x, x], r"gave 2 output\(s\), and 1 are described: 'y' float32 \[\?×3\]"),
        (lambda x: [], r"gave 0 output\(s\), and 1 are described"),
        (lambda x: [x.astype("float64")], r"gave 'y' float64 \[1×3\], and described is 'y' float3"),
        (lambda x: [x[0]], r"gave 'y' float32 \[3\], and described is 'y' float32 \[\?×3\]"),
        (lambda x: [x[:, :2]], r"gave 'y' float32 \[1×2\], and described"),
        (lambda x: [x[0, 0]], r"gave 'y' float32 \[scalar\], and described"),
    ],
)
def test_outputs_that_are_not_as_described_are_an_error_that_says_both(load, infer, says):
    session = load(infers(infer))
    for _ in range(2):  # also when the same head comes again
        with pytest.raises(
            RuntimeFailed, match=r"^npy \(numpy 2\.4\.6\) on rpi4 " + says
        ) as caught:
            session.run(SAMPLE)
    assert "'m.npy'" in caught.value.message
    assert "of npy-runtime 1.0 say the same" in caught.value.next_step


def test_of_many_examples_the_one_that_differs_is_named(load):
    session = load(infers(lambda x: [x, x] if x[0, 0] == 3 else [x]))
    with pytest.raises(RuntimeFailed, match=r"gave 2 output\(s\)") as caught:
        session.run_many([SAMPLE * n for n in range(6)])
    assert caught.value.details["example"] == 3


@pytest.mark.parametrize("infer", [lambda x: [x.astype("int64")], lambda x: [x, x]])
def test_of_a_runtime_of_ours_number_and_dtype_are_checked_and_shapes_are_the_runtimes(load, infer):
    ours = Runtime(name="own", distribution="numpy", imports="", formats=(NPY,))
    assert load(infers(lambda x: [x[:, :2]]), row=ours).run(SAMPLE)["y"].shape == (1, 2)
    with pytest.raises(RuntimeFailed, match=r"^numpy 2\.4\.6 on rpi4 gave"):
        load(infers(infer), row=ours).run(SAMPLE)


TENSOR = ArraySession.tensor("x", "float32", [-1, 3])


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"signatures": None, "threads": None}, "gives no 'signatures', no 'threads'"),
        ({"inputs": 3}, "gives inputs=3, which is not a list"),
        ({"outputs": ["y"]}, r"gives outputs\[0\]='y', not a dictionary"),
        ({"outputs": [{"name": "y"}]}, r"gives outputs\[0\] with no 'dtype', no 'shape'"),
        ({"outputs": [{**TENSOR, "dtype": "float"}]}, "dtype='float', which is not numpy's name"),
        ({"outputs": [{**TENSOR, "dtype": "object"}]}, "dtype='object', which is not numpy's"),
        ({"inputs": [{**TENSOR, "shape": [1.5]}]}, r"shape=\[1\.5\], which is not a list of whole"),
        ({"inputs": [{**TENSOR, "scales": 0.1}]}, r"scales=0\.1, which is not a list of num"),
    ],
)
def test_a_description_that_is_none_is_said_at_load(load, changes, says):
    kind = describes(**changes)
    told = r"'npy' of npy-runtime 1\.0 is broken: describe\(\) "
    with pytest.raises(BrokenExtension, match=told + ".*" + says) as caught:
        load(kind)
    assert caught.value.details == {"runtime": "npy", "distribution": "npy-runtime 1.0"}
    ours = Runtime(name="own", distribution="numpy", imports="", formats=(NPY,))
    with pytest.raises(InternalError, match=says):
        load(kind, row=ours)


def raises(x):
    raise ValueError("too odd")


def test_an_exception_tells_file_and_line(load):
    line = raises.__code__.co_firstlineno + 1
    with pytest.raises(RuntimeFailed, match=r"^npy \(numpy 2\.4\.6\) on rpi4 failed") as caught:
        load(infers(raises)).run(SAMPLE)
    assert "ValueError: too odd (at arrays.py:" in caught.value.message
    assert caught.value.message.endswith(f" test_outside_session.py:{line} raises)")
    assert f":{line} raises" in caught.value.details["where"]
    assert "npy-runtime 1.0" in caught.value.next_step
    kind = type("Given", (Sound,), {"__init__": lambda self, header, payload: raises(payload)})
    with pytest.raises(RuntimeFailed, match=rf"could not load 'm\.npy': .*:{line} raises\)"):
        load(kind)
    ours = Runtime(name="own", distribution="numpy", imports="", formats=(NPY,))
    with pytest.raises(RuntimeFailed, match=r"^numpy 2\.4\.6 on rpi4 failed: .*: too odd\n"):
        load(infers(raises), row=ours).run(SAMPLE)


def test_of_a_deep_traceback_both_ends_are_told(load):
    def deep(x, n=300):
        return deep(x, n - 1) if n else raises(x)

    with pytest.raises(RuntimeFailed) as caught:
        load(infers(deep)).run(SAMPLE)
    where = caught.value.details["where"]
    assert where.startswith("arrays.py:")
    assert ", …, " in where
    assert where.endswith(" raises")
    assert len(where) < 400


def test_warm_tells_distribution_and_version(load):
    with pytest.raises(BrokenExtension, match=r"npy-runtime 1\.0 is broken: warm\(\) gives no 'v"):
        load(facts={"runtime": "numpy"})
    with pytest.raises(BrokenExtension, match="version=2, which is not a text"):
        load(facts={"runtime": "numpy", "version": 2})
