"""Outputs of both sides, side by side, into figures: the report of a comparison."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

from edge_harness.errors import InputError
from edge_harness.fidelity import metrics
from edge_harness.fidelity.checks import steps_between
from edge_harness.fidelity.inputs import Runner, laid_out, matched
from edge_harness.fidelity.reference import figure_kind, side
from edge_harness.fidelity.report import Kind, Metric, OutputReport, Report, Worst
from edge_harness.fidelity.tolerances import Tolerances, chosen
from edge_harness.models.tensors import Array, Outputs, Tensor

Reals = npt.NDArray[np.float64]
Task = Literal["classification", "other"]
OutputMap = Callable[[Outputs], Mapping[str, Array]] | Mapping[str, str] | None


def build(
    session: Runner,
    reference: Runner,
    samples: Sequence[Sequence[Array]],
    actual: Sequence[Outputs],
    wanted: Sequence[Outputs],
    *,
    kind: Kind,
    truth: Sequence[int] | None = None,
    mapping: OutputMap = None,
    task: Task | None = None,
    k: int = 5,
    limits: Tolerances | None = None,
    doubts: Sequence[str] = (),
    steps: Mapping[str, float] | None = None,
) -> Report:
    """The report on outputs that are there already. ``steps``: of real outputs that have some."""
    limits = chosen(limits)
    if not actual:
        return Report(
            kind=kind,
            samples=0,
            top1_agreement=math.nan,
            topk_agreement=math.nan,
            k=k,
            min_margin=math.nan,
            sqnr_db=math.nan,
            max_steps=math.nan,
            distinct_outputs=0,
            distinct_inputs=0,
            outputs=(),
            device=side(session),
            reference=side(reference),
            warnings=tuple(doubts),
            tolerances=limits,
            figure_kind=figure_kind(session),
        )
    columns = _columns(session, reference, actual, wanted, mapping)
    grid = steps or {}
    parts = [
        output_report(mine, theirs, a, b, limits, step=grid.get(mine.name, 0.0))
        for mine, theirs, a, b in columns
    ]
    mine, theirs, ours, refs = columns[0]
    a = [mine.real(value) for value in ours]
    b = [theirs.real(value) for value in refs]
    k = min(k, max(a[0].size, 1))
    tops = [(metrics.top(x, k), metrics.top(y, k)) for x, y in zip(a, b, strict=True)]
    softmax = all(metrics.probabilities(x) and metrics.probabilities(y)
                  for x, y in zip(a, b, strict=True))  # fmt: skip
    return Report(
        kind=kind,
        samples=len(actual),
        top1_agreement=float(np.mean([bool(x) and x[:1] == y[:1] for x, y in tops])),
        topk_agreement=float(np.mean([set(x) == set(y) for x, y in tops])),
        k=k,
        min_margin=min(metrics.margin(x) for x in a),
        sqnr_db=_worst_db([part.sqnr_db for part in parts]),
        max_steps=float(np.fmax.reduce([part.max_steps for part in parts])),
        distinct_outputs=len({b"".join(v.tobytes() for v in o.values()) for o in actual}),
        distinct_inputs=len({b"".join(v.tobytes() for v in sample) for sample in samples}),
        outputs=tuple(parts),
        device=side(session),
        reference=side(reference),
        accuracy=_accuracy([x for x, _ in tops], truth),
        reference_accuracy=_accuracy([y for _, y in tops], truth),
        classes=task == "classification"
        or (task is None and a[0].size > 1 and (truth is not None or softmax)),
        worst=_worst(parts, samples, actual, wanted),
        warnings=tuple(doubts),
        tolerances=limits,
        figure_kind=figure_kind(session),
    )


def _accuracy(tops: Sequence[list[int]], truth: Sequence[int] | None) -> float | None:
    if truth is None:
        return None
    return float(np.mean([top[:1] == [label] for top, label in zip(tops, truth, strict=True)]))


def _worst_db(values: Sequence[float]) -> float:
    return math.nan if any(map(math.isnan, values)) else min(values)


def _columns(
    session: Runner,
    reference: Runner,
    actual: Sequence[Outputs],
    wanted: Sequence[Outputs],
    mapping: OutputMap,
) -> list[tuple[Tensor, Tensor, list[Array], list[Array]]]:
    """Our tensor, the reference's, and the values of both for each sample, output by output."""
    ours = {tensor.name: tensor for tensor in session.outputs}
    if callable(mapping):
        answers = [mapping(outputs) for outputs in wanted]
        unknown = [name for name in answers[0] if name not in ours]
        if unknown or not answers[0]:
            raise InputError(
                f"outputs=function gave {list(answers[0])}, the model's outputs are {list(ours)}",
                next_step="return {name of the model's output: array}",
            )
        return [
            (
                ours[name],
                _plain(name, np.asarray(answers[0][name])),
                [outputs[name] for outputs in actual],
                _shaped(
                    [np.asarray(answer[name]) for answer in answers],
                    [outputs[name] for outputs in actual], session, session, name,
                ),
            )
            for name in answers[0]
        ]  # fmt: skip
    theirs = {tensor.name: tensor for tensor in reference.outputs}
    return [
        (
            ours[name],
            theirs[other],
            [outputs[name] for outputs in actual],
            _shaped(
                [outputs[other] for outputs in wanted],
                [outputs[name] for outputs in actual], reference, session, name,
            ),
        )
        for name, other in matched(list(ours), list(theirs), mapping, "output")
    ]  # fmt: skip


