"""What goldens know of the test that is running: handed in by whoever runs tests.

Imports the standard library alone, because pytest's start pays for it.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(kw_only=True)
class RunningTest:
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
    asked: dict[str, int] = field(default_factory=dict)
    """How often each name was asked for."""
    written: list[str] = field(default_factory=list)


#: Set around each test in the thread that runs it; a function, so that a test that has no goldens
#: costs nothing.
RUNNING: ContextVar[Callable[[], RunningTest] | None] = ContextVar(
    "edge_running_test", default=None
)


def running_test() -> RunningTest | None:
    """The test that runs in this thread; None outside of one, and in threads it started."""
    ask = RUNNING.get()
    return None if ask is None else ask()
