"""Put fits where they are used: into a profile, and into the package's own files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from edge_harness.cache import explained
from edge_harness.clock.calibrate.fit import NAMES, Row, fit_general, half_width
from edge_harness.clock.calibrate.held_out import (
    Errors,
    errors_general,
    left_out,
    predict_general,
)
from edge_harness.clock.calibrate.instruction_rate import fit_instruction_rate
from edge_harness.clock.instruction_rate import instruction_rate
from edge_harness.clock.trust import general as general_of
from edge_harness.errors import UserError
from edge_harness.profiles.clock import Clock

GENERAL_FILE = Path(__file__).parents[1] / "data" / "general.toml"
RATE_FILE = GENERAL_FILE.with_name("instruction_rate.toml")


def document_to_change(path: Path, base: str) -> Any:
    """The profile at ``path`` as it is; where there is none, one that extends ``base``.

    Raises:
        UserError: it is missing, not TOML, or cannot be read.
    """
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

    document = document_to_change(path, base)
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


def write_general(rows: Sequence[Row]) -> Errors:
    """Refit what holds for boards that nobody measured, into the package's own files; its errors
    in sample."""
    import tomlkit

    found = fit_general(rows)
    held = left_out(rows, lambda r: r.board, predict_general, "one board left out")
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
    instruction_rate.cache_clear()
    return Errors(what="in sample, general", values=errors_general(rows, found), rows=tuple(rows))
