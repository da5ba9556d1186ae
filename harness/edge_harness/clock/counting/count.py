"""Count an inference: the board, restored under a QEMU that counts, runs it between markers."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_harness.cache import built, cache_dir, explained
from edge_harness.clock.counting.plugin_build import check_plugins, ensure_plugin
from edge_harness.clock.pipeline import Core, core_named
from edge_harness.clock.trace import Counted, Trace, read_trace
from edge_harness.errors import MissingAbility, MissingTool
from edge_harness.image import agent_dir

if TYPE_CHECKING:
    from edge_harness.clock.counting.inference import Inference
    from edge_harness.device.device import Device
    from edge_harness.engines.abilities import Instruments
    from edge_harness.engines.choose import Choice
    from edge_harness.profiles import Profile

Progress = Callable[[str], None]
#: Changes with the form of what is kept in the cache.
VERSION = 4
#: Names what is counted and how. Give it another value with a change of the plugin or of the
#: markers that can change a figure: everything is then counted anew.
COUNTING = "b14161eda2be1d6f"


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


def count_key(profile: Profile, inference: Inference) -> str:
    """Names a count by everything that decides it: not QEMU's version, nor the host.

    Raises:
        MissingAbility: the core has no model.
    """
    core, request = core_named(profile.cpu.core), inference.request
    content: list[Any] = [
        VERSION,
        COUNTING,
        # Programs around the runtime decide which pages it finds free: 0.03 % were seen.
        agent_dir().name,
        request.sha256,
        (request.requirement, request.runtime.name, request.runtime.agent_sha256),
        request.options,
        [(a.dtype.str, a.shape, hashlib.sha256(a.tobytes()).hexdigest()) for a in inference.inputs],
        (profile.emulation.qemu_cpu, profile.os.arch, profile.os.suite, profile.os.page_size_kib),
        (profile.cpu.cores, core.l1_ways, core.l2_ways),
        (profile.cpu.l1d_kib, profile.cpu.l2_kib, profile.cpu.l3_kib),
    ]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:24]


def count(
    profile: Profile,
    inference: Inference,
    *,
    refresh: bool = False,
    progress: Progress | None = None,
) -> Counted:
    """The counts of ``inference`` on an emulated board of ``profile``, from the cache where nothing
    has changed.

    Args:
        profile: the board.
        inference: what is to be counted; on one thread, however many it asks for.
        refresh: count again although it is known.
        progress: called with a line of text while something slow happens.

    Raises:
        MissingAbility: the core has no model, or no whole board can be emulated here.
        MissingTool: QEMU cannot load plugins, or the plugin cannot be compiled.
        DeviceFailed: the model crashed, or ran out of memory or time.
    """

    def build(folder: Path) -> dict[str, Any]:
        # A board of its own for each: the second worker on a board finds other pages free than the
        # first one did, and the figure would depend on what was measured before.
        with counting_board(profile, inference, progress) as device:
            if progress:
                progress(f"counting {inference.request.path.name} on {profile.name}")
            return _between_markers(device, inference, folder)

    key = count_key(profile, inference)
    entry = built(cache_dir() / "clock" / key, build, renew=refresh)
    traces = {}
    with explained(entry.path):
        for name in ("cold", "steady"):
            text = gzip.decompress((entry.path / f"{name}.gz").read_bytes()).decode()
            traces[name] = read_trace(text, entry.content["maps"])
    return Counted(
        steady=traces["steady"],
        cold=traces["cold"],
        runtime=entry.content["runtime"],
        kernels=entry.content["kernels"],
        delegates=tuple(entry.content["delegates"]),
    )


def counting_board(profile: Profile, inference: Inference, progress: Progress | None) -> Device:
    """A board whose QEMU counts, with the inference's runtime imported before it was saved.

    Raises:
        MissingAbility: no whole board of this profile can be emulated here.
        MissingTool: QEMU cannot load plugins, or the plugin cannot be compiled.
    """
    from edge_harness.device.request import DeviceRequest
    from edge_harness.device.starting import start_device
    from edge_harness.engines import Instrumentation

    choice, engine = counting_engine(profile)
    emulator = engine.emulator(profile, progress)
    if not emulator.fetched:
        check_plugins(list(emulator.argv))
    library = ensure_plugin(emulator.version, progress)
    plugin = plugin_argument(library, _OUT, profile, core_named(profile.cpu.core))
    return start_device(
        DeviceRequest(
            profile=profile,
            choice=choice,
            progress=progress,
            instrumentation=Instrumentation(plugin=plugin),
            warm=(inference.request.runtime, inference.request.requirement),
        )
    )


def counting_engine(profile: Profile) -> tuple[Choice, Instruments]:
    """An engine whose boards can be counted on.

    Raises:
        MissingAbility: there is none of this profile here.
    """
    from edge_harness.engines.abilities import Instruments, bound
    from edge_harness.engines.choose import choose_engine

    try:
        choice = choose_engine(profile, implements=Instruments)
    except MissingTool as error:
        raise MissingAbility(
            f"the device clock counts on a whole emulated board, and there is none of "
            f"{profile.name} here: {error.message}",
            next_step=error.next_step,
        ) from error
    engine = bound(choice.engine, Instruments)
    assert engine is not None
    return choice, engine


#: Where the plugin writes, in the folder of the device.
_OUT = "clock"


def _between_markers(device: Device, inference: Inference, folder: Path) -> dict[str, Any]:
    """Run the inference cold and steady, and keep both counts in ``folder``."""
    out = device.state_dir / _OUT
    out.mkdir(exist_ok=True)
    for stale in out.iterdir():
        stale.unlink()
    (out / "reset").touch()
    with device.open_session(inference.on_one_thread) as session:
        # The first inference, with empty caches, also tells where to cut the second one; under a
        # delegate, whose steps nobody counted before, only a steady one does.
        warm_up = 2 if session.facts["delegates"] else 1
        answer = session.between_markers(list(inference.inputs), warm_up)
        trace = read_trace(_runs(out)[-1], answer["maps"])
        cut = cut_block(trace, len(inference.operators))
        if cut is not None:
            (out / "cut").write_text(f"{cut:x}\n")
        answer = session.between_markers(list(inference.inputs), 1)
        (out / "cut").unlink(missing_ok=True)
        content = {
            "maps": answer["maps"],
            "runtime": session.runtime,
            "kernels": session.facts["kernels"],
            "delegates": session.facts["delegates"],
        }
    runs = _runs(out)
    for name, run in (("cold", runs[0]), ("steady", runs[-1])):
        (folder / f"{name}.gz").write_bytes(gzip.compress(run.read_bytes(), 6, mtime=0))
    return content


def _runs(out: Path) -> list[Path]:
    """The plugin's files, in the order of the measurements."""
    return sorted(out.glob("run-*"), key=lambda path: int(path.name.rpartition("-")[2]))


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
