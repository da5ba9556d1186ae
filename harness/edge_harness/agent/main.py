"""The supervisor: first process of the device."""

from __future__ import annotations

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

    def warm(self, spec: str) -> int:
        """Fork the warm parent for ``layer:runtime``, once; its process id."""
        self.reap()
        known = self.parents.get(spec)
        if known is not None and known not in self.statuses:
            return known
        layer, _, runtime = spec.partition(":")
        path = inside.socket_name(spec)
        for stale in (path, path + ".new", path + ".end"):
            if os.path.exists(stale):
                os.unlink(stale)
        pid = os.fork()
        if pid == 0:
            self.let_go()
            inside.guarded(lambda: parent.serve(path, layer, runtime))
        self.parents[spec] = pid
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

    def settled(self, stream: wire.Stream, spec: str, pid: int) -> bool:
        """Whether a client waiting for a warm parent could be answered."""
        if os.path.exists(inside.socket_name(spec)):
            answer: dict[str, Any] = {"ok": True, "socket": inside.socket_name(spec)}
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
        except (wire.WireError, OSError):
            self.drop(stream)
            return
        try:
            operation = header.get("op")
            if operation == "ping":
                stream.send({"ok": True})
            elif operation == "info":
                stream.send({"ok": True, **inside.describe()})
            elif operation == "memory":
                stream.send({"ok": True, **inside.memory_events()})
            elif operation == "warm":
                spec = header["spec"]
                self.pending.append((stream, spec, self.warm(spec)))
            elif operation == "exec":
                # Forked so that a long program does not keep other workers waiting.
                self.fork_answer(stream, lambda: inside.execute(stream, header, payload))
            elif operation == "board":
                from edge_harness.agent import board

                self.fork_answer(stream, lambda: board.act(stream, header, payload))
            elif operation == "terminal":
                from edge_harness.agent import board

                self.fork_answer(stream, lambda: board.terminal(stream, header))
                # The terminal's alone from here on: its end is the end of the connection.
                self.streams.pop(stream.fileno(), None)
                self.selector.unregister(stream.sock)
                stream.forget()
            elif operation == "connect":
                self.fork_answer(stream, lambda: inside.try_connect(stream, header))
            elif operation == "stop":
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
    for spec in options.get("--warm", ()):
        supervisor.warm(spec)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    supervisor.start()
    supervisor.serve()


if __name__ == "__main__":
    main()
