"""A trace reduced to what the memory and thread model needs: a line for each operator."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edge_harness.clock.operators import Operator
from edge_harness.clock.pipeline import Core, block_cycles
from edge_harness.clock.trace import Misses, Trace

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
    trace: Trace,
    core: Core,
    operators: Sequence[Operator],
    *,
    bits: int,
    caches: int,
    delegated: bool,
) -> list[Step]:
    """The steps of one inference.

    Args:
        trace: with segments, or without (then all is one step).
        core: whose cycles are counted.
        operators: of the model file, in order.
        bits: 64 for A64 code, 32 for A32 and T32.
        caches: how many levels the board has.
        delegated: whether a delegate or another runtime than TFLite's own kernels ran: its steps
            all split their work.
    """
    cycles = _cycles(trace, core, bits)
    # Before the first operator's own segment lies the runtime's prelude. Other runtimes and
    # delegates fuse operators: a number that fits would be chance.
    named = not delegated and len(trace.segments) == len(operators) + 1
    found = []
    pieces: list[tuple[Operator | None, dict[int, int], dict[int, Misses]]]
    if not trace.segments:
        runs = {number: block.runs for number, block in trace.blocks.items()}
        misses = {number: block.misses for number, block in trace.blocks.items()}
        pieces = [(None, runs, misses)]
    else:
        pieces = [
            (operators[i - 1] if named and i else None, s.runs, s.misses)
            for i, s in enumerate(trace.segments)
        ]
    for position, (operator, runs, misses) in enumerate(pieces):
        total = serial = 0.0
        instructions = 0
        for number, count in runs.items():
            block = trace.blocks[number]
            spent = count * cycles[number]
            total += spent
            instructions += count * block.insns
            if not delegated and block.library.startswith("libc."):
                # Copies: TFLite gathers a convolution's input (im2col) on the calling thread.
                serial += spent
        if not delegated and named and (operator is None or operator.kind not in TFLITE_PARALLEL):
            serial = total
        if position == 0 and len(pieces) > 1:
            serial = total
        first, second, last, again = _lines(misses, caches)
        found.append(
            Step(
                name=operator.name if operator else f"step {position}",
                kind=operator.kind if operator else "",
                instructions=instructions,
                cycles=total,
                serial_cycles=serial,
                l1_misses=first,
                l2_misses=second,
                dram_lines=last,
                dram_again=again,
            )
        )
    return found


def _lines(misses: dict[int, Misses], caches: int) -> tuple[int, int, int, int]:
    """Misses of L1, of L2 where an L3 follows, all traffic of the last level, and what
    of that is there a second time."""
    totals = [sum(m.total[level] for m in misses.values()) for level in range(max(caches, 1))]
    back = sum(m.written_back for m in misses.values())
    once = min(sum(m.fresh for m in misses.values()), totals[-1])
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
