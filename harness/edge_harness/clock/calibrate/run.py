"""``edge-harness calibrate``: fit, report, write."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from edge_harness.cache import explained
from edge_harness.clock.calibrate.fit import NAMES, GeneralFit, Row, errors, fit_general, half_width
from edge_harness.clock.calibrate.held_out import (
    BASELINES,
    Errors,
    calibrated,
    errors_general,
    fit_board,
    fitted,
    left_out,
    linear,
    predict_general,
    start_for,
    without_nan,
)
from edge_harness.clock.calibrate.instruction_rate import fit_instruction_rate
from edge_harness.clock.calibrate.measurements import Left, Wanted, measured_rows, read_csv
from edge_harness.clock.trust import general as general_of
from edge_harness.errors import MissingTool, OptionError, UserError
from edge_harness.profiles.clock import Clock

if TYPE_CHECKING:
    from edge_harness.profiles import ProfileRegistry

Progress = Callable[[str], None]
GENERAL_FILE = Path(__file__).parents[1] / "data" / "general.toml"
RATE_FILE = GENERAL_FILE.with_name("instruction_rate.toml")


def run_calibration(
    registry: ProfileRegistry,
    measurements: Path | None,
    *,
    device: str | None,
    write_to: Path | None,
    write_all: Path | None,
    general: bool,
    progress: Progress,
) -> tuple[dict[str, Any], list[Left]]:
    """The command's work: what :func:`print_report` shows, and the rows that were not used.

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
        _document(write_to, base)
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
    if general:
        write_general(rows, report)
    if write_to is not None:
        clock = report["boards"][rows[0].board]["clock"]
        write_profile(write_to, clock, base)
    if write_all is not None:
        for board, facts in report["boards"].items():
            write_profile(write_all / f"{board}.toml", facts["clock"])
    report["left_out"] = [{"id": row.id, "reason": row.reason} for row in left]
    return report, left


def own_code(wanted: Sequence[Wanted]) -> tuple[list[Wanted], list[Left]]:
    """Without rows of 32-bit code on a 64-bit profile, unless the board has no others."""
    native = {row.board for row in wanted if row.same_code}
    kept = [row for row in wanted if row.same_code or row.board not in native]
    left = [
        Left(id=row.id, reason=f"32-bit code; {row.board} has measurements of 64-bit code")
        for row in wanted
        if row not in kept
    ]
    return kept, left


def _sources(wanted: Sequence[Wanted]) -> dict[str, str]:
    """Where the measurements of each board are from, by what a person would look for."""
    found: dict[str, set[str]] = {}
    for row in wanted:
        found.setdefault(row.board, set()).add(row.source.partition(" ")[0])
    return {board: ", ".join(sorted(names)) for board, names in found.items()}


def make_report(
    rows: Sequence[Row], sources: Mapping[str, str], *, every_board: bool
) -> dict[str, Any]:
    """Fits and errors, of each board and over all."""
    boards: dict[str, Any] = {}
    in_sample: list[float] = []
    sample_rows: list[Row] = []
    models: list[float] = []
    families: list[float] = []
    if every_board:
        common = fit_general(rows)
    else:
        known = general_of()
        common = GeneralFit(
            parameters=known.parameters, dram_share=known.dram_share, cores=known.cores
        )
    held_rows: dict[str, list[Row]] = {"model": [], "family": []}
    for board in dict.fromkeys(row.board for row in rows):
        mine = [row for row in rows if row.board == board]
        start = start_for(mine[0], common)
        fitted_here = fit_board(mine, start)
        clock = calibrated(mine, start, sources[board])
        inside = errors(mine, fitted_here)
        by_model = left_out(mine, lambda r: r.model, fitted(start), "one model left out")
        by_family = left_out(mine, lambda r: r.family, fitted(start), "one family left out")
        in_sample += inside.tolist()
        sample_rows += mine
        models += by_model.values.tolist()
        held_rows["model"] += by_model.rows
        families += by_family.values.tolist()
        held_rows["family"] += by_family.rows
        boards[board] = {
            "clock": clock,
            "rows": len(mine),
            "errors": [
                e
                for e in (
                    Errors(what="in sample", values=inside, rows=tuple(mine), bounds=clock.error),
                    by_model,
                    by_family,
                )
                if len(e.values)
            ],
        }
    import numpy as np

    overall = [Errors(what="in sample", values=np.array(in_sample), rows=tuple(sample_rows))]
    for what, values in (("model", models), ("family", families)):
        if values:
            overall.append(
                Errors(
                    what=f"one {what} of a board left out",
                    values=np.array(values),
                    rows=tuple(held_rows[what]),
                )
            )
    if every_board and len(boards) > 1:
        overall.append(left_out(rows, lambda r: r.board, predict_general, "one board left out"))
    baselines = []
    for name, features in BASELINES.items():
        for what, group in (
            ("model", lambda r: f"{r.board} {r.model}"),
            ("family", lambda r: f"{r.board} {r.family}"),
        ):
            found = without_nan(
                left_out(rows, group, linear(features), f"{name}, one {what} left out")
            )
            if len(found.values):
                baselines.append(found)
    return {"boards": boards, "overall": overall, "baselines": baselines}


