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
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_harness.cache import built, cache_dir, discard, explained, remove_tree
from edge_harness.engines import (
    Availability,
    ImageNeed,
    KernelNeed,
    Limits,
    Machine,
    Requirements,
    StartSpec,
)
from edge_harness.engines.abilities import Emulator, ShellCommand, abilities_of
from edge_harness.engines.launch import agent_argv, agent_env, boot_failed
from edge_harness.engines.terminal import terminal_command
from edge_harness.engines.vm.argv import (
    Board,
    Disk,
    board_argv,
    board_memory_mib,
    has_core,
    host_acceleration,
)
from edge_harness.engines.vm.boot import KERNEL_ARGUMENTS, initrd
from edge_harness.engines.vm.launch import (
    IGNORE_SHARED,
    clear_state,
    launch,
    save_state,
    wait_for_status,
)
from edge_harness.engines.vm.machine import FULL_MIB, VmMachine, cache_free_mib
from edge_harness.engines.vm.streams import wait_for_agent
from edge_harness.errors import BootFailed, CacheError, EmulatorCrashed, ImageBuildFailed
from edge_harness.image.board_tools import BoardTools, ensure_board_tools, installed_board_tools
from edge_harness.image.disk import disk_id, ensure_blank, ensure_disk, overlay
from edge_harness.image.kernel import FLAVOURS, Kernel
from edge_harness.processes import wait_until

if TYPE_CHECKING:
    from edge_harness.profiles import Profile
    from edge_harness.system.checks import Check