def _plain(name: str, values: Array) -> Tensor:
    shape = values.shape
    return Tensor(name=name, index=0, dtype=values.dtype, shape=shape, shape_signature=shape)


def _shaped(
    wanted: list[Array], actual: list[Array], source: Runner, target: Runner, name: str
) -> list[Array]:
    result = []
    for value, mine in zip(wanted, actual, strict=True):
        moved = laid_out(value, source.model.format, target.model.format, mine.shape)
        if moved.shape != mine.shape:
            raise InputError(
                f"output {name!r} has shape {list(mine.shape)}, the reference {list(value.shape)}",
                next_step="compare two forms of the same model, or pass outputs=function",
            )
        result.append(moved)
    return result


@np.errstate(invalid="ignore")  # of infinities: NaN is the answer
def output_report(
    mine: Tensor,
    theirs: Tensor,
    actual: Sequence[Array],
    wanted: Sequence[Array],
    limits: Tolerances | None = None,
    *,
    step: float = 0.0,
) -> OutputReport:
    """One output; ``actual`` and ``wanted`` hold an array for each sample. ``step``: of a real
    output that was integers until the last operator."""
    limits = chosen(limits)
    a = [mine.real(value) for value in actual]
    b = [theirs.real(value) for value in wanted]
    floating = actual[0].dtype.kind == "f"
    samples: dict[Metric, list[float]] = {
        "steps": [_steps(x, y, real, mine, theirs, step)
                  for x, y, real in zip(actual, wanted, b, strict=True)],
        "abs": [_max(np.abs(x - y)) for x, y in zip(a, b, strict=True)],
        "rel": [_max(metrics.relative(x, y)) if floating else math.nan
                for x, y in zip(a, b, strict=True)],
        "ulp": [_max(metrics.ulps(x, y)) if floating else math.nan
                for x, y in zip(actual, b, strict=True)],
        "sqnr_db": [metrics.sqnr_db(x, y) for x, y in zip(a, b, strict=True)],
        "cosine": [metrics.cosine(x, y) for x, y in zip(a, b, strict=True)],
    }  # fmt: skip
    whole_a, whole_b = _flat(a), _flat(b)
    half = actual[0].dtype == np.float16
    rtol, atol = (limits.rtol_float16, limits.atol_float16) if half else (limits.rtol, limits.atol)
    with np.errstate(invalid="ignore"):
        near = np.abs(whole_a - whole_b) <= atol + rtol * np.abs(whole_b)
    return OutputReport(
        name=mine.name,
        sqnr_db=metrics.sqnr_db(whole_a, whole_b),
        max_steps=_max(np.asarray(samples["steps"])),
        max_abs=_max(np.asarray(samples["abs"])),
        differing=int(np.count_nonzero(~(whole_a == whole_b))),
        values=int(whole_a.size),
        cosine=metrics.cosine(whole_a, whole_b),
        max_rel=_max(np.asarray(samples["rel"])),
        max_ulp=_max(np.asarray(samples["ulp"])),
        mean_abs=float(np.mean(np.abs(whole_a - whole_b))) if whole_a.size else 0.0,
        outside=int(np.count_nonzero(~near)) if floating and not step else 0,
        not_finite=int(np.count_nonzero(~(np.isfinite(whole_a) & np.isfinite(whole_b)))),
        kl=_kl(a, b, mine),
        dtype=actual[0].dtype.name,
        per_sample={name: np.asarray(values, np.float64) for name, values in samples.items()},
    )


