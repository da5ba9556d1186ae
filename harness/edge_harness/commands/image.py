"""``edge-harness image``: the cache of images and runtimes."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from edge_harness.commands import common

if TYPE_CHECKING:
    from rich.console import Console

#: Columns of a terminal that key and content fit into side by side.
_WIDE = 120


@click.group()
def image() -> None:
    """Look after the images and runtimes in the cache."""


@image.command("ls")
@common.json_option()
def ls(as_json: bool) -> None:
    """List images and runtime layers."""
    from edge_harness.image import list_images

    entries = list_images()
    if as_json:
        common.show_json([{**entry, "path": str(entry["path"])} for entry in entries])
        return
    if not entries:
        click.echo("the cache is empty; 'edge-harness setup' fills it")
        return
    _print(entries, common.console())


def _print(entries: Sequence[Mapping[str, Any]], console: Console) -> None:
    """An entry a line; on a narrow terminal what it holds stands below its key, which is never
    cut, as ``image rm`` takes it."""
    from rich.markup import escape
    from rich.table import Table

    wide = not console.is_terminal or console.width >= _WIDE
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("kind", "arch", "MiB", "last used"):
        table.add_column(title, justify="right" if title == "MiB" else "left", no_wrap=True)
    table.add_column("key", overflow="fold")
    if wide:
        table.add_column("content")
    for entry in entries:
        used = time.strftime("%Y-%m-%d", time.localtime(entry["used"]))
        key, content = escape(entry["key"]), escape(entry["content"])
        cells = (key, content) if wide else (f"{key}\n  [dim]{content}[/dim]",)
        table.add_row(entry["kind"], entry["arch"], f"{entry['size_mib']:.0f}", used, *cells)
    common.print_table(table, console)


@image.command("build")
@common.device_option()
def build(devices: tuple[str, ...]) -> None:
    """Build the images and default runtimes of boards that are not in the cache yet."""
    from edge_harness.commands.setup_steps import fetch

    with common.progress() as say:
        fetch(common.selected(devices).profiles, common.results(say))


@image.command("rm")
@click.argument("keys", nargs=-1, required=True, metavar="KEY...")
def rm(keys: tuple[str, ...]) -> None:
    """Delete images or layers."""
    from edge_harness.image import remove

    for key in keys:
        remove(key)
        click.echo(f"removed {key}")


@image.command("gc")
@click.option(
    "--days",
    type=click.FloatRange(min=0),
    default=30.0,
    show_default=True,
    help="Keep what was used within so many days.",
)
def gc(days: float) -> None:
    """Delete what has not been used for a while, in the cache and in Docker."""
    from edge_harness.engines.abilities import KeepsImages
    from edge_harness.engines.registry import engines_with
    from edge_harness.errors import EdgeError
    from edge_harness.image import gc as collect

    removed = collect(unused_days=days)
    for keeper in engines_with(KeepsImages):
        try:
            removed += keeper.remove_unknown()
        except EdgeError:
            pass  # no Docker, nothing in it
    for key in removed:
        click.echo(f"removed {key}")
    click.echo(f"{len(removed)} removed")
