"""The command ``edge-harness``. Everything heavy is imported by the command that needs it."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.console import Console

    from edge_harness.errors import EdgeError
    from edge_harness.profiles import Profile, ProfileRegistry

#: Exit statuses of the command itself.
DEVICE_FAILED, USER_ERROR, INFRASTRUCTURE = 1, 2, 3
#: Set to anything to see the traceback of a bug.
DEBUG_VARIABLE = "EDGE_HARNESS_DEBUG"
_ENGINES = ("auto", "user", "docker", "vm", "host")


class _Group(click.Group):
    """Turns our errors into one message and an exit status."""

    def invoke(self, ctx: click.Context) -> Any:
        from edge_harness.errors import EdgeError

        try:
            return super().invoke(ctx)
        except EdgeError as error:
            click.echo(f"edge-harness: {error}", err=True)
            sys.exit(exit_status(error))
        except KeyboardInterrupt:
            sys.exit(130)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except BrokenPipeError:
            # "edge-harness devices | head": nobody reads on. Keep the interpreter from
            # complaining about the same when it flushes at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(141)
        except Exception as error:
            if os.environ.get(DEBUG_VARIABLE):
                raise
            click.echo(
                f"edge-harness: a bug of ours: {type(error).__name__}: {error}\n  next: please "
                f"report it with what {DEBUG_VARIABLE}=1 adds to the same command",
                err=True,
            )
            sys.exit(INFRASTRUCTURE)


def exit_status(error: EdgeError) -> int:
    """What the command ends with after ``error``."""
    from edge_harness.errors import DeviceFailed, UserError

    if isinstance(error, UserError):
        return USER_ERROR
    return DEVICE_FAILED if isinstance(error, DeviceFailed) else INFRASTRUCTURE


@contextmanager
def progress() -> Iterator[Callable[[str], None]]:
    """Where to say what is going on: a moving line on a terminal, plain lines elsewhere."""
    if not sys.stderr.isatty():
        yield lambda text: click.echo(text, err=True)
        return
    from rich.console import Console

    with Console(stderr=True).status("…") as status:
        yield lambda text: status.update(text.replace("[", r"\["))


def _console() -> Console:
    from rich.console import Console

    return Console(highlight=False)


def _registry() -> ProfileRegistry:
    from pathlib import Path

    from edge_harness.profiles import default_registry

    extra: tuple[str, ...] = click.get_current_context().find_root().params["profile_dirs"]
    return default_registry(extra_dirs=[Path(name) for name in extra], rootdir=Path.cwd())


def _profiles(names: tuple[str, ...], default: str = "rpi4") -> list[Profile]:
    registry = _registry()
    return registry.select(names or (default,))


def _plain(text: str) -> None:
    click.echo(text)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--edge-profiles",
    "profile_dirs",
    multiple=True,
    metavar="DIR",
    help="Folder with device profiles of your own; may be given several times.",
)
def main(profile_dirs: tuple[str, ...]) -> None:
    """Test edge inference on devices that are not on your desk."""


@main.command()
def version() -> None:
    """Print the version."""
    from importlib.metadata import version as version_of

    click.echo(version_of("pytest-edge-harness"))


@main.command()
@click.option("--device", default="rpi4", show_default=True, help="Board to ask the engines about.")
@click.option("--engine", type=click.Choice(_ENGINES[1:]), help="Ask about this engine only.")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def doctor(device: str, engine: str | None, as_json: bool) -> None:
    """List what this machine has and lacks, each with its fix.

    Ends with status 0 if a board can be emulated here (with --engine: if that engine can), 1
    otherwise.
    """
    from edge_harness.system import doctor as examination

    profile = _registry().get(device)
    if engine:
        checks = examination.engines(profile, [engine])
        good = checks[0].status != "missing"
    else:
        checks = examination.examine(profile)
        good = examination.can_run(checks)
    if as_json:
        import json

        click.echo(json.dumps({"ok": good, "checks": examination.as_json(checks)}, indent=1))
    else:
        from edge_harness.system.doctor_table import print_checks

        print_checks(checks, good=good, console=_console())
    sys.exit(0 if good else 1)


@main.command()
@click.option("--device", "devices", multiple=True, help="Boards to fetch parts for (rpi4).")
@click.option(
    "--system",
    is_flag=True,
    help="Also install and start Docker Engine, and register "
    "QEMU with the kernel (root, or sudo without a password).",
)
@click.option("--undo", is_flag=True, help="Stop and unregister what --system started.")
def setup(devices: tuple[str, ...], system: bool, undo: bool) -> None:
    """Fetch QEMU, images and runtimes into the cache; with --system add Docker and binfmt."""
    from edge_harness.system import setup as work

    if undo:
        work.undo(_plain)
        return
    with progress() as say:
        work.fetch(_profiles(devices), _plain if not sys.stderr.isatty() else _kept(say))
    if system:
        work.apply(_plain)
        return
    steps, notes = work.plan()
    if not steps and not notes:
        click.echo("Docker Engine and binfmt are ready: all engines can run")
        return
    click.echo(
        "\nThe user engine is ready. For the docker engine, 'edge-harness setup --system' would "
        "run, as root:"
    )
    for step in steps:
        click.echo(f"  # {step.why}\n  {step.command()}")
    for note in notes:
        click.echo(f"  # {note}")


def _kept(say: Callable[[str], None]) -> Callable[[str], None]:
    """Results stay on the screen, what is under way is shown while it lasts."""

    def show(text: str) -> None:
        if text.startswith(("fetching", "building")):
            say(text)
        else:
            click.echo(text)

    return show


@main.command()
@click.argument("name", required=False)
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def devices(name: str | None, as_json: bool) -> None:
    """List the device profiles, or show the one called NAME in full."""
    from edge_harness.commands.devices_table import as_dict, print_one, print_table

    registry = _registry()
    if as_json:
        import json

        if name:
            click.echo(json.dumps(as_dict(registry.get(name)), indent=1))
        else:
            profiles, _broken = registry.working()
            click.echo(json.dumps([as_dict(profile) for profile in profiles], indent=1))
    elif name:
        print_one(registry.get(name), _console())
    else:
        print_table(registry, _console())


@main.group()
def image() -> None:
    """Look after the images and runtimes in the cache."""


@image.command("ls")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def image_ls(as_json: bool) -> None:
    """List images and runtime layers."""
    from edge_harness.image import list_images

    entries = list_images()
    if as_json:
        import json

        click.echo(
            json.dumps([{**entry, "path": str(entry["path"])} for entry in entries], indent=1)
        )
        return
    if not entries:
        click.echo("the cache is empty; 'edge-harness setup' fills it")
        return
    import time

    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("kind", "key", "arch", "MiB", "last used", "content"):
        table.add_column(title, justify="right" if title == "MiB" else "left", overflow="fold")
    for entry in entries:
        used = time.strftime("%Y-%m-%d", time.localtime(entry["used"]))
        size = f"{entry['size_mib']:.0f}"
        table.add_row(entry["kind"], entry["key"], entry["arch"], size, used, entry["content"])
    console = _console()
    if not console.is_terminal:
        console.width = 160
    console.print(table)


@image.command("build")
@click.argument("names", nargs=-1, metavar="[DEVICE]...")
def image_build(names: tuple[str, ...]) -> None:
    """Build the images and default runtimes of devices (rpi4) that are not in the cache yet."""
    from edge_harness.system.setup import fetch

    with progress() as say:
        fetch(_profiles(names), _plain if not sys.stderr.isatty() else _kept(say))


@image.command("rm")
@click.argument("keys", nargs=-1, required=True, metavar="KEY...")
def image_rm(keys: tuple[str, ...]) -> None:
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
def image_gc(days: float) -> None:
    """Delete what has not been used for a while, in the cache and in Docker."""
    from edge_harness.errors import EdgeError
    from edge_harness.image import gc

    removed = gc(unused_days=days)
    try:
        from edge_harness.engines.docker.image import remove_unknown

        removed += remove_unknown()
    except EdgeError:
        pass  # no Docker, nothing in it
    for key in removed:
        click.echo(f"removed {key}")
    click.echo(f"{len(removed)} removed")


@main.command()
@click.option("--engine", type=click.Choice(_ENGINES), default="auto", show_default=True)
@click.option("--env", "environment", multiple=True, metavar="NAME=VALUE")
@click.option(
    "--requirement",
    "-r",
    "requirements",
    multiple=True,
    help="Wheel to have on PYTHONPATH, as pip takes it.",
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
@click.argument("name")
@click.argument("argv", nargs=-1, required=True, type=click.UNPROCESSED)
def run(
    name: str,
    argv: tuple[str, ...],
    engine: str,
    environment: tuple[str, ...],
    requirements: tuple[str, ...],
    memory_mib: int | None,
    timeout_s: float,
) -> None:
    """Run a program on the device NAME: edge-harness run rpi4 -- python3 -c 'print(1)'

    Ends with the program's exit status, or 128 and the number of the signal that killed it.
    """
    from edge_harness.device.device import sweep
    from edge_harness.engines import Limits
    from edge_harness.errors import OptionError
    from edge_harness.opening import open_device

    for item in environment:
        if "=" not in item:
            raise OptionError(f"--env {item!r} has no '='", next_step="write --env NAME=VALUE")
    data = b"" if sys.stdin is None or sys.stdin.isatty() else sys.stdin.buffer.read()
    with progress() as say:
        sweep()
        device = open_device(
            _registry().get(name),
            engine=engine,
            limits=Limits(memory_mib=memory_mib),
            progress=say,
        )
    with device:
        result = device.run(
            argv,
            env=dict(item.split("=", 1) for item in environment),
            input=data,
            timeout_s=timeout_s,
            requirements=requirements,
        )
    click.echo(result.stdout, nl=False)
    click.echo(result.stderr, nl=False, err=True)
    if result.signal and result.error is not None:
        click.echo(f"edge-harness: {result.error}", err=True)
    sys.exit(128 + result.signal if result.signal else result.returncode)


@main.command()
@click.option("--engine", type=click.Choice(_ENGINES[:4]), default="auto", show_default=True)
@click.argument("name")
def shell(name: str, engine: str) -> None:
    """Open a shell on the device NAME."""
    from edge_harness.device.device import sweep
    from edge_harness.system.shell import open_shell

    sweep()
    argv, env, close = open_shell(
        _registry().get(name), engine, lambda text: click.echo(text, err=True)
    )
    import subprocess

    try:
        status = subprocess.run(argv, env=env, check=False).returncode
    finally:
        close()
    sys.exit(128 - status if status < 0 else status)


@main.command()
@click.option("--device", "name", default="rpi4", show_default=True)
@click.option("--engine", type=click.Choice(_ENGINES), default="auto", show_default=True)
@click.option("--samples", metavar="FILE.npz", help="An array for each input; may have 'labels'.")
@click.option("--kind", type=click.Choice(("port", "quantization", "student")))
@click.option(
    "--by",
    type=click.Choice(("trusted", "native", "device")),
    default="trusted",
    show_default=True,
    help="What executes the reference.",
)
@click.option("--runtime", help="As onnxruntime==1.21.0.")
@click.option("--threads", type=click.IntRange(min=1), default=1, show_default=True)
@click.option("--kernels", default="xnnpack", show_default=True, help="Of TFLite.")
@click.option("--tolerance", "tolerances", multiple=True, metavar="NAME=NUMBER")
@click.option("--layers", is_flag=True, help="Also walk through the layers, on the worst sample.")
@click.option("--plot", metavar="FILE", help="Draw that walk: .svg, .png or .pdf.")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@click.argument("model")
@click.argument("reference", required=False)
def compare(name: str, **options: Any) -> None:
    """Compare MODEL on a device with REFERENCE, or with a trusted execution of itself.

    Ends with status 0 if it passed, 1 if it did not.
    """
    from edge_harness.commands.compare import compare as work

    profile = _registry().get(name)
    with progress() as say:
        passed = work(profile=profile, say=say, show=_plain, **options)
    sys.exit(0 if passed else 1)


from edge_harness.commands import latency as _latency  # noqa: E402

main.add_command(_latency.latency)
main.add_command(_latency.calibrate)


if __name__ == "__main__":
    main()
