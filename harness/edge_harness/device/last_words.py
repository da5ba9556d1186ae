"""Which words of a device's log are a worker's own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edge_harness.device.results import Said

if TYPE_CHECKING:
    from edge_harness.device.hold import Hold
    from edge_harness.engines.log_mark import LogMark


class LastWords:
    """Finds the words of one worker in the log of its device, which all workers write to.

    The workers of one process take turns, so what is written from a worker's turn on is its own.
    Those of other processes that share the device take none.

    Args:
        hold: the machine.
    """

    def __init__(self, hold: Hold) -> None:
        self._hold = hold
        self._turn: LogMark | None = None
        """Since when this worker, and no other of this process, was asked for anything."""
        self._request: LogMark | None = None
        self._shared = False

    def loading(self) -> None:
        """A new worker is about to begin."""
        self._hold.speaker = self
        self._turn = self._request = self._hold.log_mark()
        self._shared = self._hold.shared()

    def asked(self) -> None:
        """A request is about to be sent to it."""
        self._request = self._hold.log_mark()
        if self._hold.speaker is not self:
            self._hold.speaker = self
            self._turn = self._request

    def in_turn(self) -> Said:
        """What it said since it was loaded, or since another one of this process was asked."""
        return self._since(self._turn)

    def in_request(self) -> Said:
        """What it said since it was last asked."""
        return self._since(self._request)

    def _since(self, mark: LogMark | None) -> Said:
        said = self._hold.said_since(mark)
        return Said(text=said.text, alone=said.alone and not self._shared)
