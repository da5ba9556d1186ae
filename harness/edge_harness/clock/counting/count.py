"""Measure an inference: the board, restored under a QEMU that counts, runs it between markers."""

from __future__ import annotations

import gzip
import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_harness.cache import cache_dir, explained, staged
from edge_harness.clock.counting.plugin_build import check_plugins, ensure_plugin
from edge_harness.clock.operators import operators_of
from edge_harness.clock.pipeline import Core, core_named
from edge_harness.clock.trace import Trace, read_trace
from edge_harness.errors import MissingCapability
from edge_harness.image import agent_dir
from edge_harness.models.tensors import Array

if TYPE_CHECKING:
    from edge_harness.device.device import Device
    from edge_harness.device.session import Session
    from edge_harness.profiles import Profile

Progress = Callable[[str], None]
#: Changes with the form of what is kept in the cache.
VERSION = 3
#: Names what is counted and how. Give it another value with a change of the plugin or of the
#: markers that can change a figure: everything is then counted anew.
COUNTING = "b14161eda2be1d6f"


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What is to be measured: all that decides the instructions which run."""

    model: Path
    content: bytes
    format: str
    runtime: str
    """Pinned, as ``tflite-runtime==2.14.0``."""
    module: str
    """``tflite``, ``litert`` or ``onnx``."""
    options: tuple[tuple[str, Any], ...]
    """What else :meth:`edge_harness.device.device.Device.load` was given that decides kernels."""
    inputs: tuple[Array, ...]
    """In the model's order."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """The counts of one subject on one board."""

    steady: Trace
    """An inference after others: caches hold what the one before left."""
    cold: Trace
    """The first one, with empty caches."""
    facts: dict[str, Any]
    """Runtime, version, kernels and delegates, QEMU's version, when it was measured."""


def plugin_argument(library: Path, out: str, profile: Profile, core: Core) -> str:
    """What QEMU's ``-plugin`` is given for ``profile``."""
    # Debian's Python is linked to a fixed address: 0x400000, 0x10000 on armhf.
    low = "100000000" if profile.os.arch == "arm64" else "1000000"
    words = [str(library), f"out={out}", "mem=1", "line=64", f"low={low}"]
    words.append(f"l1={profile.cpu.l1d_kib}:{core.l1_ways}")
    if profile.cpu.l2_kib:
        words.append(f"l2={profile.cpu.l2_kib}:{core.l2_ways}")
    if profile.cpu.l3_kib:
        words.append(f"l3={profile.cpu.l3_kib}:16")
    return ",".join(words)


def measurement_key(profile: Profile, core: Core, subject: Subject) -> str:
    """Names a measurement by everything that decides it: not QEMU's version, nor the host."""
    content: list[Any] = [
        VERSION,
        COUNTING,
        # Programs around the runtime decide which pages it finds free: 0.03 % were seen.
        agent_dir().name,
        hashlib.sha256(subject.content).hexdigest(),
        (subject.runtime, subject.module, sorted(subject.options)),
        [(a.dtype.str, a.shape, hashlib.sha256(a.tobytes()).hexdigest()) for a in subject.inputs],
        (profile.emulation.qemu_cpu, profile.os.arch, profile.os.suite, profile.os.page_size_kib),
        (profile.cpu.cores, core.l1_ways, core.l2_ways),
        (profile.cpu.l1d_kib, profile.cpu.l2_kib, profile.cpu.l3_kib),
    ]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:24]


