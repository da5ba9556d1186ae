"""``@pytest.mark.edge(devices=…, needs=…, engine=…)``, read and checked."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import pytest

from edge_harness.errors import OptionError, did_you_mean
from edge_harness.pytest_support.options import ENGINES

_KNOWN = ("devices", "needs", "engine")


@dataclass(frozen=True, kw_only=True)
class Marks:
    """All ``edge`` marks on a test together. ``needs`` add up; of ``devices`` and ``engine`` the
    closest to the test counts, as function before class before module."""

    devices: tuple[str, ...] | None
    """Names, aliases and globs; None where the test is for any device."""
    needs: frozenset[str]
    engine: str
    """Empty where the test is for any engine."""


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """The device a test wants; the value of its parameter. Different needs may lead to different
    engines, and so to different running devices, for one profile."""

    name: str
    needs: frozenset[str] = frozenset()
    engine: str = ""
    """Empty where the test is for any engine."""


def wanted_by(item: pytest.Item) -> Wanted | None:
    """The parameter of ``item``."""
    wanted = getattr(getattr(item, "callspec", None), "params", {}).get("_edge_wanted")
    return wanted if isinstance(wanted, Wanted) else None


def marks_of(node: Any) -> Marks:
    """The marks on a test or its definition.

    Raises:
        OptionError: an argument is unknown or wrong.
    """
    devices: tuple[str, ...] | None = None
    needs: set[str] = set()
    engine = ""
    for mark in node.iter_markers("edge"):  # the closest first
        if mark.args:
            raise OptionError(
                f"{', '.join(map(repr, mark.args))} was given without a name",
                next_step="write it as edge(devices=…), edge(needs=…) or edge(engine=…)",
            )
        for name in mark.kwargs:
            if name not in _KNOWN:
                raise OptionError(
                    f"there is no argument {name!r}{did_you_mean(name, _KNOWN)}",
                    next_step=f"use some of: {', '.join(_KNOWN)}",
                )
        if "devices" in mark.kwargs and devices is None:
            devices = _words("devices", mark.kwargs["devices"])
        if "needs" in mark.kwargs:
            needs.update(_needs(mark.kwargs["needs"]))
        if "engine" in mark.kwargs:
            engine = engine or _engine(mark.kwargs["engine"])
    return Marks(devices=devices, needs=frozenset(needs), engine=engine)


def _words(argument: str, value: object) -> tuple[str, ...]:
    values: Iterable[object] = ()
    if isinstance(value, str):
        values = value.split(",")
    elif isinstance(value, Iterable):
        values = list(value)
    words = tuple(word.strip() for word in values if isinstance(word, str) and word.strip())
    if not words or len(words) != len(list(values)):
        raise OptionError(
            f"{argument}={value!r} is not a name or a list of names",
            next_step=f'write it as {argument}="{_EXAMPLE[argument]}" or a list of such names',
        )
    return words


_EXAMPLE = {"devices": "rpi4", "needs": "offline"}


def _needs(value: object) -> tuple[str, ...]:
    if isinstance(value, Iterable) and not isinstance(value, str) and not list(value):
        return ()
    from edge_harness.engines.choose import check_needs

    words = _words("needs", value)
    check_needs(frozenset(words))
    return words


def _engine(value: object) -> str:
    if not isinstance(value, str) or value not in ENGINES:
        raise OptionError(
            f"engine={value!r}: there is no such engine{did_you_mean(str(value), ENGINES)}",
            next_step=f"use one of: {', '.join(ENGINES)}",
        )
    return "" if value == "auto" else value
