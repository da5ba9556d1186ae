"""An interactive shell on a device."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from edge_harness.cache import cache_dir, remove_tree
from edge_harness.engines import Machine, StartSpec
from edge_harness.engines.choose import choose_engine
from edge_harness.errors import EdgeError, MissingCapability, MissingTool
from edge_harness.profiles import Profile

Shell = tuple[list[str], Mapping[str, str], Callable[[], None]]
# Long options go first, bash(1).
_BASH = ["/bin/bash", "--norc", "-i"]


def open_shell(profile: Profile, engine: str, say: Callable[[str], None]) -> Shell:
    """The command that is the shell, its environment here, and what to call after it.

    Raises:
        MissingTool: no engine, or no ``docker`` command to reach a container with.
        MissingCapability: the device's programs could not start others.
    """
    if engine == "auto":
        engine = _best(profile)
    chosen, _ = choose_engine(profile, engine)
    if chosen.name == "docker":
        return _in_container(profile, say)
    if chosen.name == "vm":
        return _on_board(profile, say)
    return _in_namespaces(profile, say)


def _best(profile: Profile) -> str:
    """A container where there is one: a shell there can start anything."""
    try:
        choose_engine(profile, "docker")
    except EdgeError:
        return "user"
    return "docker"


def docker_argv(docker: str, url: str, container: str, profile: Profile) -> list[str]:
    """The shell in a running container."""
    argv = [docker, "--host", url, "exec", "--interactive", "--tty", "--workdir", "/root"]
    return [*argv, "--env", f"PS1={profile.name}:\\w# ", container, *_BASH]


def _in_container(profile: Profile, say: Callable[[str], None]) -> Shell:
    from edge_harness.engines.docker.machine import DockerMachine
    from edge_harness.opening import open_device

    docker = shutil.which("docker")
    if docker is None:
        raise MissingTool(
            "the 'docker' command is not on this machine, and shells in containers need it",
            next_step="install the Docker command-line client, or use --engine=user",
        )
    device = open_device(profile, engine="docker", progress=say)
    machine = device.hold.machine
    assert isinstance(machine, DockerMachine)
    argv = docker_argv(docker, machine.url, machine.container_id, profile)
    return argv, dict(os.environ), device.close


def running_board(profile: Profile) -> Machine | None:
    """A board of ``profile`` that runs already, of whoever; the youngest."""
    from edge_harness.device.lease import Lease

    folders = sorted(
        (cache_dir() / "run").glob(f"{profile.name}-vm-*/machine.json"),
        key=lambda path: path.stat().st_mtime,
    )
    for path in reversed(folders):
        lease = Lease(path.parent.name)
        machine = lease.machine() if "pid" in (lease.read() or {}) else None
        if machine is not None and machine.alive():
            return machine
    return None


def _on_board(profile: Profile, say: Callable[[str], None]) -> Shell:
    import json
    import sys

    from edge_harness.opening import open_device

    machine = running_board(profile)
    close: Callable[[], None] = lambda: None  # noqa: E731
    if machine is None:
        device = open_device(profile, engine="vm", progress=say)
        machine, close = device.hold.machine, device.close
    else:
        say(f"on the {profile.name} that runs already; it ends when its test does")
    argv = [sys.executable, "-m", "edge_harness.system.console", json.dumps(machine.record())]
    return [*argv, f"{profile.name}:\\w# "], dict(os.environ), close


def _in_namespaces(profile: Profile, say: Callable[[str], None]) -> Shell:
    from edge_harness.engines.user import EMULATOR, boxed_argv, isolation
    from edge_harness.image import agent_dir, ensure_image, layers_dir
    from edge_harness.image.tools import ensure_tools
    from edge_harness.system import binfmt

    tools = ensure_tools(say)
    bwrap = tools.bwrap
    mode, why = isolation(tuple(bwrap) if bwrap else None)
    if mode == "none" or bwrap is None:
        raise MissingCapability(
            f"a shell without namespaces would be one on this machine's own files ({why})",
            next_step="edge-harness doctor shows how to allow user namespaces; or --engine=docker",
        )
    handler = binfmt.handler_for(profile.os.arch, binfmt.handlers())
    if handler is None:
        say(
            "note: this shell has its built-in commands only, as the kernel cannot start "
            f"{profile.os.arch} programs; 'exec PROGRAM' works, and 'edge-harness setup --system' "
            "(root) helps"
        )
    image = ensure_image(profile.os.arch, profile.os.suite, say)
    folder = cache_dir() / "run" / f"shell-{os.getpid()}"
    spec = StartSpec(
        profile=profile, image=image, state_dir=folder, env={"PS1": f"{profile.name}:\\w# "}
    )
    emulator = [EMULATOR, "-cpu", profile.emulation.qemu_cpu]
    qemu: Path = tools.qemu_user(profile.os.arch)
    argv = boxed_argv(spec, bwrap, mode, agent_dir(), layers_dir(), emulator, qemu)
    argv += [*emulator, *_BASH]
    env = {name: os.environ[name] for name in ("TERM", "PATH") if name in os.environ}
    return argv, env, lambda: remove_tree(folder)
