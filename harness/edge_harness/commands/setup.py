"""``edge-harness setup``."""

from __future__ import annotations

import click

from edge_harness.commands import common


@click.command()
@common.device_option()
@click.option(
    "--system",
    is_flag=True,
    help="Also install and start Docker Engine, and register QEMU with the kernel (root, or sudo "
    "without a password).",
)
@click.option("--undo", is_flag=True, help="Stop and unregister what --system started.")
def setup(devices: tuple[str, ...], system: bool, undo: bool) -> None:
    """Fetch QEMU, images and runtimes into the cache.

    Needs no root. With --system adds Docker and binfmt; without it says what that would run.
    """
    from edge_harness.commands import setup_steps as work

    if undo:
        work.undo(click.echo)
        return
    with common.progress() as say:
        work.fetch(common.selected(devices).profiles, common.results(say))
    if system:
        work.apply(click.echo)
        return
    steps, notes = work.plan()
    if not steps and not notes:
        click.echo("Docker Engine and binfmt are ready: all engines can run")
        return
    click.echo(
        "\nThe user engine is ready. For the docker engine, 'edge-harness setup --system'\n"
        "would run, as root:"
    )
    for step in steps:
        click.echo(f"  # {step.why}\n  {step.command()}")
    for note in notes:
        click.echo(f"  # {note}")