class Rig:
    """Counts on emulated boards of one profile; each count brings up a board of its own."""

    def __init__(self, profile: Profile, progress: Progress | None = None) -> None:
        self.profile = profile
        self.core = core_named(profile.cpu.core)
        self._progress = progress

    def measure(self, subject: Subject, *, refresh: bool = False) -> Measured:
        """The counts of ``subject``, from the cache where nothing has changed.

        Raises:
            MissingCapability: no whole board of this profile can be emulated here.
            MissingTool: QEMU cannot load plugins, or the plugin cannot be compiled.
            DeviceFailed: the model crashed, or ran out of memory or time.
        """
        key = measurement_key(self.profile, self.core, subject)
        final = cache_dir() / "clock" / key
        if refresh or not (final / "facts.json").exists():
            # A board of its own for each: the second worker on a board finds other pages free than
            # the first one did, and the figure would depend on what was measured before.
            with staged(final) as folder, self._board(subject) as device:
                self._measure(device, subject, folder)
        return _load(final)

    def count_only(self, subject: Subject, repeats: int) -> tuple[int, str, str]:
        """Without a plugin: instructions of an inference by the board's own clock, with the
        runtime and its kernels. Everything that runs on the board counts, so the least of
        ``repeats`` is taken."""
        from edge_harness.device.device import start_device

        with (
            start_device(
                self.profile,
                engine="vm",
                progress=self._progress,
                icount=True,
                warm=(subject.module, subject.runtime),
            ) as device,
            device.load(
                subject.model, runtime=subject.runtime, threads=1, **dict(subject.options)
            ) as session,
        ):
            seconds = session.bare_loop_s(list(subject.inputs), repeats)
            return round(min(seconds) * 1e9), session.runtime, session.kernels

    def _board(self, subject: Subject) -> Device:
        """The board with the subject's runtime imported before it was saved."""
        from edge_harness.device.device import start_device
        from edge_harness.engines.vm.engine import VmEngine
        from edge_harness.image.board_tools import ensure_board_tools

        available = VmEngine().probe(self.profile)
        if not available.available:
            raise MissingCapability(
                f"the device clock counts on a whole emulated board, and there is none of "
                f"{self.profile.name} here: {available.reason}",
                next_step=available.fix,
            )
        tools = ensure_board_tools(self._progress)
        if tools.root is None:
            check_plugins(tools.qemu(self.profile.os.arch))
        library = ensure_plugin(tools.version, self._progress)
        return start_device(
            self.profile,
            engine="vm",
            progress=self._progress,
            plugin=plugin_argument(library, "clock", self.profile, self.core),
            warm=(subject.module, subject.runtime),
        )

    def _measure(self, device: Device, subject: Subject, folder: Path) -> None:
        out = device._state_dir / "clock"
        out.mkdir(exist_ok=True)
        for stale in out.iterdir():
            stale.unlink()
        (out / "reset").touch()
        if self._progress:
            self._progress(f"counting {subject.model.name} on {self.profile.name}")
        with device.load(
            subject.model, runtime=subject.runtime, threads=1, **dict(subject.options)
        ) as session:
            # The first inference, with empty caches, also tells where to cut the second one;
            # under a delegate, whose steps nobody counted before, only a steady one does.
            answer = session.between_markers(list(subject.inputs), 2 if _delegates(session) else 1)
            runs = sorted(out.glob("run-*"), key=_number)
            trace = read_trace(runs[-1], answer["maps"])
            cut = cut_block(trace, len(operators_of(subject.content, subject.format)))
            if cut is not None:
                (out / "cut").write_text(f"{cut:x}\n")
            answer = session.between_markers(list(subject.inputs), 1)
            (out / "cut").unlink(missing_ok=True)
            runs = sorted(out.glob("run-*"), key=_number)
            facts = {
                "maps": answer["maps"],
                "arch": self.profile.os.arch,
                "what": f"clock of {subject.model.name} on {self.profile.name}",
                "runtime": session.runtime,
                "kernels": session.facts["kernels"],
                "delegates": session.facts["delegates"],
                "qemu": device.availability.reason,
                "measured": time.strftime("%Y-%m-%d", time.gmtime()),
            }
        for name, run in (("cold", runs[0]), ("steady", runs[-1])):
            (folder / f"{name}.gz").write_bytes(gzip.compress(run.read_bytes(), 6, mtime=0))
        (folder / "facts.json").write_text(json.dumps(facts))


def _delegates(session: Session) -> bool:
    return bool(session.facts["delegates"])


def _number(path: Path) -> int:
    return int(path.name.rpartition("-")[2])


def _load(final: Path) -> Measured:
    import os

    with explained(final):
        facts = json.loads((final / "facts.json").read_text())
        os.utime(final / "facts.json")
        traces = {}
        for name in ("cold", "steady"):
            text = gzip.decompress((final / f"{name}.gz").read_bytes()).decode()
            traces[name] = read_trace(text, facts["maps"])
    return Measured(steady=traces["steady"], cold=traces["cold"], facts=facts)


def cut_block(trace: Trace, operators: int) -> int | None:
    """Address of a block to cut a measurement at, so that each segment is one operator.

    A runtime steps through its operators in a loop, and calls each through a pointer or a stub:
    that block runs once for each of them. Without a delegate the number is known exactly; a
    delegate fuses some, so the largest number that is not more is taken. Where several blocks
    qualify the first one to run is the loop's own.
    """
    if operators < 2:
        return None
    calls = trace.calls()
    exact = [b for b in calls if b.runs == operators]
    if exact:
        return exact[0].vaddr
    near = [b for b in calls if operators * 0.3 <= b.runs <= operators * 1.2]
    return near[0].vaddr if near else None
