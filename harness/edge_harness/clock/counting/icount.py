"""An estimate where QEMU cannot load the clock's plugin: from the number of instructions alone.

``-icount shift=0`` makes the board's clock advance a nanosecond with each instruction, so that the
time of an inference on that clock is a count, the kernel's own work and the interpreter's included.
Which instructions they were and what memory did stays unknown; the bounds say so.
"""

from __future__ import annotations

from functools import lru_cache
from importlib import resources
from typing import TYPE_CHECKING

import msgspec

from edge_harness.clock.estimate import LatencyEstimate
from edge_harness.clock.trust import thread_equivalent

if TYPE_CHECKING:
    from edge_harness.clock.counting.count import Rig, Subject
    from edge_harness.profiles import Profile

#: Inferences to count; the fewest instructions are those of the one that was disturbed least.
_REPEATS = 4


class Rough(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Fitted to all published measurements by ``edge-harness calibrate --general``; see
    :func:`edge_harness.clock.calibrate.instruction_count.fit_rough`."""

    cycles_per_instruction: float
    """On one core, waiting for memory included."""
    thread_gain: float
    """What each thread after the first adds, of a whole core."""
    error: float
    """Relative half width of 90 % bounds on a board left out of the fit."""
    rows: int
    boards: int


@lru_cache(maxsize=1)
def rough() -> Rough:
    """The fit that ships with the package."""
    path = resources.files("edge_harness.clock") / "data" / "icount.toml"
    return msgspec.toml.decode(path.read_bytes(), type=Rough)


def rough_ms(
    instructions: float, mhz: float, threads: float, *, per_instruction: float, gain: float
) -> float:
    """Milliseconds of an inference of so many instructions."""
    return instructions * per_instruction / (mhz * 1e3) / (1 + (threads - 1) * gain)


def rough_estimate(
    profile: Profile, subject: Subject, rig: Rig, threads: int, why: str
) -> LatencyEstimate:
    """The estimate without a plugin.

    Args:
        profile: the board.
        subject: what is measured.
        rig: brings the board up.
        threads: of the runtime.
        why: the reason that there is no plugin, for the source.
    """
    known = rough()
    instructions, runtime, kernels = rig.count_only(subject, _REPEATS)
    total = rough_ms(
        instructions,
        profile.cpu.mhz,
        thread_equivalent(profile, threads),
        per_instruction=known.cycles_per_instruction,
        gain=known.thread_gain,
    )
    return LatencyEstimate(
        latency_ms=total,
        low_ms=total / (1 + known.error),
        high_ms=total * (1 + known.error),
        source=f"device-clock ±{known.error:.0%}, from the number of instructions alone "
        f"(QEMU -icount), fitted to {known.rows} measurements on {known.boards} boards; {why}",
        device=profile.name,
        runtime=runtime,
        kernels=kernels,
        threads=threads,
        cycles=round(instructions * known.cycles_per_instruction),
        instructions=instructions,
        compute_ms=total,
        memory_ms=0.0,
        overhead_ms=0.0,
        invoke_ms=total,
        first_ms=total,
        notes=("what it waits for is not known, nor are operators, nor the first inference",),
    )
