"""What a profile knows of its board's speed: written by ``edge-harness calibrate``."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

_Positive = Annotated[float, Meta(gt=0)]


class Parameters(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is fitted, of a core on a memory system. Each has a physical meaning and a range."""

    compute: _Positive
    """Real cycles for each cycle of the pipeline model."""
    l1_miss_cycles: _Positive
    """Cycles of the core that a line from L2 costs beyond what overlaps."""
    l2_miss_cycles: _Positive
    """The same for a line from L3."""
    dram_gb_s: _Positive
    """10⁹ bytes a second that missing lines arrive at, all cores together."""
    dram_sharing: Annotated[float, Meta(ge=0, le=1)]
    """How far threads share lines that are fetched again and again: 1 where all work on the same
    weights at the same time, 0 where each goes its own way."""
    overlap: Annotated[float, Meta(ge=1)]
    """Exponent of the norm that adds computing and memory: 1 one after the other, ∞ in parallel."""
    thread_efficiency: Annotated[float, Meta(gt=0, le=1)]
    """What each thread after the first adds, of a whole core."""
    sync_us: Annotated[float, Meta(ge=0)]
    """Microseconds for handing a step to other threads and waiting for them."""
    fixed_us: Annotated[float, Meta(ge=0)]
    """Microseconds for each inference."""
    input_cycles: Annotated[float, Meta(ge=0)]
    """Cycles to fill one element of a floating-point input from 8-bit data, as the measured
    programs did."""


class Clock(Parameters, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Parameters of one board, and what they rest on."""

    rows: Annotated[int, Meta(ge=1)]
    """How many measurements they were fitted to."""
    measured: Annotated[str, Meta(min_length=1)]
    """Where those are from."""
    error: _Positive
    """Relative half width of bounds that cover 90 % of models left out of the fit."""
    shortest_ms: Annotated[float, Meta(ge=0)] = 0.0
    """The shortest whole inference among the measurements, in milliseconds; 0 where it was not
    noted. What surrounds the operators is known from that length on."""
