"""Milliseconds from the number of instructions alone, where which they were is not known."""

from __future__ import annotations

from functools import lru_cache
from importlib import resources
from typing import TYPE_CHECKING

import msgspec

from edge_harness.clock.estimate import LatencyEstimate
from edge_harness.clock.trust import thread_equivalent

if TYPE_CHECKING:
    from edge_harness.profiles import Profile


class InstructionRate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an instruction takes on any board; fitted to all published measurements by
    ``edge-harness calibrate --general``."""

    cycles_per_instruction: float
    """On one core, waiting for memory included."""
    thread_gain: float
    """What each thread after the first adds, of a whole core."""
    error: float
    """Relative half width of 90 % bounds on a board left out of the fit."""
    rows: int
    boards: int

    def milliseconds(self, instructions: float, *, mhz: float, threads: float) -> float:
        """Of an inference of so many instructions."""
        speedup = 1 + (threads - 1) * self.thread_gain
        return instructions * self.cycles_per_instruction / (mhz * 1e3) / speedup


@lru_cache(maxsize=1)
def instruction_rate() -> InstructionRate:
    """The fit that ships with the package."""
    path = resources.files("edge_harness.clock") / "data" / "instruction_rate.toml"
    return msgspec.toml.decode(path.read_bytes(), type=InstructionRate)


def estimate_by_number(
    profile: Profile, instructions: int, *, runtime: str, kernels: str, threads: int, why: str
) -> LatencyEstimate:
    """The estimate for an inference of so many instructions.

    Args:
        profile: the board.
        instructions: of one inference on one thread.
        runtime: what executed them, with its version.
        kernels: of that runtime.
        threads: to predict for.
        why: the reason that nothing more is known, for the source.
    """
    rate = instruction_rate()
    total = rate.milliseconds(
        instructions, mhz=profile.cpu.mhz, threads=thread_equivalent(profile, threads)
    )
    return LatencyEstimate(
        latency_ms=total,
        low_ms=total / (1 + rate.error),
        high_ms=total * (1 + rate.error),
        source=f"device-clock ±{rate.error:.0%}, from the number of instructions alone "
        f"(QEMU -icount), fitted to {rate.rows} measurements on {rate.boards} boards; {why}",
        device=profile.name,
        runtime=runtime,
        kernels=kernels,
        threads=threads,
        cycles=round(instructions * rate.cycles_per_instruction),
        instructions=instructions,
        compute_ms=total,
        memory_ms=0.0,
        overhead_ms=0.0,
        invoke_ms=total,
        first_ms=total,
        notes=("what it waits for is not known, nor are operators, nor the first inference",),
    )
