"""Several comparisons side by side."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from edge_harness.fidelity.report import Report

if TYPE_CHECKING:
    from rich.table import Table


def table(reports: Mapping[str, Report]) -> Table:
    """Several comparisons side by side, by the names given: a ``rich`` table."""
    from rich.table import Table
    from rich.text import Text

    result = Table(box=None, pad_edge=False, header_style="bold")
    titles = ("model", "verdict", "SQNR dB", "cosine", "max steps", "top-1", "KL nats", "accuracy",
              "reference")  # fmt: skip
    for title in titles:
        result.add_column(title, justify="left" if title in titles[:2] else "right")

    def shown(value: float | None, form: str) -> str:
        return "–" if value is None or math.isnan(value) else format(value, form)

    for name, report in reports.items():
        cells = (
            name,
            report.verdict.word,
            shown(report.sqnr_db, ".1f"),
            shown(report.cosine, ".4f"),
            shown(report.max_steps, ".3g"),
            shown(report.top1_agreement, ".1%"),
            shown(report.kl, ".2g"),
            shown(report.accuracy, ".1%"),
            shown(report.reference_accuracy, ".1%"),
        )
        result.add_row(*map(Text, cells), style=None if report.passed else "red")
    return result


def table_text(reports: Mapping[str, Report]) -> str:
    """:func:`table` as plain text."""
    from rich.console import Console

    text = io.StringIO()
    Console(file=text, width=140, force_terminal=False, highlight=False).print(table(reports))
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines())
