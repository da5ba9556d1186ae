"""``edge-harness calibrate``: read measurements, count the same inferences, fit, write."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from edge_harness.clock.calibrate.measurements import Measurement, Unused, measured_rows, read_csv
from edge_harness.clock.calibrate.report import Report, make_report
from edge_harness.clock.calibrate.write import document_to_change, write_general, write_profile
from edge_harness.errors import MissingTool, OptionError, UserError

if TYPE_CHECKING:
    from edge_harness.profiles import ProfileRegistry

Progress = Callable[[str], None]


def run_calibration(
    registry: ProfileRegistry,
    measurements: Path | None,
    *,
    device: str | None,
    write_to: Path | None,
    write_all: Path | None,
    general: bool,
    progress: Progress,
) -> Report:
    """Read, count, fit and write.

    Raises:
        UserError: no row of the file can be used.
        OptionError: ``write_to`` without one board.
    """
    if write_to is not None and device is None:
        raise OptionError(
            "--write needs --device: a profile is of one board", next_step="add --device NAME"
        )
    if general and device is not None:
        raise OptionError(
            "--general is about all boards, --device about one", next_step="leave one out"
        )
    # Counting takes minutes: what cannot be done afterwards is refused before.
    require_packages()
    wanted, left = read_csv(measurements, registry)
    base = ""
    if device is not None:
        base = registry.get(device).name
        boards = sorted({row.board for row in wanted})
        wanted = [row for row in wanted if row.board == base]
        if not wanted and boards:
            raise UserError(
                f"no measurement of {base!r} can be used; those that can are of "
                f"{', '.join(boards)}",
                next_step="name one of them with --device, or correct the column device",
            )
    if write_to is not None:
        document_to_change(write_to, base)
    wanted, other_code = own_code(wanted)
    rows, failed = measured_rows(wanted, registry, progress)
    left += other_code + failed
    if not rows:
        reasons = sorted({row.reason for row in left})
        raise UserError(
            f"none of the measurements can be used: {'; '.join(reasons[:3]) or 'there are none'}",
            next_step="docs/clock.md says what a CSV needs",
        )
    report = make_report(rows, _sources(wanted), every_board=device is None)
    if write_to is not None:
        write_profile(write_to, report.boards[rows[0].board].clock, base)
    if write_all is not None:
        for name, board in report.boards.items():
            write_profile(write_all / f"{name}.toml", board.clock)
    return replace(report, general=write_general(rows) if general else None, left=tuple(left))


def own_code(wanted: Sequence[Measurement]) -> tuple[list[Measurement], list[Unused]]:
    """Without rows of 32-bit code on a 64-bit profile, unless the board has no others."""
    native = {row.board for row in wanted if row.same_code}
    kept = [row for row in wanted if row.same_code or row.board not in native]
    left = [
        Unused(id=row.id, reason=f"32-bit code; {row.board} has measurements of 64-bit code")
        for row in wanted
        if row not in kept
    ]
    return kept, left


def _sources(wanted: Sequence[Measurement]) -> dict[str, str]:
    """Where the measurements of each board are from, by what a person would look for."""
    found: dict[str, set[str]] = {}
    for row in wanted:
        found.setdefault(row.board, set()).add(row.source.partition(" ")[0])
    return {board: ", ".join(sorted(names)) for board, names in found.items()}


def require_packages() -> None:
    """Raise unless the packages of the extra ``calibrate`` are here.

    Raises:
        MissingTool: one is not.
    """
    for name, module in (("SciPy", "scipy"), ("tomlkit", "tomlkit")):
        if importlib.util.find_spec(module) is None:
            raise MissingTool(
                f"calibration needs {name}, which is not installed",
                next_step="pip install 'pytest-edge-harness[calibrate]'",
            )
