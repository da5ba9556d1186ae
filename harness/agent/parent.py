"""A warm parent: imports one runtime once, then forks a worker for each connection."""

from __future__ import annotations

import functools
import importlib
import os
import selectors
import sys
import time

from harness import wire
from harness.agent import inside

TYPE_CHECKING = False  # importing typing costs 20 ms under emulation
if TYPE_CHECKING:
    from typing import Any

    Status = dict[str, Any]


def serve(path: str, layer: str, runtime: str) -> None:
    if layer:
        sys.path.insert(0, os.path.join(os.environ["EDGE_LAYERS"], layer, "site"))
    # Without the site module (-S) nobody adds Debian's own Python packages (NumPy on armhf).
    sys.path.append("/usr/lib/python3/dist-packages")
    started = time.monotonic()
    module = importlib.import_module(f"harness.agent.runtimes.{runtime}")
    facts = module.warm()
    facts["import_s"] = round(time.monotonic() - started, 3)
    listener = inside.listen(path + ".new")
    os.rename(path + ".new", path)
    statuses: dict[int, Status] = {}
    workers: dict[int, bool] = {}
    selector = selectors.DefaultSelector()
    selector.register(listener, selectors.EVENT_READ)
    supervisor = os.getppid()
    while os.getppid() == supervisor:
        if not selector.select(timeout=2.0):
            continue
        sock, _ = listener.accept()
        stream = wire.Stream(sock)
        try:
            header, payload = stream.receive()
        except (wire.WireError, OSError):
            stream.close()
            continue
        if header.get("op") == "end":
            if header.get("kill") and header["pid"] in workers:
                os.kill(header["pid"], 9)
            answer_end(stream, header["pid"], workers, statuses)
            continue
        pid = os.fork()
        if pid == 0:
            listener.close()
            selector.close()
            inside.guarded(functools.partial(work, stream, module, facts, header, payload))
        workers[pid] = True
        stream.forget()
        collect(workers, statuses)


def collect(workers: dict[int, bool], statuses: dict[int, Status]) -> None:
    for pid in list(workers):
        gone, status, usage = os.wait4(pid, os.WNOHANG)
        if gone:
            statuses[pid] = inside.status_fields(status, usage)
            del workers[pid]


def answer_end(
    stream: wire.Stream, pid: int, workers: dict[int, bool], statuses: dict[int, Status]
) -> None:
    """How a worker ended. The client saw its stream close, so the wait is short."""
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
) -> None:
    """The life of a worker: say who it is, load one model, answer until the client leaves."""
    stream.send({"ok": True, "pid": os.getpid(), **facts})
    try:
        session = module.Session(header, payload)
    except Exception as error:
        stream.send(failure(error))
        return
    stream.send({"ok": True, **session.describe()})
    run, run_batch = session.run, session.run_batch
    while True:
        try:
            header, payload = stream.receive()
        except wire.Closed:
            return
        operation = header.get("op")
        try:
            if operation == "run":
                stream.send_encoded(*run(header, payload))
                continue
            if operation == "batch":
                stream.send_encoded(*run_batch(header, payload))
                continue
            if operation == "ping":
                answer: dict[str, Any] = {"ok": True}
            elif operation == "resize":
                session.resize(header["shapes"])
                answer = {"ok": True, **session.describe()}
            elif operation == "bench":
                answer = {"ok": True, **session.bench(header, payload)}
            elif operation == "memory":
                answer = {"ok": True, **memory()}
            else:
                answer = {"ok": False, "kind": "protocol", "error": f"no operation {operation!r}"}
        except Exception as error:
            answer = failure(error)
        stream.send(answer)


def failure(error: Exception) -> dict[str, Any]:
    kind = "memory" if isinstance(error, MemoryError) else "runtime"
    return {"ok": False, "kind": kind, "type": type(error).__name__, "error": str(error)}


def memory() -> dict[str, int]:
    fields: dict[str, int] = {}
    for line in inside.read("/proc/self/status").splitlines():
        name, _, value = line.partition(":")
        if name in ("VmHWM", "VmRSS"):
            fields[name] = int(value.split()[0])
    return {"peak_rss_kib": fields.get("VmHWM", 0), "rss_kib": fields.get("VmRSS", 0)}
