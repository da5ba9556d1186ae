"""Which engine runs a profile: the first to answer that proves what the test needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, get_args

from edge_harness.engines import Availability, Engine
from edge_harness.engines.abilities import ABILITIES, bound
from edge_harness.engines.registry import AUTO, blaming, broken, engine_named, working_engines
from edge_harness.errors import (
    BrokenExtension,
    MissingAbility,
    MissingTool,
    OptionError,
    did_you_mean,
)
from edge_harness.evidence import FigureKind

if TYPE_CHECKING:
    from edge_harness.profiles import Profile


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The engine for one device, and what its probe said; made once and handed on."""

    engine: Engine
    availability: Availability
    why: str
    """Why this one, as ``answers first`` or ``asked for``."""

    def __str__(self) -> str:
        """As the header has it."""
        return f"engine {self.engine.name} ({self.why}; {self.availability.reason})"


def check_needs(needs: frozenset[str]) -> None:
    """Raise :class:`OptionError` for an ability nobody has heard of."""
    for need in sorted(needs - ABILITIES.keys()):
        raise OptionError(
            f"there is no ability {need!r}{did_you_mean(need, ABILITIES)}",
            next_step=f"use some of: {', '.join(ABILITIES)}",
        )


def choose_engine(
    profile: Profile,
    engine: str = AUTO,
    needs: frozenset[str] = frozenset(),
    *,
    implements: type | None = None,
) -> Choice:
    """The engine for ``profile``; starts and fetches nothing.

    Args:
        profile: the board.
        engine: an engine's name; ``auto`` for the first, in the engines' own order, that has
            every ability needed.
        needs: words of :data:`edge_harness.engines.abilities.ABILITIES`.
        implements: a Protocol of :mod:`edge_harness.engines.abilities` that is about engines;
            ``auto`` then also takes engines that are chosen on request alone.

    Raises:
        OptionError: no such engine or ability.
        BrokenExtension: the engine asked for is another distribution's, and cannot be had.
        MissingAbility: engines are there, but none can prove all of ``needs``.
        MissingTool: the engine, or every engine, lacks something on this machine.
    """
    check_needs(needs)
    failing: list[BrokenExtension] = []
    if engine == AUTO:
        known, failing = working_engines()
        candidates = [
            each
            for each in known
            if (implements is None and each.auto_rank is not None)
            or (implements is not None and bound(each, implements) is not None)
        ]
    else:
        candidates = [engine_named(engine)]
    seen: list[Availability] = []
    for candidate in candidates:
        try:
            availability = probed(candidate, profile)
        except BrokenExtension as error:
            if engine != AUTO:
                raise
            failing.append(error)  # the others are as good as before
            continue
        if availability.available and needs <= availability.abilities:
            why = _why(needs, seen) if engine == AUTO else "asked for"
            return Choice(engine=candidate, availability=availability, why=why)
        seen.append(availability)
    lines = [_why_not(a, needs) for a in seen] + [error.message for error in failing]
    fixes = [a.fix for a in seen if a.fix] + [error.next_step for error in failing]
    if any(a.available for a in seen):
        if engine == AUTO:
            words = ", ".join(sorted(needs))
            message = f"no engine here can prove {words} for {profile.name}: " + "; ".join(lines)
        else:
            words, because = _missing(seen[0], needs)
            message = f"the engine {engine} cannot prove {words} for {profile.name}{because}"
        raise MissingAbility(
            message,
            next_step=" or ".join(fixes) or "leave --engine at auto",
            details={"needs": sorted(needs)},
        )
    raise MissingTool(
        f"{profile.name} cannot run here: " + "; ".join(lines),
        next_step=" or ".join(fixes) or "edge-harness doctor shows what is missing",
    )


def probed(engine: Engine, profile: Profile) -> Availability:
    """What ``engine`` says of ``profile``, held to its word.

    Raises:
        BrokenExtension: it claims an ability that its machines have not the methods for; or it is
            another distribution's, and fails.
    """
    with blaming(engine.name, "probe", "cannot say whether it runs here"):
        availability = engine.probe(profile)
    wrong = _nonsense(availability)
    if wrong:
        raise broken(
            engine.name,
            f"is broken: probe() gives {wrong}",
            next_step="have it return what edge_harness.engines.Availability describes",
        )
    for word in sorted(availability.abilities):
        known = ABILITIES.get(word)
        lacking = known.missing_in(engine.machine_type) if known else []
        if known is None or lacking:
            why = f"{engine.machine_type.__name__} has no {', '.join(lacking)}()"
            raise broken(
                engine.name,
                f"claims the ability {word!r}, and "
                + (why if known else "there is no such ability"),
                next_step="mend its probe(), or add what edge_harness.engines.abilities asks for",
            )
    return availability


def _nonsense(said: object) -> str:
    """What in a probe's answer cannot be, as ``abilities=['isa']``; "" if nothing."""
    if not isinstance(said, Availability):
        return f"{said!r} and no Availability"
    sound = {
        "engine": isinstance(said.engine, str),
        "available": isinstance(said.available, bool),
        "reason": isinstance(said.reason, str),
        "fix": isinstance(said.fix, str),
        "abilities": _is_words(said.abilities),
        "without": isinstance(said.without, Mapping)
        and all(isinstance(each, str) for pair in said.without.items() for each in pair),
        "figure_kind": said.figure_kind in get_args(FigureKind),
    }
    return ", ".join(f"{part}={getattr(said, part)!r}" for part, ok in sound.items() if not ok)


def _is_words(thing: object) -> bool:
    return isinstance(thing, frozenset | set) and all(isinstance(each, str) for each in thing)


def _why(needs: frozenset[str], passed_over: list[Availability]) -> str:
    words = ", ".join(sorted(needs))
    runs = [a.engine for a in passed_over if a.available]
    if runs:
        return f"the first that proves {words}, which {', '.join(runs)} cannot"
    return f"answers first of those that prove {words}" if needs else "answers first"


def _why_not(availability: Availability, needs: frozenset[str]) -> str:
    if not availability.available:
        return f"{availability.engine}: {availability.reason}"
    words, because = _missing(availability, needs)
    return f"{availability.engine} runs but cannot prove {words}{because}"


def _missing(availability: Availability, needs: frozenset[str]) -> tuple[str, str]:
    """What of ``needs`` cannot be proved, and why, in brackets."""
    missing = sorted(needs - availability.abilities)
    reasons = list(
        dict.fromkeys(availability.without[w] for w in missing if w in availability.without)
    )
    return ", ".join(missing), f" ({'; '.join(reasons)})" if reasons else ""
