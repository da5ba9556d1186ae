"""How good the clock is: fits with something left out, beside the simple regressions to beat."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np

from edge_harness.clock.calibrate.fit import (
    Floats,
    GeneralFit,
    Row,
    errors,
    fit,
    fit_general,
    half_width,
)
from edge_harness.profiles.clock import Clock, Parameters

#: A board with fewer rows than this gets the general parameters, moved a little.
FEW_ROWS = 8
#: A board measured with fewer different models than this gets no narrow bounds.
FEW_MODELS = 5


@dataclass(frozen=True, kw_only=True)
class Errors:
    """Relative errors of one way to predict, over rows."""

    what: str
    values: Floats
    rows: tuple[Row, ...]
    bounds: float = math.nan
    """Half width that was promised for these rows; NaN where there was no promise."""

    @property
    def mean(self) -> float:
        return float(np.mean(np.abs(self.values)))

    @property
    def median(self) -> float:
        return float(np.median(np.abs(self.values)))

    @property
    def p90(self) -> float:
        """By nearest rank."""
        return float(np.percentile(np.abs(self.values), 90, method="inverted_cdf"))

    @property
    def covered(self) -> float:
        """Share of the rows within the promised bounds."""
        if math.isnan(self.bounds):
            return math.nan
        inside = np.abs(np.log1p(self.values)) <= math.log1p(self.bounds)
        return float(np.mean(inside))

    def spearman(self) -> float:
        """Rank correlation of predicted and measured latency on each board measured with a few
        models; the lowest. NaN where there is none."""
        found = [math.nan]
        for board in sorted({row.board for row in self.rows}):
            mine = [i for i, row in enumerate(self.rows) if row.board == board]
            measured = np.array([self.rows[i].latency_ms for i in mine])
            if len({self.rows[i].model for i in mine}) >= FEW_MODELS:
                predicted = measured * (1 + self.values[mine])
                found.append(float(np.corrcoef(_ranks(measured), _ranks(predicted))[0, 1]))
        return min(found[1:], default=math.nan)

    def as_dict(self) -> dict[str, Any]:
        found = {
            "what": self.what,
            "rows": len(self.values),
            "mean": self.mean,
            "median": self.median,
            "p90": self.p90,
            "spearman": self.spearman(),
        }
        if not math.isnan(self.bounds):
            found |= {"bounds": self.bounds, "covered": self.covered}
        return found


def _ranks(values: Floats) -> Floats:
    """From 1; equal values share the mean of theirs."""
    _, which, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return np.asarray((last - (counts - 1) / 2)[which], dtype=np.float64)


def left_out(
    rows: Sequence[Row],
    group: Callable[[Row], str],
    predict: Callable[[list[Row], list[Row]], Floats],
    what: str,
) -> Errors:
    """Errors on each group of ``rows`` when ``predict`` was given the others."""
    values: list[float] = []
    kept: list[Row] = []
    for name in sorted({group(row) for row in rows}):
        test = [row for row in rows if group(row) == name]
        train = [row for row in rows if group(row) != name]
        if train:
            values += predict(train, test).tolist()
            kept += test
    return Errors(what=what, values=np.array(values), rows=tuple(kept))


def fitted(start: Parameters | None) -> Callable[[list[Row], list[Row]], Floats]:
    """Predict as the clock does on a calibrated board."""
    return lambda train, test: errors(test, fit_board(train, start))


def fit_board(rows: Sequence[Row], start: Parameters | None) -> Parameters:
    """Parameters of one board, around those of boards in general."""
    return fit(rows, start=start, tight=1.5 if len(rows) < FEW_ROWS else 1.0)


def predict_general(train: list[Row], test: list[Row]) -> Floats:
    """Predict a board from others, by its core model and the peak bandwidth of its DRAM."""
    return errors_general(test, fit_general(train))


def errors_general(rows: Sequence[Row], found: GeneralFit) -> Floats:
    """Relative errors with general parameters, each board's own core and DRAM."""
    measured = np.array([row.latency_ms for row in rows])
    return np.asarray(found.predict(rows) / measured - 1, dtype=np.float64)