def write_general(rows: Sequence[Row], report: dict[str, Any]) -> None:
    """Refit what holds for boards that nobody measured, into the package's own file."""
    import tomlkit

    found = fit_general(rows)
    held = left_out(rows, lambda r: r.board, predict_general, "one board left out")
    report["general"] = Errors(
        what="in sample, general", values=errors_general(rows, found), rows=tuple(rows)
    )
    old = general_of()
    lines = [
        "# Written by: edge-harness calibrate --general",
        f"dram_share = {found.dram_share:.4g}",
        f"little_share = {old.little_share:.4g}",
        f"error = {half_width(held.values):.3g}",
        f"rows = {len(rows)}",
        f"boards = {len({row.board for row in rows})}",
        "",
        "[parameters]",
        *(f"{name} = {getattr(found.parameters, name):.4g}" for name in NAMES),
        "",
        "[cores]",
        *(f'"{core}" = {factor:.4g}' for core, factor in found.cores.items()),
        "",
    ]
    with explained(GENERAL_FILE):
        GENERAL_FILE.write_text("\n".join(lines))
        RATE_FILE.write_text(
            "# Written by: edge-harness calibrate --general\n"
            + tomlkit.dumps(msgspec.structs.asdict(fit_instruction_rate(rows)))
        )
    general_of.cache_clear()


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


def _document(path: Path, base: str) -> Any:
    """The profile at ``path`` as it is; where there is none, one that extends ``base``."""
    import tomlkit
    from tomlkit.exceptions import TOMLKitError

    try:
        if path.suffix != ".toml":
            raise OSError("its name does not end in .toml")
        if base and not path.exists():
            return tomlkit.parse(f'extends = "{base}"\n')
        return tomlkit.parse(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, TOMLKitError) as error:
        raise UserError(
            f"the profile {str(path)!r} cannot be changed: {error}",
            next_step='name a profile file, such as one of your own with extends = "rpi4"',
        ) from None


def write_profile(path: Path, clock: Clock, base: str = "") -> None:
    """Put ``clock`` into the profile file ``path`` as ``[clock]``; all else stays as it is.
    Where there is no such file and ``base`` names a device, one that extends it is made.

    Raises:
        UserError: the file is missing, not TOML, or cannot be written.
    """
    import tomlkit

    document = _document(path, base)
    table = tomlkit.table()
    for name, value in msgspec.structs.asdict(clock).items():
        table[name] = value
    sources = document.pop("sources", None)
    document.pop("clock", None)
    document["clock"] = table
    if sources is not None:
        sources["clock"] = "edge-harness calibrate, from the measurements that clock.measured names"
        document["sources"] = sources
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(tomlkit.dumps(document), encoding="utf-8")
    except OSError as error:
        raise UserError(
            f"the profile {str(path)!r} cannot be written: {error}",
            next_step="name a file that you may write with --write",
        ) from None


def as_json(report: dict[str, Any]) -> Any:
    """The report as plain JSON values."""
    return _plain(report)


def _plain(value: Any) -> Any:
    if isinstance(value, Errors):
        return value.as_dict()
    if isinstance(value, Clock):
        return msgspec.to_builtins(value)
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list) else value


def print_report(report: dict[str, Any], left: Sequence[Left], write_to: Path | None) -> None:
    """Tables for a person."""
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 130

    def table(title: str, entries: Sequence[Errors]) -> None:
        shown = Table(title=title, box=None, title_justify="left", pad_edge=False)
        for name in ("errors", "rows", "mean", "median", "p90", "rank", "bounds", "covered"):
            shown.add_column(name, justify="left" if name == "errors" else "right")
        for entry in entries:
            d = entry.as_dict()
            bounds = [f"±{d['bounds']:.1%}", f"{d['covered']:.0%}"] if "bounds" in d else ["", ""]
            shown.add_row(
                d["what"],
                str(d["rows"]),
                *(f"{d[k]:.1%}" for k in ("mean", "median", "p90")),
                "" if math.isnan(d["spearman"]) else f"{d['spearman']:.3f}",
                *bounds,
            )
        console.print(shown)
        console.print()

    for board, facts in report["boards"].items():
        table(f"{board}: {facts['rows']} measurements", facts["errors"])
        clock = facts["clock"]
        console.print(
            "  " + ", ".join(f"{name} {getattr(clock, name):g}" for name in NAMES), style="dim"
        )
        console.print()
    table("all boards", report["overall"])
    if report["baselines"]:
        table(
            "to beat: least squares on the same rows, for each board and precision",
            report["baselines"],
        )
    if left:
        reasons: dict[str, int] = {}
        for row in left:
            reasons[row.reason] = reasons.get(row.reason, 0) + 1
        console.print(f"{len(left)} rows were not used:")
        for reason, count in sorted(reasons.items(), key=lambda item: -item[1]):
            console.print(f"  {count}: {reason}")
    if write_to is not None:
        console.print(f"written to {write_to}")
