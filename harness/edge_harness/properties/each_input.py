"""Properties of one answer to one input, ready-made and of a user's own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from edge_harness.errors import DeviceFailed
from edge_harness.fidelity.checks import not_finite
from edge_harness.models.tensors import Outputs
from edge_harness.properties.drawing import Drawing, Ranges, drawing_of
from edge_harness.properties.hunt import hunt
from edge_harness.properties.hunted import Hunt
from edge_harness.properties.judging import Judged, answers, dead
from edge_harness.properties.smallest import Inputs

if TYPE_CHECKING:
    from edge_harness.device.session import Session


def check(
    session: Session,
    judge: Callable[[Inputs, Outputs], str | None],
    *,
    name: str = "check",
    max_examples: int = 100,
    ranges: Ranges | None = None,
    samples: Sequence[Any] = (),
    float_range: tuple[float, float] | None = None,
) -> Hunt:
    """A property of your own: ``judge(inputs, outputs)`` returns what is wrong, or nothing; an
    ``AssertionError`` of its counts too.

    Args:
        name: what the property is called in messages and in Hypothesis' database.
        max_examples: how many inputs are looked at.
        ranges, samples, float_range: how inputs are drawn, see
            :func:`edge_harness.strategies.inputs`.

    Raises:
        PropertyFailed: with the smallest failing input found.
        DeviceFailed: an input kills the worker.
    """
    drawing = drawing_of(ranges, samples, float_range)
    return _looked_at(session, judge, name, max_examples, drawing)


def _looked_at(
    session: Session,
    judge: Callable[[Inputs, Outputs], str | None],
    name: str,
    max_examples: int,
    drawing: Drawing,
    *,
    by_outputs: bool = True,
) -> Hunt:
    def judged(inputs: Sequence[Inputs]) -> list[Judged]:
        found = []
        for sample, answer in zip(inputs, answers(session, inputs), strict=True):
            if isinstance(answer, DeviceFailed):
                found.append(dead(answer) or Judged())
                continue
            try:
                failure = judge(sample, answer) or ""
            except AssertionError as error:
                failure = str(error) or "assertion failed"
            found.append(Judged(failure=failure, answer=answer))
        return found

    return hunt(
        session,
        judged,
        name=name,
        max_examples=max_examples,
        drawing=drawing,
        by_outputs=by_outputs,
    )


def survives(
    session: Session,
    *,
    name: str = "survives",
    max_examples: int = 100,
    ranges: Ranges | None = None,
    samples: Sequence[Any] = (),
    float_range: tuple[float, float] | None = None,
) -> Hunt:
    """No legal input kills the worker or makes the runtime complain. Arguments as :func:`check`."""
    drawing = drawing_of(ranges, samples, float_range)
    return _looked_at(
        session, lambda inputs, outputs: None, name, max_examples, drawing, by_outputs=False
    )


def finite(
    session: Session,
    *,
    name: str = "finite",
    max_examples: int = 100,
    ranges: Ranges | None = None,
    samples: Sequence[Any] = (),
    float_range: tuple[float, float] | None = None,
) -> Hunt:
    """No output holds NaN or infinity. Arguments as :func:`check`."""
    drawing = drawing_of(ranges, samples, float_range)
    return _looked_at(
        session, lambda inputs, outputs: not_finite(outputs), name, max_examples, drawing
    )