COLD_TIMEOUT_S = 240.0
#: A supervisor that was reached once waits this long for the next client.
LINGER_S = 10.0
#: Saved memory and state of a board take about 300 MiB; a full disk would kill QEMU half way.
_ENOUGH_DISK_MIB = 700
#: Of the content of a saved board's folder.
_SAVED_VERSION = 2


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
    auto_rank = 30
    machine_type = VmMachine
    shell_rank = None  # a board takes half a minute to boot where it was not saved before

    def requirements(self, profile: Profile) -> Requirements:
        os = profile.os
        return Requirements(
            image=ImageNeed(arch=os.arch, suite=os.suite),
            kernel=KernelNeed(arch=os.arch, page_size_kib=os.page_size_kib),
            # What is saved with the runtime imported is used many times.
            runtime=True,
        )

    def emulator(self, profile: Profile, progress: Callable[[str], None] | None = None) -> Emulator:
        tools = ensure_board_tools(progress)
        return Emulator(
            argv=tuple(tools.qemu(profile.os.arch)),
            version=tools.version,
            fetched=tools.root is not None,
        )

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
        acceleration = host_acceleration(core, profile.os.arch)
        version = tools.version if tools else "to be fetched into the cache"
        return Availability(
            engine=self.name,
            available=True,
            reason=f"QEMU {version} -M virt -cpu {core}, own kernel with {pages} KiB pages, "
            f"{acceleration.why}",
            abilities=abilities_of(self.machine_type),
            figure_kind="emulated" if acceleration.emulated else "native",
        )

    def checks(self, profile: Profile) -> list[Check]:
        from edge_harness.engines.vm import checks

        return checks.emulator(profile)

    def attach(self, record: Mapping[str, Any]) -> VmMachine:
        return VmMachine(record)

    def shell(
        self,
        profile: Profile,
        folder: Path,
        *,
        running: Callable[..., Machine],
        say: Callable[[str], None],
    ) -> ShellCommand:
        """A shell on a board, the one that runs already if there is one."""
        return terminal_command(running(join=True), profile.name)

    def start(self, spec: StartSpec) -> VmMachine:
        # What a start that was killed may have left running here.
        VmMachine({"state_dir": str(spec.state_dir)}).stop()
        clear_state(spec)
        parts = _parts(spec)
        storage = spec.state_dir / "storage.qcow2"
        with _full_disk_named(spec.state_dir):
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
        machine = self._launch(spec, parts, replace(board, ram=ram, clock_s=spec.boot.clock_s))
        try:
            # What is saved is saved with its runtimes imported; a boot in a test does not wait
            # for them.
            warm = [parent.socket for parent in spec.warm] if ram is not None else []
            names = [*warm, "agent.sock"]
            for name in names:
                vain = wait_for_agent(
                    spec.state_dir / "run",
                    name,
                    alive=machine.alive,
                    status=machine.end_reason,
                    last_words=machine.log,
                    deadline_s=COLD_TIMEOUT_S,
                )
                if vain:
                    if name != "agent.sock" and machine.alive():
                        continue  # a runtime that dies at import is reported when it is asked for
                    wait_until(lambda: not machine.alive(), deadline_s=3.0)
                    reason = machine.end_reason() or vain.reason
                    raise boot_failed(spec.profile.name, self.name, reason, machine.log())
            if ram is None:
                machine.refresh(set_clock=spec.boot.clock_s is None)
                if spec.limits.cpus is not None:
                    machine.limit_cpus(spec.limits.cpus)
        except BaseException:
            machine.stop()
            raise
        return machine

    def _launch(self, spec: StartSpec, parts: _Parts, board: Board) -> VmMachine:
        return launch(
            spec,
            board,
            environment=parts.tools.environment(),
            layers=[key for key, _ in parts.layers],
            network_modules=parts.kernel.network_modules,
        )

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
            append=KERNEL_ARGUMENTS + (" norandmaps" if spec.instrumentation else ""),
            disks=[
                Disk(path=parts.base, format="raw"),
                Disk(path=storage, format="qcow2", writable=True),
                *(Disk(path=path, format="raw") for _, path in parts.layers),
            ],
            accel=parts.accel,
            icount=spec.instrumentation is not None and spec.instrumentation.icount,
        )

    # -- warm --------------------------------------------------------------------------------

    def _warm(self, spec: StartSpec, parts: _Parts) -> VmMachine:
        """Restore the saved board, saving it first where that was not done or is broken."""
        final = cache_dir() / "snapshots" / self._key(spec, parts)
        for attempt in (1, 2):
            # Its parts have the size they were saved with: QEMU would read what is missing of a
            # disk as zeros.
            saved = built(final, lambda folder: self._save(folder, spec, parts)).path
            try:
                return self._restore(spec, parts, saved)
            except (EmulatorCrashed, BootFailed, ImageBuildFailed):
                if attempt == 2 or cache_free_mib() < FULL_MIB:
                    raise
                if spec.progress:
                    spec.progress(f"the saved {spec.profile.name} is broken: booting it anew")
                discard(saved)
                clear_state(spec)
        raise AssertionError("unreachable")

    def _key(self, spec: StartSpec, parts: _Parts) -> str:
        """Everything that went into a saved board decides its name."""
        board = self._board(spec, parts, Path("storage"))
        content = [
            _SAVED_VERSION,
            board_argv(replace(board, qemu=["qemu"])),
            parts.tools.version,
            parts.kernel.key,
            [disk_id(path) for path in (parts.base, parts.blank, *(p for _, p in parts.layers))],
            hashlib.sha256(parts.initrd).hexdigest(),
            [parent.header() for parent in spec.warm],
        ]
        digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
        return f"{spec.profile.name}-{digest[:16]}"

    def _save(self, folder: Path, spec: StartSpec, parts: _Parts) -> dict[str, Any]:
        """Boot the board once, and save it to ``folder``; what is to be known about it."""
        if (free := cache_free_mib()) < _ENOUGH_DISK_MIB:
            raise CacheError(
                f"no space left for {str(folder)!r}: {free} MiB are free, and a saved board takes "
                f"up to {_ENOUGH_DISK_MIB}",
                next_step="free some space (edge-harness image gc), or name a folder on another "
                "disk with EDGE_HARNESS_CACHE=DIR",
            )
        if spec.progress:
            spec.progress(f"booting {spec.profile.name} once, to save it (about half a minute)")
        started = time.monotonic()
        own = replace(spec, state_dir=folder, limits=Limits(memory_mib=spec.limits.memory_mib))
        clear_state(own)
        overlay(parts.tools, parts.blank, "raw", folder / "storage.qcow2")
        # Read by whoever ends this device after we were killed: the board that is being saved is
        # nobody's device.
        (spec.state_dir / "saving").write_text(str(folder))
        with _full_disk_named(folder):  # here, as this folder is gone after the block
            machine = self._cold(own, parts, folder / "storage.qcow2", ram=folder / "ram")
            try:
                save_state(machine)
            finally:
                machine.stop()
        (spec.state_dir / "saving").unlink()
        for name in ("run", "qmp.sock", "qemu.pid", "qemu.log", "layers.json"):
            remove_tree(folder / name) if (folder / name).is_dir() else (folder / name).unlink(
                missing_ok=True
            )
        return {
            "arch": spec.profile.os.arch,
            "what": f"saved {spec.profile.name}, kernel {parts.kernel.version}",
            "boot_s": round(time.monotonic() - started, 1),
            "kernel": parts.kernel.version,
            "qemu": parts.tools.version,
        }

    def _restore(self, spec: StartSpec, parts: _Parts, saved: Path) -> VmMachine:
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
            plugin=spec.instrumentation.plugin if spec.instrumentation else "",
        )
        machine = self._launch(spec, parts, board)
        try:
            machine.qmp(
                ("migrate-set-capabilities", {"capabilities": IGNORE_SHARED}),
                ("migrate-incoming", {"uri": f"file:{saved / 'state'}"}),
            )
            wait_for_status(machine, "paused")  # as it was when it was saved
            machine.qmp(("cont", {}))
            machine.refresh()
            if spec.limits.cpus is not None:
                machine.limit_cpus(spec.limits.cpus)
        except BaseException:
            machine.stop()
            raise
        return machine


