"""``edge-harness run``: a program on a device."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import click

from edge_harness.commands import common
from edge_harness.commands.status import Status, complain, worst_of_programs

if TYPE_CHECKING:
    from edge_harness.device.results import RunResult


@click.command(cls=common.Program, context_settings={"allow_interspersed_args": False})
@common.device_option()
@common.engine_option()
@click.option("--env", "environment", multiple=True, metavar="NAME=VALUE", help="May be repeated.")
@click.option(
    "--requirement",
    "-r",
    "requirements",
    multiple=True,
    help="Wheel to have on PYTHONPATH, as pip takes it; may be repeated.",
)
@click.option("--memory-mib", type=click.IntRange(min=1), help="Instead of the board's memory.")
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(min=0, min_open=True),
    default=3600.0,
    show_default=True,
    help="Seconds.",
)
@click.argument("argv", nargs=-1, required=True, type=click.UNPROCESSED, metavar="-- CMD [ARG]...")
def run(
    devices: tuple[str, ...],
    argv: tuple[str, ...],
    engine: str | None,
    environment: tuple[str, ...],
    requirements: tuple[str, ...],
    memory_mib: int | None,
    timeout_s: float,
) -> None:
    """Run a program on a device.

    As in: edge-harness run --device rpi4 -- python3 -c 'print(1)'. It has this command's standard
    input. On several devices it runs one after the other.

    Ends with the program's exit status, or 128 and the number of the signal that killed it; with
    125 where the program could not be run. Of several devices with the worst.
    """
    from edge_harness.device.lease import sweep
    from edge_harness.engines import Limits
    from edge_harness.opening import open_device

    boards = common.selected(devices)
    chosen = common.engine_for(engine)
    variables = _variables(environment)
    data = b"" if sys.stdin is None or sys.stdin.isatty() else sys.stdin.buffer.read()
    sweep(complain)
    statuses: list[int] = []
    for profile in boards.profiles:
        with common.one_of(boards, profile, Status.OURS) as outcome:
            with common.progress() as say:
                device = open_device(
                    profile, engine=chosen, limits=Limits(memory_mib=memory_mib), progress=say
                )
            with device:
                result = device.run(
                    argv,
                    env=variables,
                    input=data,
                    timeout_s=timeout_s,
                    requirements=requirements,
                )
            common.heading(boards, profile)
            statuses.append(_shown(result))
        if outcome.error:
            statuses.append(outcome.status)
    sys.exit(worst_of_programs(statuses))


def _variables(environment: Sequence[str]) -> Mapping[str, str]:
    from edge_harness.errors import OptionError

    for item in environment:
        if "=" not in item:
            raise OptionError(f"--env {item!r} has no '='", next_step="write --env NAME=VALUE")
    return dict(item.split("=", 1) for item in environment)


def _shown(result: RunResult) -> int:
    """Show what the program wrote; what it ended with."""
    click.echo(result.stdout, nl=False)
    click.echo(result.stderr, nl=False, err=True)
    if result.signal and result.error is not None:
        complain(result.error)
    return 128 + result.signal if result.signal else result.returncode
