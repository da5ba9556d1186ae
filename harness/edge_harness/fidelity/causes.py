"""Why a layer is off: what the pattern of its errors, and the two files, say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from edge_harness.fidelity.graphs import Parameter
from edge_harness.fidelity.tolerances import Tolerances
from edge_harness.models.tensors import Array

Reals = npt.NDArray[np.float64]
#: A pattern in fewer values than this may be chance.
_ENOUGH = 8
#: Standard errors beyond which a gain or a shift is no chance.
_SIGNIFICANT = 6.0


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What one operator made of the reference's inputs, beside the reference.

    ``actual`` and ``wanted`` are real values; ``step`` is the device's quantization step, or 0
    for real tensors. ``stored`` are the device's values as it holds them.
    """

    actual: Reals
    wanted: Reals
    step: float
    stored: Array
    zero_point: int
    channel_axis: int

    @cached_property
    def unit(self) -> float:
        """What errors are counted in: a step, or the greatest value of the reference."""
        if self.step:
            return self.step
        finite = self.wanted[np.isfinite(self.wanted)]
        return float(np.max(np.abs(finite), initial=0.0)) or 1.0

    @cached_property
    def error(self) -> Reals:
        """Signed, in :attr:`unit`."""
        # The same infinity on both sides is the model's own and no difference.
        with np.errstate(invalid="ignore"):
            distance = (self.actual - self.wanted) / self.unit
        result: Reals = np.where(self.actual == self.wanted, 0.0, distance)
        return result

    def by_channel(self, values: Array) -> Array:
        """``values`` as (channels, others)."""
        if values.ndim < 2:
            return values.reshape(1, -1)
        axis = self.channel_axis if values.ndim == 4 else -1
        moved = np.moveaxis(values, axis, 0)
        return moved.reshape(moved.shape[0], -1)


def gain_of(error: Reals, values: Reals) -> tuple[float, float]:
    """Least-squares ``g`` in ``error = g * values``, and its standard error."""
    power = float(np.sum(values**2))
    if power == 0 or values.size < _ENOUGH:
        return 0.0, np.inf
    gain = float(np.sum(error * values)) / power
    rest = error - gain * values
    return gain, float(np.sqrt(np.mean(rest**2) / power)) + 1e-12


def over(evidence: Evidence, limits: Tolerances, *, alike: bool) -> bool:
    """Whether the operator added more than it may. ``alike``: both sides compute in the same
    kind of number, so that only rounding may differ."""
    error = evidence.error
    if not np.all(np.isfinite(error)):
        return True
    if not alike:
        noise = float(np.sum((error * evidence.unit) ** 2))
        signal = float(np.sum(evidence.wanted**2))
        return noise > 0 and signal < noise * 10 ** (limits.layer_sqnr_db / 10)
    greatest = float(np.max(np.abs(error), initial=0.0))
    if not evidence.step:
        half = evidence.stored.dtype == np.float16
        return greatest > (limits.layer_rtol_float16 if half else limits.layer_rtol)
    if greatest > limits.layer_steps:
        return True
    gain, doubt = gain_of(error, evidence.wanted / evidence.unit)
    if abs(gain) > limits.layer_gain and abs(gain) > _SIGNIFICANT * doubt:
        return True
    return _shifted_channel(evidence, limits) is not None


def _shifted_channel(evidence: Evidence, limits: Tolerances) -> int | None:
    """The channel whose mean is shifted most, if it is beyond the limit.

    A channel that holds few different values says nothing: kernels that round a tie otherwise are
    off by one at each of them (XNNPACK's MUL in MobileNet v3, nine values of one channel).
    """
    channels = evidence.by_channel(evidence.error)
    if channels.shape[1] < 2 * _ENOUGH:
        return None
    means = np.abs(channels.mean(axis=1))
    values = evidence.by_channel(evidence.wanted)
    for channel in np.argsort(-means):
        if not means[channel] > limits.layer_offset_steps:
            return None
        if np.unique(values[channel]).size >= _ENOUGH:
            return int(channel)
    return None


