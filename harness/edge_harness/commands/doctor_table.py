"""The examination as a table."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from edge_harness.commands import common
from edge_harness.system.checks import Check

_STYLE = {"ok": "green", "limited": "yellow", "missing": "red"}


def print_checks(checks: Sequence[Check], console: Console) -> None:
    """One check a line, the fix of each below it."""
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    group = ""
    for check in checks:
        if check.group != group:
            if group:
                table.add_row()
            group = check.group
        style = "dim" if check.optional and check.status != "ok" else _STYLE[check.status]
        found = escape(check.found)
        if check.fix and check.status != "ok":
            found += f"\n[bold]fix:[/bold] {escape(check.fix)}"
        table.add_row(f"[{style}]{check.status}[/{style}]", escape(check.name), found)
    common.print_table(table, console)
