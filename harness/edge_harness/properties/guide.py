"""Directions for the targeted search, learnt from inputs that ran already.

A random input of some size never comes near the ends of a model's outputs, or of the sums inside
it, where accumulators saturate and ranges clip: the sum over many independent elements stays
within a few standard deviations. A linear fit of the outputs on a few hundred earlier inputs
says which elements to push which way, and Hypothesis' targeted search then climbs in the few
dimensions that are left.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from hypothesis import strategies as st

from edge_harness.properties.smallest import Inputs
from edge_harness.strategies.values import Span, grid_of

Vector = npt.NDArray[np.float64]
#: Outputs followed, those that vary most; each has two directions.
_FOLLOWED = 16
#: Ridge against fewer inputs than cells.
_RIDGE = 0.1


class Guide:
    """Collects what inputs gave, and makes inputs that give more of it."""

    def __init__(self, spans: Sequence[Span]) -> None:
        self._spans = [s for s in spans if s.tensor.dtype.kind != "c" and s.high > s.low]
        self._all = list(spans)
        self._grids = [grid_of(span.shape()) for span in self._spans]
        self._x: list[Vector] = []
        self._y: list[Vector] = []

    def record(self, inputs: Inputs, outputs: Vector) -> None:
        """Learn that ``inputs`` gave ``outputs``: real values, the error last."""
        parts = []
        for span, (cells, count) in zip(self._spans, self._grids, strict=True):
            array = inputs[span.tensor.name]
            if array.size != cells.size or not np.isfinite(outputs).all():
                return
            flat = array.reshape(-1).astype(np.float64)
            unit = (flat - span.low) / (span.high - span.low)
            parts.append(np.bincount(cells, unit, count) / np.bincount(cells, minlength=count))
        if parts and (not self._y or self._y[0].shape == outputs.shape):
            self._x.append(np.concatenate(parts))
            self._y.append(outputs)

    def directions(self) -> list[Vector]:
        """Unit vectors over the cells, along which an output or the error grows."""
        if len(self._x) < 8:
            return []
        x, y = np.stack(self._x), np.stack(self._y)
        spread = y.std(axis=0)
        chosen = np.argsort(-spread)[:_FOLLOWED]
        if spread[-1] > 0:  # the error leads
            chosen = np.concatenate([[y.shape[1] - 1], chosen[chosen != y.shape[1] - 1]])
        found = []
        for output in chosen:
            if spread[output] == 0:
                continue
            values = y[:, output]
            # A ReLU network is another linear map on the other side of its median.
            middle = np.median(values)
            for rows in (slice(None), values >= middle, values <= middle):
                fit = _fitted(x[rows], values[rows])
                if fit is not None:
                    found.append(fit)
        return found

    def ends(self) -> list[Inputs]:
        """The inputs farthest out along each direction, both ways."""
        return [
            self.build(sign * direction, 0.5, 1.0)
            for direction in self.directions()
            for sign in (1.0, -1.0)
        ]

    def build(self, coefficients: Vector, level: float, amplitude: float) -> Inputs:
        """An input with cells of positive coefficients at the highest values, of negative ones
        at the lowest, others at ``level`` (0 to 1)."""
        unit = np.full(coefficients.shape, level)
        unit[coefficients > 0] = level + amplitude * (1 - level)
        unit[coefficients < 0] = level - amplitude * level
        result = {span.tensor.name: span.filled(span.shape()) for span in self._all}
        start = 0
        for span, (cells, count) in zip(self._spans, self._grids, strict=True):
            values = unit[start : start + count][cells].reshape(span.shape())
            result[span.tensor.name] = span.at(values)
            start += count
        return result


def _fitted(x: Vector, y: Vector) -> Vector | None:
    if len(x) < 8:
        return None
    centred, target = x - x.mean(axis=0), y - y.mean()
    gram = centred.T @ centred
    ridge = _RIDGE * (np.trace(gram) / len(gram) + 1e-12)
    fit: Vector = np.linalg.solve(gram + ridge * np.eye(len(gram)), centred.T @ target)
    norm = float(np.linalg.norm(fit))
    return fit / norm if norm > 0 else None


@st.composite
def guided(draw: st.DrawFn, guide: Guide, directions: list[Vector]) -> Inputs:
    """Inputs along one or two directions. Few small numbers, each of which can be climbed."""
    last = len(directions) - 1
    one = directions[draw(st.integers(0, last))]
    sign = 1 if draw(st.booleans()) else -1
    two = directions[draw(st.integers(0, last))]
    mix = draw(st.integers(-8, 8)) / 8
    coefficients = sign * one + mix * two
    # Cells that matter little may stay where they are.
    cut = np.quantile(np.abs(coefficients), draw(st.integers(0, 15)) / 16)
    coefficients = np.where(np.abs(coefficients) >= cut, coefficients, 0.0)
    level = draw(st.integers(0, 4)) / 4
    amplitude = 1 - draw(st.integers(0, 3)) / 4
    return guide.build(coefficients, level, amplitude)
