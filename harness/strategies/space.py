"""Inputs by number: each code stands for one input of a model, small codes for simple ones.

One integer an input is what keeps Hypothesis' share of a property run small: a choice costs some
25 µs, and a small int8 model answers in 200 to 500 µs inside an emulator.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.strategies.near import disturbed
from harness.strategies.values import (
    FLOAT_RANGE,
    MAX_FREE_SIZE,
    Span,
    paint,
    pattern_names,
    spans_of,
)
from harness.tensors import Array, arrange

if TYPE_CHECKING:
    from harness.session import Session

CODES = 2**32
#: Positions between lowest and highest; None is the origin.
_PLAIN: tuple[float | None, ...] = (None, 1.0, 0.0, 0.5)


@dataclass(frozen=True)
class Space:
    """All inputs of one model that may be drawn by code."""

    spans: tuple[Span, ...]
    samples: tuple[dict[str, Array], ...] = ()

    @classmethod
    def of(
        cls,
        session: Session,
        *,
        ranges: Mapping[str, tuple[float, float]] | None = None,
        samples: Sequence[Any] = (),
        float_range: tuple[float, float] = FLOAT_RANGE,
    ) -> Space:
        """The space of ``session``'s inputs; see :func:`harness.strategies.inputs`.

        Raises:
            OptionError: ``ranges`` names an input the model does not have.
            InputError: a sample does not fit the model.
        """
        names = [tensor.name for tensor in session.inputs]
        return cls(
            tuple(spans_of(session.inputs, ranges=ranges, float_range=float_range)),
            tuple(
                dict(zip(names, arrange(sample, session.inputs), strict=True)) for sample in samples
            ),
        )

    def build(self, code: int) -> dict[str, Array]:
        """The input that ``code`` stands for; the same at each call.

        0 to 3 are the origin, the highest, the lowest and the middle value throughout; then come
        the samples as they are; then seeds. Of these, three quarters keep free dimensions at 1.
        """
        if code < len(_PLAIN):
            return {span.tensor.name: self._plain(span, _PLAIN[code]) for span in self.spans}
        if code < len(_PLAIN) + len(self.samples):
            sample = self.samples[code - len(_PLAIN)]
            return {name: array.copy() for name, array in sample.items()}
        rng = np.random.default_rng(code)
        if self.samples and rng.random() < 0.5:
            sample = self.samples[int(rng.integers(len(self.samples)))]
            return {
                span.tensor.name: disturbed(sample[span.tensor.name], span, rng)
                for span in self.spans
            }
        batch = int(rng.integers(1, MAX_FREE_SIZE + 1)) if rng.random() < 0.25 else 1
        return {span.tensor.name: self._painted(span, batch, rng) for span in self.spans}

    def _plain(self, span: Span, place: float | None) -> Array:
        if place is None:
            return span.filled(span.shape())
        return span.at(np.full(span.shape(), place))

    def _painted(self, span: Span, batch: int, rng: np.random.Generator) -> Array:
        signature = span.tensor.shape_signature
        free = [
            batch if axis == 0 else int(rng.integers(1, MAX_FREE_SIZE + 1))
            for axis, size in enumerate(signature)
            if size < 0
        ]
        names = pattern_names(span)
        pattern = names[int(rng.integers(len(names)))]
        amplitude = 1.0 if rng.random() < 0.75 else rng.random()
        return paint(span, span.shape(free), pattern, rng, amplitude=amplitude)
