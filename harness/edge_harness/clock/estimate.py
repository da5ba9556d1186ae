"""What the device clock answers with: a latency, its bounds, and what both rest on."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from edge_harness.errors import OptionError
from edge_harness.evidence import Figure, FigureKind, Verdict, percentile


@dataclass(frozen=True, kw_only=True)
class OperatorTime:
    """A step of the inference, with its share."""

    name: str
    kind: str
    instructions: int
    latency_ms: float
    share: float
    """Of the whole, 0 to 1."""
    bound: Literal["compute", "memory"]
    """What it waits for most."""


@dataclass(frozen=True, kw_only=True)
class LatencyEstimate:
    """The time of one inference on the board, in milliseconds, predicted from the instructions
    that the model's own kernels executed on the emulated core. Never an emulator's wall clock."""

    latency_ms: float
    """One inference as a client sees it: inputs filled, model invoked, caches warm."""
    low_ms: float
    high_ms: float
    """Bounds that cover 90 % of the measurements the clock was checked on."""
    source: str
    """Where it is from and how far to trust it."""
    device: str
    runtime: str
    kernels: str
    threads: int
    cycles: int
    """Of one core, for the whole inference on one thread, all caches considered."""
    instructions: int
    """Exact, of one steady inference on one thread."""
    compute_ms: float
    memory_ms: float
    overhead_ms: float
    """Threads, entering the runtime, filling floating-point inputs."""
    invoke_ms: float
    """Of the runtime alone: without filling inputs and what else the measured programs did."""
    first_ms: float
    """The first inference after loading, caches empty."""
    operators: tuple[OperatorTime, ...] = ()
    """The longest first; empty where the runtime's steps could not be told apart."""
    notes: tuple[str, ...] = ()
    cached: bool = False
    """Whether it was computed earlier, for the same model, input, runtime and board."""
    kind: FigureKind = "device-clock"
    """How it came about."""

    @property
    def error(self) -> float:
        """How far the upper bound is above the estimate, relative: 0.1 for ±10 %."""
        return self.high_ms / self.latency_ms - 1 if self.latency_ms > 0 else math.inf

    @property
    def figure(self) -> Figure:
        """The latency as evidence."""
        return Figure(
            value=self.latency_ms,
            unit="ms",
            kind=self.kind,
            source=self.source,
            low=self.low_ms,
            high=self.high_ms,
        )

    def verdict(self, budget_ms: float) -> Verdict:
        """``passed`` when even the upper bound is within the budget, ``failed`` when even the
        lower one is over it, ``inconclusive`` between.

        Raises:
            OptionError: the budget is not a positive number.
        """
        try:
            sensible = budget_ms > 0
        except TypeError:  # '40 ms' is for the command line
            sensible = False
        if not sensible:
            raise OptionError(
                f"a latency budget of {budget_ms!r} ms means nothing",
                next_step="give a positive number of milliseconds, as 40",
            )
        if self.high_ms <= budget_ms:
            return Verdict(word="passed", figures=(self.figure,))
        if self.low_ms > budget_ms:
            return Verdict(
                word="failed",
                reason=f"even the lower bound of {self.low_ms:.4g} ms is over the budget of "
                f"{budget_ms:g} ms",
                figures=(self.figure,),
            )
        return Verdict(
            word="inconclusive",
            reason=f"the budget of {budget_ms:g} ms lies between the bounds, {self.low_ms:.4g} and "
            f"{self.high_ms:.4g} ms",
            figures=(self.figure,),
        )

    def assert_within(self, budget_ms: float) -> None:
        """Fail with text to act on unless :meth:`verdict` is ``passed``."""
        __tracebackhide__ = True  # pytest shows the text, not this line
        if not self.verdict(budget_ms):
            raise AssertionError(self.explain(budget_ms))

    def explain(self, budget_ms: float | None = None) -> str:
        """The estimate, what it is made of and, with a budget, what it means for it."""
        bounds = f"{self.low_ms:.4g} to {self.high_ms:.4g}"
        how = f"{self.runtime}, {self.kernels}, {self.threads} thread(s)"
        lines = [f"{self.latency_ms:.4g} ms on {self.device} ({bounds}), {how}"]
        if budget_ms is not None:
            lines[0] = {
                "passed": f"within the budget of {budget_ms:g} ms: ",
                "failed": f"over the budget of {budget_ms:g} ms: ",
                "inconclusive": f"cannot tell whether it is within {budget_ms:g} ms: ",
            }[self.verdict(budget_ms).word] + lines[0]
        whole = self.latency_ms or 1.0
        lines.append(
            f"  computing {self.compute_ms:.3g} ms ({self.compute_ms / whole:.0%}), waiting for "
            f"memory {self.memory_ms:.3g} ms ({self.memory_ms / whole:.0%}), overhead "
            f"{self.overhead_ms:.3g} ms ({self.overhead_ms / whole:.0%}); first inference "
            f"{self.first_ms:.4g} ms"
        )
        lines += [
            f"  {o.share:4.0%} {o.latency_ms:9.3g} ms  {o.kind:<17} {_brief(o.name)}"
            f" ({o.bound}-bound)"
            for o in self.operators[:5]
        ]
        lines.append(f"  from: {self.source}")
        lines += [f"  note: {note}" for note in self.notes]
        if budget_ms is not None:
            lines.append("  next: " + self._advice(budget_ms))
        return "\n".join(wrapped for line in lines for wrapped in _wrapped(line))

    def _advice(self, budget_ms: float) -> str:
        word = self.verdict(budget_ms).word
        if word == "passed":
            return "nothing to do"
        if word == "inconclusive":
            return (
                "measure on a real board and calibrate with it (edge-harness calibrate), or give "
                f"the budget {self.high_ms / budget_ms - 1:.0%} more room"
            )
        factor = self.latency_ms / budget_ms
        if self.overhead_ms > self.compute_ms + self.memory_ms:
            return (
                f"{factor:.2g}× too slow, most of it overhead: fewer threads, 8-bit inputs if they "
                "are floats, or a budget for several inferences"
            )
        if self.memory_ms > self.compute_ms:
            return (
                f"{factor:.2g}× too slow and memory-bound: 8-bit weights if it has none, or a "
                "smaller input"
            )
        return (
            f"{factor:.2g}× too slow and compute-bound: 8-bit integers if it has none, a narrower "
            "or smaller model, more threads, or a faster board"
        )

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values; the longest ten operators."""
        fields = asdict(self)
        fields["operators"] = fields["operators"][:10]
        return fields

    def compare(self, other: LatencyEstimate) -> Comparison:
        """This one against ``other``, an earlier or another estimate for the same device.

        Steps that both have in common are uncertain in the same way, so that only what differs
        is uncertain in the ratio: a layer added to a model shows exactly, a model of another
        kind does not.

        Raises:
            OptionError: the devices differ.
        """
        if self.device != other.device:
            raise OptionError(
                f"{self.device} and {other.device} are different boards: their errors have little "
                "in common",
                next_step="compare two estimates for one board",
            )
        same = _common_ms(self.operators, other.operators)
        mine, theirs = self.latency_ms - same, other.latency_ms - same
        # Half of it on each side: pairs of published figures of one board and precision differ
        # from the predicted ratio by less than one figure from its prediction (docs/clock.md).
        off = math.sqrt(1 + max(self.error, other.error))
        low = (same + mine / off) / (same + theirs * off)
        high = (same + mine * off) / (same + theirs / off)
        if any(e.overhead_ms > e.latency_ms / 2 for e in (self, other)):
            # Equal overheads draw the ratio to 1; how much there is of them is a guess here.
            bare_mine, bare_theirs = (
                max(e.latency_ms - e.overhead_ms - same, 0.0) for e in (self, other)
            )
            if same + bare_mine > 0 and same + bare_theirs > 0:
                low = min(low, (same + bare_mine / off) / (same + bare_theirs * off))
                high = max(high, (same + bare_mine * off) / (same + bare_theirs / off))
        return Comparison(ratio=self.latency_ms / other.latency_ms, low=low, high=high)


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """How many times as long one takes as the other."""

    ratio: float
    low: float
    high: float

    @property
    def slower(self) -> bool:
        """Whether it is certainly slower."""
        return self.low > 1

    @property
    def faster(self) -> bool:
        """Whether it is certainly faster."""
        return self.high < 1

    def __str__(self) -> str:
        return f"{self.ratio:.3f}× ({self.low:.3f} to {self.high:.3f})"


@dataclass(frozen=True, kw_only=True)
class Percentiles:
    """Latencies over several inputs, where data decide the path. Nearest rank; a percentile that
    the sample is too small for is refused."""

    estimates: tuple[LatencyEstimate, ...]

    def latency_ms(self, percent: float) -> float:
        """The ``percent``-th percentile, by nearest rank.

        Raises:
            InputError: as :func:`edge_harness.evidence.percentile`.
        """
        return percentile((each.latency_ms for each in self.estimates), percent)

    @property
    def worst(self) -> LatencyEstimate:
        return max(self.estimates, key=lambda e: e.latency_ms)

    @property
    def data_dependent(self) -> bool:
        """Whether any two inputs executed different numbers of instructions."""
        return len({e.instructions for e in self.estimates}) > 1


def _common_ms(ours: Sequence[OperatorTime], theirs: Sequence[OperatorTime]) -> float:
    """Milliseconds of steps that are in both: of one kind, and executing the same number of
    instructions. Whatever the clock has wrong about them it has wrong twice."""
    left: dict[tuple[str, int], list[float]] = {}
    for operator in theirs:
        left.setdefault((operator.kind, operator.instructions), []).append(operator.latency_ms)
    common = 0.0
    for operator in ours:
        matching = left.get((operator.kind, operator.instructions))
        if matching:
            common += min(matching.pop(), operator.latency_ms)
    return common


def _brief(name: str) -> str:
    """Enough of an operator's name to find it: converters join the names of all they fused."""
    first = name.partition(";")[0]
    return first if len(first) <= _NAME else "…" + first[-_NAME + 1 :]


#: Share, time and kind stand before it, what it is bound by behind it, on a terminal of 80 columns.
_NAME = 25


def _wrapped(line: str) -> list[str]:
    """``line`` for a terminal of 80 columns."""
    return textwrap.wrap(
        line, 80, subsequent_indent="    ", break_long_words=False, break_on_hyphens=False
    )


def longest(operators: Sequence[OperatorTime]) -> tuple[OperatorTime, ...]:
    """The same, the longest first; equal ones in the order they ran."""
    return tuple(sorted(operators, key=lambda o: -o.latency_ms))
