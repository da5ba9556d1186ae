"""The command ``edge-harness``: the table of its commands, and nothing else of them.

A command is one file in ``commands/`` and one line in :data:`COMMANDS`; another distribution adds
one by an entry point of the group ``edge_harness.commands`` that names a :class:`click.Command`
(docs/extending.md). A command's file is imported when it is called or its own help is shown.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any

import click

from edge_harness.commands.status import Status, ending

if TYPE_CHECKING:
    from edge_harness.extensions import Extension

#: ``{name: (where it is, what it does in a line)}``. The line is the first of the command's own
#: help, written out so that a list of commands imports none of them.
COMMANDS: Mapping[str, tuple[str, str]] = {
    "calibrate": (
        "edge_harness.commands.calibrate:calibrate",
        "Fit the device clock to measured latencies, and report its errors.",
    ),
    "compare": (
        "edge_harness.commands.compare:compare",
        "Compare MODEL on a device with REFERENCE.",
    ),
    "devices": (
        "edge_harness.commands.devices:devices",
        "List the device profiles, or show some in full.",
    ),
    "doctor": (
        "edge_harness.commands.doctor:doctor",
        "List what this machine has and lacks, each with its fix.",
    ),
    "image": (
        "edge_harness.commands.image:image",
        "Look after the images and runtimes in the cache.",
    ),
    "latency": (
        "edge_harness.commands.latency:latency",
        "Predict how long one inference of MODEL takes on a board.",
    ),
    "run": (
        "edge_harness.commands.run:run",
        "Run a program on a device.",
    ),
    "setup": (
        "edge_harness.commands.setup:setup",
        "Fetch QEMU, images and runtimes into the cache.",
    ),
    "shell": (
        "edge_harness.commands.shell:shell",
        "Open a shell on a device.",
    ),
}
ENTRY_POINTS = "edge_harness.commands"


class Door(click.Group):
    """Finds commands by the table, and turns errors into one message and an exit status."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*COMMANDS, *_others()})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in COMMANDS:
            module, _, name = COMMANDS[cmd_name][0].partition(":")
            found = getattr(import_module(module), name)
        elif cmd_name in (others := _others()):
            found = _loaded(others[cmd_name])
        else:
            return None
        assert isinstance(found, click.Command)
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        others = _others()
        rows = [
            (name, COMMANDS[name][1] if name in COMMANDS else f"From {others[name].distribution}.")
            for name in self.list_commands(ctx)
        ]
        with formatter.section("Commands"):
            formatter.write_dl(rows)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError:
            from edge_harness.errors import did_you_mean

            known = self.list_commands(ctx)
            hint = did_you_mean(args[0], known) or f"; use one of: {', '.join(known)}"
            ctx.fail(f"there is no command {args[0]!r}{hint}")

    def make_context(self, *arguments: Any, **options: Any) -> click.Context:
        with ending():
            return super().make_context(*arguments, **options)

    def invoke(self, ctx: click.Context) -> Any:
        with ending():
            return super().invoke(ctx)


def _others() -> Mapping[str, Extension]:
    """Commands of other distributions; one cannot take the name of ours."""
    from edge_harness.extensions import extensions

    found = extensions(ENTRY_POINTS, reserved=tuple(COMMANDS))
    return {each.name: each for each in found if each.name not in COMMANDS}


def _loaded(extension: Extension) -> click.Command:
    found = extension.load()
    if not isinstance(found, click.Command):
        raise extension.broken(f"{extension.target} is no click.Command but {found!r}")
    return found


def _print_version(ctx: click.Context, _option: click.Parameter, wanted: bool) -> None:
    if not wanted or ctx.resilient_parsing:
        return
    from edge_harness import __version__

    click.echo(f"edge-harness {__version__}")
    ctx.exit(Status.HELD)


@click.group(cls=Door, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--edge-profiles",
    "profile_dirs",
    multiple=True,
    metavar="DIR",
    help="Folder with device profiles of your own; may be repeated.",
)
@click.option(
    "--version",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=_print_version,
    help="Show the version and exit.",
)
def main(profile_dirs: tuple[str, ...]) -> None:
    """Test edge inference on devices that are not on your desk."""


if __name__ == "__main__":
    sys.exit(main())