def cause(evidence: Evidence, limits: Tolerances) -> str:
    """The likely cause in words; empty where the errors have no pattern that is known."""
    error, actual, wanted = evidence.error, evidence.actual, evidence.wanted
    strange = ~np.isfinite(actual) & np.isfinite(wanted)
    if strange.any():
        return f"{int(strange.sum())} values are NaN or infinite on the device only"
    least = limits.layer_steps if evidence.step else limits.layer_rtol
    wrong = np.abs(error) > least
    return (
        _flushed(evidence)
        or _cut(evidence, wrong)
        or _one_channel(evidence, wrong, limits)
        or _scaled(evidence, limits)
        or _shifted(evidence, limits)
        or _rounded(evidence, error)
        or ""
    )


def _flushed(evidence: Evidence) -> str:
    if evidence.step or evidence.stored.dtype.kind != "f":
        return ""
    tiny = float(np.finfo(evidence.stored.dtype).tiny)
    small = (np.abs(evidence.wanted) < tiny) & (evidence.wanted != 0)
    flushed = small & (evidence.actual == 0)
    if small.any() and flushed.sum() >= 0.9 * small.sum():
        return f"flush-to-zero: {int(flushed.sum())} denormal values are 0 on the device"
    return ""


def _cut(evidence: Evidence, wrong: npt.NDArray[np.bool_]) -> str:
    """Saturation, or a fused activation that only one side has: a level that is never passed."""
    if wrong.sum() < 3:
        return ""
    size = np.where(wrong, np.abs(evidence.error), 0.0)
    for values, others, whom in (
        (evidence.actual, evidence.wanted, "the device"),
        (evidence.wanted, evidence.actual, "the reference"),
    ):
        for level, beyond in (
            (float(values.max()), others > values.max()),
            (float(values.min()), others < values.min()),
        ):
            standing = wrong & (np.abs(values - level) <= evidence.unit * 1e-6) & beyond
            # By the size of the errors: a cut leaves the largest, whatever else is wrong.
            if standing.sum() < 3 or size[standing].sum() < 0.5 * size.sum():
                continue
            where = _level(evidence, level, whom)
            return f"{where}: {int(standing.sum())} of {int(wrong.sum())} wrong values stand there"
    return ""


def _level(evidence: Evidence, level: float, whom: str) -> str:
    if evidence.stored.dtype.kind in "iu" and whom == "the device":
        limits = np.iinfo(evidence.stored.dtype)
        whole = round(level / evidence.step) + evidence.zero_point if evidence.step else level
        if whole in (limits.min, limits.max):
            return f"saturation at {int(whole)}, the end of {evidence.stored.dtype.name}"
    near = evidence.step or 1e-6
    if abs(level) <= near / 2:
        return f"a fused activation differs (Relu): {whom} cuts at 0"
    if abs(level - 6) <= near or abs(level - 1) <= near or abs(level + 1) <= near:
        return f"a fused activation differs: {whom} cuts at {level:.3g}"
    return f"saturation: {whom} does not pass {level:.4g}"


def _one_channel(evidence: Evidence, wrong: npt.NDArray[np.bool_], limits: Tolerances) -> str:
    channels = evidence.by_channel(evidence.error)
    if channels.shape[0] < 2:
        return ""
    shifted = _shifted_channel(evidence, limits) if evidence.step else None
    counts = evidence.by_channel(wrong).sum(axis=1)
    channel = int(np.argmax(counts))
    if not counts.any():
        if shifted is None:
            return ""
        channel = shifted
    elif counts[channel] < 0.95 * counts.sum():
        return ""
    means = np.abs(channels.mean(axis=1))
    if (np.delete(means, channel) > 0.5 * means[channel]).any():
        return ""
    spread, mean = float(channels[channel].std()), float(channels[channel].mean())
    if evidence.step and spread < 0.3 * abs(mean):
        return (
            f"only channel {channel} is off, by {mean:+.2f} steps throughout: its zero point or "
            "its bias"
        )
    return (
        f"only channel {channel} is off (by {mean:+.3g} on average): its weights' zero point, "
        "its scale or its weights"
    )


