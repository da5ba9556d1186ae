"""All properties in one call, and what came of each."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_harness.errors import DeviceFailed, MissingAbility, OptionError
from edge_harness.evidence import Verdict, VerdictWord, worst_of
from edge_harness.properties.comparing import Transform, equal_to, invariant
from edge_harness.properties.each_input import finite, survives
from edge_harness.properties.failing import PropertyFailed
from edge_harness.properties.hunted import Hunt
from edge_harness.properties.same_again import (
    batch_invariant,
    deterministic,
    independent,
    thread_invariant,
)
from edge_harness.properties.whole_session import memory_flat, refuses_illegal

if TYPE_CHECKING:
    from edge_harness.device.session import Session
    from edge_harness.fidelity.inputs import Runner

NAMES = (
    "survives",
    "finite",
    "deterministic",
    "independent",
    "batch_invariant",
    "thread_invariant",
    "refuses_illegal",
    "memory_flat",
    "equal_to",
)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came of one property."""

    name: str
    verdict: Verdict
    """``passed``, ``failed``, ``vacuous`` (every input gave the same outputs) or ``skipped`` (it
    was not checked), with the failure or the reason."""
    examples: int = 0
    seconds: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "name": self.name,
            "verdict": self.verdict.as_json(),
            "examples": self.examples,
            "seconds": self.seconds,
        }


@dataclass(frozen=True, kw_only=True)
class Results:
    """All outcomes, in the order they were checked."""

    outcomes: tuple[Outcome, ...]
    side: str
    """Device, runtime and kernels."""

    def __getitem__(self, name: str) -> Outcome:
        for outcome in self.outcomes:
            if outcome.name == name:
                return outcome
        raise KeyError(name)

    def of(self, word: VerdictWord) -> list[Outcome]:
        """The outcomes whose verdict is ``word``."""
        return [outcome for outcome in self.outcomes if outcome.verdict.word == word]

    @property
    def verdict(self) -> Verdict:
        """Of all together, as :func:`edge_harness.evidence.worst_of` has it."""
        return worst_of(
            replace(each.verdict, reason=f"{each.name}: {_first_line(each.verdict)}")
            if each.verdict.reason
            else each.verdict
            for each in self.outcomes
        )

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "verdict": self.verdict.as_json(),
            "side": self.side,
            "outcomes": [outcome.as_dict() for outcome in self.outcomes],
        }

    def __str__(self) -> str:
        width = max((len(outcome.name) for outcome in self.outcomes), default=0)
        lines = [f"properties of {self.side}"]
        for each in self.outcomes:
            figures = f"{each.examples:5d} inputs {each.seconds:6.2f} s" if each.examples else ""
            lines.append(
                f"  {each.name:{width}}  {each.verdict.word:7}  {figures:22}  "
                f"{_first_line(each.verdict)}".rstrip()
            )
        return "\n".join(lines)


def _first_line(verdict: Verdict) -> str:
    if verdict.reason:
        return verdict.reason.splitlines()[0]
    return "; ".join(map(str, verdict.figures))


def check_all(
    session: Session,
    *,
    reference: Runner | str | Path | None = None,
    samples: Sequence[Any] = (),
    ranges: Mapping[str, tuple[float, float]] | None = None,
    float_range: tuple[float, float] | None = None,
    invariant_under: Sequence[Transform] = (),
    illegal: Sequence[Any] = (),
    max_examples: int = 100,
    max_steps: float = 1,
    memory_calls: int = 400,
    skip: Collection[str] = (),
) -> Results:
    """Check every property in :data:`NAMES` that can be, and print-ready results of all.

    Args:
        reference: what outputs must equal within ``max_steps`` (see ``equal_to``); without it
            that property is skipped, and the results say so.
        samples, ranges, float_range: how inputs are drawn, see ``strategies.inputs``.
        invariant_under: changes of an input that must not change the outputs.
        illegal: further inputs that must be refused.
        max_examples: inputs for each property.
        memory_calls: runs that memory must stay flat over.
        skip: names of properties to leave out.

    Raises:
        PropertyFailed: some do not hold; the message has the first failure and all outcomes.
        DeviceFailed: an input killed the worker; what was not checked after it is listed.
        OptionError: ``skip`` names no property.
    """
    for name in skip:
        if name not in NAMES:
            raise OptionError(
                f"there is no property {name!r}", next_step=f"known: {', '.join(NAMES)}"
            )
    drawing: dict[str, Any] = {"ranges": ranges, "samples": samples, "float_range": float_range}
    many: dict[str, Any] = {"max_examples": max_examples}
    steps: dict[str, Callable[[], Hunt]] = {
        "survives": lambda: survives(session, **many, **drawing),
        "finite": lambda: finite(session, **many, **drawing),
        "deterministic": lambda: deterministic(session, **many, **drawing),
        "independent": lambda: independent(session, **many, **drawing),
        "batch_invariant": lambda: batch_invariant(session, **many, **drawing),
        "thread_invariant": lambda: thread_invariant(session, **many, **drawing),
        "refuses_illegal": lambda: refuses_illegal(session, illegal=illegal, **drawing),
        "memory_flat": lambda: memory_flat(session, calls=memory_calls, **drawing),
    }
    if reference is not None:
        steps["equal_to"] = lambda: equal_to(
            session, reference, max_steps=max_steps, **many, **drawing
        )
    for change in invariant_under:
        label = f"invariant under {getattr(change, '__name__', 'a change')}"
        steps[label] = lambda change=change: invariant(  # type: ignore[misc]
            session, change, **many, **drawing
        )
    outcomes: list[Outcome] = []
    failures: list[PropertyFailed] = []
    death: DeviceFailed | None = None
    for name, step in steps.items():
        if name in skip:
            outcomes.append(_skipped(name, "left out by skip="))
            continue
        if death is not None:
            outcomes.append(_skipped(name, "not checked: an input killed the worker"))
            continue
        started = time.monotonic()
        try:
            done = step()
        except MissingAbility as error:
            outcomes.append(_skipped(name, error.message))
        except PropertyFailed as error:
            failures.append(error)
            outcomes.append(_failed(name, str(error), started))
        except DeviceFailed as error:
            death = error
            outcomes.append(_failed(name, error.message, started))
        else:
            outcomes.append(
                Outcome(
                    name=name,
                    verdict=done.verdict,
                    examples=done.examples,
                    seconds=time.monotonic() - started,
                )
            )
    if reference is None and "equal_to" not in skip:
        outcomes.append(_skipped("equal_to", "no reference was given"))
    results = Results(
        outcomes=tuple(outcomes),
        side=f"{session.model.path.name} on {session.device.name} ({session.device.engine}), "
        f"{session.runtime}, kernels {session.kernels}",
    )
    if death is not None:
        raise death.but(message=f"{death.message}\n{results}") from death.__cause__
    if failures:
        first = failures[0]
        raise PropertyFailed(
            f"{first}\n{results}",
            name=first.property,
            inputs=first.inputs,
            found=first.found,
            repeatable=first.repeatable,
        )
    return results


def _skipped(name: str, why: str) -> Outcome:
    return Outcome(name=name, verdict=Verdict(word="skipped", reason=why))


def _failed(name: str, text: str, started: float) -> Outcome:
    why = text.removeprefix(f"{name}: ")
    return Outcome(
        name=name,
        verdict=Verdict(word="failed", reason=why),
        seconds=time.monotonic() - started,
    )
