"""Fit what an instruction takes where nothing but their number is known."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from edge_harness.clock.calibrate.fit import Row, half_width
from edge_harness.clock.counting.icount import Rough, rough_ms


def fit_rough(rows: Sequence[Row]) -> Rough:
    """Fit both figures to ``rows``, boards counting alike; bounds from boards left out."""
    held: list[float] = []
    for board in sorted({row.board for row in rows}):
        train = [row for row in rows if row.board != board]
        test = [row for row in rows if row.board == board]
        if train:
            held += [float(x) for x in _off(test, *_fit(train))]
    per_instruction, gain = _fit(rows)
    return Rough(
        cycles_per_instruction=float(f"{per_instruction:.4g}"),
        thread_gain=float(f"{gain:.4g}"),
        error=float(f"{half_width(held):.3g}"),
        rows=len(rows),
        boards=len({row.board for row in rows}),
    )


def _off(rows: Sequence[Row], per_instruction: float, gain: float) -> list[float]:
    return [
        rough_ms(
            sum(step.instructions for step in row.steps),
            row.mhz,
            row.threads,
            per_instruction=per_instruction,
            gain=gain,
        )
        / row.latency_ms
        - 1
        for row in rows
    ]


def _fit(rows: Sequence[Row]) -> tuple[float, float]:
    """The gain by trial, the cycles by the weighted mean of logarithms that it leaves."""
    boards = [row.board for row in rows]
    weight = np.array([1 / boards.count(board) for board in boards])
    best = (math.inf, 1.0, 0.5)
    for gain in np.linspace(0.1, 1.0, 46).tolist():
        logs = np.log1p(_off(rows, 1.0, gain))
        middle = float(np.average(logs, weights=weight))
        spread = float(np.average((logs - middle) ** 2, weights=weight))
        best = min(best, (spread, math.exp(-middle), gain))
    return best[1], best[2]
