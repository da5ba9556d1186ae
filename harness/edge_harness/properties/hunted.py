"""What a hunt for a failing input did."""

from __future__ import annotations

import math
from dataclasses import dataclass

from edge_harness.evidence import Figure, Verdict
from edge_harness.models.tensors import Array, Outputs
from edge_harness.properties.judging import Judged
from edge_harness.properties.smallest import Inputs


@dataclass(kw_only=True)
class Hunt:
    """What a hunt did."""

    examples: int = 0
    """Inputs judged, shrinking aside."""
    asked: int = 0
    """Inputs asked for; fewer were judged only where Hypothesis draws no others."""
    seconds: float = 0.0
    worst: float = math.nan
    """Greatest score under the label ``error``."""
    worst_inputs: Inputs | None = None
    failing: tuple[Inputs, Judged] | None = None
    varied: bool | None = None
    """Whether not all inputs gave the same outputs. None where that was not looked at, or where
    there were no two inputs."""
    by_outputs: bool = True
    """Whether the property is judged by the outputs: where those do not vary, it then holds for
    want of a test."""
    figures: tuple[Figure, ...] = ()
    _first: tuple[list[bytes], list[bytes]] | None = None

    @property
    def verdict(self) -> Verdict:
        """``passed``, or ``vacuous`` where every input gave the same outputs and the property is
        about them; what breaks a property is raised."""
        if self.by_outputs and self.varied is False:
            return Verdict(
                word="vacuous", reason="every input gave the same outputs", figures=self.figures
            )
        short = ""
        if self.examples < self.asked:
            short = f"Hypothesis drew no more than {self.examples} of {self.asked} inputs"
        return Verdict(word="passed", reason=short, figures=self.figures)

    def look_at(self, sample: Inputs, answer: Outputs | None) -> None:
        """Note whether ``answer`` is another than the first, to another input."""
        if answer is None or self.varied:
            return
        asked, given = _bits(sample), _bits(answer)
        if self._first is None:
            self._first = asked, given
        elif given != self._first[1]:
            self.varied = True
        elif asked != self._first[0]:
            self.varied = False


def _bits(arrays: dict[str, Array]) -> list[bytes]:
    return [values.tobytes() for values in arrays.values()]