def _steps(
    actual: Array, wanted: Array, real: Reals, mine: Tensor, theirs: Tensor, step: float
) -> float:
    """Greatest distance in steps, infinite where a value is not a number; NaN for an output that
    has no steps."""
    integers = actual.dtype.kind in "iub" and wanted.dtype.kind in "iub"
    if step and actual.dtype.kind == "f":
        far = np.abs(actual.astype(np.float64) - real) / step
    elif mine.quantized and mine.scale:
        # Equally quantized integers are compared as integers, all else in real values.
        alike = integers and mine.scales == theirs.scales and mine.zero_points == theirs.zero_points
        far = steps_between(actual, wanted if alike else real, mine)
    elif integers:
        far = np.abs(actual.astype(np.float64) - wanted.astype(np.float64))
    else:
        return math.nan
    # As NaN it would pass for an output without steps beside one that has some.
    return _max(np.where(np.isnan(far), np.inf, far))


def _max(values: Reals) -> float:
    """The greatest; NaN where one is: a distance that is not known is not small."""
    return float(np.max(values, initial=0.0)) if values.size else 0.0


def _flat(values: Sequence[Reals]) -> Reals:
    return np.concatenate([value.reshape(-1) for value in values])


def _kl(actual: Sequence[Reals], wanted: Sequence[Reals], tensor: Tensor) -> float:
    pairs = list(zip(actual, wanted, strict=True))
    if not all(metrics.probabilities(x) and metrics.probabilities(y) for x, y in pairs):
        return math.nan
    least = tensor.scale / 2 if tensor.scale else 1e-7
    return float(np.mean([metrics.kl_divergence(x, y, least=least) for x, y in pairs]))


def _worst(
    parts: Sequence[OutputReport],
    samples: Sequence[Sequence[Array]],
    actual: Sequence[Outputs],
    wanted: Sequence[Outputs],
) -> Worst:
    def badness(part: OutputReport) -> tuple[Literal["steps", "abs", "not finite"], Reals]:
        steps = part.per_sample["steps"]
        if part.not_finite:
            return "not finite", part.per_sample["abs"]
        return ("steps", steps) if not np.isnan(steps).all() else ("abs", part.per_sample["abs"])

    ranked = []
    for part in parts:
        metric, values = badness(part)
        # NaN and infinity are worse than any number.
        order = np.where(np.isfinite(values), values, np.inf)
        place = int(np.argmax(order))
        ranked.append((float(order[place]), place, part.name, metric, float(values[place])))
    _, place, name, metric, value = max(ranked, key=lambda row: (row[3] == "not finite", row[0]))
    return Worst(
        sample=place,
        output=name,
        metric=metric,
        value=value,
        inputs=tuple(samples[place]),
        outputs=actual[place],
        expected=wanted[place],
    )


__all__ = ["OutputMap", "Task", "build", "output_report"]
