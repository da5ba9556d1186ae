"""The command ``edge-harness``; heavy imports wait until a subcommand needs them."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.errors import DeviceFailed, EdgeError, InfrastructureError, UserError

if TYPE_CHECKING:
    from harness.profile import Profile, ProfileRegistry

EXIT_DEVICE, EXIT_USER, EXIT_INFRASTRUCTURE = 1, 2, 3
_ENGINES = ("auto", "user", "docker", "host")


def _exit_status(error: EdgeError) -> int:
    if isinstance(error, UserError):
        return EXIT_USER
    if isinstance(error, InfrastructureError):
        return EXIT_INFRASTRUCTURE
    return EXIT_DEVICE if isinstance(error, DeviceFailed) else 70


class _Group(click.Group):
    """Turns our errors into one message and an exit status; a traceback is for bugs only."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except EdgeError as error:
            click.echo(f"edge-harness: {error}", err=True)
            ctx.exit(_exit_status(error))
        except BrokenPipeError:
            sys.stderr.close()
            ctx.exit(1)


def _say(text: str) -> None:
    click.echo(text, err=True)


@contextmanager
def _progress() -> Iterator[Callable[[str], None]]:
    """A status line on a terminal, plain lines elsewhere."""
    if not sys.stderr.isatty():
        yield _say
        return
    from rich.console import Console

    with Console(stderr=True).status("…") as status:
        yield lambda text: status.update(text)


_profiles_option = click.option(
    "--edge-profiles",
    "folders",
    multiple=True,
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="Folder with profiles of your own; may be repeated.",
)


