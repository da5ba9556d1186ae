"""``edge-harness calibrate``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edge_harness.commands import common
from edge_harness.commands.status import Status

if TYPE_CHECKING:
    from edge_harness.profiles import Profile


@click.command()
@click.argument("measurements", required=False, type=click.Path(path_type=Path))
@common.device_option(
    "Fit this board alone: a name, an alias, a comma list, a glob or 'all'; may be repeated. "
    "Default: report on all boards in the file together."
)
@click.option(
    "--write",
    "write_to",
    type=click.Path(path_type=Path),
    help="Profile file to put the fit into, as [clock].",
)
@click.option(
    "--write-all",
    "write_all",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="Folder of profiles to put the fits of all boards into, each as [clock].",
)
@click.option("--general", is_flag=True, help="Also refit what holds for boards in general.")
@common.json_option()
def calibrate(
    measurements: Path | None,
    devices: tuple[str, ...],
    write_to: Path | None,
    write_all: Path | None,
    general: bool,
    as_json: bool,
) -> None:
    """Fit the device clock to measured latencies, and report its errors.

    MEASUREMENTS is a CSV with the columns model (a file, or the name of a published network such
    as mobilenet_v1_1.0_224), precision, device, runtime, threads and latency_ms; without it the
    published table that the package carries is taken. Needs the extra "calibrate".
    """
    from edge_harness.errors import OptionError

    def ask(profile: Profile | None) -> common.Answer:
        # Not imported before: a calibration needs packages that a latency does not.
        from edge_harness.clock.calibrate.run import run_calibration
        from edge_harness.commands.calibration_tables import print_report

        with common.progress() as say:
            report = run_calibration(
                common.registry(),
                measurements,
                device=None if profile is None else profile.name,
                write_to=write_to,
                write_all=write_all,
                general=general,
                progress=say,
            )
        return common.Answer(
            status=Status.HELD,
            show=lambda: print_report(report, write_to, common.console()),
            document=report.as_json(),
        )

    if not devices:
        answer = ask(None)
        if as_json:
            common.show_json(answer.document)
        else:
            answer.show()
        return
    boards = common.selected(devices)
    if write_to is not None and len(boards.profiles) > 1:
        raise OptionError(
            "--write is for one board, --device named several",
            next_step="name one, or use --write-all DIR",
        )
    sys.exit(common.answer_for_each(boards, ask, as_json=as_json))
