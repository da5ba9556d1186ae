"""A failing input: made small, kept for the next run, and told."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from edge_harness.models.tensors import Array
from edge_harness.properties import kept_examples
from edge_harness.properties.judging import Judge
from edge_harness.properties.kept_examples import Named
from edge_harness.properties.smallest import Inputs, Smallest
from edge_harness.strategies.space import Space

if TYPE_CHECKING:
    from edge_harness.device.session import Session
    from edge_harness.properties.hunted import Hunt

#: Elements of a failing input that its message writes out.
_WRITTEN = 24


class PropertyFailed(AssertionError):
    """An input breaks a property. ``inputs`` is the smallest one found, as ``session.run`` takes
    it; ``found`` is the one it was shrunk from."""

    def __init__(
        self, message: str, *, name: str, inputs: Inputs, found: Inputs, repeatable: bool
    ) -> None:
        super().__init__(message)
        self.property = name
        self.inputs = inputs
        self.found = found
        self.repeatable = repeatable
        """Whether the same input failed when it was run again."""

    def __reduce__(self) -> tuple[Any, ...]:
        fields = (str(self), self.property, self.inputs, self.found, self.repeatable)
        return _rebuild, fields


def _rebuild(
    message: str, name: str, inputs: Inputs, found: Inputs, repeatable: bool
) -> PropertyFailed:
    return PropertyFailed(message, name=name, inputs=inputs, found=found, repeatable=repeatable)


def report_failing(
    session: Session,
    judge: Judge,
    space: Space,
    hunt: Hunt,
    name: str,
    shrink: bool,
    database: Named | None,
) -> NoReturn:
    """Make what ``hunt`` found small, keep it in the database, and raise it.

    Raises:
        PropertyFailed: an input breaks the property.
        DeviceFailed: an input kills the worker.
    """
    assert hunt.failing is not None
    found, judged = hunt.failing
    kind = type(judged.error)
    deadly = judged.error is not None

    def fails(candidates: Sequence[Inputs], first_only: bool) -> list[bool]:
        if not deadly:
            return [bool(each.failure) and each.error is None for each in judge(candidates)]
        # One by one: a death costs a new worker and a look at its core dump, in a batch twice.
        dies: list[bool] = []
        for candidate in candidates:
            done = first_only and True in dies
            dies.append(not done and type(judge([candidate])[0].error) is kind)
        return dies

    again = judge([found])[0]
    repeatable = bool(again.failure)
    smallest = found
    if shrink and repeatable and type(again.error) is kind:
        smallest = Smallest(space.spans, fails, max_s=6 if deadly else 20).of(found)
        again = judge([smallest])[0]
        kept_examples.keep(database, smallest)
    shown = again if again.failure else judged
    text = (
        f"{name}: {shown.failure}\n"
        f"  found after {hunt.examples} inputs on {session.device.name} "
        f"({session.device.engine}), {session.runtime}, kernels {session.kernels}"
        + ("" if repeatable else "; it did not happen again with the same input")
        + f"\n  input{'' if smallest is found else ' (shrunk)'}:\n"
        + "\n".join(f"    {line}" for line in written(smallest, space))
    )
    if shown.error is not None:
        error = shown.error
        wide = [
            span.tensor.name
            for span in space.spans
            if span.whole and span.tensor.dtype.itemsize > 2 and not span.tensor.quantized
        ]
        if wide:
            text += (
                "\n  if not every number is a legal input there (tokens, indices), say which are: "
                f"ranges={{{wide[0]!r}: (lowest, highest)}}"
            )
        raise error.but(message=f"{error.message}\n{text}") from error.__cause__
    raise PropertyFailed(text, name=name, inputs=smallest, found=found, repeatable=repeatable)


def written(inputs: Inputs, space: Space) -> list[str]:
    """``inputs`` as Python that makes them, where few elements differ from a plain array."""
    lines = []
    for span in space.spans:
        name = span.tensor.name
        array = inputs[name]
        plain = _commonest(array, span.tensor.dtype.type(span.origin))
        lines.append(
            f"x[{name!r}] = np.full({array.shape}, {plain.item()!r}, np.{array.dtype.name})"
        )
        others = np.flatnonzero(array.reshape(-1) != plain)
        if others.size:
            values = array.reshape(-1)[others[:_WRITTEN]].tolist()
            lines.append(
                f"x[{name!r}].flat[{others[:_WRITTEN].tolist()}] = {values}"
                + (f"  # and {others.size - _WRITTEN} more" if others.size > _WRITTEN else "")
            )
    return lines


def _commonest(array: Array, origin: Any) -> Any:
    if not array.size:
        return origin
    values, counts = np.unique(array, return_counts=True)
    most = int(np.argmax(counts))
    return values[most] if counts[most] > 1 else origin
