"""A warm parent: imports one runtime once, then forks a worker for each connection."""

from __future__ import annotations

import functools
import gc
import os
import selectors
import socket
import sys
import time

from edge_harness import wire
from edge_harness.agent import inside, runtimes
from edge_harness.wire import Op

TYPE_CHECKING = False  # importing typing costs 20 ms under emulation
if TYPE_CHECKING:
    from typing import Any

    Status = dict[str, Any]


def serve(path: str, layers: list[str], runtime: str, library: str) -> None:
    folders = [os.path.join(os.environ["EDGE_LAYERS"], layer) for layer in layers]
    sys.path[:0] = [os.path.join(folder, "site") for folder in reversed(folders)]
    # Without the site module (-S) nobody adds Debian's own Python packages (NumPy on armhf).
    sys.path.append("/usr/lib/python3/dist-packages")
    if library:
        os.environ["EDGE_LIBRARY"] = library
    started = time.monotonic()
    for folder in folders:
        load_libraries(os.path.join(folder, "lib"))
    module = runtimes.named(runtime, folders)
    facts = dict(module.warm())
    facts["import_s"] = round(time.monotonic() - started, 3)
    rehearse(module, facts)
    # What exists now is never garbage: fewer pages are touched, hence copied, after a fork.
    gc.collect()
    gc.freeze()
    listener = inside.listen(path + ".new")
    endings = inside.listen(path + ".end")
    statuses: dict[int, Status] = {}
    workers: dict[int, bool] = {}
    selector = selectors.DefaultSelector()
    selector.register(listener, selectors.EVENT_READ)
    selector.register(endings, selectors.EVENT_READ)
    supervisor = os.getppid()
    spare = fork_spare((selector, listener, endings), module, facts)
    os.rename(path + ".new", path)
    while os.getppid() == supervisor:
        for key, _ in selector.select(timeout=2.0):
            if key.fileobj is endings:
                answer_end(wire.Stream(endings.accept()[0]), workers, statuses)
                continue
            client, _ = listener.accept()
            try:
                socket.send_fds(spare[1], [b"!"], [client.fileno()])
            except OSError:  # it died while it waited
                os.waitpid(spare[0], 0)
                spare = fork_spare((selector, listener, endings, client), module, facts)
                socket.send_fds(spare[1], [b"!"], [client.fileno()])
            client.close()
            spare[1].close()
            workers[spare[0]] = True
            # The next one, while the first still loads its model: forking an emulator of 100 MB
            # takes as long as loading a small one.
            spare = fork_spare((selector, listener, endings), module, facts)
            collect(workers, statuses)


def load_libraries(folder: str) -> None:
    """Load the shared libraries in ``folder``, where there are any, so that modules which need
    them find them by name: the dynamic linker looks among what is loaded first, and reads
    ``LD_LIBRARY_PATH`` only when a program starts.
    """
    if not os.path.isdir(folder):
        return
    import ctypes

    paths = [os.path.join(folder, name) for name in sorted(os.listdir(folder)) if ".so" in name]
    waiting = {os.path.realpath(path) for path in paths if os.path.isfile(path)}
    loaded = True
    while loaded:  # one that needs another of them comes after it
        loaded = False
        for path in sorted(waiting):
            try:
                ctypes.CDLL(path, os.RTLD_LAZY)
            except OSError:
                continue  # whoever needs it says what it lacks
            waiting.discard(path)
            loaded = True


def rehearse(module: Any, facts: dict[str, Any]) -> None:
    """Be a worker once, for a small model of our own, before there are any.

    Under emulation the first call of each function is slow, because its code is translated; a
    forked worker has the translations its parent had. Halves the time to load a small model.
    """
    model = runtimes.rehearsal(module)
    if model is None:
        return
    ours, theirs = socket.socketpair()
    client, worker = wire.Stream(ours), wire.Stream(theirs)
    client.request({"op": Op.LOAD}, model)
    client.request({"op": Op.PING})
    header, payload = worker.receive()
    ours.shutdown(socket.SHUT_WR)
    work(worker, module, facts, header, payload)
    worker.close()
    client.close()


def fork_spare(
    inherited: tuple[Any, ...], module: Any, facts: dict[str, Any]
) -> tuple[int, socket.socket]:
    """A worker that waits for its client; its process id and the channel to hand it over."""
    ours, theirs = socket.socketpair()
    pid = os.fork()
    if pid == 0:
        inside.expendable()
        ours.close()
        for each in inherited:
            each.close()
        inside.guarded(functools.partial(wait_for_client, theirs, module, facts))
    theirs.close()
    return pid, ours


