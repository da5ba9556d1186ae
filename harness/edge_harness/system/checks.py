"""One thing that ``edge-harness doctor`` looked at on this host, whoever looked."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from edge_harness.evidence import Verdict, VerdictWord

Status = Literal["ok", "limited", "missing"]
_VERDICT: dict[Status, VerdictWord] = {
    "ok": "passed",
    "limited": "inconclusive",
    "missing": "failed",
}


@dataclass(frozen=True, kw_only=True)
class Check:
    """One thing looked at."""

    group: str
    """Checks of one group are shown together."""
    name: str
    status: Status
    """``limited``: it is there, and not all that tests may ask for is to be had of it."""
    found: str
    """What was seen, in one line."""
    fix: str = ""
    """A command or action that would help."""
    optional: bool = False
    """Whether boards can be emulated without it."""

    @property
    def verdict(self) -> Verdict:
        """The same in the words of all evidence; what nothing depends on is never failed."""
        word = _VERDICT[self.status]
        if self.optional and word == "failed":
            word = "skipped"
        return Verdict(word=word, reason=self.found)

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return {**asdict(self), "verdict": self.verdict.as_json()}


def output_of(argv: Sequence[str], *, timeout_s: float = 20.0) -> str:
    """What a program prints; "" where it cannot be started or does not end."""
    try:
        result = subprocess.run(
            list(argv),
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout_s,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return result.stdout
