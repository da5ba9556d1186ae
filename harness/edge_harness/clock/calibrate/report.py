"""How good a calibration is: fits and errors of each board and over all, and what is to beat."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np

from edge_harness.clock.calibrate.fit import GeneralFit, Row, errors, fit_general
from edge_harness.clock.calibrate.held_out import (
    BASELINES,
    Errors,
    calibrated,
    fit_board,
    fitted,
    left_out,
    linear,
    predict_general,
    start_for,
    without_nan,
)
from edge_harness.clock.calibrate.measurements import Unused
from edge_harness.clock.trust import general as general_of
from edge_harness.profiles.clock import Clock


@dataclass(frozen=True, kw_only=True)
class BoardReport:
    """Of one board."""

    clock: Clock
    """What its profile may keep."""
    rows: int
    errors: tuple[Errors, ...]
    """In sample, and with something left out."""

    def as_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "clock": msgspec.to_builtins(self.clock),
            "rows": self.rows,
            "errors": [_plain(each) for each in self.errors],
        }


@dataclass(frozen=True, kw_only=True)
class Report:
    """Of a calibration."""

    boards: Mapping[str, BoardReport]
    overall: tuple[Errors, ...]
    baselines: tuple[Errors, ...]
    """Simple regressions on the same rows."""
    general: Errors | None = None
    """In sample, of what holds for boards in general; None where that was not fitted."""
    left: tuple[Unused, ...] = field(default=())
    """Rows that were not used."""

    def as_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        content: dict[str, Any] = {
            "boards": {name: board.as_json() for name, board in self.boards.items()},
            "overall": [_plain(each) for each in self.overall],
            "baselines": [_plain(each) for each in self.baselines],
        }
        if self.general is not None:
            content["general"] = _plain(self.general)
        content["left_out"] = [{"id": row.id, "reason": row.reason} for row in self.left]
        return content


def _plain(found: Errors) -> dict[str, Any]:
    """JSON has no NaN: what there is none of is null."""
    return {
        key: None if isinstance(value, float) and math.isnan(value) else value
        for key, value in found.as_dict().items()
    }


def make_report(rows: Sequence[Row], sources: Mapping[str, str], *, every_board: bool) -> Report:
    """Fits and errors of ``rows``, of each board and over all.

    Args:
        rows: measurements with their steps.
        sources: where those of each board are from.
        every_board: whether to fit what holds for boards in general to them, too; else what ships
            with the package is taken.
    """
    common = fit_general(rows) if every_board else _shipped()
    boards: dict[str, BoardReport] = {}
    parts: dict[str, list[Errors]] = {what: [] for what in _OVERALL}
    for board in dict.fromkeys(row.board for row in rows):
        mine = [row for row in rows if row.board == board]
        start = start_for(mine[0], common)
        clock = calibrated(mine, start, sources[board])
        found = (
            Errors(
                what="in sample",
                values=errors(mine, fit_board(mine, start)),
                rows=tuple(mine),
                bounds=clock.error,
            ),
            left_out(mine, lambda r: r.model, fitted(start), "one model left out"),
            left_out(mine, lambda r: r.family, fitted(start), "one family left out"),
        )
        for what, part in zip(_OVERALL, found, strict=True):
            parts[what].append(part)
        boards[board] = BoardReport(
            clock=clock, rows=len(mine), errors=tuple(part for part in found if len(part.values))
        )
    overall = [_together(what, found) for what, found in parts.items()]
    if every_board and len(boards) > 1:
        overall.append(left_out(rows, lambda r: r.board, predict_general, "one board left out"))
    return Report(
        boards=boards,
        overall=tuple(found for found in overall if len(found.values)),
        baselines=_baselines(rows),
    )


#: What the errors of all boards together are called.
_OVERALL = ("in sample", "one model of a board left out", "one family of a board left out")


def _shipped() -> GeneralFit:
    known = general_of()
    return GeneralFit(parameters=known.parameters, dram_share=known.dram_share, cores=known.cores)


def _together(what: str, parts: Sequence[Errors]) -> Errors:
    return Errors(
        what=what,
        values=np.concatenate([part.values for part in parts]),
        rows=tuple(row for part in parts for row in part.rows),
    )


def _baselines(rows: Sequence[Row]) -> tuple[Errors, ...]:
    groups: dict[str, Callable[[Row], str]] = {
        "model": lambda row: f"{row.board} {row.model}",
        "family": lambda row: f"{row.board} {row.family}",
    }
    found = [
        without_nan(left_out(rows, group, linear(features), f"{name}, one {what} left out"))
        for name, features in BASELINES.items()
        for what, group in groups.items()
    ]
    return tuple(each for each in found if len(each.values))