def wait_for_client(channel: socket.socket, module: Any, facts: dict[str, Any]) -> None:
    before_kib = memory()["rss_kib"]  # while nobody waits for us
    descriptors = socket.recv_fds(channel, 1, 1)[1]
    channel.close()
    if not descriptors:
        return  # the parent ended
    stream = wire.Stream(socket.socket(fileno=descriptors[0]))
    try:
        header, payload = stream.receive()
    except wire.WrongProtocol as error:
        stream.send({"ok": False, "kind": "protocol", "error": str(error)})
        return
    except (wire.WireError, OSError):
        return
    work(stream, module, facts, header, payload, before_kib)


def collect(workers: dict[int, bool], statuses: dict[int, Status]) -> None:
    for pid in list(workers):
        gone, status, usage = os.wait4(pid, os.WNOHANG)
        if gone:
            statuses[pid] = inside.status_fields(status, usage)
            del workers[pid]


def answer_end(stream: wire.Stream, workers: dict[int, bool], statuses: dict[int, Status]) -> None:
    """How a worker ended. The client saw its stream close, so the wait is short."""
    stream.sock.settimeout(10)
    try:
        header, _ = stream.receive()
    except (wire.WireError, OSError):
        stream.close()
        return
    pid = header["pid"]
    if header.get("kill") and pid in workers:
        os.kill(pid, 9)
    deadline = time.monotonic() + 10
    while pid in workers and time.monotonic() < deadline:
        collect(workers, statuses)
        if pid in workers:
            time.sleep(0.002)
    try:
        stream.send({"ok": True, "status": statuses.pop(pid, None)})
    except OSError:
        pass
    stream.close()


def work(
    stream: wire.Stream,
    module: Any,
    facts: dict[str, Any],
    header: wire.Header,
    payload: bytes,
    before_kib: int = 0,
) -> None:
    """The life of a worker: say who it is, load one model, answer until the client leaves.

    ``before_kib``: its resident memory before the model came.
    """
    stream.send({"ok": True, "pid": os.getpid(), **facts})
    try:
        session = module.Session(header, payload)
        description = session.describe()
    except Exception as error:
        stream.send(failure(error))
        return
    model_kib = memory()["rss_kib"] - before_kib
    stream.send({"ok": True, **description})
    run, run_batch = session.run, session.run_batch
    # Looked up once: what comes often comes first, and cheap.
    op_run, op_batch, op_ping = Op.RUN, Op.BATCH, Op.PING
    while True:
        try:
            header, payload = stream.receive()
        except (wire.WireError, OSError):
            return
        operation = header.get("op")
        try:
            if operation == op_run:
                stream.send_encoded(*run(header, payload))
                continue
            if operation == op_batch:
                stream.send_encoded(*run_batch(header, payload))
                continue
            if operation == op_ping:
                answer: dict[str, Any] = {"ok": True}
            elif operation == Op.RESIZE:
                session.resize(header["shapes"])
                answer = {"ok": True, **session.describe()}
            elif operation == Op.BENCH:
                answer = {"ok": True, **session.bench(header, payload)}
            elif operation == Op.MEMORY:
                answer = {"ok": True, "model_kib": model_kib, **memory()}
            elif operation == Op.CLOCK:
                from edge_harness.agent.runtimes._markers import measure

                invoke = session.invoker(header, payload)
                answer = {"ok": True, **measure(invoke, header["repeats"])}
            else:
                answer = {"ok": False, "kind": "protocol", "error": f"no operation {operation!r}"}
        except Exception as error:
            answer = failure(error)
        try:
            stream.send(answer)
        except OSError:
            return  # nobody waits for it any more


def failure(error: Exception) -> dict[str, Any]:
    kind = "memory" if isinstance(error, MemoryError) else "runtime"
    return {
        "ok": False,
        "kind": kind,
        "type": type(error).__name__,
        "error": str(error),
        "where": where(error),
    }


def where(error: BaseException) -> str:
    """Files and lines that ``error`` came through below the worker's loop, the innermost last; of
    many the first, which are the runtime's file, and the last. By hand: traceback is slow to
    import under emulation."""
    frames = []
    trace = error.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        if code.co_filename != __file__:
            frames.append(f"{os.path.basename(code.co_filename)}:{trace.tb_lineno} {code.co_name}")
        trace = trace.tb_next
    if len(frames) > 6:
        frames[3:-3] = ["…"]
    return ", ".join(frame[:120] for frame in frames)


def memory() -> dict[str, int]:
    fields: dict[str, int] = {}
    for line in inside.read("/proc/self/status").splitlines():
        name, _, value = line.partition(":")
        if name in ("VmHWM", "VmRSS"):
            fields[name] = int(value.split()[0])
    return {"peak_rss_kib": fields.get("VmHWM", 0), "rss_kib": fields.get("VmRSS", 0)}
