"""``edge-harness doctor``."""

from __future__ import annotations

import sys

import click

from edge_harness.commands import common
from edge_harness.commands.status import Status


@click.command()
@common.device_option()
@common.engine_option("Ask about this engine only (default: all of them).")
@common.json_option()
def doctor(devices: tuple[str, ...], engine: str | None, as_json: bool) -> None:
    """List what this machine has and lacks, each with its fix.

    Ends with status 0 if each board can be emulated here (with --engine: if that engine can), 1
    otherwise.
    """
    from edge_harness.commands import doctor_checks as examination
    from edge_harness.engines.registry import AUTO

    boards = common.selected(devices).profiles
    every = engine is None or engine == AUTO
    asked = () if every or engine is None else (engine,)
    checks = (
        examination.host(boards)
        if engine is None or every
        else examination.foundations(engine, boards)
    )
    lacking = []
    for profile in boards:
        found = examination.engines(profile, asked)
        checks += found
        if not (examination.can_run(found) if every else found[0].status != "missing"):
            lacking.append(profile.name)
    if as_json:
        common.show_json({"ok": not lacking, "checks": examination.as_json(checks)})
    else:
        from edge_harness.commands.doctor_table import print_checks

        console = common.console()
        print_checks(checks, console)
        if every and lacking:
            text = f"{', '.join(lacking)} cannot be emulated here[/red]: see the fixes above"
            console.print(f"\n[red]{text}")
        elif every:
            console.print(
                f"\n[green]{', '.join(p.name for p in boards)} can be emulated here[/green]"
            )
    sys.exit(Status.FAILED if lacking else Status.HELD)
