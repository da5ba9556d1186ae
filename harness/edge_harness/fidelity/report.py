"""What a comparison found, and whether it is good enough."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from edge_harness.errors import InputError
from edge_harness.evidence import Figure, FigureKind, Verdict, percentile
from edge_harness.fidelity.tolerances import Tolerances
from edge_harness.models.tensors import Array, Outputs

Reals = npt.NDArray[np.float64]
Kind = Literal["port", "quantization", "student"]
"""The same file as reference, its uncompressed parent, or another model altogether."""
KINDS: tuple[Kind, ...] = get_args(Kind)
Metric = Literal["steps", "abs", "rel", "ulp", "sqnr_db", "cosine"]
#: What is kept for each sample.
PER_SAMPLE: tuple[Metric, ...] = get_args(Metric)


@dataclass(frozen=True, kw_only=True)
class OutputReport:
    """One output over all samples."""

    name: str
    sqnr_db: float
    """Signal to quantization-noise ratio, ``10 log10(sum ref² / sum (ref - out)²)``; inf when
    equal."""
    max_steps: float
    """Greatest distance in quantization steps; NaN for an output without a scale."""
    max_abs: float
    """Greatest distance in real units."""
    differing: int
    """How many values are not equal."""
    values: int
    cosine: float
    """Over all samples; for orientation: 0.99 can still be a wrong answer."""
    max_rel: float = math.nan
    """Greatest ``|out - ref| / |ref|`` of a real output; NaN for integers."""
    max_ulp: float = math.nan
    """Greatest distance in units in the last place of a real output; NaN for integers."""
    mean_abs: float = math.nan
    outside: int = 0
    """Values of a real output outside ``atol + rtol * |ref|``."""
    not_finite: int = 0
    """Values that are NaN or infinite, on either side."""
    kl: float = math.nan
    """Mean Kullback-Leibler divergence in nats, where both sides are probabilities."""
    dtype: str = ""
    per_sample: Mapping[Metric, Reals] = field(default_factory=dict, repr=False)
    """``steps``, ``abs``, ``rel``, ``ulp`` (each sample's greatest), ``sqnr_db``, ``cosine``."""


@dataclass(frozen=True, kw_only=True)
class Worst:
    """The sample with the greatest error."""

    sample: int
    """Its position among the samples."""
    output: str
    metric: Literal["steps", "abs", "not finite"]
    """What it is worst in."""
    value: float
    inputs: tuple[Array, ...] = field(repr=False)
    """As the device's model took it."""
    outputs: Outputs = field(repr=False)
    expected: Outputs = field(repr=False)


@dataclass(frozen=True, kw_only=True, repr=False)
class Report:
    """What :func:`edge_harness.fidelity.compare` found; figures of the worst output, details in
    ``outputs``."""

    kind: Kind
    samples: int
    top1_agreement: float
    """Share of samples whose greatest value is at the same position, in the first output."""
    topk_agreement: float
    """Share of samples whose ``k`` greatest values are at the same positions, in any order."""
    k: int
    min_margin: float
    """Smallest lead of the device's answer over its second, in the first output, real units."""
    sqnr_db: float
    max_steps: float
    distinct_outputs: int
    distinct_inputs: int
    outputs: tuple[OutputReport, ...]
    device: str
    reference: str
    accuracy: float | None = None
    """Share of labels that the device's answers meet, where labels were given."""
    reference_accuracy: float | None = None
    classes: bool = False
    """Whether the first output holds scores of classes, so that top-1 agreement is checked."""
    worst: Worst | None = None
    warnings: tuple[str, ...] = ()
    tolerances: Tolerances = field(default_factory=Tolerances, repr=False)
    figure_kind: FigureKind = "emulated"
    """How the device's outputs came about."""

    # -- figures -----------------------------------------------------------------------------

    @property
    def cosine(self) -> float:
        """Of the worst sample and output."""
        values = [output.per_sample["cosine"] for output in self.outputs if output.per_sample]
        known = np.concatenate(values) if values else np.asarray([o.cosine for o in self.outputs])
        return _least(known)

    @property
    def max_abs(self) -> float:
        return _greatest([output.max_abs for output in self.outputs])

    @property
    def max_rel(self) -> float:
        return _greatest([output.max_rel for output in self.outputs])

    @property
    def max_ulp(self) -> float:
        return _greatest([output.max_ulp for output in self.outputs])

    @property
    def kl(self) -> float:
        """Mean Kullback-Leibler divergence of the first output; NaN where it is none."""
        return self.outputs[0].kl if self.outputs else math.nan

    @property
    def not_finite(self) -> int:
        return sum(output.not_finite for output in self.outputs)

    @property
    def equal(self) -> bool:
        """Whether every value is the same."""
        return bool(self.outputs) and all(output.differing == 0 for output in self.outputs)

    @property
    def vacuous(self) -> bool:
        """Whether the outputs could not have shown a difference: there were no samples, or they
        did not vary with the inputs, so that agreement means nothing."""
        return not self.samples or (self.distinct_inputs > 1 and self.distinct_outputs == 1)

    def percentile(self, metric: Metric, q: float, *, output: str | None = None) -> float:
        """The ``q``-th percentile over the samples, by nearest rank.

        Args:
            metric: ``steps``, ``abs``, ``rel``, ``ulp``, ``sqnr_db`` or ``cosine``.
            q: 95 for what 95 % of the samples stay below. Of ``sqnr_db`` and ``cosine``, where
                little is bad, ask for 5.
            output: its name (default: the first).

        Raises:
            InputError: no such metric or output, or too few samples (p99 needs 100).
        """
        return percentile(self._values(metric, output), q)

    def mean(self, metric: Metric, *, output: str | None = None) -> float:
        """Mean of ``metric`` over the samples; as :meth:`percentile`."""
        return float(np.mean(self._values(metric, output)))

    def _values(self, metric: Metric, output: str | None) -> Reals:
        if metric not in PER_SAMPLE:
            raise InputError(
                f"there is no metric {metric!r} for each sample",
                next_step=f"use one of: {', '.join(PER_SAMPLE)}",
            )
        for each in self.outputs:
            if output in (None, each.name):
                return each.per_sample[metric]
        if not self.outputs:
            raise InputError(
                f"there were no samples, hence no {metric!r}", next_step="pass at least one input"
            )
        raise InputError(
            f"there is no output {output!r}",
            next_step=f"the outputs are: {', '.join(repr(o.name) for o in self.outputs)}",
        )

    # -- verdict -----------------------------------------------------------------------------

    @property
    def failures(self) -> tuple[str, ...]:
        """Each limit that is passed, in words."""
        limits, found = self.tolerances, []
        for output in self.outputs:
            if output.not_finite:
                found.append(f"{output.name!r}: {output.not_finite} values are NaN or infinite")
            if self.kind == "port":
                if output.max_steps > limits.max_steps:
                    found.append(
                        f"{output.name!r}: up to {output.max_steps:g} steps, allowed "
                        f"max_steps={limits.max_steps:g}"
                    )
                if output.outside:
                    found.append(
                        f"{output.name!r}: {output.outside} of {output.values} values are outside "
                        f"atol + rtol·|reference| (up to {output.max_abs:.3g})"
                    )
            elif self.kind == "quantization" and not output.sqnr_db >= limits.sqnr_db:
                found.append(
                    f"{output.name!r}: SQNR {output.sqnr_db:.1f} dB, wanted "
                    f"sqnr_db={limits.sqnr_db:g}"
                )
        if self.kind != "port":
            found += self._other_model_failures()
        return tuple(found)

    def _other_model_failures(self) -> list[str]:
        limits, found = self.tolerances, []
        if self.kind == "quantization" and self.cosine < limits.cosine:
            found.append(f"cosine {self.cosine:.4f}, wanted cosine={limits.cosine:g}")
        # Of a student with labelled samples the labels decide: it may be right where its teacher
        # is wrong.
        judged_by_labels = self.kind == "student" and self.accuracy is not None
        if self.classes and not judged_by_labels and self.top1_agreement < limits.top1_agreement:
            found.append(
                f"top-1 agreement {self.top1_agreement:.2%}, wanted "
                f"top1_agreement={limits.top1_agreement:g}"
            )
        if self.kl > limits.kl:
            found.append(f"KL divergence {self.kl:.3g} nats, allowed kl={limits.kl:g}")
        if self.accuracy is not None and self.reference_accuracy is not None:
            least = limits.accuracy_ratio * self.reference_accuracy
            if self.accuracy < least:
                found.append(
                    f"accuracy {self.accuracy:.2%}, the reference has "
                    f"{self.reference_accuracy:.2%}; wanted "
                    f"accuracy_ratio={limits.accuracy_ratio:g}"
                )
        return found

    @property
    def figures(self) -> tuple[Figure, ...]:
        """What the verdict rests on, those that this comparison has."""
        named: list[tuple[str, float | None, str]] = [
            ("max_steps", self.max_steps, "steps"),
            ("max_abs", self.max_abs, "real units"),
            ("sqnr_db", self.sqnr_db, "dB"),
            ("cosine", self.cosine, ""),
            ("top1_agreement", self.top1_agreement if self.classes else None, ""),
            ("accuracy", self.accuracy, ""),
            ("reference_accuracy", self.reference_accuracy, ""),
        ]
        # Some outputs have no steps; a ratio that is NaN says that values are not finite.
        without = {"max_steps"} if all(math.isnan(o.max_steps) for o in self.outputs) else set()
        return tuple(
            Figure(
                value=value,
                unit=unit,
                kind=self.figure_kind,
                source=f"{name} over {self.samples} samples: {self.device}; reference: "
                f"{self.reference}",
            )
            for name, value, unit in named
            if self.samples and value is not None and name not in without
        )

    @cached_property
    def verdict(self) -> Verdict:
        """``failed`` where a limit is passed; ``vacuous`` where agreement would mean nothing,
        which is no pass; else ``passed``."""
        if self.failures:
            return Verdict(word="failed", reason="; ".join(self.failures), figures=self.figures)
        if not self.samples:
            return Verdict(word="vacuous", reason="there were no samples: pass at least one input")
        if self.vacuous:
            return Verdict(
                word="vacuous",
                reason=f"all {self.samples} samples gave the same output, so that agreement means "
                "nothing",
                figures=self.figures,
            )
        return Verdict(word="passed", figures=self.figures)

    @property
    def passed(self) -> bool:
        return self.verdict.word == "passed"

    # -- words -------------------------------------------------------------------------------

    def explanation(self) -> str:
        """The comparison in words."""
        titles = {"port": "port fidelity", "student": "student against teacher"}
        title = titles.get(self.kind, "quantization fidelity")
        plural = "sample" if self.samples == 1 else "samples"
        lines = [
            f"{title}: {self.verdict.word}; {self.samples} {plural}",
            f"  device:    {self.device}",
            f"  reference: {self.reference}",
        ]
        lines += [f"  {self._output_line(output)}" for output in self.outputs]
        if self.classes:
            lines.append(
                f"  top-1 agreement {self.top1_agreement:.2%}, top-{self.k} "
                f"{self.topk_agreement:.2%}, smallest margin {self.min_margin:.3g}"
            )
        if self.accuracy is not None and self.reference_accuracy is not None:
            lines.append(
                f"  accuracy {self.accuracy:.2%}, the reference's {self.reference_accuracy:.2%}"
            )
        if self.worst is not None and not self.equal:
            lines.append(
                f"  worst sample: {self.worst.sample}, {self.worst.value:g} "
                f"{'' if self.worst.metric == 'not finite' else self.worst.metric + ' '}in "
                f"{self.worst.output!r}"
            )
        lines += [f"  FAILED {failure}" for failure in self.failures]
        if self.verdict.word == "vacuous":
            lines.append(f"  {self.verdict}")
        lines += [f"  warning: {text}" for text in self.warnings]
        if self.kind == "port" and self.samples and not self.equal:
            lines.append(
                "  edge_harness.fidelity.layers shows which layer adds how much; where none is "
                "over tolerance, later layers amplify what kernels round otherwise, and max_steps "
                "may be raised knowingly"
                if self.failures
                else "  edge_harness.fidelity.layers shows the first layer that differs"
            )
        return "\n".join(lines)

    @staticmethod
    def _output_line(output: OutputReport) -> str:
        if output.differing == 0:
            return f"{output.name!r}: equal to the last bit"
        parts = [f"{output.differing} of {output.values} values differ"]
        if not math.isnan(output.max_steps):
            parts.append(f"up to {output.max_steps:g} steps")
        if not math.isnan(output.max_ulp):
            parts.append(f"up to {output.max_ulp:g} ulp")
        parts.append(f"up to {output.max_abs:.4g}")
        parts.append(f"SQNR {output.sqnr_db:.1f} dB, cosine {output.cosine:.5f}")
        if not math.isnan(output.kl):
            parts.append(f"KL {output.kl:.2g} nats")
        return f"{output.name!r}: {', '.join(parts)}"

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON; figures that are not finite are None."""
        figures = ("sqnr_db", "max_steps", "max_abs", "max_rel", "max_ulp", "cosine", "kl")
        return {
            "passed": self.passed,
            "verdict": self.verdict.as_json(),
            "kind": self.kind,
            "samples": self.samples,
            "equal": self.equal,
            "vacuous": self.vacuous,
            "top1_agreement": self.top1_agreement,
            "topk_agreement": self.topk_agreement,
            "k": self.k,
            **{name: _finite(getattr(self, name)) for name in figures},
            "not_finite": self.not_finite,
            "accuracy": self.accuracy,
            "reference_accuracy": self.reference_accuracy,
            "worst_sample": None if self.worst is None else self.worst.sample,
            "failures": list(self.failures),
            "warnings": list(self.warnings),
            "device": self.device,
            "reference": self.reference,
            "outputs": [
                {
                    "name": output.name,
                    "dtype": output.dtype,
                    "differing": output.differing,
                    "values": output.values,
                    "mean_abs": _finite(output.mean_abs),
                    **{name: _finite(getattr(output, name)) for name in figures},
                }
                for output in self.outputs
            ],
        }

    def __str__(self) -> str:
        return self.explanation()

    def __repr__(self) -> str:
        """Short: pytest shows it where ``assert report.passed`` fails, and cuts long ones."""
        why = f": {self.failures[0]}" if self.failures else ""
        return f"<Report of {self.kind} {self.verdict.word}, {self.samples} samples{why}>"


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _greatest(values: list[float]) -> float:
    """The greatest; NaN only where all are."""
    known = [value for value in values if not math.isnan(value)]
    return max(known, default=math.nan)


def _least(values: Reals) -> float:
    known = values[~np.isnan(values)]
    return float(known.min()) if known.size else math.nan