def start_for(row: Row, found: GeneralFit) -> Parameters:
    """Where the fit of the board of ``row`` starts."""
    parameters = found.parameters
    peak = row.dram_peak_gb_s * found.dram_share or parameters.dram_gb_s
    compute = parameters.compute * found.cores.get(row.core, 1.0)
    return msgspec.structs.replace(parameters, dram_gb_s=peak, compute=compute)


def calibrated(rows: Sequence[Row], start: Parameters | None, measured: str) -> Clock:
    """What a profile keeps: parameters of all rows, bounds from rows that were left out."""
    from edge_harness.clock.trust import general

    parameters = fit_board(rows, start)
    width = 0.0
    if len({row.model for row in rows}) > 1:
        models = left_out(rows, lambda row: row.model, fitted(start), "model left out")
        width = half_width(models.values)
        if families := minor_families(rows, start):
            width = max(width, half_width(families))
    if len({(row.model, row.precision) for row in rows}) < FEW_MODELS:
        # A model or two say little about others: not narrower than half of what a board has that
        # nobody measured.
        width = max(width, general().error / 2)
    return msgspec.convert(
        {
            **msgspec.structs.asdict(parameters),
            "rows": len(rows),
            "measured": measured,
            "error": float(f"{width:.3g}"),
            "shortest_ms": min((row.latency_ms for row in rows if row.whole), default=0.0),
        },
        Clock,
    )


def minor_families(rows: Sequence[Row], start: Parameters | None) -> list[float]:
    """Errors on families left out of the fit, of those that are less than half of all rows: what
    is left when most measurements are taken away says little about a fit that has them."""
    found: list[float] = []
    for family in sorted({row.family for row in rows}):
        test = [row for row in rows if row.family == family]
        if 2 * len(test) < len(rows):
            others = [row for row in rows if row.family != family]
            found += errors(test, fit_board(others, start)).tolist()
    return found


# -- what there is to beat -------------------------------------------------------------------------


def linear(features: Callable[[Row], list[float]]) -> Callable[[list[Row], list[Row]], Floats]:
    """Least squares of relative errors on ``features``, for each board and precision."""

    def predict(train: list[Row], test: list[Row]) -> Floats:
        found = []
        for row in test:
            alike = [r for r in train if (r.board, r.precision) == (row.board, row.precision)]
            if len({r.model for r in alike}) <= len(features(row)):
                found.append(math.nan)
                continue
            scale = np.array([1 / r.latency_ms for r in alike])
            matrix = np.array([features(r) for r in alike]) * scale[:, None]
            solution, *_ = np.linalg.lstsq(matrix, np.ones(len(alike)), rcond=None)
            found.append(float(np.dot(features(row), solution)) / row.latency_ms - 1)
        return np.array(found)

    return predict


#: The bar: what a few numbers of the model file predict, fitted on the same rows.
BASELINES: dict[str, Callable[[Row], list[float]]] = {
    "MACs": lambda row: [row.macs / 1e6],
    "MACs + constant": lambda row: [row.macs / 1e6, 1.0],
    "MACs + activations + constant": lambda row: [row.macs / 1e6, row.activation_bytes / 1e6, 1.0],
    "instructions (constant CPI)": lambda row: [
        sum(step.instructions for step in row.steps) / 1e6 / row.mhz / row.threads
    ],
}


def without_nan(found: Errors) -> Errors:
    """Only rows that could be predicted."""
    good = ~np.isnan(found.values)
    return Errors(
        what=found.what,
        values=found.values[good],
        rows=tuple(row for row, ok in zip(found.rows, good, strict=True) if ok),
        bounds=found.bounds,
    )
