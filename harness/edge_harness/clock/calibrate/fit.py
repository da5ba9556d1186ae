"""Fit the few free parameters to measurements; needs SciPy (extra ``calibrate``)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from edge_harness.clock.cost import cost
from edge_harness.clock.steps import Step
from edge_harness.errors import MissingTool, UserError
from edge_harness.profiles.clock import Parameters

Floats = npt.NDArray[np.float64]
#: Parameter -> where the fit starts, and how far (a factor, one standard deviation) it may stray
#: without measurements that say so. From what is known of such boards before any fit: L2 hits cost
#: about half of their latency, threads add most of a core, a barrier takes some tens of
#: microseconds. Where there are few rows the prior decides, where there are many they do.
PRIORS: dict[str, tuple[float, float]] = {
    "compute": (1.1, 1.25),
    "l1_miss_cycles": (6.0, 1.6),
    "l2_miss_cycles": (12.0, 1.6),
    "dram_gb_s": (2.5, 1.8),
    "dram_sharing": (0.7, 1.5),
    "overlap": (2.0, 1.5),
    "thread_efficiency": (0.85, 1.15),
    "sync_us": (15.0, 2.5),
    "fixed_us": (100.0, 3.0),
    "input_cycles": (50.0, 2.0),
}
NAMES = tuple(PRIORS)
#: Relative error of a published figure: repeats of one benchmark differ by 1.4 % in the median and
#: 3.5 % at the 90th percentile, and the model itself is not better than this.
NOISE = 0.06


@dataclass(frozen=True, kw_only=True)
class Row:
    """A measurement, with the steps of its inference."""

    id: str
    board: str
    core: str
    """Name of the core model."""
    family: str
    model: str
    precision: str
    latency_ms: float
    mhz: float
    threads: float
    """In cores of the board's main kind."""
    float_inputs: int
    whole: bool
    """Whether it was measured with what surrounds the operators."""
    steps: Sequence[Step]
    dram_peak_gb_s: float
    macs: int = 0
    activation_bytes: int = 0

    def predict(self, parameters: Parameters) -> float:
        """Milliseconds."""
        return cost(
            self.steps,
            parameters,
            mhz=self.mhz,
            threads=self.threads,
            float_inputs=self.float_inputs,
            whole=self.whole,
        ).total_ms


class Arrays:
    """The steps of many rows as arrays, so that a prediction of all is a few array operations.

    The same formula as :func:`edge_harness.clock.cost.cost`; a test holds the two together.
    """

    def __init__(self, rows: Sequence[Row]) -> None:
        self.rows = rows
        counts = [len(row.steps) for row in rows]
        self.owner = np.repeat(np.arange(len(rows)), counts)
        every = [step for row in rows for step in row.steps]
        self.cycles = np.array([s.cycles for s in every])
        self.serial = np.array([s.serial_cycles for s in every])
        self.l1 = np.array([s.l1_misses for s in every], dtype=float)
        self.l2 = np.array([s.l2_misses for s in every], dtype=float)
        self.dram = np.array([s.dram_lines for s in every]) * 64 / 1e6
        self.again = np.array([s.dram_again for s in every]) * 64 / 1e6
        self.mhz = np.array([row.mhz for row in rows])
        self.threads = np.array([row.threads for row in rows])
        self.floats = np.array([row.float_inputs for row in rows], dtype=float)
        self.whole = np.array([row.whole for row in rows], dtype=float)
        self.measured = np.array([row.latency_ms for row in rows])
        self.peak = np.array([row.dram_peak_gb_s for row in rows])

    def predict(
        self, values: dict[str, float], dram: Floats | float, scale: Floats | float = 1.0
    ) -> Floats:
        """Milliseconds of each row.

        Args:
            values: the parameters by name.
            dram: 10⁹ bytes a second, for all rows or for each.
            scale: factor on ``compute``, for all rows or for each.
        """
        compute_scale = values["compute"] * np.broadcast_to(
            np.asarray(scale, dtype=float), self.mhz.shape
        )
        factor = compute_scale[self.owner]
        mhz = self.mhz[self.owner]
        threads = self.threads[self.owner]
        speedup = 1 + (threads - 1) * min(values["thread_efficiency"], 1.0)
        waits = self.l1 * values["l1_miss_cycles"] + self.l2 * values["l2_miss_cycles"]
        parallel = (self.cycles - self.serial) * factor
        serial = self.serial * factor
        share = np.divide(
            parallel, parallel + serial, out=np.zeros_like(parallel), where=self.cycles > 0
        )
        cycles = serial + waits * (1 - share) + (parallel + waits * share) / speedup
        compute = cycles / (mhz * 1e3)
        rate = np.broadcast_to(np.asarray(dram, dtype=float), self.mhz.shape)[self.owner]
        sharing = min(values["dram_sharing"], 1.0)
        again = self.again / (1 + (threads - 1) * sharing * share)
        memory = (self.dram - self.again + again) / rate
        p = max(values["overlap"], 1.0)
        each = (compute**p + memory**p) ** (1 / p)
        each = each + np.where((threads > 1) & (share > 0.5), values["sync_us"] * 1e-3, 0.0)
        total = np.bincount(self.owner, each, len(self.rows))
        around = values["fixed_us"] * 1e-3 + self.floats * values["input_cycles"] / self.mhz / 1e3
        return np.asarray(total + self.whole * around, dtype=np.float64)


