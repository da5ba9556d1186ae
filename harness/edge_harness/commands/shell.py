"""``edge-harness shell``."""

from __future__ import annotations

import subprocess
import sys

import click

from edge_harness.commands import common
from edge_harness.commands.status import Status, complain, worst_of_programs


@click.command(cls=common.Program)
@common.device_option()
@common.engine_option()
def shell(devices: tuple[str, ...], engine: str | None) -> None:
    """Open a shell on a device.

    Of several devices on one after the other. Ends with the shell's own exit status, or 128 and
    the number of the signal that killed it; with 125 where there could be no shell. Of several
    devices with the worst.
    """
    from edge_harness.commands.open_shell import open_shell
    from edge_harness.device.lease import sweep

    boards = common.selected(devices)
    chosen = common.engine_for(engine)
    sweep(complain)
    statuses: list[int] = []
    for profile in boards.profiles:
        with common.one_of(boards, profile, Status.OURS) as outcome:
            common.heading(boards, profile)
            with open_shell(profile, chosen, lambda text: click.echo(text, err=True)) as command:
                status = subprocess.run(command.argv, env=dict(command.env), check=False).returncode
            statuses.append(128 - status if status < 0 else status)
        if outcome.error:
            statuses.append(outcome.status)
    sys.exit(worst_of_programs(statuses))
