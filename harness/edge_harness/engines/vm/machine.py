"""A running board: one QEMU process, its streams, its console and its controls."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import secrets
import signal
import socket
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edge_harness import wire
from edge_harness.cache import cache_dir, remove_tree
from edge_harness.engines.abilities import StorageAct
from edge_harness.engines.launch import LAYERS_DIR
from edge_harness.engines.log_mark import LogMark, mark_of, said_since
from edge_harness.engines.vm.argv import Disk, disk_nodes, scsi_disk
from edge_harness.engines.vm.boot import FIRST_LAYER, STORAGE
from edge_harness.engines.vm.qmp import execute
from edge_harness.engines.vm.streams import open_stream
from edge_harness.errors import EmulatorCrashed, OptionError
from edge_harness.processes import Watched, signal_name, wait_until

#: mm/oom_kill.c, __oom_kill_process: pr_err("%s: Killed process %d (%s) total-vm:%lukB, ...").
_OOM = re.compile(
    r"(?:Out of memory|Memory cgroup out of memory)[^\n]*: Killed process \d+ \(([^)]*)\) "
    r"total-vm:\d+kB, anon-rss:(\d+)kB, file-rss:(\d+)kB, shmem-rss:(\d+)kB"
)
#: Of the board's own, on its console: the kernel's, and those of ``engines/vm/boot.py``.
_LAST_WORDS = re.compile(r"Kernel panic|^edge: (?:boot failed|the agent ended)")


#: With less free than this, whatever QEMU could not do, it could not do for want of space.
FULL_MIB = 16
#: Of programs and the agent: with 16 a program is killed and the agent lives, with 8 it dies too.
_LEAST_MIB = 16


class VmMachine:
    """A board, from its record: usable from any process."""

    engine = "vm"
    layers_dir = LAYERS_DIR

    def __init__(self, record: Mapping[str, Any]) -> None:
        self._record = dict(record)
        self._process = Watched(int(record.get("pid", 0)), str(record.get("started", "")))
        self.state_dir = Path(record["state_dir"])
        self._logs = (self.state_dir / "qemu.log", self.state_dir / "console.log")

    def record(self) -> dict[str, Any]:
        return self._record

    def connect(self, name: str, *, timeout_s: float) -> socket.socket:
        if not self.alive():
            raise ConnectionRefusedError(f"the board is down: {self.end_reason()}")
        file = "agent.sock" if name == "agent" else name
        return open_stream(self.state_dir / "run", file, timeout_s=timeout_s)

    def ask(
        self, header: wire.Header, payload: bytes = b"", *, timeout_s: float = 60.0
    ) -> tuple[wire.Header, bytes]:
        """The agent's answer to ``header``.

        Raises:
            EmulatorCrashed: there is none, or it says that it failed.
        """
        what = header.get("act", header["op"])
        try:
            sock = self.connect("agent.sock", timeout_s=timeout_s)
            sock.settimeout(timeout_s)
            stream = wire.Stream(sock)
            try:
                answer, body = stream.ask(header, payload)
            finally:
                stream.close()
        except (OSError, wire.WireError) as error:
            raise EmulatorCrashed(
                f"the board did not answer {what!r}: {error}", next_step="look at device.log()"
            ) from error
        if not answer["ok"]:
            raise EmulatorCrashed(
                f"the board could not {what}: {answer['error']}", next_step="look at device.log()"
            )
        return answer, body

    def act(self, act: str, payload: bytes = b"", **arguments: Any) -> tuple[wire.Header, bytes]:
        """Have the agent do ``act`` of ``edge_harness.agent.board``."""
        return self.ask({"op": wire.Op.BOARD, "act": act, **arguments}, payload)

    def refresh(self, *, set_clock: bool = True) -> None:
        """Give a restored board random numbers, time and identity of its own."""
        self.act(
            wire.Act.REFRESH,
            secrets.token_bytes(80),
            time_s=time.time() if set_clock else None,
            hostname=self._record["hostname"],
        )

    # -- life --------------------------------------------------------------------------------

    def alive(self) -> bool:
        return self._process.alive()

    def end_reason(self) -> str:
        if self.alive():
            return ""
        for line in reversed(self.console().splitlines()):
            if _LAST_WORDS.search(line):
                return line.strip()
        status = self._process.status
        if status is None or status == 0:
            return "the board switched itself off"
        if status < 0:
            return f"QEMU was ended by {signal_name(-status)}"
        said = self._read("qemu.log").strip().splitlines()
        return f"QEMU ended with exit status {status}" + (f": {said[-1]}" if said else "")

    def log(self) -> str:
        return self._read("qemu.log") + self._read("console.log")

    def log_mark(self) -> LogMark:
        return mark_of(self._logs)

    def log_since(self, mark: LogMark) -> str:
        return said_since(self._logs, mark).replace("\r\n", "\n")

    def _read(self, name: str) -> str:
        try:
            return (self.state_dir / name).read_text(errors="replace").replace("\r\n", "\n")
        except OSError:
            return ""

    def limit_memory(self, memory_mib: int) -> None:
        if memory_mib < _LEAST_MIB:
            raise OptionError(
                f"memory_mib={memory_mib!r} is less than the agent on the board needs to answer",
                next_step=f"use {_LEAST_MIB} or more",
            )
        self.act(wire.Act.LIMIT_MEMORY, memory_mib=memory_mib)
        (self.state_dir / "memory_mib").write_text(str(memory_mib))

    def limit_cpus(self, cpus: float) -> None:
        self.act(wire.Act.THROTTLE, cpus=cpus)

    def memory_events(self) -> Mapping[str, int]:
        limit = self._read("memory_mib") or self._record.get("usable_mib", 0)
        events = {"oom_kills": 0, "limit_mib": int(limit)}
        for kill in _OOM.finditer(self.console()):
            events["oom_kills"] += 1
            events["peak_mib"] = sum(map(int, kill.groups()[1:])) // 1024
        return events

    def host_trouble(self, *, ended_well: bool) -> str:
        """How this machine, not the board, is to blame for what just happened; "" if it is not:
        its disk is full, or the board's storage could not be written.

        A program may end well and not know that what it wrote is lost: sync(2) tells nothing.
        """
        full = cache_free_mib() < FULL_MIB
        if ended_well and not full:
            return ""  # spares asking QEMU after each program
        lost = self._lost_writes()
        if full and (lost or not ended_well):
            return f"the disk of {str(cache_dir())!r} is full"
        return f"{lost} writes to the board's storage failed on this machine" if lost else ""

    def _lost_writes(self) -> int:
        if (self.state_dir / "faults").exists() or not self.alive():
            return 0  # a test asked for them
        try:
            disks = self.qmp(("query-blockstats", {}), timeout_s=5)
        except EmulatorCrashed:
            return 0
        return sum(disk["stats"]["failed_wr_operations"] for disk in disks)

    def ended_in_order(self) -> bool:
        """Whether QEMU, started by this process, has ended with status 0."""
        return not self.alive() and self._process.status == 0

    def stop(self) -> None:
        """Pull the plug: nothing on a throw-away board is worth an orderly end.

        Also where the record has no process yet, because its starter was killed half way.
        """
        saving = self._read("saving")
        if saving:
            VmMachine({"state_dir": saving}).stop()
            remove_tree(Path(saving))
            (self.state_dir / "saving").unlink(missing_ok=True)
        if self._process.pid:
            self._process.kill_group()
        else:
            pid = _locker(self.state_dir / "qemu.pid")
            if pid:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(pid, signal.SIGKILL)
                wait_until(lambda: not _locker(self.state_dir / "qemu.pid"), deadline_s=5.0)

    # -- what programs see -------------------------------------------------------------------

    def pinned_core(self) -> str:
        return str(self._record["core"])

    def program_arch(self) -> str:
        return str(self._record["arch"])

    def interfaces(self) -> frozenset[str]:
        return frozenset({"lo"})

    def root(self) -> Path:
        return Path(self._record["root"])

    def console(self) -> str:
        return self._read("console.log")

    def page_size_kib(self) -> int:
        return int(self._record["page_size_kib"])

    def memory_source(self) -> str:
        return "the emulated board's own kernel, free of the emulator's memory"

    # -- controls ----------------------------------------------------------------------------

    def cut_power(self) -> None:
        self.stop()

    def sync(self) -> None:
        self.act(wire.Act.SYNC)

    def pause(self) -> None:
        self.qmp(("stop", {}))

    def resume(self) -> None:
        self.qmp(("cont", {}))

    def set_clock(self, time_s: float) -> None:
        self.act(wire.Act.CLOCK, time_s=time_s)

    def shift_clock(self, seconds: float) -> None:
        self.act(wire.Act.CLOCK, by_s=seconds)

    def throttle(self, cpus: float | None, then: Sequence[tuple[float, float | None]]) -> None:
        self.act(wire.Act.THROTTLE, cpus=cpus, then=[list(step) for step in then])

    def storage(self, do: StorageAct, *, keep_kib: int = 0) -> int:
        answer, _ = self.act(wire.Act.STORAGE, do=do, keep_kib=keep_kib)
        return int(answer["free_kib"])

    def qmp(self, *commands: tuple[str, dict[str, Any]], timeout_s: float = 30) -> Any:
        """Give QEMU commands; the last one's answer."""
        return execute(self.state_dir, *commands, timeout_s=timeout_s)

    def bring_layer(self, key: str) -> None:
        """Plug in the disk of the runtime layer ``key``, unless this boot has it already."""
        import json

        from filelock import FileLock

        from edge_harness.image import layers_dir
        from edge_harness.image.board_tools import ensure_board_tools
        from edge_harness.image.disk import ensure_disk

        listing = self.state_dir / "layers.json"
        with FileLock(self.state_dir / "layers.lock"):
            there: list[str] = json.loads(listing.read_text())
            if key in there:
                return
            disk = Disk(
                path=ensure_disk(ensure_board_tools(), f"layer-{key}", layers_dir() / key),
                format="raw",
            )
            number = FIRST_LAYER + len(there)
            self.qmp(
                *(("blockdev-add", dict(node)) for node in disk_nodes(number, disk)),
                ("device_add", scsi_disk(number, writable=False)),
            )
            self.act(wire.Act.MOUNT_LAYER, key=key, disk=number)
            listing.write_text(json.dumps([*there, key]))

    def core_dumps(self, into: Path) -> None:
        answer, body = self.act(wire.Act.CORES)
        at = 0
        for name, size in answer["cores"]:
            (into / Path(name).name).write_bytes(body[at : at + size])
            at += size

    def fail_io(self, *, read: bool, write: bool, once: bool) -> None:
        # By QEMU's blkdebug.
        (self.state_dir / "faults").touch()  # from here on, failing writes are the test's
        rules = [
            {"event": event, "errno": 5, "once": once, "immediately": True, "iotype": kind}
            for event, kind, on in (("none", "read", read), ("none", "write", write))
            if on
        ]
        self._gate(rules)

    def heal_io(self) -> None:
        self._gate([])

    def _gate(self, rules: list[dict[str, Any]]) -> None:
        gate = {"driver": "raw", "node-name": f"gate{STORAGE}"}
        plain = {**gate, "file": f"disk{STORAGE}"}
        nodes = self.qmp(("query-named-block-nodes", {"flat": True}))
        if any(node["node-name"] == "faults" for node in nodes):
            self.qmp(
                ("blockdev-reopen", {"options": [plain]}), ("blockdev-del", {"node-name": "faults"})
            )
        if rules:
            faults = {
                "driver": "blkdebug",
                "node-name": "faults",
                "image": f"disk{STORAGE}",
                "inject-error": rules,
            }
            self.qmp(
                ("blockdev-add", faults),
                ("blockdev-reopen", {"options": [{**gate, "file": "faults"}]}),
            )

    def packets(self) -> Path:
        return self.state_dir / "network.pcap"

    def connect_network(self) -> None:
        if not self._has_object("capture"):
            self.qmp(
                (
                    "object-add",
                    {
                        "qom-type": "filter-dump",
                        "id": "capture",
                        "netdev": "net",
                        "file": str(self.packets()),
                    },
                )
            )
        self.act(wire.Act.NETWORK, up=True, modules=list(self._record["network_modules"]))

    def disconnect_network(self) -> None:
        self.act(wire.Act.NETWORK, up=False)

    def _has_object(self, name: str) -> bool:
        listed = self.qmp(("qom-list", {"path": "/objects"}))
        return any(item["name"] == name for item in listed)


def _locker(pid_file: Path) -> int:
    """The QEMU that wrote ``pid_file``; 0 if it does not run any more.

    It holds a lock on the file for as long as it runs (util/oslib-posix.c, qemu_write_pidfile),
    so a later process of the same number is not taken for it.
    """
    try:
        with open(pid_file, "r+") as file:
            try:
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                # Locked before it is written, by a moment.
                wait_until(lambda: pid_file.read_text().strip().isdigit(), deadline_s=1.0)
                return int(file.read())
    except (OSError, ValueError):
        pass
    return 0


def cache_free_mib() -> int:
    """Free space where the cache lies, in MiB."""
    import shutil

    return shutil.disk_usage(cache_dir()).free >> 20
