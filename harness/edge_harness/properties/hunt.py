"""The hunt for an input that breaks a property: Hypothesis chooses, the device answers in
batches, the failing input is made small."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from hypothesis import HealthCheck, Phase, given, target
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from edge_harness.errors import EdgeError, OptionError
from edge_harness.models.tensors import Array
from edge_harness.properties import kept_examples
from edge_harness.properties.drawing import Drawing
from edge_harness.properties.failing import report_failing
from edge_harness.properties.guide import Guide, guided
from edge_harness.properties.hunted import Hunt
from edge_harness.properties.judging import Judge
from edge_harness.properties.kept_examples import Named
from edge_harness.properties.smallest import Inputs
from edge_harness.strategies import coded, inputs

if TYPE_CHECKING:
    from edge_harness.device.session import Session

#: Inputs in a case of Hypothesis, and of one choice in it. A case costs some 0.6 ms and a choice
#: 25 µs, where a small model answers in 60 to 500 µs inside an emulator.
_BATCH = 64
_BLOCK = 4
#: How often a targeted search fits its directions anew before it climbs.
_ROUNDS = 3


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
    by_outputs: bool = True,
) -> Hunt:
    """Look for an input that ``judge`` finds failing.

    Inputs are judged ``batch`` at a time. With ``targeted`` the second half of them is chosen one
    by one by Hypothesis' targeted search, which climbs the scores. ``by_outputs`` is for the
    verdict: see :attr:`Hunt.by_outputs`.

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
    space = drawing.space(session)
    result = Hunt(asked=max_examples, by_outputs=by_outputs)
    started = time.monotonic()
    trouble: list[EdgeError] = []
    guide = Guide(space.spans) if targeted else None
    database = kept_examples.database_of(session.model.path.name, name)
    climbing = False

    def tried(samples: Sequence[Inputs]) -> None:
        if trouble:
            raise trouble[0]
        if result.failing is not None:
            # Hypothesis repeats the failing case to be sure; report_failing does that itself.
            raise _Found
        try:
            judged = judge(samples)
        except EdgeError as error:
            trouble.append(error)
            raise
        result.examples += sum(each.ran for each in judged)
        for sample, each in zip(samples, judged, strict=True):
            score = each.scores.get("error", math.nan)
            if score > result.worst or (result.worst != result.worst and score == score):
                result.worst, result.worst_inputs = score, sample
            result.look_at(sample, each.answer)
            if guide is not None and each.outputs is not None:
                guide.record(sample, each.outputs)
            if each.failure:
                result.failing = sample, each
                raise _Found
        if climbing and len(samples) == 1:
            for label, score in judged[0].scores.items():
                if math.isfinite(score):
                    target(score, label=label)

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
            for _ in range(_ROUNDS):
                # What lies far out along one fit makes the next one better.
                ends = guide.ends()[: one_by_one // (2 * _ROUNDS)]
                if ends:
                    tried(ends)
            left = max_examples - result.examples
            if left > 0:
                climbing = True  # not before: only a case of Hypothesis' own has a target
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
        report_failing(session, judge, space, result, name, shrink, database)
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
