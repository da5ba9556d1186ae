"""The examination as a table."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from edge_harness.system.checks import Check

_STYLE = {"ok": "green", "limited": "yellow", "missing": "red"}
_PIPE = 160


def print_checks(checks: Sequence[Check], *, good: bool, console: Console) -> None:
    """One check a line, the fix of each below it; then the verdict."""
    if not console.is_terminal:
        console.width = _PIPE
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
    if console.is_terminal:
        console.print(table)
    else:
        # Without the blanks that fill each line up to the width of the table.
        with console.capture() as capture:
            console.print(table)
        for line in capture.get().splitlines():
            console.out(line.rstrip(), highlight=False)
    if len(checks) > 1:
        verdict = (
            "[green]boards can be emulated here[/green]"
            if good
            else "[red]no engine here can emulate a board[/red]: see the fixes above"
        )
        console.print(f"\n{verdict}")
