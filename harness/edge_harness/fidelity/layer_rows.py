"""What one operator of a walk through the layers did."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One operator. Errors are in quantization steps of its output (``in_steps``), or as a share
    of the greatest value of the reference's output."""

    position: int
    op: str
    name: str
    """Of its output on the device."""
    reference_name: str
    dtype: str
    in_steps: bool
    error: float
    """Greatest absolute error of its output, whatever caused it."""
    introduced: float | None
    """Greatest absolute error on the reference's inputs: what it adds itself. None where it was
    not run by itself, because it is within tolerance as it is, or cannot be."""
    mean: float
    """Mean signed error."""
    sqnr_db: float
    over: bool
    """Whether what it adds (or, where that is not known, its error) is over tolerance."""
    cause: str
    """Likely cause; empty where the errors follow no known pattern, or are within tolerance."""

    @property
    def propagated(self) -> bool:
        """Whether it is off by more than it adds."""
        return self.introduced is not None and self.error > self.introduced

    def amount(self, value: float | None) -> str:
        """``value`` in words, in this row's unit."""
        if value is None:
            return "–"
        if not self.in_steps:
            return f"{value:.1e}" if value else "0"
        return f"{value:.3g}"
