"""A trace reduced to what the memory and thread model needs: a line for each operator."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edge_harness.clock.operators import Operator
from edge_harness.clock.pipeline import Core, block_cycles, core_named
from edge_harness.clock.trace import Misses, Segment, Trace

if TYPE_CHECKING:
    from edge_harness.profiles import Profile

#: Operators whose builtin TFLite kernels (2.14) split their work among threads: convolutions and
#: products go to ruy, depthwise ones to the CPU backend's own pool. All others run on the calling
#: thread (tensorflow/lite/kernels, tensorflow/lite/kernels/internal/optimized).
TFLITE_PARALLEL = frozenset(
    {"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV", "BATCH_MATMUL"}
)
#: Of the hot blocks, those below this share of all instructions get the average of the others:
#: they are thousands, and run a few times each.
_RARE = 2e-5


@dataclass(frozen=True, kw_only=True)
class Step:
    """One operator, or what a delegate made of several."""

    name: str
    kind: str
    """As the model file calls it; "" where the runtime's steps are not the file's operators."""
    instructions: int
    cycles: float
    """Of the core, all loads hitting L1."""
    serial_cycles: float
    """The part of ``cycles`` that more threads do not shorten."""
    l1_misses: int
    l2_misses: int
    dram_lines: int
    """Lines that the last cache did not have, and changed ones that it gave back."""
    dram_again: int
    """Of these, lines that the step had fetched before: weights, streamed anew for each tile."""


def steps_of(
    profile: Profile, trace: Trace, operators: Sequence[Operator], *, delegated: bool
) -> list[Step]:
    """The steps of one inference.

    Args:
        profile: the board it was counted on, whose core's cycles and caches' misses they are.
        trace: with segments, or without (then all is one step).
        operators: of the model file, in order.
        delegated: whether a delegate or another runtime than TFLite's own kernels ran: its steps
            all split their work.

    Raises:
        MissingAbility: the core has no model.
    """
    cycles = _cycles(trace, core_named(profile.cpu.core), code_bits(profile))
    caches = cache_levels(profile)
    pieces = trace.segments or (
        Segment(
            runs={number: block.runs for number, block in trace.blocks.items()},
            misses={number: block.misses for number, block in trace.blocks.items()},
        ),
    )
    # Before the first operator's own segment lies the runtime's prelude. Other runtimes and
    # delegates fuse operators: a number that fits would be chance.
    named = not delegated and len(trace.segments) == len(operators) + 1
    found = []
    for position, piece in enumerate(pieces):
        operator = operators[position - 1] if named and position else None
        total = copied = 0.0
        instructions = 0
        for number, runs in piece.runs.items():
            block = trace.blocks[number]
            total += runs * cycles[number]
            instructions += runs * block.insns
            if block.library.startswith("libc."):
                copied += runs * cycles[number]
        prelude = position == 0 and len(pieces) > 1
        alone = named and (operator is None or operator.kind not in TFLITE_PARALLEL)
        # Copies: TFLite gathers a convolution's input (im2col) on the calling thread.
        serial = total if prelude or alone else 0.0 if delegated else copied
        l1, l2, dram, again = _lines(piece.misses.values(), caches)
        found.append(
            Step(
                name=operator.name if operator else f"step {position}",
                kind=operator.kind if operator else "",
                instructions=instructions,
                cycles=total,
                serial_cycles=serial,
                l1_misses=l1,
                l2_misses=l2,
                dram_lines=dram,
                dram_again=again,
            )
        )
    return found


def code_bits(profile: Profile) -> int:
    """64 where the board runs A64 code, 32 for A32 and T32."""
    return 32 if profile.os.arch in ("armhf", "armel") else 64


def cache_levels(profile: Profile) -> int:
    """How many levels of cache the board has; an L1 it always has."""
    return 3 if profile.cpu.l3_kib else 2 if profile.cpu.l2_kib else 1


def _lines(misses: Collection[Misses], caches: int) -> tuple[int, int, int, int]:
    """Misses of L1, of L2 where an L3 follows, all traffic of the last level, and what
    of that is there a second time."""
    totals = [sum(m.total[level] for m in misses) for level in range(caches)]
    back = sum(m.written_back for m in misses)
    once = min(sum(m.fresh for m in misses), totals[-1])
    return totals[0], totals[1] if caches == 3 else 0, totals[-1] + back, totals[-1] - once


def _cycles(trace: Trace, core: Core, bits: int) -> dict[int, float]:
    """Cycles of one run, for each block."""
    everything = trace.instructions or 1
    found = {}
    spent, counted = 0.0, 0
    for number, block in trace.blocks.items():
        work = block.runs * block.insns
        if work >= _RARE * everything:
            found[number] = block_cycles(core, block.code, block.insns, bits=bits)
            spent += block.runs * found[number]
            counted += work
    average = spent / counted if counted else 1.0
    for number, block in trace.blocks.items():
        if number not in found:
            found[number] = average * block.insns
    return found
