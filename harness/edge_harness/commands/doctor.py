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

    profiles = common.selected(devices).profiles
    checks = [] if engine not in (None, "auto") else examination.host(profiles)
    good = True
    for profile in profiles:
        if engine in (None, "auto"):
            found = examination.engines(profile)
            good &= examination.can_run(found)
        else:
            found = examination.engines(profile, [engine])
            good &= found[0].status != "missing"
        checks += found
    if as_json:
        common.show_json({"ok": good, "checks": examination.as_json(checks)})
    else:
        from edge_harness.commands.doctor_table import print_checks

        print_checks(checks, good=good, console=common.console())
    sys.exit(Status.HELD if good else Status.FAILED)
