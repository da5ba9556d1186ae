"""``edge-harness image``: the cache of images and runtimes."""

from __future__ import annotations

import time

import click

from edge_harness.commands import common


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
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("kind", "key", "arch", "MiB", "last used", "content"):
        table.add_column(title, justify="right" if title == "MiB" else "left", overflow="fold")
    for entry in entries:
        used = time.strftime("%Y-%m-%d", time.localtime(entry["used"]))
        size = f"{entry['size_mib']:.0f}"
        table.add_row(entry["kind"], entry["key"], entry["arch"], size, used, entry["content"])
    common.print_table(table, common.console())


@image.command("build")
@common.device_option()
def build(devices: tuple[str, ...]) -> None:
    """Build the images and default runtimes of boards that are not in the cache yet."""
    from edge_harness.system.setup import fetch

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
    from edge_harness.errors import EdgeError
    from edge_harness.image import gc as collect

    removed = collect(unused_days=days)
    try:
        from edge_harness.engines.docker.image import remove_unknown

        removed += remove_unknown()
    except EdgeError:
        pass  # no Docker, nothing in it
    for key in removed:
        click.echo(f"removed {key}")
    click.echo(f"{len(removed)} removed")
