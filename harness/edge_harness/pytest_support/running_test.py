"""Which test is running, for functions that take no fixture."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from edge_harness.pytest_support import RUNNING


@dataclass
class Current:
    """The running test, as far as goldens need it."""

    path: Path
    """Its file."""
    name: str
    """Its name with class and parameters."""
    nodeid: str
    device: str
    """Of its parameters; empty where it has no device."""
    update: bool
    """Whether goldens may be written (``--edge-update-goldens``)."""
    asked: dict[str, int] = field(default_factory=dict)
    """How often each name was asked for."""
    written: list[str] = field(default_factory=list)


_CURRENT: pytest.StashKey[Current] = pytest.StashKey()


def current() -> Current | None:
    """The test that runs in this thread; None outside of one, and in threads it started."""
    item = RUNNING.get()
    return None if item is None else item.stash.setdefault(_CURRENT, _of_item(item))


def _of_item(item: Any) -> Current:
    wanted = getattr(getattr(item, "callspec", None), "params", {}).get("_edge_wanted")
    # Classes are part of the id, and files of one name in two folders are two files.
    _, _, inside = item.nodeid.partition("::")
    return Current(
        path=item.path,
        name=inside or item.name,
        nodeid=item.nodeid,
        device=getattr(wanted, "name", ""),
        update=bool(item.config.option.edge_update_goldens),
    )
