"""Make a failing input small: as many elements as possible back at the origin, the rest near it.

Hypothesis finds an input by its code or its few parameters and cannot shrink inside an array;
delta debugging (Zeller and Hildebrandt 2002, doi:10.1109/32.988498) does, and many candidates
go to the device in one frame.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from edge_harness.models.tensors import Array
from edge_harness.strategies.values import Span

Inputs = dict[str, Array]
Fails = Callable[[Sequence[Inputs], bool], list[bool]]
"""Which of the inputs fail; True: what comes after the first that does is not asked for."""
#: Elements are brought to the origin in so many pieces at once.
_PIECES = 16
#: So few elements are also brought nearer to the origin one by one.
_FEW = 64


class Smallest:
    """Shrinks one input within a budget of runs and seconds."""

    def __init__(
        self, spans: Sequence[Span], fails: Fails, *, max_runs: int = 4000, max_s: float = 20.0
    ) -> None:
        self._spans = {span.tensor.name: span for span in spans}
        self._fails = fails
        self._runs_left = max_runs
        self._until = time.monotonic() + max_s

    def of(self, inputs: Inputs) -> Inputs:
        """The smallest failing input found from ``inputs``, which is one itself."""
        best = {name: np.array(array) for name, array in inputs.items()}
        for simple in self._plain(best):
            if (found := self._first([simple])) is not None:
                best = found
                break
        best = self._shorter(best)
        while True:
            before = _size(best, self._spans)
            for name in best:
                best = self._sparser(best, name)
            for name in best:
                best = self._nearer(best, name)
            if _size(best, self._spans) >= before or self._spent():
                return best

    def _spent(self) -> bool:
        return self._runs_left <= 0 or time.monotonic() > self._until

    def _verdicts(self, candidates: Sequence[Inputs], first_only: bool = False) -> list[bool]:
        if not candidates or self._spent():
            return [False] * len(candidates)
        self._runs_left -= len(candidates)
        return self._fails(candidates, first_only)

    def _first(self, candidates: Sequence[Inputs]) -> Inputs | None:
        for candidate, failing in zip(candidates, self._verdicts(candidates, True), strict=True):
            if failing:
                return candidate
        return None

    def _plain(self, best: Inputs) -> list[Inputs]:
        """Everything at the origin; everything at one value of the input."""
        shapes = {name: array.shape for name, array in best.items()}
        zeros = {name: self._spans[name].filled(shape) for name, shape in shapes.items()}
        middle = {}
        ends = {}
        for name, array in best.items():
            flat = np.sort(array.reshape(-1))
            pick = flat[flat.size // 2] if flat.size else self._spans[name].origin
            middle[name] = np.full(array.shape, pick, array.dtype)
            ends[name] = np.full(array.shape, flat[-1] if flat.size else pick, array.dtype)
        return [zeros, middle, ends]

    def _shorter(self, best: Inputs) -> Inputs:
        """Free dimensions cut to 1, then halved."""
        for name, span in self._spans.items():
            for axis, size in enumerate(span.tensor.shape_signature):
                if size >= 0 or best[name].shape[axis] <= 1:
                    continue
                for keep in (1, best[name].shape[axis] // 2):
                    # The first dimension is the batch, which all inputs share.
                    which = self._free_first() if axis == 0 else [name]
                    for start in (0, best[name].shape[axis] - keep):
                        cut = {
                            n: np.take(a, np.arange(start, start + keep), axis) if n in which else a
                            for n, a in best.items()
                        }
                        if self._first([cut]) is not None:
                            best = cut
                            break
                    if best[name].shape[axis] == keep:
                        break
        return best

    def _free_first(self) -> list[str]:
        return [n for n, s in self._spans.items() if s.tensor.shape_signature[:1] == (-1,)]

    def _sparser(self, best: Inputs, name: str) -> Inputs:
        origin = self._spans[name].tensor.dtype.type(self._spans[name].origin)
        pieces = 1
        while not self._spent():
            active = np.flatnonzero(best[name].reshape(-1) != origin)
            if not active.size:
                return best
            parts = np.array_split(active, min(pieces, active.size))
            removable: list[Array] = []
            for start in range(0, len(parts), _PIECES):
                some = parts[start : start + _PIECES]
                tried = [_set(best, name, part, origin) for part in some]
                removable += [p for p, bad in zip(some, self._verdicts(tried), strict=True) if bad]
            if removable:
                together = _set(best, name, np.concatenate(removable), origin)
                found = self._first([together])
                # Not all at once: then half of them, then the first alone.
                for count in (len(removable) // 2, 1):
                    if found is None and count:
                        part = np.concatenate(removable[:count])
                        found = self._first([_set(best, name, part, origin)])
                if found is not None:
                    best = found
                    continue
            if len(parts) >= active.size:
                return best
            pieces *= 4
        return best

    def _nearer(self, best: Inputs, name: str) -> Inputs:
        """Halve the distance to the origin, of all elements together, then of each."""
        span = self._spans[name]
        if span.tensor.dtype.kind in "bc":
            return best
        flat = best[name].reshape(-1)
        active = np.flatnonzero(flat != span.tensor.dtype.type(span.origin))
        groups = [active] if active.size > 1 else []
        if active.size <= _FEW:
            groups += [active[i : i + 1] for i in range(active.size)]
        for group in groups:
            best = self._scaled_down(best, name, group)
        return best

    def _scaled_down(self, best: Inputs, name: str, group: Array) -> Inputs:
        """The failing input nearest to the origin between it (0) and the present values (1)."""
        whole = best
        low, high = 0.0, 1.0
        steps = [2.0**-k for k in (40, 30, 20, 12, 8, 5, 3, 2, 1)]  # of 64-bit numbers, too
        while high - low > high / 256 and not self._spent():
            tried = [self._scaled(whole, name, group, step) for step in steps]
            verdicts = self._verdicts(tried, True)
            if True in verdicts:
                first = verdicts.index(True)
                best, high = tried[first], steps[first]
                low = steps[first - 1] if first else low
            else:
                low = steps[-1]
            if np.array_equal(tried[0][name], tried[-1][name]):
                break  # whole numbers: there is nothing between
            steps = [low + (high - low) * k / 8 for k in range(1, 8)]
        return best

    def _scaled(self, best: Inputs, name: str, group: Array, factor: float) -> Inputs:
        span = self._spans[name]
        flat = best[name].reshape(-1)[group].astype(np.float64)
        moved = span.origin + (flat - span.origin) * factor
        return _set(best, name, group, (np.rint(moved) if span.whole else moved))


def _set(best: Inputs, name: str, where: Array, value: object) -> Inputs:
    flat = best[name].reshape(-1).copy()
    flat[where] = value
    return {**best, name: flat.reshape(best[name].shape)}


def _size(inputs: Inputs, spans: Mapping[str, Span]) -> tuple[int, int, float]:
    """What is made smaller: elements in all, elements off the origin, and their distance."""
    total = active = 0
    distance = 0.0
    for name, array in inputs.items():
        origin = spans[name].tensor.dtype.type(spans[name].origin)
        total += array.size
        active += int(np.count_nonzero(array != origin))
        distance += float(np.sum(np.abs(array.astype(np.complex128) - complex(origin))))
    return total, active, distance
