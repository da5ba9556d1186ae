"""The ``vm`` engine: a whole emulated board with its own kernel; no root, no Docker.

A board boots once for a combination of image, kernel, emulator, profile, agent and runtime. When
its agent is ready with the runtime imported, its memory and state are saved; from then on a
device is that board, restored: its memory is mapped copy-on-write from the saved file, its disks
are overlays over the saved one, so that several devices share one base and each starts in about
a second.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.agent.inside import socket_name
from harness.cache import cache_dir, explained, locked, remove_tree, staged
from harness.engines import Availability, Limits, StartSpec
from harness.engines.launch import (
    agent_argv,
    agent_env,
    boot_failed,
    process_start_time,
    wait_until,
)
from harness.engines.vm_argv import (
    Board,
    Disk,
    board_argv,
    board_memory_mib,
    has_core,
    host_acceleration,
)
from harness.engines.vm_boot import KERNEL_ARGUMENTS, initrd
from harness.engines.vm_machine import VmMachine, cache_free_mib
from harness.engines.vm_streams import PORTS, port_name, wait_for
from harness.errors import BootFailed, CacheError, EmulatorCrashed
from harness.image.board_tools import BoardTools, ensure_board_tools, installed_board_tools
from harness.image.disk import disk_id, ensure_blank, ensure_disk, overlay
from harness.image.kernel import FLAVOURS, Kernel, ensure_kernel

if TYPE_CHECKING:
    from harness.profile import Profile

COLD_TIMEOUT_S = 240.0
WARM_TIMEOUT_S = 60.0
#: A supervisor that was reached once waits this long for the next client.
LINGER_S = 10.0
#: Saved memory and state of a board take about 300 MiB; a full disk would kill QEMU half way.
_ENOUGH_DISK_MIB = 700
_PROVES = frozenset(
    {
        "isa",
        "numerics",
        "crash",
        "offline",
        "rootfs",
        "cpu_quota",
        "memory_limit",
        "kernel",
        "page_size",
        "power_loss",
        "reboot",
        "memory",
        "storage_faults",
        "clock",
        "cpu_throttle",
        "network",
        "pause",
    }
)


@dataclass(frozen=True, kw_only=True)
class _Parts:
    """What a board is put together from."""

    tools: BoardTools
    kernel: Kernel
    base: Path
    blank: Path
    layers: tuple[tuple[str, Path], ...]
    initrd: bytes
    accel: str
    memory_mib: int


class VmEngine:
    """QEMU system emulation."""

    name = "vm"

    def image_arch(self, profile: Profile) -> str:
        return profile.os.arch

    def probe(self, profile: Profile) -> Availability:
        def no(reason: str, fix: str) -> Availability:
            return Availability(engine=self.name, available=False, reason=reason, fix=fix)

        core, pages = profile.emulation.qemu_cpu, profile.os.page_size_kib
        if (profile.os.arch, pages) not in FLAVOURS:
            return no(
                f"Debian has no kernel for {profile.os.arch} with {pages} KiB pages",
                "use --engine=user or docker",
            )
        if not has_core(core):
            return no(f"QEMU's virt board has no {core}", "use --engine=user or docker")
        tools = installed_board_tools()
        if tools is None and shutil.which("apt-get") is None:
            return no(
                "QEMU's board emulator is not here and there is no apt-get to fetch it with",
                "install qemu-system-arm 8.2 or newer, qemu-utils and e2fsprogs",
            )
        acceleration = host_acceleration(core)
        version = tools.version if tools else "to be fetched into the cache"
        return Availability(
            engine=self.name,
            available=True,
            reason=f"QEMU {version} -M virt -cpu {core}, own kernel with {pages} KiB pages, "
            f"{acceleration.why}",
            capabilities=_PROVES,
        )

    def attach(self, record: Mapping[str, Any]) -> VmMachine:
        return VmMachine(record)

    def start(self, spec: StartSpec) -> VmMachine:
        spec_state(spec)
        parts = _parts(spec)
        storage = spec.state_dir / "storage.qcow2"
        if spec.boot.keep_storage and storage.exists():
            return self._cold(spec, parts, storage)
        if spec.boot.clock_s is not None:
            overlay(parts.tools, parts.blank, "raw", storage)
            return self._cold(spec, parts, storage)
        return self._warm(spec, parts)

    # -- cold --------------------------------------------------------------------------------

    def _cold(
        self, spec: StartSpec, parts: _Parts, storage: Path, ram: Path | None = None
    ) -> VmMachine:
        """Boot the kernel; returns once the agent and its warm runtimes are ready."""
        (spec.state_dir / "initrd").write_bytes(parts.initrd)
        board = self._board(spec, parts, storage)
        machine = launch(spec, parts, replace(board, ram=ram, clock_s=spec.boot.clock_s))
        try:
            names = [*(socket_name(warm) for warm in spec.warm), "agent.sock"]
            for name in names:
                if not wait_for(
                    spec.state_dir / "run", name, alive=machine.alive, timeout_s=COLD_TIMEOUT_S
                ):
                    if name != "agent.sock" and machine.alive():
                        continue  # a runtime that dies at import is reported when it is asked for
                    wait_until(lambda: not machine.alive(), deadline_s=3.0)
                    reason = machine.end_reason() or f"silent for {COLD_TIMEOUT_S:g} s"
                    raise boot_failed(spec.profile.name, self.name, reason, machine.log())
            if ram is None:
                machine.refresh(set_clock=spec.boot.clock_s is None)
                machine.limit(Limits(cpus=spec.limits.cpus))
        except BaseException:
            machine.stop()
            raise
        return machine

    def _board(self, spec: StartSpec, parts: _Parts, storage: Path) -> Board:
        return Board(
            qemu=parts.tools.qemu(spec.profile.os.arch),
            name=f"edge-{spec.profile.name}",
            arch=spec.profile.os.arch,
            qemu_cpu=spec.profile.emulation.qemu_cpu,
            cores=spec.profile.cpu.cores,
            memory_mib=parts.memory_mib,
            kernel=parts.kernel.image,
            initrd=Path("initrd"),
            append=KERNEL_ARGUMENTS,
            disks=[
                Disk(path=parts.base, format="raw"),
                Disk(path=storage, format="qcow2", writable=True),
                *(Disk(path=path, format="raw") for _, path in parts.layers),
            ],
            accel=parts.accel,
        )

    # -- warm --------------------------------------------------------------------------------

    def _warm(self, spec: StartSpec, parts: _Parts) -> VmMachine:
        """Restore the saved board, saving it first where that was not done or is broken."""
        key = self._key(spec, parts)
        for attempt in (1, 2):
            saved = self._saved(key, spec, parts)
            try:
                return self._restore(spec, parts, saved)
            except (EmulatorCrashed, BootFailed):
                if attempt == 2:
                    raise
                if spec.progress:
                    spec.progress(f"the saved {spec.profile.name} is broken: booting it anew")
                with locked(f"snapshot-{key}"):
                    remove_tree(saved)
                spec_state(spec)
        raise AssertionError("unreachable")

    def _key(self, spec: StartSpec, parts: _Parts) -> str:
        """Everything that went into a saved board decides its name."""
        board = self._board(spec, parts, Path("storage"))
        content = [
            board_argv(replace(board, qemu=["qemu"])),
            parts.tools.version,
            parts.kernel.key,
            [disk_id(path) for path in (parts.base, parts.blank, *(p for _, p in parts.layers))],
            hashlib.sha256(parts.initrd).hexdigest(),
            list(spec.warm),
        ]
        digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
        return f"{spec.profile.name}-{digest[:16]}"

    def _saved(self, key: str, spec: StartSpec, parts: _Parts) -> Path:
        final = cache_dir() / "snapshots" / key
        if not (final / "lock.json").exists():
            with locked(f"snapshot-{key}"):
                if not (final / "lock.json").exists():
                    self._save(final, spec, parts)
        with explained(final):
            os.utime(final / "lock.json")
        return final

    def _save(self, final: Path, spec: StartSpec, parts: _Parts) -> None:
        if (free := cache_free_mib()) < _ENOUGH_DISK_MIB:
            raise CacheError(
                f"no space left for {str(final)!r}: {free} MiB are free, and a saved board takes "
                f"up to {_ENOUGH_DISK_MIB}",
                next_step="free some space (edge-harness image gc), or name a folder on another "
                "disk with EDGE_HARNESS_CACHE=DIR",
            )
        if spec.progress:
            spec.progress(f"booting {spec.profile.name} once, to save it (about half a minute)")
        started = time.monotonic()
        with staged(final) as folder:
            own = replace(spec, state_dir=folder, limits=Limits(memory_mib=spec.limits.memory_mib))
            spec_state(own)
            overlay(parts.tools, parts.blank, "raw", folder / "storage.qcow2")
            machine = self._cold(own, parts, folder / "storage.qcow2", ram=folder / "ram")
            try:
                _save_state(machine, folder)
            finally:
                machine.stop()
            for name in ("run", "qmp.sock", "qemu.log", "layers.json"):
                remove_tree(folder / name) if (folder / name).is_dir() else (folder / name).unlink(
                    missing_ok=True
                )
            content = {
                "arch": spec.profile.os.arch,
                "what": f"saved {spec.profile.name}, kernel {parts.kernel.version}",
                "boot_s": round(time.monotonic() - started, 1),
                "kernel": parts.kernel.version,
                "qemu": parts.tools.version,
            }
            (folder / "lock.json").write_text(json.dumps(content, indent=1))

    def _restore(self, spec: StartSpec, parts: _Parts, saved: Path) -> VmMachine:
        for name in ("ram", "state", "initrd", "storage.qcow2"):
            if not (saved / name).exists():
                raise EmulatorCrashed(f"{saved / name} is missing")
        storage = spec.state_dir / "storage.qcow2"
        storage.unlink(missing_ok=True)
        overlay(parts.tools, saved / "storage.qcow2", "qcow2", storage)
        (spec.state_dir / "console.log").write_bytes(
            (saved / "console.log").read_bytes() + b"edge: restored\n"
        )
        board = replace(
            self._board(spec, parts, storage),
            initrd=saved / "initrd",
            ram=saved / "ram",
            ram_private=True,
            incoming=True,
        )
        machine = launch(spec, parts, board)
        try:
            machine.qmp(
                ("migrate-set-capabilities", {"capabilities": _IGNORE_SHARED}),
                ("migrate-incoming", {"uri": f"file:{saved / 'state'}"}),
            )
            _wait_for_status(machine, "paused")  # as it was when it was saved
            machine.qmp(("cont", {}))
            machine.refresh()
            machine.limit(Limits(cpus=spec.limits.cpus))
        except BaseException:
            machine.stop()
            raise
        return machine


_IGNORE_SHARED = [{"capability": "x-ignore-shared", "state": True}]


def spec_state(spec: StartSpec) -> None:
    """A state folder without the remains of an earlier start."""
    with explained(spec.state_dir):
        run = spec.state_dir / "run"
        if run.exists():
            for stale in [*run.glob("p*"), *run.glob("core*")]:
                stale.unlink(missing_ok=True)
        run.mkdir(parents=True, exist_ok=True)
        for name in ("qmp.sock", "console.log", "qemu.log", "network.pcap", "memory_mib"):
            (spec.state_dir / name).unlink(missing_ok=True)


def _parts(spec: StartSpec) -> _Parts:
    from harness.image import agent_dir, layers_dir

    profile = spec.profile
    tools = ensure_board_tools(spec.progress)
    kernel = ensure_kernel(profile.os.arch, profile.os.page_size_kib, spec.progress)
    keys = list(dict.fromkeys(warm.partition(":")[0] for warm in spec.warm))
    env = agent_env(spec)
    env.pop("QEMU_CPU", None)  # the board's core is the real thing here
    argv = [*agent_argv(spec), "--ports", "1"]
    argv[argv.index("--linger-s") + 1] = f"{LINGER_S:g}"
    return _Parts(
        tools=tools,
        kernel=kernel,
        base=ensure_disk(
            tools, f"image-{spec.image.key}-{spec.image.digest[:12]}", spec.image.root
        ),
        blank=ensure_blank(tools, profile.storage.size_mib),
        layers=tuple((key, ensure_disk(tools, f"layer-{key}", layers_dir() / key)) for key in keys),
        initrd=initrd(
            kernel=kernel,
            agent=agent_dir(),
            hostname=profile.name,
            agent_argv=argv,
            env=env,
            layers=keys,
        ),
        accel=host_acceleration(profile.emulation.qemu_cpu).name,
        memory_mib=board_memory_mib(profile, spec.limits.memory_mib),
    )


def launch(spec: StartSpec, parts: _Parts, board: Board) -> VmMachine:
    """Start QEMU and wait until it takes commands.

    Raises:
        EmulatorCrashed: it ended at once; its own words are in the message.
    """
    state_dir = spec.state_dir
    (state_dir / "layers.json").write_text(json.dumps([key for key, _ in parts.layers]))
    with open(state_dir / "qemu.log", "wb") as log:
        process = subprocess.Popen(
            board_argv(board),
            cwd=state_dir,  # sockets have relative names: a path may have 107 bytes at most
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={"PATH": os.defpath, "HOME": str(state_dir), **parts.tools.environment()},
            # Ctrl-C reaches pytest alone; the board outlives this process if others use it.
            start_new_session=True,
        )
    process.returncode = 0  # reaped by VmMachine, which other processes make from the record
    machine = VmMachine(
        {
            "engine": "vm",
            "state_dir": str(state_dir),
            "pid": process.pid,
            "started": process_start_time(process.pid),
            "hostname": spec.profile.name,
            "arch": spec.profile.os.arch,
            "usable_mib": spec.limits.memory_mib or spec.profile.memory.usable_mib,
            "network_modules": list(parts.kernel.network_modules),
        }
    )
    deadline = time.monotonic() + WARM_TIMEOUT_S
    sockets = [state_dir / "qmp.sock", state_dir / "run" / port_name(PORTS)]
    while not all(path.exists() for path in sockets):
        if not machine.alive() or time.monotonic() > deadline:
            machine.stop()
            raise EmulatorCrashed(
                f"QEMU did not start {spec.profile.name}: {machine.end_reason()}\n{machine.log()}",
                next_step="run 'edge-harness doctor'",
            )
        time.sleep(0.005)
    return machine


def _save_state(machine: VmMachine, folder: Path) -> None:
    """Save everything but the memory, which already is a file."""
    machine.qmp(
        ("stop", {}),
        ("migrate-set-capabilities", {"capabilities": _IGNORE_SHARED}),
        ("migrate", {"uri": f"file:{folder / 'state'}"}),
    )
    deadline = time.monotonic() + WARM_TIMEOUT_S
    while True:
        answer = machine.qmp(("query-migrate", {}))
        if answer.get("status") == "completed":
            break
        if answer.get("status") == "failed" or time.monotonic() > deadline:
            raise EmulatorCrashed(
                f"the board's state could not be saved: {answer.get('error-desc', answer)}",
                next_step="free some space, then run the same command again",
            )
        time.sleep(0.02)
    machine.qmp(("quit", {}))
    deadline = time.monotonic() + WARM_TIMEOUT_S
    while machine.alive() and time.monotonic() < deadline:
        time.sleep(0.01)


def _wait_for_status(machine: VmMachine, wanted: str) -> None:
    deadline = time.monotonic() + WARM_TIMEOUT_S
    while True:
        if not machine.alive():
            raise EmulatorCrashed(f"QEMU could not restore the board: {machine.end_reason()}")
        status = machine.qmp(("query-status", {}))["status"]
        if status == wanted:
            return
        if time.monotonic() > deadline:
            raise EmulatorCrashed(f"the restored board stayed {status!r}")
        time.sleep(0.01)
