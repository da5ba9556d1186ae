"""Properties that compare: with a reference, and with the same model's answer to a changed
input."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edge_harness.errors import DeviceFailed
from edge_harness.evidence import Figure
from edge_harness.fidelity.distance import FLOAT_ATOL, FLOAT_RTOL, Tolerance, distance
from edge_harness.fidelity.inputs import converted, laid_out, matched
from edge_harness.fidelity.reference import (
    Way,
    figure_kind,
    opened,
    output_steps,
    side,
    warn_about,
)
from edge_harness.models.tensors import Array, Outputs, Tensor
from edge_harness.properties.drawing import Drawing, Ranges, drawing_of
from edge_harness.properties.hunt import hunt
from edge_harness.properties.hunted import Hunt
from edge_harness.properties.judging import NOT_RUN, Judged, answers, dead, pairwise
from edge_harness.properties.smallest import Inputs
from edge_harness.runtimes import Format

if TYPE_CHECKING:
    from edge_harness.device.session import Session
    from edge_harness.fidelity.inputs import Runner

Transform = Callable[[Any], Any]


def _steps(session: Session) -> dict[str, float]:
    """Steps of real outputs that were integers until the last operator."""
    if all(tensor.dtype.kind != "f" for tensor in session.outputs):
        return {}
    return output_steps(session.model)


def equal_to(
    session: Session,
    reference: Runner | str | Path,
    *,
    by: Way = "trusted",
    max_examples: int = 100,
    max_steps: float = 1,
    rtol: float = FLOAT_RTOL,
    atol: float = FLOAT_ATOL,
    targeted: bool = True,
    name: str = "equal_to",
    ranges: Ranges | None = None,
    samples: Sequence[Any] = (),
    float_range: tuple[float, float] | None = None,
) -> Hunt:
    """Outputs are within ``max_steps`` quantization steps (quantized outputs, real ones that were
    quantized until the last operator, and whole numbers) or ``atol + rtol * |reference|`` (other
    floats) of the reference's.

    With ``targeted`` half of the inputs come from Hypothesis' targeted search, which drives up
    the error, and the greatest and least outputs, where saturation shows. ``worst`` of the
    result is the greatest error found, in steps or as a multiple of the tolerance, and
    ``worst_inputs`` its input, also where the property holds.

    Args:
        reference: another session, an evaluated model, or a model file, which is executed as
            ``by`` says.
        by: ``trusted``: TFLite's reference kernels, or ``onnx.reference`` in double precision;
            ``native``: the same runtime on this machine; ``device``: the same on the device.

    Raises:
        PropertyFailed: with the smallest failing input found.
        InputError: the models do not have the same number of inputs and outputs.
    """
    drawing = drawing_of(ranges, samples, float_range)
    tolerance = Tolerance(max_steps=max_steps, rtol=rtol, atol=atol)
    steps = _steps(session)
    with contextlib.ExitStack() as stack:
        other = (
            stack.enter_context(opened(session, reference, by))
            if isinstance(reference, str | Path)
            else reference
        )
        warn_about(other)
        pairs = _pairs(session, other)

        def judge(inputs: Sequence[Inputs]) -> list[Judged]:
            theirs = [_translated(sample, session, other) for sample in inputs]
            both = zip(answers(session, inputs), answers(other, theirs), strict=True)
            return [_judged(pairs, a, b, tolerance, steps) for a, b in both]

        done = hunt(
            session,
            judge,
            name=name,
            max_examples=max_examples,
            drawing=drawing,
            targeted=targeted,
        )
        done.figures = (
            Figure(
                value=done.worst,
                unit=_unit(session, steps),
                kind=figure_kind(session),
                source=f"greatest distance over {done.examples} inputs: {side(session)}; "
                f"reference: {side(other)}",
            ),
        )
        return done


def _unit(session: Session, steps: Mapping[str, float]) -> str:
    in_steps = {t.dtype.kind != "f" or t.name in steps for t in session.outputs}
    return " or ".join(
        word for word, there in (("steps", True), ("tolerances", False)) if there in in_steps
    )


@dataclass(frozen=True)
class _Pair:
    """An output of ours and the reference's, and in whose layouts they come."""

    mine: Tensor
    theirs: Tensor
    formats: tuple[Format, Format]

    def wanted(self, outputs: Outputs, like: Array) -> Array:
        value = outputs[self.theirs.name]
        return laid_out(value, self.formats[1], self.formats[0], like.shape)


def _pairs(session: Session, other: Runner) -> list[_Pair]:
    """Outputs that belong together: by name where all are the same, else by position.

    Raises:
        InputError: there are not as many inputs or outputs on both sides.
    """
    ours, theirs = ({t.name: t for t in side.outputs} for side in (session, other))
    for what, mine, others in (
        ("input", session.inputs, other.inputs),
        ("output", session.outputs, other.outputs),
    ):
        matched([t.name for t in mine], [t.name for t in others], None, what)
    return [
        _Pair(ours[mine], theirs[name], (session.model.format, other.model.format))
        for mine, name in matched(list(ours), list(theirs), None, "output")
    ]


