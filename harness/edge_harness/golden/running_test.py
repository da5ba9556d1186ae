"""What goldens know of the test that is running: handed in by whoever runs tests.

Imports the standard library alone, because every pytest run pays for it; for the same reason no
dataclass, whose making takes eight times that of a named tuple.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from pathlib import Path
from typing import NamedTuple


class RunningTest(NamedTuple):
    """A test, as far as goldens need it."""

    path: Path
    """Its file."""
    name: str
    """Its name with class and parameters."""
    device: str
    """Of its parameters; empty where it has no device."""
    update: bool
    """Whether goldens may be written."""
    again: str
    """The command that runs it again and writes its goldens."""
    asked: dict[str, int]
    """How often each name was asked for."""
    written: list[str]


#: Set around each test in the thread that runs it; a function, so that a test that has no goldens
#: costs nothing.
RUNNING: ContextVar[Callable[[], RunningTest] | None] = ContextVar(
    "edge_running_test", default=None
)


def running_test() -> RunningTest | None:
    """The test that runs in this thread; None outside of one, and in threads it started."""
    ask = RUNNING.get()
    return None if ask is None else ask()
