"""Which words of a device's log are a worker's own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edge_harness.device.results import Said

if TYPE_CHECKING:
    from edge_harness.device.hold import Hold
    from edge_harness.engines.log_mark import LogMark


class LastWords:
    """Finds the last words of one worker in the log of its device, which all workers write to.

    The workers of one process take turns, so what is written from a worker's turn on is its own;
    what it wrote before an answer is of no end that came later. Workers of other processes that
    share the device take no turns.

    Args:
        hold: the machine.
    """

    def __init__(self, hold: Hold) -> None:
        self._hold = hold
        self._mark: LogMark | None = None
        self._shared = False

    def loading(self) -> None:
        """A new worker is about to begin."""
        self._shared = self._hold.shared()
        self._begin()

    def asked(self) -> None:
        """A request is about to be sent to it."""
        if self._hold.speaker is not self:
            self._begin()

    def answered(self) -> None:
        """It answered. What it says while nobody asks it anything counts from here on."""
        self._begin()

    def since(self) -> Said:
        """What it said since it began, last answered, or another one of this process was asked."""
        said = self._hold.said_since(self._mark)
        return Said(text=said.text, alone=said.alone and not self._shared)

    def _begin(self) -> None:
        self._hold.speaker = self
        self._mark = self._hold.log_mark()