def _registry(folders: tuple[Path, ...]) -> ProfileRegistry:
    from harness.profile import default_registry

    return default_registry(folders, Path.cwd())


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Test edge inference on devices you do not have on your desk.

    Exit status: 0 fine, 1 the device failed, 2 the request cannot be right, 3 this machine
    lacks something.
    """


@main.command()
def version() -> None:
    """Print the version."""
    from importlib.metadata import version as installed

    click.echo(f"edge-harness {installed('pytest-edge-harness')}")


@main.command()
@click.option("--engine", type=click.Choice(_ENGINES[1:]), help="Ask only whether this can run.")
@click.option("--device", default="rpi4", show_default=True, help="The device to run on it.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@_profiles_option
@click.pass_context
def doctor(
    ctx: click.Context, engine: str | None, device: str, as_json: bool, folders: tuple[Path, ...]
) -> None:
    """Say what this machine has, what it lacks, and how to mend it.

    Status 0 if a device can run (with --engine: on that engine), else 3.
    """
    profile = _registry(folders).get(device)
    if engine is not None:
        from harness.choose import choose_engine

        _, availability = choose_engine(profile, engine)
        click.echo(f"{engine}: {availability.reason}")
        return
    from harness.system import doctor as examination

    checks = examination.examine(profile)
    if as_json:
        click.echo(json.dumps([check.as_dict() for check in checks], indent=1))
    else:
        from rich.console import Console

        examination.show(checks, Console())
    ctx.exit(0 if examination.can_run(checks) else EXIT_INFRASTRUCTURE)


@main.command()
@click.option("--device", "names", multiple=True, help="Fetch for this device (default: rpi4).")
@click.option("--system", is_flag=True, help="Also install Docker Engine and binfmt (needs root).")
@click.option("--undo", is_flag=True, help="Stop and unregister what --system started.")
@_profiles_option
def setup(names: tuple[str, ...], system: bool, undo: bool, folders: tuple[Path, ...]) -> None:
    """Fetch what devices need into the cache; no root, nothing outside the cache.

    With --system, add what needs root, too; without, say what that would be.
    """
    from harness.system import setup as setting_up

    if undo:
        setting_up.undo(_say)
        return
    profiles: list[Profile] = _registry(folders).select(names or ("rpi4",))
    setting_up.fetch(profiles, _say)
    if system:
        setting_up.apply(_say)
        return
    steps, notes = setting_up.plan()
    if steps:
        _say("Docker and binfmt are optional. 'edge-harness setup --system' would run, as root:")
    for step in steps:
        _say(f"  {step.command()}    # {step.why}")
    for note in notes:
        _say(note)


@main.command()
@click.argument("name", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@_profiles_option
def devices(name: str | None, as_json: bool, folders: tuple[Path, ...]) -> None:
    """List the device profiles, or show one in full."""
    from harness import profiles_table

    registry = _registry(folders)
    if as_json:
        profiles = [registry.get(name)] if name else registry.all()
        content = [profiles_table.as_dict(profile) for profile in profiles]
        click.echo(json.dumps(content[0] if name else content, indent=1))
        return
    from rich.console import Console

    if name:
        profiles_table.print_one(registry.get(name), Console())
    else:
        profiles_table.print_table(registry, Console())


@main.group()
def image() -> None:
    """Look after device images and runtimes in the cache."""


@image.command("ls")
def image_ls() -> None:
    """List images and runtime layers."""
    import time

    from rich.console import Console
    from rich.table import Table

    from harness.cache import cache_dir
    from harness.image import list_images

    table = Table("key", "kind", "arch", "content", "MiB", "last used", title=str(cache_dir()))
    for entry in list_images():
        used = time.strftime("%Y-%m-%d", time.localtime(entry["used"]))
        table.add_row(
            *(entry[name] for name in ("key", "kind", "arch", "content")),
            f"{entry['size_mib']:.0f}",
            used,
        )
    Console().print(table)


@image.command("build")
@click.argument("names", nargs=-1)
@_profiles_option
def image_build(names: tuple[str, ...], folders: tuple[Path, ...]) -> None:
    """Build what the devices NAMES (default: rpi4) need."""
    from harness.system import setup as setting_up

    with _progress() as say:
        setting_up.fetch(_registry(folders).select(names or ("rpi4",)), say)


@image.command("rm")
@click.argument("keys", nargs=-1, required=True)
def image_rm(keys: tuple[str, ...]) -> None:
    """Delete images or layers by their KEYS."""
    from harness.image import remove

    for key in keys:
        remove(key)
        click.echo(f"removed {key}")


@image.command("gc")
@click.option("--days", type=click.FloatRange(min=0), default=30.0, show_default=True)
def image_gc(days: float) -> None:
    """Delete what was not used for so many days."""
    from harness.image import gc

    for key in gc(unused_days=days):
        click.echo(f"removed {key}")


_engine_option = click.option(
    "--engine", type=click.Choice(_ENGINES), default="auto", show_default=True
)


@main.command(context_settings={"ignore_unknown_options": True})
@click.argument("name")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@_engine_option
@click.option("--timeout-s", type=click.FloatRange(min=0, min_open=True), default=600.0)
@click.option("--requirement", "requirements", multiple=True, help="Wheel to have there.")
@_profiles_option
@click.pass_context
def run(
    ctx: click.Context,
    name: str,
    command: tuple[str, ...],
    engine: str,
    timeout_s: float,
    requirements: tuple[str, ...],
    folders: tuple[Path, ...],
) -> None:
    """Run COMMAND on the device NAME: edge-harness run rpi4 -- uname -m

    The status is the program's, 128 + N after signal N. Standard input is passed on.
    """
    from harness.device import open_device, sweep

    sweep()
    profile = _registry(folders).get(name)
    data = b"" if sys.stdin.isatty() else sys.stdin.buffer.read()
    with _progress() as say, open_device(profile, engine=engine, progress=say) as device:
        result = device.run(command, timeout_s=timeout_s, requirements=requirements, input=data)
    sys.stdout.write(result.stdout)
    sys.stderr.write(result.stderr)
    if result.error is not None and result.diagnosis is not None:
        click.echo(f"edge-harness: {result.error}", err=True)
    ctx.exit(128 + result.signal if result.signal else result.returncode)


@main.command()
@click.argument("name")
@_engine_option
@_profiles_option
def shell(name: str, engine: str, folders: tuple[Path, ...]) -> None:
    """Type commands for the device NAME; each runs in its shell. Ends with end of file."""
    from harness.device import open_device, sweep

    sweep()
    profile = _registry(folders).get(name)
    with _progress() as say:
        device = open_device(profile, engine=engine, progress=say)
    folder = "/root"
    with device:
        _say(device.header())
        while True:
            try:
                line = input(f"{name}:{folder}$ ") if sys.stdin.isatty() else input()
            except EOFError:
                return
            # One shell for each line; the folder it ends in is where the next one starts.
            script = f"{line}\nstatus=$?; pwd >/tmp/.edge-cwd; exit $status"
            try:
                result = device.run(["sh", "-c", script], cwd=folder, timeout_s=3600)
            except EdgeError as error:
                _say(str(error))
                continue
            sys.stdout.write(result.stdout)
            sys.stderr.write(result.stderr)
            if result.error is not None and result.diagnosis is not None:
                _say(str(result.error))
            folder = device.run(["cat", "/tmp/.edge-cwd"]).stdout.strip() or folder
