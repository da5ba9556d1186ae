"""Properties that compare: with a reference, and with the same model's answer to a changed
input."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edge_harness.errors import DeviceFailed, InputError
from edge_harness.fidelity.distance import FLOAT_ATOL, FLOAT_RTOL, Tolerance, distance, real
from edge_harness.models.tensors import Outputs
from edge_harness.properties.hunt import NOT_RUN, Hunt, Verdict, answers, hunt
from edge_harness.properties.members import dead, of_options, pairwise
from edge_harness.properties.smallest import Inputs

if TYPE_CHECKING:
    from edge_harness.device.session import Session
    from edge_harness.fidelity.inputs import Runner

Transform = Callable[[Any], Any]


@contextlib.contextmanager
def _opened(session: Session, reference: Runner | str | Path, by: str) -> Iterator[Runner]:
    if not isinstance(reference, str | Path):
        yield reference
        return
    from edge_harness.fidelity.reference import opened

    with opened(session, reference, by) as other:
        yield other


def _steps(session: Session) -> dict[str, float]:
    """Steps of real outputs that were integers until the last operator."""
    if all(tensor.dtype.kind != "f" for tensor in session.outputs):
        return {}
    from edge_harness.fidelity.reference import output_steps

    return output_steps(session.model)


def equal_to(
    session: Session,
    reference: Runner | str | Path,
    *,
    by: str = "trusted",
    max_examples: int = 100,
    max_steps: float = 1,
    rtol: float = FLOAT_RTOL,
    atol: float = FLOAT_ATOL,
    targeted: bool = True,
    name: str = "equal_to",
    **drawing: Any,
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
    tolerance = Tolerance(max_steps=max_steps, rtol=rtol, atol=atol)
    steps = _steps(session)
    with _opened(session, reference, by) as other:
        _fit(session, other)
        from edge_harness.fidelity.reference import warn_about

        warn_about(other)

        def judge(inputs: Sequence[Inputs]) -> list[Verdict]:
            theirs = [_translated(sample, session, other) for sample in inputs]
            pairs = zip(answers(session, inputs), answers(other, theirs), strict=True)
            return [_judged(session, other, a, b, tolerance, steps) for a, b in pairs]

        return hunt(
            session,
            judge,
            name=name,
            max_examples=max_examples,
            drawing=of_options(drawing),
            targeted=targeted,
        )


def _judged(
    session: Session,
    other: Runner,
    actual: Outputs | DeviceFailed,
    wanted: Outputs | DeviceFailed,
    tolerance: Tolerance,
    steps: Mapping[str, float],
) -> Verdict:
    if isinstance(actual, DeviceFailed):
        return dead(actual) or Verdict()
    if wanted is NOT_RUN:
        return Verdict(ran=False)  # another one says why
    if isinstance(wanted, DeviceFailed):
        raise wanted  # the reference itself: says nothing about the device
    worst, text = 0.0, ""
    values = []
    for mine, theirs in zip(session.outputs, other.outputs, strict=True):
        a, b = actual[mine.name], wanted[theirs.name]
        far = distance(a, b, mine, theirs, tolerance, step=steps.get(mine.name, 0.0))
        if not far.units <= 1 and (not text or far.shown > worst):
            text = f"output {mine.name!r} is {far.text}"
        worst = max(worst, far.shown)
        if a.dtype.kind != "c":
            values.append(real(a, mine).reshape(-1))
    followed = np.concatenate([*values, [worst]])
    scores = {"error": worst}
    if followed.size > 1:
        scores["greatest output"] = float(followed[:-1].max())
        scores["least output"] = -float(followed[:-1].min())
    return Verdict(
        failure=text,
        scores={k: v for k, v in scores.items() if np.isfinite(v)},
        outputs=followed,
        answer=actual,
    )


def _fit(session: Session, other: Runner) -> None:
    for what, mine, theirs in (
        ("inputs", session.inputs, other.inputs),
        ("outputs", session.outputs, other.outputs),
    ):
        if len(mine) != len(theirs):
            raise InputError(
                f"the reference has {len(theirs)} {what}, the model {len(mine)}",
                next_step="compare two forms of the same model",
            )


def _translated(sample: Inputs, session: Session, other: Runner) -> Inputs:
    translated = {}
    for mine, theirs in zip(session.inputs, other.inputs, strict=True):
        array = sample[mine.name]
        if theirs.dtype != mine.dtype or theirs.scales != mine.scales:
            values = real(array, mine)
            array = theirs.quantize(values) if theirs.quantized else values.astype(theirs.dtype)
        translated[theirs.name] = array
    return translated


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
    **drawing: Any,
) -> Hunt:
    """Outputs are the same for an input and for ``change`` of it.

    Args:
        change: of the input array (one input) or of ``{name: array}``; must keep the dtype.
        relation: instead of "the same within tolerance": a function of the outputs before and
            after that says whether they are right, e.g. that the same class wins.
    """
    label = name or f"invariant under {getattr(change, '__name__', 'a change')}"
    tolerance = Tolerance(max_steps=max_steps, rtol=rtol, atol=atol)

    def compared(before: Outputs, after: Outputs) -> Verdict:
        if relation is not None:
            holds = relation(before, after)
            return Verdict(failure="" if holds else "the relation does not hold")
        return _judged_same(session, before, after, tolerance)

    return _metamorphic(session, change, compared, label, max_examples, drawing)


def _judged_same(
    session: Session, before: Outputs, after: Outputs, tolerance: Tolerance
) -> Verdict:
    for tensor in session.outputs:
        far = distance(after[tensor.name], before[tensor.name], tensor, tensor, tolerance)
        if not far.units <= 1:
            return Verdict(failure=f"output {tensor.name!r} is {far.text} (before the change)")
    return Verdict()


def monotone(
    session: Session,
    change: Transform,
    measure: Callable[[Outputs], float],
    *,
    slack: float = 0.0,
    max_examples: int = 100,
    name: str = "",
    **drawing: Any,
) -> Hunt:
    """``measure`` of the outputs does not fall when the input is changed by ``change``.

    Args:
        measure: a number from ``{name: array}``.
        slack: how far it may fall nevertheless.
    """
    label = name or f"monotone under {getattr(change, '__name__', 'a change')}"

    def compared(before: Outputs, after: Outputs) -> Verdict:
        one, two = float(measure(before)), float(measure(after))
        falls = not two >= one - slack
        return Verdict(failure=f"it falls from {one:g} to {two:g}" if falls else "")

    return _metamorphic(session, change, compared, label, max_examples, drawing)


def _metamorphic(
    session: Session,
    change: Transform,
    compared: Callable[[Outputs, Outputs], Verdict],
    name: str,
    max_examples: int,
    drawing: Mapping[str, Any],
) -> Hunt:
    def judge(inputs: Sequence[Inputs]) -> list[Verdict]:
        changed = [_applied(change, sample, session) for sample in inputs]
        return pairwise(answers(session, inputs), answers(session, changed), compared)

    return hunt(session, judge, name=name, max_examples=max_examples, drawing=of_options(drawing))
