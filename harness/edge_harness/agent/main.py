"""The supervisor: first process of the device."""

from __future__ import annotations

import json
import os
import selectors
import signal
import sys
import time

TYPE_CHECKING = False  # importing typing costs 20 ms under emulation
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

# Run by path and isolated (-I): the folder that holds this package goes first.
sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))

from edge_harness import wire  # noqa: E402
from edge_harness.agent import inside, parent  # noqa: E402
from edge_harness.wire import Op  # noqa: E402


class Supervisor:
    def __init__(self, *, run_dir: str, linger_s: float) -> None:
        self.linger_after_s = linger_s
        self.parents: dict[str, int] = {}
        self.statuses: dict[int, dict[str, Any]] = {}
        self.pending: list[tuple[wire.Stream, str, int]] = []
        self.streams: dict[int, wire.Stream] = {}
        self.selector = selectors.DefaultSelector()
        # Names are relative from here on: the path of a Unix socket may have 107 bytes at most.
        # Core dumps of workers land here too, where the harness can read them.
        os.chdir(run_dir)
        self.idle_since = time.monotonic()
        self.linger_s = 60.0  # until the first client has come
        self.listener = inside.listen("agent.sock.new")

    def start(self) -> None:
        # Renamed only now: the socket's appearance is the sign that the device is up.
        os.rename("agent.sock.new", "agent.sock")
        self.selector.register(self.listener, selectors.EVENT_READ, None)

    def warm(self, wanted: wire.Header) -> int:
        """Fork the warm parent for ``wanted["runtime"]`` over ``wanted["layers"]``, once; its
        process id. It listens at ``wanted["socket"]``."""
        self.reap()
        path = str(wanted["socket"])
        known = self.parents.get(path)
        if known is not None and known not in self.statuses:
            return known
        for stale in (path, path + ".new", path + ".end"):
            if os.path.exists(stale):
                os.unlink(stale)
        pid = os.fork()
        if pid == 0:
            self.let_go()
            inside.guarded(
                lambda: parent.serve(path, wanted["layers"], wanted["runtime"], wanted["library"])
            )
        self.parents[path] = pid
        return pid

    def let_go(self, keep: wire.Stream | None = None) -> None:
        """In a forked child: close what belongs to the supervisor."""
        self.selector.close()
        self.listener.close()
        for stream in self.streams.values():
            if stream is not keep:
                stream.forget()

    def reap(self) -> None:
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            self.statuses[pid] = inside.status_fields(status, usage)

    def serve(self) -> None:
        self.idle_since = time.monotonic()
        while True:
            for key, _ in self.selector.select(timeout=0.01 if self.pending else 0.5):
                if key.data is None:
                    self.accept()
                else:
                    self.answer(key.data)
            self.reap()
            self.pending = [item for item in self.pending if not self.settled(*item)]
            if self.streams:
                self.idle_since = time.monotonic()
            elif time.monotonic() - self.idle_since > self.linger_s:
                return

    def settled(self, stream: wire.Stream, path: str, pid: int) -> bool:
        """Whether a client waiting for the warm parent at ``path`` could be answered."""
        if os.path.exists(path):
            answer: dict[str, Any] = {"ok": True}
        elif pid in self.statuses:
            answer = {"ok": False, "kind": "died", "pid": pid, **self.statuses[pid]}
        else:
            return False
        try:
            stream.send(answer)
        except OSError:
            self.drop(stream)
        return True

    def accept(self) -> None:
        sock, _ = self.listener.accept()
        self.linger_s = self.linger_after_s
        stream = wire.Stream(sock)
        self.streams[sock.fileno()] = stream
        self.selector.register(sock, selectors.EVENT_READ, stream)

    def drop(self, stream: wire.Stream) -> None:
        self.idle_since = time.monotonic()
        self.streams.pop(stream.fileno(), None)
        self.selector.unregister(stream.sock)
        stream.close()

    def answer(self, stream: wire.Stream) -> None:
        try:
            header, payload = stream.receive()
        except wire.WrongProtocol as error:
            # In our own words: whoever asks reads the protocol's number of the answer first.
            try:
                stream.send({"ok": False, "kind": "protocol", "error": str(error)})
            except OSError:
                pass
            self.drop(stream)
            return
        except (wire.WireError, OSError):
            self.drop(stream)
            return
        try:
            operation = header.get("op")
            if operation == Op.PING:
                stream.send({"ok": True})
            elif operation == Op.INFO:
                stream.send({"ok": True, **inside.describe()})
            elif operation == Op.MEMORY:
                stream.send({"ok": True, **inside.memory_events()})
            elif operation == Op.WARM and not os.path.exists(header["library"] or "/"):
                stream.send({"ok": False, "kind": "missing", "path": header["library"]})
            elif operation == Op.WARM:
                self.pending.append((stream, header["socket"], self.warm(header)))
            elif operation == Op.EXEC:
                # Forked so that a long program does not keep other workers waiting.
                self.fork_answer(stream, lambda: inside.execute(stream, header, payload))
            elif operation == Op.BOARD:
                from edge_harness.agent import board

                self.fork_answer(stream, lambda: board.act(stream, header, payload))
            elif operation == Op.TERMINAL:
                from edge_harness.agent import board

                self.fork_answer(stream, lambda: board.terminal(stream, header))
                # The terminal's alone from here on: its end is the end of the connection.
                self.streams.pop(stream.fileno(), None)
                self.selector.unregister(stream.sock)
                stream.forget()
            elif operation == Op.CONNECT:
                self.fork_answer(stream, lambda: inside.try_connect(stream, header))
            elif operation == Op.STOP:
                stream.send({"ok": True})
                raise SystemExit(0)
            else:
                stream.send(
                    {"ok": False, "kind": "protocol", "error": f"no operation {operation!r}"}
                )
        except (OSError, wire.WireError):
            self.drop(stream)

    def fork_answer(self, stream: wire.Stream, work: Callable[[], None]) -> None:
        """Answer from a child. One request at a time per connection: the client waits for its
        answer, so parent and child never read the same stream at once."""
        if os.fork() == 0:
            self.let_go(keep=stream)
            inside.guarded(work)


def main() -> None:
    # Read by hand: argparse takes 100 ms to import under emulation.
    options: dict[str, list[str]] = {}
    for name, value in zip(sys.argv[1::2], sys.argv[2::2]):
        options.setdefault(name, []).append(value)
    # Sockets open for their owner alone. Where the harness is another user than the agent (an
    # ordinary user of Docker), they must open for it too; it keeps others out by the folder above.
    owner = os.stat(options["--run-dir"][0]).st_uid
    os.umask(0o077 if owner == os.geteuid() else 0)
    inside.confine(int(options["--cpus"][0]))
    if "--ports" in options:
        inside.precious()
        # Imported before the board is saved: each restored one is given a clock and an identity
        # first of all, and would otherwise import it for that (0.5 s).
        from edge_harness.agent import board  # noqa: F401

        if os.fork() == 0:
            from edge_harness.agent import ports

            os.chdir(options["--run-dir"][0])
            inside.guarded(ports.serve)
    supervisor = Supervisor(
        run_dir=options["--run-dir"][0], linger_s=float(options["--linger-s"][0])
    )
    for wanted in options.get("--warm", ()):
        supervisor.warm(json.loads(wanted))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    supervisor.start()
    supervisor.serve()


if __name__ == "__main__":
    main()
