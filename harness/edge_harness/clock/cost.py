"""Cycles and cache misses to milliseconds: memory, threads and fixed costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edge_harness.clock.steps import Step
from edge_harness.profiles.clock import Parameters

LINE_BYTES = 64


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Milliseconds of one step or of all."""

    compute_ms: float
    memory_ms: float
    overhead_ms: float
    around_ms: float = 0.0
    """Of ``overhead_ms``, what benchmark programs do around the runtime's own invocation."""

    @property
    def total_ms(self) -> float:
        return self.compute_ms + self.memory_ms + self.overhead_ms


def step_cost(step: Step, parameters: Parameters, *, mhz: float, threads: float) -> Cost:
    """Milliseconds of one step.

    The part that threads share is divided by ``1 + (threads - 1) · efficiency``; computing and
    waiting for DRAM overlap as the ``overlap``-norm of both says (Williams et al., "Roofline",
    CACM 52(4), with a soft knee).
    """
    speedup = 1.0 + (threads - 1) * parameters.thread_efficiency
    waits = step.l1_misses * parameters.l1_miss_cycles + step.l2_misses * parameters.l2_miss_cycles
    shared = (step.cycles - step.serial_cycles) * parameters.compute
    serial = step.serial_cycles * parameters.compute
    share = shared / (shared + serial) if shared + serial else 0.0
    cycles = serial + waits * (1 - share) + (shared + waits * share) / speedup
    compute_ms = cycles / (mhz * 1e3)
    again = step.dram_again / (1.0 + (threads - 1) * parameters.dram_sharing * share)
    lines = step.dram_lines - step.dram_again + again
    memory_ms = lines * LINE_BYTES / (parameters.dram_gb_s * 1e6)
    p = parameters.overlap
    both = (compute_ms**p + memory_ms**p) ** (1 / p)
    parallel = threads > 1 and share > 0.5
    return Cost(
        compute_ms=compute_ms,
        memory_ms=both - compute_ms,
        overhead_ms=parameters.sync_us * 1e-3 if parallel else 0.0,
    )


def cost(
    steps: Sequence[Step],
    parameters: Parameters,
    *,
    mhz: float,
    threads: float,
    float_inputs: int = 0,
    whole: bool = True,
) -> Cost:
    """Milliseconds of one inference.

    Args:
        steps: see :func:`edge_harness.clock.steps.steps_of`.
        parameters: of the board.
        mhz: of its core.
        threads: of the runtime, in cores of the board's main kind.
        float_inputs: elements of the floating-point inputs.
        whole: with what surrounds the operators (filling the inputs, entering the runtime).
    """
    costs = [step_cost(step, parameters, mhz=mhz, threads=threads) for step in steps]
    overhead = sum(c.overhead_ms for c in costs)
    entering, filling = 0.0, 0.0
    if whole:
        entering = parameters.fixed_us * 1e-3
        filling = float_inputs * parameters.input_cycles / (mhz * 1e3)
    return Cost(
        compute_ms=sum(c.compute_ms for c in costs),
        memory_ms=sum(c.memory_ms for c in costs),
        overhead_ms=overhead + entering + filling,
        around_ms=entering + filling,
    )
