"""What is wrong with a changed table of instruction encodings, and which words notice."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

Row = tuple[str, int, int]


@dataclass(frozen=True)
class Change:
    """One row of a table, deleted or replaced."""

    table: int
    number: int
    new: Row | None
    text: str

    def __str__(self) -> str:
        return self.text


class ChangedTables:
    """Two tables of (extension, mask, value) that are asked one after the other: the first in
    which a row fits answers, if all that fit are of one extension. ``right`` says what each word
    needs, "" for nothing."""

    def __init__(
        self, exact: Sequence[Row], spaces: Sequence[Row], right: Mapping[int, str]
    ) -> None:
        self._tables = (tuple(exact), tuple(spaces))
        self._names = sorted({name for name, _, _ in (*exact, *spaces)})
        self._words = np.array(list(right), np.uint32)
        self._right = np.array(
            [self._names.index(name) if name else -1 for name in right.values()], np.int64
        )
        self._fits = [np.array([self._fit(row) for row in table]) for table in self._tables]
        self._numbers = [
            np.array([self._names.index(name) for name, _, _ in table]) for table in self._tables
        ]

    def _fit(self, row: Row) -> np.ndarray:
        return (self._words & np.uint32(row[1])) == np.uint32(row[2])

    def wrong(self) -> list[int]:
        """Words about which the tables as they are are wrong."""
        return [int(word) for word in self._words[self._answers(self._fits) != self._right]]

    def all(self) -> Iterator[Change]:
        """Each row deleted; each bit of its mask set free; each free bit demanded to be 0 or 1;
        each bit of its value turned."""
        for place, table in enumerate(self._tables):
            for number, row in enumerate(table):
                for new, what in _variants(row):
                    text = f"({row[0]}, {row[1]:#010x}, {row[2]:#010x}) {what}"
                    yield Change(place, number, new, text)

    def noticing(self, change: Change) -> list[int]:
        """Words about which the changed tables are wrong."""
        before = self._fits[change.table][change.number]
        after = self._fit(change.new) if change.new else np.zeros_like(before)
        differ = np.flatnonzero(before != after)  # only these can get another answer
        fits = [table[:, differ] for table in self._fits]
        fits[change.table] = fits[change.table].copy()
        fits[change.table][change.number] = after[differ]
        wrong = self._answers(fits) != self._right[differ]
        return [int(word) for word in self._words[differ[wrong]]]

    def _answers(self, fits: list[np.ndarray]) -> np.ndarray:
        found = np.full(fits[0].shape[1], -1, np.int64)
        settled = np.zeros(fits[0].shape[1], bool)
        for table, numbers in zip(fits, self._numbers, strict=True):
            lowest = np.where(table, numbers[:, None], 1 << 9).min(axis=0, initial=1 << 9)
            highest = np.where(table, numbers[:, None], -1).max(axis=0, initial=-1)
            here = (highest >= 0) & ~settled
            found[here & (lowest == highest)] = highest[here & (lowest == highest)]
            settled |= here
        return found

    def alike(self, change: Change) -> bool:
        """Whether the changed tables answer each of all 2**32 words as before: where two rows of
        one extension meet or overlap, there are such changes."""
        old = self._tables[change.table][change.number]
        changed = [list(table) for table in self._tables]
        changed[change.table][change.number : change.number + 1] = (
            [change.new] if change.new else []
        )
        rows = [row for table in (*self._tables, *changed) for row in table]
        # Answers differ within the old row or the new one, if anywhere.
        return all(self._same(row[1], row[2], changed, rows) for row in (old, change.new) if row)

    def _same(self, mask: int, value: int, changed: list[list[Row]], rows: list[Row]) -> bool:
        """Whether both pairs of tables answer alike on all words that have ``value`` in
        ``mask``."""
        meet = [row for row in rows if not row[1] & mask & (row[2] ^ value)]
        undecided = next((row[1] & ~mask for row in meet if row[1] & ~mask), 0)
        if not undecided:
            return _answer(self._tables, value) == _answer(changed, value)
        bit = undecided & -undecided
        return self._same(mask | bit, value, changed, meet) and self._same(
            mask | bit, value | bit, changed, meet
        )


def _answer(tables: Sequence[Sequence[Row]], word: int) -> str:
    for table in tables:
        names = {name for name, mask, value in table if word & mask == value}
        if names:
            return names.pop() if len(names) == 1 else ""
    return ""


def _variants(row: Row) -> Iterator[tuple[Row | None, str]]:
    name, mask, value = row
    yield None, "deleted"
    for bit in (1 << place for place in range(32)):
        if mask & bit:
            yield (name, mask & ~bit, value & ~bit), f"with bit {bit:#x} free"
            yield (name, mask, value ^ bit), f"with bit {bit:#x} turned"
        else:
            yield (name, mask | bit, value), f"with bit {bit:#x} demanded to be 0"
            yield (name, mask | bit, value | bit), f"with bit {bit:#x} demanded to be 1"
