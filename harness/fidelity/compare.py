"""Compare a session with a reference over many samples."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from harness.errors import InputError
from harness.fidelity.checks import steps_between
from harness.tensors import Array, Outputs, Tensor, checked

if TYPE_CHECKING:
    from harness.session import Session


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
    """For orientation: 0.99 can still be a wrong answer."""


@dataclass(frozen=True, kw_only=True)
class Report:
    """What :func:`compare` found; figures of the worst output, details in ``outputs``."""

    samples: int
    top1_agreement: float
    """Share of samples whose greatest value is at the same position, in the first output."""
    sqnr_db: float
    max_steps: float
    distinct_outputs: int
    outputs: tuple[OutputReport, ...]
    device: str
    reference: str

    @property
    def equal(self) -> bool:
        """Whether every value is the same."""
        return all(output.differing == 0 for output in self.outputs)

    @property
    def vacuous(self) -> bool:
        """Whether the outputs did not vary with the inputs, so that agreement means nothing."""
        return self.samples > 1 and self.distinct_outputs == 1

    def explanation(self) -> str:
        """The comparison in words."""
        lines = [f"{self.samples} samples; device: {self.device}; reference: {self.reference}"]
        for output in self.outputs:
            if output.differing == 0:
                lines.append(f"  {output.name!r}: equal to the last bit")
                continue
            steps = "" if math.isnan(output.max_steps) else f", up to {output.max_steps:g} steps"
            lines.append(
                f"  {output.name!r}: {output.differing} of {output.values} values differ{steps}, "
                f"up to {output.max_abs:.4g}, SQNR {output.sqnr_db:.1f} dB"
            )
        if self.vacuous:
            lines.append("  vacuous: all samples gave the same output")
        if not self.equal and self.device != self.reference:
            lines.append(
                "  kernels or models differ between the two sides; load both with the same "
                "kernels to see what the device itself changes"
            )
        return "\n".join(lines)

    def __str__(self) -> str:
        return self.explanation()


def compare(session: Session, reference: Session | str | Path, samples: Iterable[Any]) -> Report:
    """Run ``samples`` on ``session`` and on ``reference`` and measure the distance.

    Args:
        session: the model on the device.
        reference: another session, or a model file, which is then run by TFLite's reference
            kernels (ONNX Runtime for ONNX) natively on this machine.
        samples: inputs for ``session``, as ``run`` takes them. Where the reference takes
            another dtype (a float model beside its quantized one), they are converted with
            ``session``'s quantization parameters.

    Raises:
        InputError: the models do not have the same number of inputs or outputs.
    """
    from harness.fidelity.reference import reference_session
    from harness.session import Session as SessionClass

    arranged = [_arranged(sample, session) for sample in samples]
    if not arranged:
        raise InputError("there are no samples to compare", next_step="pass at least one input")
    outputs = session.run_many(arranged)
    if isinstance(reference, SessionClass):
        expected = reference.run_many([_converted(s, session, reference) for s in arranged])
        return _report(session, reference, outputs, expected)
    with reference_session(session, reference) as other:
        expected = other.run_many([_converted(s, session, other) for s in arranged])
        return _report(session, other, outputs, expected)


def _arranged(sample: Any, session: Session) -> list[Array]:
    """``sample`` for ``session``: real values are quantized where the input is."""
    if isinstance(sample, dict):
        values = [sample.get(t.name) for t in session.inputs]
    elif len(session.inputs) == 1 and not isinstance(sample, (list, tuple)):
        values = [sample]
    else:
        values = list(sample)
    if len(values) != len(session.inputs):
        raise InputError(
            f"a sample has {len(values)} arrays, the model {len(session.inputs)} inputs",
            next_step=f"pass one array for each of: {', '.join(map(str, session.inputs))}",
        )
    result = []
    for value, tensor in zip(values, session.inputs, strict=True):
        array = np.asarray(value)
        if array.dtype.kind == "f" and tensor.dtype.kind in "iu" and tensor.quantized:
            array = tensor.quantize(array)
        result.append(checked(array, tensor))
    return result


def _converted(sample: Sequence[Array], session: Session, reference: Session) -> list[Array]:
    if len(reference.inputs) != len(sample):
        raise InputError(
            f"the reference has {len(reference.inputs)} inputs, the model {len(sample)}",
            next_step="compare two forms of the same model",
        )
    result = []
    for value, mine, theirs in zip(sample, session.inputs, reference.inputs, strict=True):
        array = value
        if theirs.dtype != mine.dtype or theirs.scales != mine.scales:
            real = mine.dequantize(array) if mine.quantized else array.astype(np.float64)
            array = theirs.quantize(real) if theirs.quantized else real.astype(theirs.dtype)
        result.append(array)
    return result


def _real(values: Array, tensor: Tensor) -> npt.NDArray[np.float64]:
    if tensor.quantized and values.dtype.kind in "iu":
        return tensor.dequantize(values)
    return values.astype(np.float64)


def _report(
    session: Session, reference: Session, outputs: list[Outputs], expected: list[Outputs]
) -> Report:
    if len(reference.outputs) != len(session.outputs):
        raise InputError(
            f"the reference has {len(reference.outputs)} outputs, the model {len(session.outputs)}",
            next_step="compare two forms of the same model",
        )
    parts = []
    for mine, theirs in zip(session.outputs, reference.outputs, strict=True):
        actual = np.stack([output[mine.name] for output in outputs])
        wanted = np.stack([output[theirs.name] for output in expected])
        parts.append(_output_report(mine, theirs, actual, wanted))
    first, other = session.outputs[0], reference.outputs[0]
    same = sum(
        int(np.argmax(a[first.name]) == np.argmax(b[other.name]))
        for a, b in zip(outputs, expected, strict=True)
    )
    distinct = {b"".join(values.tobytes() for values in output.values()) for output in outputs}
    return Report(
        samples=len(outputs),
        top1_agreement=same / len(outputs),
        sqnr_db=min(part.sqnr_db for part in parts),
        max_steps=float(np.fmax.reduce([part.max_steps for part in parts])),
        distinct_outputs=len(distinct),
        outputs=tuple(parts),
        device=_side(session),
        reference=_side(reference),
    )


def _side(session: Session) -> str:
    return (
        f"{session.model.path.name} on {session.device.name} ({session.device.engine}), "
        f"{session.runtime}, kernels {session.kernels}"
    )


def _output_report(mine: Tensor, theirs: Tensor, actual: Array, wanted: Array) -> OutputReport:
    a, b = _real(actual, mine), _real(wanted, theirs)
    if a.shape != b.shape:
        raise InputError(
            f"output {mine.name!r} has shape {list(a.shape[1:])}, the reference "
            f"{list(b.shape[1:])}",
            next_step="compare two forms of the same model",
        )
    noise = float(np.sum((a - b) ** 2))
    signal = float(np.sum(b**2))
    if mine.quantized and mine.scale:
        # Equally quantized integers are compared as integers, all else in real values.
        integers = actual.dtype.kind in "iu" and wanted.dtype.kind in "iu"
        alike = integers and mine.scales == theirs.scales and mine.zero_points == theirs.zero_points
        steps = steps_between(actual, wanted if alike else b, mine)
        max_steps = float(np.max(steps, initial=0.0))
    elif actual.dtype.kind in "iub" and wanted.dtype.kind in "iub":
        max_steps = float(np.max(np.abs(a - b), initial=0.0))
    else:
        max_steps = math.nan
    norms = math.sqrt(float(np.sum(a**2)) * signal)
    sqnr_db = 10 * math.log10(signal / noise) if noise > 0 and signal > 0 else -math.inf
    return OutputReport(
        name=mine.name,
        sqnr_db=math.inf if noise == 0 else math.nan if math.isnan(noise) else sqnr_db,
        max_steps=max_steps,
        max_abs=float(np.max(np.abs(a - b), initial=0.0)),
        differing=int(np.count_nonzero(~(a == b))),
        values=int(a.size),
        cosine=float(np.sum(a * b)) / norms if norms else math.nan,
    )