def _parts(spec: StartSpec) -> _Parts:
    from edge_harness.image import agent_dir, layers_dir

    profile = spec.profile
    tools = ensure_board_tools(spec.progress)
    kernel, image = spec.kernel, spec.tree
    assert kernel is not None  # asked for in requirements()
    keys = list(dict.fromkeys(key for parent in spec.warm for key in parent.layers))
    env = agent_env(spec)
    env.pop("QEMU_CPU", None)  # the board's core is the real thing here
    argv = [*agent_argv(spec), "--ports", "1"]
    argv[argv.index("--linger-s") + 1] = f"{LINGER_S:g}"
    return _Parts(
        tools=tools,
        kernel=kernel,
        base=ensure_disk(tools, f"image-{image.key}-{image.digest[:12]}", image.root),
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
        # Only an emulator can count.
        accel="tcg"
        if spec.instrumentation
        else host_acceleration(profile.emulation.qemu_cpu, profile.os.arch).name,
        memory_mib=board_memory_mib(profile, spec.limits.memory_mib),
    )


@contextmanager
def _full_disk_named(folder: Path) -> Iterator[None]:
    """Trouble of QEMU's that comes of a full disk says so: it dies of SIGBUS, or cannot make a
    file, and its own words seldom tell.

    Raises:
        CacheError: the disk is full.
    """
    try:
        with explained(folder):
            yield
    except (EmulatorCrashed, BootFailed, ImageBuildFailed) as error:
        free = cache_free_mib()
        if free >= FULL_MIB:
            raise
        raise CacheError(
            f"no space left for {str(folder)!r} ({free} MiB are free): {error.message}",
            next_step="free some space (edge-harness image gc removes unused images), or name a "
            "folder on another disk with EDGE_HARNESS_CACHE=DIR",
        ) from error
