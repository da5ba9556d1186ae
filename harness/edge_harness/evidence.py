"""What an assertion rests on: figures and verdicts, the same words and one JSON form everywhere.

A :class:`Figure` is a number with its unit, how it came about, from where, and its bounds. A
:class:`Verdict` is one of five words with the reason and the figures it rests on:

``passed``
    What was asked for was looked at, and holds.
``failed``
    It was looked at, and does not hold.
``inconclusive``
    It was looked at, and what was seen cannot decide: a budget between a figure's bounds.
``vacuous``
    The check could not have failed: no samples, or outputs that do not vary with the inputs.
``skipped``
    It was not looked at; the reason says what is missing.

What infrastructure kept from a verdict has none of these words: it is an
:class:`~edge_harness.errors.InfrastructureError`, which is raised.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, Literal, cast, get_args

from edge_harness.errors import EvidenceError, InputError

FigureKind = Literal["measured", "device-clock", "native", "emulated"]
"""How a figure came about: ``measured`` on a real board, computed by the ``device-clock`` from an
emulated instruction stream, seen on this machine without emulation (``native``), or seen on an
``emulated`` device."""
VerdictWord = Literal["passed", "failed", "inconclusive", "vacuous", "skipped"]

FIGURE_KINDS: tuple[FigureKind, ...] = get_args(FigureKind)
VERDICT_WORDS: tuple[VerdictWord, ...] = get_args(VerdictWord)
#: Which word a whole gets from its parts: the first of these that a part has. Proof that
#: something is wrong beats doubt; doubt beats a proof of nothing; and where one check proved
#: nothing, the whole may not look as if it had been proved.
_WORST_FIRST: tuple[VerdictWord, ...] = ("failed", "inconclusive", "vacuous", "passed", "skipped")
#: The same where a skip is not accepted.
_WORST_FIRST_STRICT: tuple[VerdictWord, ...] = (
    "failed",
    "inconclusive",
    "vacuous",
    "skipped",
    "passed",
)
#: JSON has no numbers for these: they are written as words.
_NOT_FINITE = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}

Number = float | int
Json = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A number that was measured, computed or seen.

    NaN is a value like others, because hiding it would be worse: it says that there is no
    number, and is never inside bounds. Bounds themselves are numbers or infinite.

    Raises (from the constructor):
        EvidenceError: no number, bounds that do not hold the value, an unknown kind, no source.
    """

    value: Number
    unit: str
    """``ms``, ``MiB``, ``dB``, ``steps`` …; empty for pure numbers (shares, counts)."""
    kind: FigureKind
    source: str
    """What it was taken from, in words for people: device, runtime, calibration."""
    low: Number | None = None
    high: Number | None = None

    def __post_init__(self) -> None:
        for name in ("value", "low", "high"):
            given = getattr(self, name)
            if given is not None or name == "value":
                # NumPy's numbers become Python's, which is what JSON takes.
                object.__setattr__(self, name, _number(name, given))
        if self.kind not in FIGURE_KINDS:
            raise EvidenceError(
                f"a figure cannot be of kind {self.kind!r}",
                next_step=f"use one of: {', '.join(FIGURE_KINDS)}",
            )
        for name in ("unit", "source"):
            if not isinstance(getattr(self, name), str):
                raise EvidenceError(
                    f"the {name} of a figure cannot be {getattr(self, name)!r}",
                    next_step="give it as text",
                )
        if not self.source.strip():
            raise EvidenceError(
                f"the figure {self.value!r} {self.unit} has no source",
                next_step="say what it was taken from",
            )
        self._ordered()

    def _ordered(self) -> None:
        for name in ("low", "high"):
            bound = getattr(self, name)
            if bound is not None and math.isnan(bound):
                raise EvidenceError(
                    f"the bound {name}=nan of a figure bounds nothing",
                    next_step=f"leave {name} out where it is not known",
                )
        low = -math.inf if self.low is None else self.low
        high = math.inf if self.high is None else self.high
        if low > high or self.value < low or self.value > high:
            raise EvidenceError(
                f"the figure {self.value!r} {self.unit} is not between its bounds "
                f"{self.low!r} and {self.high!r}",
                next_step="give low <= value <= high",
            )

    def as_json(self) -> Json:
        """Plain JSON values, all keys always there: bounds that are not known are null, and NaN
        and the infinities are the words ``"nan"``, ``"inf"`` and ``"-inf"``."""
        return {
            "value": _plain(self.value),
            "unit": self.unit,
            "kind": self.kind,
            "source": self.source,
            "low": _plain(self.low),
            "high": _plain(self.high),
        }

    @classmethod
    def from_json(cls, content: object) -> Figure:
        """The figure that :meth:`as_json` gave.

        Raises:
            EvidenceError: a key is missing, unknown or of another type, or the figure is none.
        """
        fields = _fields(content, "figure", ("value", "unit", "kind", "source", "low", "high"))
        return cls(
            value=_read("value", fields["value"]),
            unit=fields["unit"],
            kind=fields["kind"],
            source=fields["source"],
            low=None if fields["low"] is None else _read("low", fields["low"]),
            high=None if fields["high"] is None else _read("high", fields["high"]),
        )

    def __str__(self) -> str:
        bounds = ""
        if self.low is not None or self.high is not None:
            low = "" if self.low is None else f"from {self.low:.6g} "
            high = "" if self.high is None else f"to {self.high:.6g}"
            bounds = f"{low}{high}".strip() + ", "
        return f"{self.value:.6g}{' ' + self.unit if self.unit else ''} ({bounds}{self.kind})"


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What a check came to. True in a condition only where it ``passed``, so that a plain
    ``assert report.verdict`` does not take a check that proved nothing for a good one.

    Raises (from the constructor):
        EvidenceError: an unknown word, or any but ``passed`` without a reason.
    """

    word: VerdictWord
    reason: str = ""
    """Why; only what ``passed`` may do without."""
    figures: tuple[Figure, ...] = ()

    def __post_init__(self) -> None:
        if self.word not in VERDICT_WORDS:
            raise EvidenceError(
                f"a verdict cannot be {self.word!r}",
                next_step=f"use one of: {', '.join(VERDICT_WORDS)}; what infrastructure kept "
                "from a verdict is raised as an InfrastructureError",
            )
        if not isinstance(self.reason, str):
            raise EvidenceError(
                f"the reason of a verdict cannot be {self.reason!r}",
                next_step="give it as text",
            )
        if self.word != "passed" and not self.reason.strip():
            raise EvidenceError(
                f"a verdict {self.word!r} has no reason", next_step="say why it is not 'passed'"
            )
        object.__setattr__(self, "figures", tuple(self.figures))
        for figure in self.figures:
            if not isinstance(figure, Figure):
                raise EvidenceError(
                    f"a verdict cannot rest on {figure!r}",
                    next_step="give Figure(value=…, unit=…, kind=…, source=…)",
                )

    def __bool__(self) -> bool:
        return self.word == "passed"

    def as_json(self) -> Json:
        """Plain JSON values: ``word``, ``reason``, ``figures``."""
        return {
            "word": self.word,
            "reason": self.reason,
            "figures": [figure.as_json() for figure in self.figures],
        }

    @classmethod
    def from_json(cls, content: object) -> Verdict:
        """The verdict that :meth:`as_json` gave.

        Raises:
            EvidenceError: a key is missing, unknown or of another type.
        """
        fields = _fields(content, "verdict", ("word", "reason", "figures"))
        if not isinstance(fields["figures"], list):
            raise EvidenceError(
                f"the figures of a verdict cannot be {fields['figures']!r:.80}",
                next_step="give a list of figures",
            )
        return cls(
            word=fields["word"],
            reason=fields["reason"],
            figures=tuple(Figure.from_json(each) for each in fields["figures"]),
        )

    def __str__(self) -> str:
        return f"{self.word}: {self.reason}" if self.reason else self.word


def worst_of(verdicts: Iterable[Verdict], *, strict: bool = False) -> Verdict:
    """The verdict of a whole from those of its parts.

    The first of these words that a part has: ``failed``, ``inconclusive``, ``vacuous``,
    ``passed``, ``skipped``. So a skip beside checks that passed does not undo them, but is told
    in the reason; with ``strict`` ``skipped`` comes before ``passed``. Reason and figures are
    those of the parts with that word. A whole without parts is ``vacuous``.
    """
    parts = list(verdicts)
    if not parts:
        return Verdict(word="vacuous", reason="nothing was checked")
    order = _WORST_FIRST_STRICT if strict else _WORST_FIRST
    word = min((part.word for part in parts), key=order.index)
    chosen = [part for part in parts if part.word == word]
    reasons = list(dict.fromkeys(part.reason for part in chosen if part.reason))
    if word == "passed":
        left = dict.fromkeys(part.reason for part in parts if part.word == "skipped")
        reasons += [f"skipped: {reason}" for reason in left]
    return Verdict(
        word=word,
        reason="; ".join(reasons),
        figures=tuple(figure for part in chosen for figure in part.figures),
    )


def percentile(values: Iterable[float], percent: float) -> float:
    """The ``percent``-th percentile by nearest rank: an observed value, nothing interpolated.
    NaN where a value is NaN.

    Raises:
        InputError: it is not between 0 and 100, or there are too few values for it (p99 and p1
            need 100, p90 and p10 need 10).
    """
    import numpy as np  # not with this module, which everything imports

    if not 0 < percent < 100:
        raise InputError(
            f"there is no percentile {percent!r}", next_step="use a number between 0 and 100"
        )
    known = np.fromiter(values, np.float64)
    least = math.ceil(round(100 / min(percent, 100 - percent), 6)) if percent != 50 else 1
    if known.size < least:
        raise InputError(
            f"p{percent:g} of {known.size} samples says nothing",
            next_step=f"use at least {least} samples, or look at the worst one",
        )
    return float(np.percentile(known, percent, method="inverted_cdf"))


def _number(name: str, value: object) -> Number:
    if isinstance(value, bool) or not isinstance(value, Real):
        raise EvidenceError(
            f"{name}={value!r} of a figure is no number",
            next_step="give a number; NaN says that there is none",
        )
    # Whole numbers stay whole: counts of instructions are beyond what float64 holds exactly.
    return int(value) if isinstance(value, Integral) else float(value)


def _plain(value: Number | None) -> Number | str | None:
    if value is None or math.isfinite(value):
        return value
    return next(word for word, number in _NOT_FINITE.items() if str(number) == str(value))


def _read(name: str, value: object) -> Number:
    if isinstance(value, str):
        if value not in _NOT_FINITE:
            raise EvidenceError(
                f"{name}={value!r} of a figure is no number",
                next_step=f"the words for numbers are: {', '.join(_NOT_FINITE)}",
            )
        return _NOT_FINITE[value]
    if isinstance(value, float) and not math.isfinite(value):
        # Python's reader takes the literals NaN and Infinity, which are not JSON.
        raise EvidenceError(
            f"{name}={value!r} of a figure is not JSON",
            next_step=f"write the word instead: {', '.join(map(repr, _NOT_FINITE))}",
        )
    return _number(name, value)


def _fields(content: object, what: str, names: tuple[str, ...]) -> Mapping[str, Any]:
    if not isinstance(content, Mapping):
        raise EvidenceError(
            f"a {what} cannot be read from {content!r:.80}",
            next_step=f"give an object with: {', '.join(names)}",
        )
    missing = [name for name in names if name not in content]
    unknown = [str(name) for name in content if name not in names]
    if missing or unknown:
        raise EvidenceError(
            f"a {what} with "
            + " and ".join(
                f"{word} {', '.join(some)}"
                for word, some in (("missing", missing), ("unknown", unknown))
                if some
            )
            + " cannot be read",
            next_step=f"give exactly: {', '.join(names)}",
        )
    return cast("Mapping[str, Any]", content)


__all__ = [
    "FIGURE_KINDS",
    "VERDICT_WORDS",
    "Figure",
    "FigureKind",
    "Verdict",
    "VerdictWord",
    "worst_of",
]