def _translated(sample: Inputs, session: Session, other: Runner) -> Inputs:
    arrays = converted([sample[tensor.name] for tensor in session.inputs], session, other)
    return {tensor.name: array for tensor, array in zip(other.inputs, arrays, strict=True)}


def _judged(
    pairs: Sequence[_Pair],
    actual: Outputs | DeviceFailed,
    wanted: Outputs | DeviceFailed,
    tolerance: Tolerance,
    steps: Mapping[str, float],
) -> Judged:
    if isinstance(actual, DeviceFailed):
        return dead(actual) or Judged()
    if wanted is NOT_RUN:
        return Judged(ran=False)  # another one says why
    if isinstance(wanted, DeviceFailed):
        raise wanted  # the reference itself: says nothing about the device
    worst, text = 0.0, ""
    values = []
    for pair in pairs:
        mine = pair.mine
        a = actual[mine.name]
        b = pair.wanted(wanted, a)
        far = distance(a, b, mine, pair.theirs, tolerance, step=steps.get(mine.name, 0.0))
        if not far.units <= 1 and (not text or far.shown > worst):
            text = f"output {mine.name!r} is {far.text}"
        worst = max(worst, far.shown)
        if a.dtype.kind != "c":
            values.append(mine.real(a).reshape(-1))
    followed = np.concatenate([*values, [worst]])
    scores = {"error": worst}
    if followed.size > 1:
        scores["greatest output"] = float(followed[:-1].max())
        scores["least output"] = -float(followed[:-1].min())
    return Judged(
        failure=text,
        scores={k: v for k, v in scores.items() if np.isfinite(v)},
        outputs=followed,
        answer=actual,
    )


def _applied(change: Transform, sample: Inputs, session: Session) -> Inputs:
    """``change`` of a sample: of the array where there is one input, else of the dict."""
    names = [tensor.name for tensor in session.inputs]
    if len(names) > 1:
        return dict(change(sample))
    return {names[0]: np.asarray(change(sample[names[0]]))}


def invariant(
    session: Session,
    change: Transform,
    *,
    relation: Callable[[Outputs, Outputs], bool] | None = None,
    max_steps: float = 0,
    rtol: float = FLOAT_RTOL,
    atol: float = FLOAT_ATOL,
    max_examples: int = 100,
    name: str = "",
    ranges: Ranges | None = None,
    samples: Sequence[Any] = (),
    float_range: tuple[float, float] | None = None,
) -> Hunt:
    """Outputs are the same for an input and for ``change`` of it.

    Args:
        change: of the input array (one input) or of ``{name: array}``; must keep the dtype.
        relation: instead of "the same within tolerance": a function of the outputs before and
            after that says whether they are right, e.g. that the same class wins.
    """
    drawing = drawing_of(ranges, samples, float_range)
    label = name or f"invariant under {getattr(change, '__name__', 'a change')}"
    tolerance = Tolerance(max_steps=max_steps, rtol=rtol, atol=atol)

    def compared(before: Outputs, after: Outputs) -> Judged:
        if relation is not None:
            holds = relation(before, after)
            return Judged(failure="" if holds else "the relation does not hold")
        return _judged_same(session, before, after, tolerance)

    return _metamorphic(session, change, compared, label, max_examples, drawing)


def _judged_same(session: Session, before: Outputs, after: Outputs, tolerance: Tolerance) -> Judged:
    for tensor in session.outputs:
        far = distance(after[tensor.name], before[tensor.name], tensor, tensor, tolerance)
        if not far.units <= 1:
            return Judged(failure=f"output {tensor.name!r} is {far.text} (before the change)")
    return Judged()


def monotone(
    session: Session,
    change: Transform,
    measure: Callable[[Outputs], float],
    *,
    slack: float = 0.0,
    max_examples: int = 100,
    name: str = "",
    ranges: Ranges | None = None,
    samples: Sequence[Any] = (),
    float_range: tuple[float, float] | None = None,
) -> Hunt:
    """``measure`` of the outputs does not fall when the input is changed by ``change``.

    Args:
        measure: a number from ``{name: array}``.
        slack: how far it may fall nevertheless.
    """
    drawing = drawing_of(ranges, samples, float_range)
    label = name or f"monotone under {getattr(change, '__name__', 'a change')}"

    def compared(before: Outputs, after: Outputs) -> Judged:
        one, two = float(measure(before)), float(measure(after))
        falls = not two >= one - slack
        return Judged(failure=f"it falls from {one:g} to {two:g}" if falls else "")

    return _metamorphic(session, change, compared, label, max_examples, drawing)


def _metamorphic(
    session: Session,
    change: Transform,
    compared: Callable[[Outputs, Outputs], Judged],
    name: str,
    max_examples: int,
    drawing: Drawing,
) -> Hunt:
    def judge(inputs: Sequence[Inputs]) -> list[Judged]:
        changed = [_applied(change, sample, session) for sample in inputs]
        return pairwise(answers(session, inputs), answers(session, changed), compared)

    return hunt(session, judge, name=name, max_examples=max_examples, drawing=drawing)
