"""What a calibration came to, for people."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from edge_harness.clock.calibrate.fit import NAMES
from edge_harness.clock.calibrate.held_out import Errors
from edge_harness.clock.calibrate.report import Report
from edge_harness.commands import common


def print_report(report: Report, write_to: Path | None, console: Console) -> None:
    """Errors of each board and over all, what there is to beat, and what was not used."""
    for name, board in report.boards.items():
        _print_errors(f"{name}: {board.rows} measurements", board.errors, console)
        fitted = ", ".join(f"{each} {getattr(board.clock, each):g}" for each in NAMES)
        console.print(f"  {fitted}\n", style="dim", soft_wrap=not console.is_terminal)
    if len(report.boards) > 1:
        _print_errors("all boards", report.overall, console)
    if report.general is not None:
        _print_errors("boards in general", [report.general], console)
    if report.baselines:
        _print_errors(
            "to beat: least squares on the same rows, for each board and precision",
            report.baselines,
            console,
        )
    if report.left:
        console.print(f"{len(report.left)} rows were not used:")
        for reason, count in Counter(row.reason for row in report.left).most_common():
            console.print(f"  {count}: {reason}", markup=False, soft_wrap=True)
    if write_to is not None:
        console.print(f"written to {write_to}", markup=False, soft_wrap=True)


def _print_errors(title: str, entries: Sequence[Errors], console: Console) -> None:
    table = Table(box=None, pad_edge=False)
    for name in ("errors", "rows", "mean", "median", "p90", "rank", "bounds", "covered"):
        table.add_column(name, justify="left" if name == "errors" else "right")
    for entry in entries:
        rank, promised = entry.spearman(), not math.isnan(entry.bounds)
        table.add_row(
            entry.what,
            str(len(entry.values)),
            *(f"{share:.1%}" for share in (entry.mean, entry.median, entry.p90)),
            "" if math.isnan(rank) else f"{rank:.3f}",
            f"±{entry.bounds:.1%}" if promised else "",
            f"{entry.covered:.0%}" if promised else "",
        )
    console.print(title, markup=False, style="italic")
    common.print_table(table, console)
    console.print()