def fit(
    rows: Sequence[Row],
    *,
    start: Parameters | None = None,
    tight: float = 1.0,
    noise: float = NOISE,
) -> Parameters:
    """Parameters for ``rows`` of one board: maximum a posteriori, errors relative.

    Args:
        rows: measurements of one board.
        start: the centre of the priors, instead of :data:`PRIORS`' own.
        tight: divides the spread of the priors.
        noise: relative error of a row.

    Raises:
        UserError: there are no rows.
        MissingTool: SciPy is not installed.
    """
    if not rows:
        raise UserError("there are no measurements to fit", next_step="give a CSV with rows")
    centre = {name: getattr(start, name) if start else PRIORS[name][0] for name in NAMES}
    return parameters_from(_least_squares(Arrays(rows), centre, tight, noise))


@dataclass(frozen=True, kw_only=True)
class GeneralFit:
    """What holds for boards in general."""

    parameters: Parameters
    dram_share: float
    """Of a DRAM's theoretical bandwidth that inference gets."""
    cores: dict[str, float]
    """Factor on ``compute`` for boards with that core: how far its pipeline model is off."""

    def predict(self, rows: Sequence[Row]) -> Floats:
        """Milliseconds of ``rows``, of whatever board."""
        arrays = Arrays(rows)
        dram = np.where(arrays.peak > 0, arrays.peak * self.dram_share, self.parameters.dram_gb_s)
        scale = np.array([self.cores.get(row.core, 1.0) for row in rows])
        return arrays.predict(msgspec.structs.asdict(self.parameters), dram, scale)


#: How far the pipeline models of two cores may differ in what they miss (a factor).
_CORE_SPREAD = 1.2


def fit_general(rows: Sequence[Row], *, noise: float = NOISE) -> GeneralFit:
    """Parameters for all boards together; each core's pipeline model may be off by a factor.

    Boards count alike, however many rows they have.
    """
    least_squares = _scipy()
    arrays = Arrays(rows)
    boards = [row.board for row in rows]
    sigma = noise / np.sqrt([20 / max(boards.count(board), 20) for board in boards])
    cores = sorted({row.core for row in rows})
    core_of = np.array([cores.index(row.core) for row in rows])
    middle, spread = _priors({**{n: v for n, (v, _) in PRIORS.items()}, "dram_gb_s": 0.2}, 1.0)
    peak = np.where(arrays.peak > 0, arrays.peak, 12.8)
    observed = np.log(arrays.measured)
    count = len(NAMES)

    def residuals(point: Floats) -> Floats:
        values = _named(point[:count])
        scale = np.exp(point[count:])[core_of]
        off = (np.log(arrays.predict(values, values["dram_gb_s"] * peak, scale)) - observed) / sigma
        own = (point[:count] - middle) / spread
        return np.concatenate([off, own, point[count:] / math.log(_CORE_SPREAD)])

    start = np.concatenate([middle, np.zeros(len(cores))])
    found = least_squares(residuals, start, loss="soft_l1", f_scale=2.0).x
    values = _named(found[:count])
    typical = float(np.median(peak))
    return GeneralFit(
        parameters=parameters_from({**values, "dram_gb_s": values["dram_gb_s"] * typical}),
        dram_share=float(f"{values['dram_gb_s']:.4g}"),
        cores={
            core: float(f"{math.exp(x):.4g}")
            for core, x in zip(cores, found[count:].tolist(), strict=True)
        },
    )


def _scipy() -> Any:
    try:
        from scipy.optimize import least_squares
    except ImportError:
        raise MissingTool(
            "calibration needs SciPy, which is not installed",
            next_step="pip install 'pytest-edge-harness[calibrate]'",
        ) from None
    return least_squares


def _priors(centre: Mapping[str, float], tight: float) -> tuple[Floats, Floats]:
    """Logarithms of where parameters are expected, and how far they may stray."""
    middle = np.log([max(centre[name], 1e-6) for name in NAMES])
    return middle, np.log([PRIORS[name][1] for name in NAMES]) / tight


def _named(point: Floats) -> dict[str, float]:
    return dict(zip(NAMES, np.exp(point).tolist(), strict=True))


def _least_squares(
    arrays: Arrays, centre: Mapping[str, float], tight: float, noise: float
) -> dict[str, float]:
    least_squares = _scipy()
    middle, spread = _priors(centre, tight)
    observed = np.log(arrays.measured)

    def residuals(point: Floats) -> Floats:
        values = _named(point)
        off = (np.log(arrays.predict(values, values["dram_gb_s"])) - observed) / noise
        return np.concatenate([off, (point - middle) / spread])

    # A few published figures are plain outliers (a board that throttled): soft_l1.
    return _named(least_squares(residuals, middle, loss="soft_l1", f_scale=2.0).x)


def parameters_from(values: dict[str, float]) -> Parameters:
    """Parameters with four digits, as files keep them."""
    rounded = {name: float(f"{value:.4g}") for name, value in values.items()}
    rounded["thread_efficiency"] = min(rounded["thread_efficiency"], 1.0)
    rounded["dram_sharing"] = min(rounded["dram_sharing"], 1.0)
    rounded["overlap"] = max(rounded["overlap"], 1.0)
    return msgspec.convert(rounded, Parameters)


def errors(rows: Sequence[Row], parameters: Parameters) -> Floats:
    """Relative errors of the predictions, as ``predicted / measured - 1``."""
    return np.array([row.predict(parameters) / row.latency_ms - 1 for row in rows])


def half_width(relative: Sequence[float] | Floats, *, cover: float = 0.9) -> float:
    """The relative half width of bounds (``/ (1 + w)`` to ``· (1 + w)``) that contain ``cover``
    of the measurements: by rank, one more than that share, as held-out errors of n rows promise
    (Vovk et al., split conformal prediction: rank ⌈(n + 1) · cover⌉)."""
    sizes = sorted(abs(math.log1p(float(e))) for e in relative)
    rank = min(len(sizes), math.ceil((len(sizes) + 1) * cover))
    return math.expm1(sizes[rank - 1]) if sizes else math.inf
