"""Inputs by number: each code stands for one input of a model, small codes for simple ones.

One integer an input is what keeps Hypothesis' share of a property run small: a choice costs some
25 µs, and a small int8 model answers in 200 to 500 µs inside an emulator.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from edge_harness.models.tensors import Array, arrange
from edge_harness.strategies.near import disturbed
from edge_harness.strategies.values import (
    FLOAT_RANGE,
    MAX_FREE_SIZE,
    Span,
    paint,
    pattern_names,
    spans_of,
)

if TYPE_CHECKING:
    from edge_harness.device.session import Session

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
        """The space of ``session``'s inputs; see :func:`edge_harness.strategies.inputs`.

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

    @property
    def simple(self) -> int:
        """How many codes stand for simple inputs: 0 to 3 are the origin, the highest, the lowest
        and the middle value throughout, then come the samples as they are."""
        return len(_PLAIN) + len(self.samples)

    def build(self, code: int) -> dict[str, Array]:
        """The input that ``code`` stands for; the same at each call."""
        return self.block(code, 1)[0]

    def all(self, codes: Sequence[int], each: int = 1) -> list[dict[str, Array]]:
        """The inputs of several codes; ``each`` of every code that is a seed.

        Free dimensions are 1 in three lists of four, else those that the first code says: a
        model is resized between shapes, which takes longer than running a small one.
        """
        free: dict[str, list[int]] = {}
        if codes and codes[0] >= self.simple and codes[0] % 4 == 0:
            free = self._free(np.random.default_rng(codes[0]))
        return [inputs for code in codes for inputs in self.block(code, each, free)]

    def block(
        self, code: int, count: int, free: Mapping[str, list[int]] | None = None
    ) -> list[dict[str, Array]]:
        """``count`` inputs from one seed, one where the code stands for a simple input."""
        if code < len(_PLAIN):
            return [{span.tensor.name: self._plain(span, _PLAIN[code]) for span in self.spans}]
        if code < self.simple:
            sample = self.samples[code - len(_PLAIN)]
            return [{name: array.copy() for name, array in sample.items()}]
        rng = np.random.default_rng(code)
        return [self._drawn(rng, free or {}) for _ in range(count)]

    def _drawn(self, rng: np.random.Generator, free: Mapping[str, list[int]]) -> dict[str, Array]:
        if self.samples and rng.random() < 0.5:
            sample = self.samples[int(rng.integers(len(self.samples)))]
            return {
                span.tensor.name: disturbed(sample[span.tensor.name], span, rng)
                for span in self.spans
            }
        return {
            span.tensor.name: self._painted(span, free.get(span.tensor.name, ()), rng)
            for span in self.spans
        }

    def _free(self, rng: np.random.Generator) -> dict[str, list[int]]:
        """Sizes of free dimensions by input; the first, the batch, is the same for all."""
        batch = int(rng.integers(1, MAX_FREE_SIZE + 1))
        return {
            span.tensor.name: [
                batch if axis == 0 else int(rng.integers(1, MAX_FREE_SIZE + 1))
                for axis, size in enumerate(span.tensor.shape_signature)
                if size < 0
            ]
            for span in self.spans
        }

    def _plain(self, span: Span, place: float | None) -> Array:
        if place is None:
            return span.filled(span.shape())
        return span.at(np.full(span.shape(), place))

    def _painted(self, span: Span, free: Sequence[int], rng: np.random.Generator) -> Array:
        names = self._names[span.tensor.name]
        pattern = names[int(rng.random() * len(names))]
        amplitude = 1.0 if rng.random() < 0.75 else rng.random()
        return paint(span, span.shape(free), pattern, rng, amplitude=amplitude)

    @functools.cached_property
    def _names(self) -> dict[str, list[str]]:
        return {span.tensor.name: pattern_names(span) for span in self.spans}
