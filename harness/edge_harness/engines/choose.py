"""Which engine runs a profile: the cheapest that proves what the test needs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edge_harness.engines import CAPABILITIES, ENGINE_NAMES, Availability, Engine, engine_named
from edge_harness.errors import MissingCapability, MissingTool, OptionError, did_you_mean

if TYPE_CHECKING:
    from edge_harness.profiles import Profile


def check_needs(needs: frozenset[str]) -> None:
    """Raise :class:`OptionError` for a capability nobody has heard of."""
    for need in sorted(needs - CAPABILITIES.keys()):
        raise OptionError(
            f"there is no capability {need!r}{did_you_mean(need, CAPABILITIES)}",
            next_step=f"use some of: {', '.join(CAPABILITIES)}",
        )


def choose_engine(
    profile: Profile, engine: str = "auto", needs: frozenset[str] = frozenset()
) -> tuple[Engine, Availability]:
    """The engine for ``profile``; starts and fetches nothing.

    Raises:
        OptionError: no such engine or capability.
        MissingCapability: engines are there, but none can prove all of ``needs``.
        MissingTool: the engine, or every engine, lacks something on this machine.
    """
    check_needs(needs)
    # The host's own processor says nothing about a board: only on request.
    names = [name for name in ENGINE_NAMES if name != "host"] if engine == "auto" else [engine]
    seen: list[Availability] = []
    for name in names:
        candidate = engine_named(name)
        availability = candidate.probe(profile)
        if availability.available and needs <= availability.capabilities:
            return candidate, availability
        seen.append(availability)
    running = [a for a in seen if a.available]
    lines = [_why(a, needs) for a in seen]
    fixes = [a.fix for a in seen if a.fix]
    if running:
        raise MissingCapability(
            f"no engine here can prove {', '.join(sorted(needs))} for {profile.name}: "
            + "; ".join(lines),
            next_step=" or ".join(fixes) or "leave --engine at auto",
            details={"needs": sorted(needs)},
        )
    raise MissingTool(
        f"{profile.name} cannot run here: " + "; ".join(lines),
        next_step=" or ".join(fixes) or "edge-harness doctor shows what is missing",
    )


def _why(availability: Availability, needs: frozenset[str]) -> str:
    if not availability.available:
        return f"{availability.engine}: {availability.reason}"
    missing = ", ".join(sorted(needs - availability.capabilities))
    return f"{availability.engine} runs but cannot prove {missing}"
