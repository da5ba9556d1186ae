"""Which test runs on which devices: selection times the ``edge`` marks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

import pytest

from harness.errors import OptionError
from harness.pytest_support.options import ENGINES

if TYPE_CHECKING:
    from harness.profile import Profile

_KNOWN = ("devices", "needs", "engine")


@dataclass(frozen=True)
class Wanted:
    """The device a test wants; equal wants share one running device."""

    name: str
    needs: frozenset[str]
    engine: str


@dataclass(frozen=True)
class Marks:
    """All ``edge`` marks on a test together: devices must match each, needs add up."""

    devices: tuple[tuple[str, ...], ...]
    needs: frozenset[str]
    engine: str

    def allow(self, profile: Profile) -> bool:
        names = (profile.name, *profile.aliases)
        return all(
            any(fnmatchcase(name, pattern) for name in names for pattern in patterns)
            for patterns in self.devices
        )


def marks_of(node: pytest.Item | Any) -> Marks:
    """The marks on ``node``, checked.

    Raises:
        pytest.UsageError: an argument is unknown or wrong.
    """
    devices: list[tuple[str, ...]] = []
    needs: set[str] = set()
    engine = ""
    for mark in node.iter_markers("edge"):
        where = f"@pytest.mark.edge on {node.nodeid}"
        if mark.args:
            raise pytest.UsageError(f"{where} takes names only: {', '.join(_KNOWN)}")
        for name in mark.kwargs:
            if name not in _KNOWN:
                raise pytest.UsageError(
                    f"{where} has no argument {name!r}; it takes {', '.join(_KNOWN)}"
                )
        if "devices" in mark.kwargs:
            devices.append(_strings(mark.kwargs["devices"], f"{where}: devices"))
        needs.update(_strings(mark.kwargs.get("needs", ()), f"{where}: needs"))
        engine = engine or mark.kwargs.get("engine", "")
        if engine and engine not in ENGINES:
            raise pytest.UsageError(
                f"{where}: there is no engine {engine!r}; use one of: {', '.join(ENGINES)}"
            )
    if needs:
        from harness.choose import check_needs

        try:
            check_needs(frozenset(needs))
        except OptionError as error:
            raise pytest.UsageError(f"@pytest.mark.edge on {node.nodeid}: {error}") from None
    return Marks(tuple(devices), frozenset(needs), engine)


def _strings(value: object, where: str) -> tuple[str, ...]:
    if isinstance(value, str):
        return tuple(word.strip() for word in value.split(","))
    if isinstance(value, Iterable):
        words = tuple(value)
        if all(isinstance(word, str) for word in words):
            return words
    raise pytest.UsageError(f"{where} is {value!r}; give a string or a list of strings")


def parametrize(metafunc: pytest.Metafunc, selected: Sequence[Profile]) -> None:
    """Give the test one parameter for each selected device its marks allow."""
    marks = marks_of(metafunc.definition)
    if not selected:
        return  # the fixture says so when it is asked
    allowed = [profile for profile in selected if marks.allow(profile)]
    if not allowed:
        reason = (
            f"meant for {', '.join(' and '.join(p) for p in marks.devices)}; selected: "
            f"{', '.join(profile.name for profile in selected)}"
        )
        skip = pytest.param(None, id="no-device", marks=pytest.mark.skip(reason=reason))
        metafunc.parametrize("_edge_wanted", [skip], indirect=True, scope="session")
        return
    metafunc.parametrize(
        "_edge_wanted",
        [
            pytest.param(Wanted(profile.name, marks.needs, marks.engine), id=profile.name)
            for profile in allowed
        ],
        indirect=True,
        scope="session",
    )