def _scaled(evidence: Evidence, limits: Tolerances) -> str:
    values = evidence.wanted / evidence.unit
    gain, doubt = gain_of(evidence.error, values)
    least = limits.layer_gain if evidence.step else limits.layer_rtol
    rows, columns = evidence.by_channel(evidence.error), evidence.by_channel(values)
    gains = [gain_of(e, v) for e, v in zip(rows, columns, strict=True)]
    known = [g for g, d in gains if abs(g) > _SIGNIFICANT * d and abs(g) > least]
    # Channels whose factors differ among themselves, whatever they come to together.
    if len(known) > 2 and float(np.std(known)) > max(0.5 * abs(gain), 2 * least):
        return (
            f"each channel is off by a factor of its own ({1 + min(known):.3f} to "
            f"{1 + max(known):.3f}): per-tensor against per-channel scales"
        )
    if abs(gain) <= least or abs(gain) <= _SIGNIFICANT * doubt:
        return ""
    return f"values are off by a factor of {1 + gain:.4f}: a scale"


def _shifted(evidence: Evidence, limits: Tolerances) -> str:
    mean, spread = float(evidence.error.mean()), float(evidence.error.std())
    # All of them: where half of the values are off by one it is the rounding.
    if evidence.step and abs(mean) > limits.layer_offset_steps and spread < 0.3 * abs(mean):
        return f"all values are shifted by {mean:+.2f} steps: a zero point or bias"
    return ""


def _rounded(evidence: Evidence, error: Reals) -> str:
    greatest = float(np.max(np.abs(error), initial=0.0))
    if evidence.step:
        if greatest > 1.01:
            return ""
        share = float(np.count_nonzero(error)) / max(error.size, 1)
        if abs(float(error.mean())) > 0.2:
            return f"rounding mode: {share:.0%} differ by one step, all to one side (truncation?)"
        return f"rounding: {share:.1%} differ by one step"
    relative = np.abs(evidence.actual - evidence.wanted)
    scale = np.maximum(np.abs(evidence.wanted), evidence.unit * 1e-3)
    typical = float(np.median((relative / scale)[relative > 0])) if relative.any() else 0.0
    # Half a unit in the last place of float16 is 2**-11, of bfloat16 2**-8.
    if 2**-13 < typical < 2**-10:
        return "errors of the size of float16's rounding: half-precision arithmetic"
    if 2**-10 <= typical < 2**-7:
        return "errors of the size of bfloat16's rounding"
    return ""


def file_differences(ours: Sequence[Parameter], theirs: Sequence[Parameter]) -> str:
    """What the two files themselves say of an operator, where they say different things."""
    names = {0: "input", 1: "weights", 2: "bias"}
    by_position = {parameter.position: parameter for parameter in theirs}
    found = []
    for mine in ours:
        other = by_position.get(mine.position)
        if other is None or mine.values.shape != other.values.shape:
            continue
        name = names.get(mine.position, f"input {mine.position}")
        if len(mine.scales) == len(other.scales) and mine.scales != other.scales:
            ratio = np.asarray(mine.scales) / np.asarray(other.scales)
            changed = np.flatnonzero(ratio != 1)
            which = "" if changed.size == ratio.size else f" of channel {_some(changed)}"
            found.append(f"the scale of its {name}{which} is ×{ratio[changed[0]]:.4f}")
        if len(mine.zero_points) == len(other.zero_points) and (
            mine.zero_points != other.zero_points
        ):
            shift = np.asarray(mine.zero_points) - np.asarray(other.zero_points)
            changed = np.flatnonzero(shift)
            found.append(
                f"the zero point of its {name}, channel {_some(changed)}, is "
                f"{int(shift[changed[0]]):+d}"
            )
        if mine.values.dtype == other.values.dtype and not np.array_equal(
            mine.values, other.values
        ):
            count = int(np.count_nonzero(mine.values != other.values))
            found.append(f"{count} of {mine.values.size} values of its {name} differ")
    return "; ".join(found)


def _some(indices: npt.NDArray[np.intp]) -> str:
    text = ", ".join(map(str, indices[:4]))
    return text if indices.size <= 4 else f"{text}, …"
