"""Fit what an instruction takes where nothing but their number is known."""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec
import numpy as np

from edge_harness.clock.calibrate.fit import Floats, Row, half_width
from edge_harness.clock.instruction_rate import InstructionRate


def fit_instruction_rate(rows: Sequence[Row]) -> InstructionRate:
    """Fit both figures to ``rows``, boards counting alike; bounds from boards left out."""
    held: list[float] = []
    for board in sorted({row.board for row in rows}):
        train = [row for row in rows if row.board != board]
        test = [row for row in rows if row.board == board]
        if train:
            held += _off(test, _fit(train)).tolist()
    rate = _fit(rows)
    return msgspec.structs.replace(
        rate,
        cycles_per_instruction=float(f"{rate.cycles_per_instruction:.4g}"),
        thread_gain=float(f"{rate.thread_gain:.4g}"),
        error=float(f"{half_width(held):.3g}"),
    )


def _off(rows: Sequence[Row], rate: InstructionRate) -> Floats:
    """Relative errors."""
    predicted = [
        rate.milliseconds(
            sum(step.instructions for step in row.steps), mhz=row.mhz, threads=row.threads
        )
        for row in rows
    ]
    return np.array(predicted) / [row.latency_ms for row in rows] - 1


def _fit(rows: Sequence[Row]) -> InstructionRate:
    """The gain by trial, the cycles by the weighted mean of logarithms that it leaves."""
    boards = [row.board for row in rows]
    weight = np.array([1 / boards.count(board) for board in boards])
    best = (math.inf, 1.0, 0.5)
    for gain in np.linspace(0.1, 1.0, 46).tolist():
        logs = np.log1p(_off(rows, _rate(1.0, gain, rows)))
        middle = float(np.average(logs, weights=weight))
        spread = float(np.average((logs - middle) ** 2, weights=weight))
        best = min(best, (spread, math.exp(-middle), gain))
    return _rate(best[1], best[2], rows)


def _rate(cycles_per_instruction: float, gain: float, rows: Sequence[Row]) -> InstructionRate:
    return InstructionRate(
        cycles_per_instruction=cycles_per_instruction,
        thread_gain=gain,
        error=math.inf,  # of no row that was left out
        rows=len(rows),
        boards=len({row.board for row in rows}),
    )
