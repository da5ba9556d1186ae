"""An interactive shell on a device, by an engine that offers one."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from edge_harness.cache import cache_dir, remove_tree
from edge_harness.device.lease import Lease
from edge_harness.device.request import DeviceRequest
from edge_harness.device.starting import start_device
from edge_harness.engines import Machine
from edge_harness.engines.abilities import OpensShell, ShellCommand, bound
from edge_harness.engines.choose import Choice, choose_engine
from edge_harness.engines.registry import AUTO, blaming, working_engines
from edge_harness.errors import EdgeError, MissingAbility
from edge_harness.profiles import Profile


@contextmanager
def open_shell(profile: Profile, engine: str, say: Callable[[str], None]) -> Iterator[ShellCommand]:
    """The command that is a shell on ``profile``; what it runs on ends with the block.

    Raises:
        MissingTool: no engine, or a program that the engine reaches its devices with is not here.
        MissingAbility: the engine offers no shell, or the shell's programs could not start
            others.
    """
    choice, shells = _chosen(profile, engine)
    folder = cache_dir() / "run" / f"shell-{os.getpid()}"
    with ExitStack() as cleanup:
        cleanup.callback(remove_tree, folder)

        def running(*, join: bool = False) -> Machine:
            machine = running_machine(profile, choice) if join else None
            if machine is not None:
                say(f"on the {profile.name} that runs already; it ends when its test does")
                return machine
            request = DeviceRequest(profile=profile, choice=choice, progress=say)
            return cleanup.enter_context(start_device(request)).hold.machine

        with blaming(choice.engine.name, "shell"):
            command = shells.shell(profile, folder, running=running, say=say)
        yield command


def shell_engines() -> tuple[str, ...]:
    """Names of the engines that offer a shell."""
    return tuple(e.name for e in working_engines()[0] if bound(e, OpensShell) is not None)


def _chosen(profile: Profile, name: str) -> tuple[Choice, OpensShell]:
    names = [name]
    if name == AUTO:
        offers = [(e.name, bound(e, OpensShell)) for e in working_engines()[0]]
        ranked = [
            (s.shell_rank, n) for n, s in offers if s is not None and s.shell_rank is not None
        ]
        names = [n for _, n in sorted(ranked)]
    trouble: EdgeError | None = None
    for each in names:
        try:
            choice = choose_engine(profile, each)
        except EdgeError as error:
            trouble = error
            continue
        shells = bound(choice.engine, OpensShell)
        if shells is not None:
            return choice, shells
    if trouble is not None:
        raise trouble
    raise MissingAbility(
        f"the engine {name!r} offers no shell",
        next_step=f"use --engine with one of: {', '.join(shell_engines())}",
    )


def running_machine(profile: Profile, choice: Choice) -> Machine | None:
    """A device of ``profile`` on the chosen engine that runs already, of whoever; the youngest."""
    found = (cache_dir() / "run").glob(f"{profile.name}-{choice.engine.name}-*/machine.json")
    for path in sorted(found, key=lambda path: path.stat().st_mtime, reverse=True):
        lease = Lease(path.parent.name)
        machine = lease.machine()
        if machine is not None and machine.alive():
            return machine
    return None
