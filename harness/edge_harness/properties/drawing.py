"""How a property's inputs are drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from edge_harness.strategies.space import Space
from edge_harness.strategies.values import FLOAT_RANGE

if TYPE_CHECKING:
    from edge_harness.device.session import Session

Ranges = Mapping[str, tuple[float, float]]


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """How inputs are drawn; see :func:`edge_harness.strategies.inputs`."""

    ranges: Ranges = field(default_factory=dict)
    samples: tuple[Any, ...] = ()
    float_range: tuple[float, float] = FLOAT_RANGE

    def space(self, session: Session) -> Space:
        """All inputs of ``session``'s model that may be drawn.

        Raises:
            OptionError: ``ranges`` names an input the model does not have.
            InputError: a sample does not fit the model.
        """
        return Space.of(
            session, ranges=self.ranges, samples=self.samples, float_range=self.float_range
        )


def drawing_of(
    ranges: Ranges | None, samples: Sequence[Any], float_range: tuple[float, float] | None
) -> Drawing:
    """What the arguments of a property say; None stands for the default."""
    return Drawing(
        ranges=dict(ranges or {}),
        samples=tuple(samples),
        float_range=FLOAT_RANGE if float_range is None else float_range,
    )
