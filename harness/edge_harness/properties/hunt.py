"""The hunt for an input that breaks a property: Hypothesis chooses, the device answers in
batches, the failing input is made small."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from hypothesis import HealthCheck, Phase, given, target
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from edge_harness.errors import DeviceFailed, EdgeError, OptionError
from edge_harness.models.tensors import Array, Outputs
from edge_harness.properties import kept_examples
from edge_harness.properties.guide import Guide, guided
from edge_harness.properties.kept_examples import Named
from edge_harness.properties.smallest import Inputs, Smallest
from edge_harness.strategies import coded, inputs
from edge_harness.strategies.space import Space
from edge_harness.strategies.values import FLOAT_RANGE

if TYPE_CHECKING:
    from edge_harness.device.session import Session
    from edge_harness.fidelity.inputs import Runner

#: Inputs in a case of Hypothesis, and of one choice in it. A case costs some 0.6 ms and a choice
#: 25 µs, where a small model answers in 60 to 500 µs inside an emulator.
_BATCH = 64
_BLOCK = 4
#: How often a targeted search fits its directions anew before it climbs.
_ROUNDS = 3
#: Elements of a failing input that its message writes out.
_WRITTEN = 24


@dataclass(frozen=True)
class Verdict:
    """What a property says of one input."""

    failure: str = ""
    """Empty where it holds."""
    error: DeviceFailed | None = None
    """What the device died of, where it did."""
    scores: dict[str, float] = field(default_factory=dict)
    """What a targeted search drives up, by label; ``error`` is the distance itself."""
    outputs: npt.NDArray[np.float64] | None = None
    """Real values of all outputs with the error behind them, to learn from."""
    answer: Outputs | None = None
    """What the model gave, to see whether it varies at all."""
    ran: bool = True
    """Whether the input ran at all: what comes after a deadly one does not."""


Judge = Callable[[Sequence[Inputs]], list[Verdict]]


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


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """How inputs are drawn; see :func:`edge_harness.strategies.inputs`."""

    ranges: dict[str, tuple[float, float]] = field(default_factory=dict)
    samples: tuple[Any, ...] = ()
    float_range: tuple[float, float] = FLOAT_RANGE


@dataclass(kw_only=True)
class Hunt:
    """What a hunt did."""

    examples: int = 0
    """Inputs judged, shrinking aside."""
    asked: int = 0
    """Inputs asked for; fewer were judged only where Hypothesis draws no others."""
    seconds: float = 0.0
    worst: float = math.nan
    """Greatest score under the label ``error``."""
    worst_inputs: Inputs | None = None
    failing: tuple[Inputs, Verdict] | None = None
    varied: bool | None = None
    """Whether not all inputs gave the same outputs; where they did, the property holds for want
    of a test. None where that was not looked at."""
    _first: list[bytes] | None = None

    def look_at(self, answer: Outputs | None) -> None:
        """Note whether ``answer`` is another than the first."""
        if answer is None or self.varied:
            return
        bits = [values.tobytes() for values in answer.values()]
        if self._first is None:
            self._first, self.varied = bits, False
        self.varied = bits != self._first


class _Found(Exception):
    """Tells Hypothesis that a case fails; what failed is in the hunt."""


def hunt(
    session: Session,
    judge: Judge,
    *,
    name: str,
    max_examples: int = 100,
    drawing: Drawing | None = None,
    targeted: bool = False,
    batch: int = _BATCH,
    shrink: bool = True,
) -> Hunt:
    """Look for an input that ``judge`` finds failing.

    Inputs are judged ``batch`` at a time. With ``targeted`` the second half of them is chosen one
    by one by Hypothesis' targeted search, which climbs the scores.

    Settings come from the Hypothesis profile in force, ``--hypothesis-seed`` included; its
    ``deadline`` and ``max_examples`` are not used. The example database holds what failed, under
    the running test's id, the model's name and ``name``.

    Raises:
        PropertyFailed: an input breaks the property.
        DeviceFailed: an input kills the worker; the smallest such input is in the message.
        OptionError: ``max_examples`` is less than 1.
        InfrastructureError: the machinery failed.
    """
    if max_examples < 1:
        raise OptionError(
            f"max_examples={max_examples!r}: without an input nothing is looked for",
            next_step="give at least 1",
        )
    drawing = drawing or Drawing()
    space = Space.of(
        session,
        ranges=drawing.ranges,
        samples=drawing.samples,
        float_range=drawing.float_range,
    )
    result = Hunt(asked=max_examples)
    started = time.monotonic()
    trouble: list[EdgeError] = []
    guide = Guide(space.spans) if targeted else None
    database = kept_examples.database_of(session.model.path.name, name)
    climbing = False

    def tried(samples: Sequence[Inputs]) -> None:
        if trouble:
            raise trouble[0]
        if result.failing is not None:
            # Hypothesis repeats the failing case to be sure; _report does that itself.
            raise _Found
        try:
            verdicts = judge(samples)
        except EdgeError as error:
            trouble.append(error)
            raise
        result.examples += sum(verdict.ran for verdict in verdicts)
        for sample, verdict in zip(samples, verdicts, strict=True):
            score = verdict.scores.get("error", math.nan)
            if score > result.worst or (result.worst != result.worst and score == score):
                result.worst, result.worst_inputs = score, sample
            result.look_at(verdict.answer)
            if guide is not None and verdict.outputs is not None:
                guide.record(sample, verdict.outputs)
            if verdict.failure:
                result.failing = sample, verdict
                raise _Found
        if climbing and len(samples) == 1:
            for label in verdicts[0].scores:
                values = [v.scores[label] for v in verdicts if math.isfinite(v.scores[label])]
                if values:
                    target(max(values), label=label)

    seen: set[int] = set()

    def unseen(codes: list[int]) -> None:
        room = math.ceil((many - result.examples) / _BLOCK)
        new = [code for code in dict.fromkeys(codes) if code not in seen][: max(0, room)]
        seen.update(new)
        if new or result.failing is not None:
            tried(space.all(new, _BLOCK))

    many = max_examples // 2 if targeted else max_examples
    one_by_one = max_examples - many if targeted else 0
    try:
        if Phase.reuse in hypothesis_settings().phases:
            for inputs_then in kept_examples.kept(database, space.spans):
                tried([inputs_then])
                kept_examples.forget(database, inputs_then)
        size = max(1, min(batch, many) // _BLOCK)
        idle, boost = 0, 1
        while result.examples < many and idle < 3:
            before, missing = result.examples, many - result.examples
            # The first list is always [0]; others may end early or have codes that came before.
            cases = boost * (1 + math.ceil(missing / (size * _BLOCK) / 0.85))
            _run(given(codes=coded(size))(unseen), cases, database)
            gained = result.examples - before
            # Older versions of Hypothesis begin with ten short lists, however few are asked for.
            boost = 1 if gained > missing / 2 else boost * 4
            # Nothing new: --hypothesis-seed draws the same again, or that was all there is.
            idle = 0 if gained else idle + 1
        if guide is not None:
            climbing = True
            for _ in range(_ROUNDS):
                # What lies far out along one fit makes the next one better.
                ends = guide.ends()[: one_by_one // (2 * _ROUNDS)]
                if ends:
                    tried(ends)
            left = max_examples - result.examples
            if left > 0:
                single = given(values=_climbable(session, guide, drawing))(
                    lambda values: tried([values])
                )
                _run(single, left, None)  # its directions are not another run's
    except Exception:
        if trouble:
            raise trouble[0] from None
        if result.failing is None:
            raise
    result.seconds = time.monotonic() - started
    if result.failing is not None:
        _report(session, judge, space, result, name, shrink, database)
    return result


def _climbable(
    session: Session, guide: Guide, drawing: Drawing
) -> st.SearchStrategy[dict[str, Array]]:
    drawn = inputs(
        session,
        ranges=drawing.ranges,
        samples=drawing.samples,
        float_range=drawing.float_range,
    )
    directions = guide.directions()
    return guided(guide, directions) | drawn if directions else drawn


def _run(case: Callable[[], None], cases: int, database: Named | None) -> None:
    profile = hypothesis_settings()
    hypothesis_settings(
        profile,
        max_examples=cases,
        deadline=None,  # an emulator's wall clock is no deadline
        database=database,
        # A failing input is shrunk inside its arrays, by Smallest.
        phases=[p for p in profile.phases if p in (Phase.reuse, Phase.generate, Phase.target)],
        report_multiple_bugs=False,
        print_blob=False,
        suppress_health_check=list(HealthCheck),
    )(case)()


def _report(
    session: Session,
    judge: Judge,
    space: Space,
    result: Hunt,
    name: str,
    shrink: bool,
    database: Named | None,
) -> None:
    assert result.failing is not None
    found, verdict = result.failing
    kind = type(verdict.error)

    deadly = verdict.error is not None

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
    shown = again if again.failure else verdict
    text = (
        f"{name}: {shown.failure}\n"
        f"  found after {result.examples} inputs on {session.device.name} "
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


#: In place of the answers to what comes after a deadly input.
NOT_RUN = DeviceFailed("not run: an earlier input killed the worker")


def answers(
    session: Runner, samples: Sequence[Inputs], *, in_order: bool = False
) -> list[Outputs | DeviceFailed]:
    """Outputs of each sample up to the first that the device dies of, and what it died of.

    Samples of one shape run together, because a model is resized between shapes, unless
    ``in_order`` is asked for.
    """
    if in_order or len(samples) < 3:
        return _run_in_order(session, samples)
    order = sorted(
        range(len(samples)), key=lambda i: [array.shape for array in samples[i].values()]
    )
    found = _run_in_order(session, [samples[i] for i in order])
    return [answer for _, answer in sorted(zip(order, found, strict=True), key=lambda p: p[0])]


def _run_in_order(session: Runner, samples: Sequence[Inputs]) -> list[Outputs | DeviceFailed]:
    try:
        return list(session.run_many(samples))
    except DeviceFailed as error:
        fatal = int(error.details.get("example", 0))
        before = session.run_many(samples[:fatal]) if fatal else []
        return [*before, error, *[NOT_RUN] * (len(samples) - fatal - 1)]
