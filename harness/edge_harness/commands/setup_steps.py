"""Add what this machine lacks: first what needs no root, then, on request, what does.

The system's part is a list of :class:`Step` made beforehand, so that what is printed and what
is run are the same. What was started or registered is noted in ``<cache>/system.json`` and
undone by :func:`undo`.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from edge_harness.cache import cache_dir, explained, locked
from edge_harness.errors import EdgeError, InfrastructureError, MissingTool, UnsupportedModel
from edge_harness.profiles import Profile
from edge_harness.runtimes import likely
from edge_harness.system import binfmt, dockerd
from edge_harness.system.runner import Step, needed_privilege, run_step

Say = Callable[[str], None]
PACKAGE = "docker.io"


def fetch(profiles: Sequence[Profile], say: Say) -> None:
    """QEMU, images and default runtimes of ``profiles`` into the cache. Needs no root.

    Raises:
        MissingTool, ImageBuildFailed, CacheError: something could not be fetched.
    """
    from edge_harness.image import ensure_image, ensure_runtime_layers
    from edge_harness.image.tools import ensure_tools

    tools = ensure_tools(say)
    versions = ", ".join(f"{name} {version}" for name, version in tools.versions.items())
    say(f"tools: {versions} in {tools.root or 'the system'}")
    for profile in profiles:
        image = ensure_image(profile.os.arch, profile.os.suite, say)
        say(f"{profile.name}: image {image.key} in {image.path}")
        try:
            runtime, requirement = likely(profile)
        except UnsupportedModel as error:
            say(f"{profile.name}: no runtime ({error.message})")
            continue
        for layer in ensure_runtime_layers(image.environment, runtime, requirement, say):
            say(f"{profile.name}: {layer.what} in {layer.path}")


def debian_like(os_release: Path = Path("/etc/os-release")) -> bool:
    """Whether ``docker.io`` is a package of this machine's distribution."""
    try:
        lines = os_release.read_text().splitlines()
    except OSError:
        return False
    ids = " ".join(
        line.partition("=")[2].strip("\"'")
        for line in lines
        if line.startswith(("ID=", "ID_LIKE="))
    ).split()
    return shutil.which("apt-get") is not None and not {"debian", "ubuntu"}.isdisjoint(ids)


def plan() -> tuple[list[Step], list[str]]:
    """What :func:`apply` would do here, and what it cannot do (one sentence each)."""
    steps: list[Step] = []
    notes: list[str] = []
    engine_up = dockerd.reachable()
    if not engine_up:
        if dockerd.installed() is None:
            if debian_like():
                steps.append(
                    Step(
                        key="update", why="read the package lists", argv=("apt-get", "-q", "update")
                    )
                )
                # Recommended packages (git, needrestart, apparmor …) are of no use here.
                argv = ("apt-get", "-q", "install", "--yes", "--no-install-recommends", PACKAGE)
                steps.append(
                    Step(key="install", why="install Docker Engine", argv=argv, subject=PACKAGE)
                )
            else:
                notes.append(
                    "Docker Engine is not installed, and only Debian and Ubuntu are set up by "
                    "this command: install it with your distribution's package manager, or go on "
                    "with --engine=user, which needs no Docker"
                )
        if not notes:
            steps.append(Step(key="dockerd", why="start Docker Engine", argv=dockerd.start_argv()))
    notes += _refusal()
    steps += _binfmt_steps(notes)
    return steps, notes


def _refusal() -> list[str]:
    """What to do where a daemon runs that this user may not use."""
    from edge_harness.system import docker_client

    try:
        docker_client.connect()
    except MissingTool as error:
        if error.details.get("cause") == "permission":
            return [f"{error.message}: {error.next_step}"]
    return []


def _binfmt_steps(notes: list[str]) -> list[Step]:
    from edge_harness.image.tools import host_arch, installed_tools

    try:
        archs = binfmt.foreign_archs(host_arch())
    except MissingTool:
        return []
    entries = binfmt.handlers()
    lacking = [arch for arch in archs if binfmt.usable(binfmt.handler_for(arch, entries))]
    if not lacking:
        return []
    tools = installed_tools()
    if tools is None or tools.root is None:
        notes.append("no static QEMU is in the cache: run 'edge-harness setup' first")
        return []
    steps: list[Step] = []
    folder = str(binfmt.FOLDER)
    if not binfmt.mounted():
        if not binfmt.FOLDER.is_dir():
            steps.append(
                Step(key="modprobe", why="load binfmt_misc", argv=("modprobe", "binfmt_misc"))
            )
        steps.append(
            Step(
                key="mount",
                why="mount binfmt_misc",
                argv=("mount", "-t", "binfmt_misc", "binfmt_misc", folder),
                subject=folder,
            )
        )
    for arch in lacking:
        name = binfmt.entry_name(arch)
        if any(entry.name == name for entry in entries):
            steps.append(
                Step(
                    key="unregister",
                    why=f"remove the outdated entry {name}",
                    argv=("tee", f"{folder}/{name}"),
                    stdin="-1",
                )
            )
        steps.append(
            Step(
                key="binfmt",
                why=f"register QEMU for {binfmt.qemu_target(arch)} programs",
                argv=("tee", f"{folder}/register"),
                stdin=binfmt.register_line(arch, tools.qemu_user(arch)),
                subject=name,
            )
        )
    return steps


def apply(say: Say) -> None:
    """Carry out :func:`plan`; nothing happens where nothing lacks.

    Raises:
        MissingTool: root is out of reach, or this is no Debian or Ubuntu.
        InfrastructureError: a step failed; what was done before it can be undone.
    """
    with locked("system"):
        steps, notes = plan()
        if steps:
            prefix = needed_privilege()
        for step in steps:
            if step.key == "dockerd" and dockerd.reachable():
                # Installing the package has started it, as Debian's packages do.
                _note_package_start(say)
                continue
            say(f"{step.why}: {step.command(prefix)}")
            if step.key == "dockerd":
                _note("dockerd", dockerd.start(prefix, say))
                say("Docker Engine runs")
                continue
            try:
                run_step(step, prefix)
            except InfrastructureError:
                if step.key != "update":  # old lists may still do
                    raise
            _note_step(step, say)
        for note in notes:
            say(note)
        if not steps and not notes:
            say("Docker Engine and binfmt: nothing to do")
        if notes and not dockerd.reachable():
            raise MissingTool(notes[0], next_step="then run 'edge-harness setup --system' again")


def _note_step(step: Step, say: Say) -> None:
    record = read_record()
    if step.key == "install":
        version = subprocess.run(
            ["dpkg-query", "--show", "--showformat=${Version}", step.subject],
            capture_output=True,
            text=True,
            check=False,
        ).stdout
        say(f"installed {step.subject} {version}")
        _note("packages", [*record.get("packages", []), f"{step.subject} {version}"])
    elif step.key == "mount":
        _note("mounts", [*record.get("mounts", []), step.subject])
    elif step.key == "binfmt":
        names = [name for name in record.get("binfmt", []) if name != step.subject]
        _note("binfmt", [*names, step.subject])


def _note_package_start(say: Say) -> None:
    from edge_harness.processes import process_start_time

    if dockerd.systemd_runs():
        _note("dockerd", {"how": "systemd"})
    else:
        try:
            pid = int(Path("/var/run/docker.pid").read_text())
        except (OSError, ValueError):
            return
        started = process_start_time(pid)
        _note("dockerd", {"how": "direct", "pid": pid, "started": started})
    say("Docker Engine runs (its package started it)")


def record_file() -> Path:
    return cache_dir() / "system.json"


def read_record() -> dict[str, Any]:
    """What earlier calls changed on the system and nobody undid yet."""
    try:
        record = json.loads(record_file().read_text())
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def _write(record: dict[str, Any]) -> None:
    path = record_file()
    with explained(path):
        staged = path.with_suffix(".new")
        staged.write_text(json.dumps(record, indent=1))
        staged.replace(path)


def _note(key: str, value: object) -> None:
    _write({**read_record(), key: value})


def undo(say: Say) -> None:
    """Stop and unregister what :func:`apply` started and registered. Packages stay.

    Raises:
        MissingTool: root is out of reach.
        InfrastructureError: something does not end.
    """
    with locked("system"):
        record = read_record()
        if not any(record.get(key) for key in ("dockerd", "binfmt", "mounts")):
            say("nothing to undo: no system change of edge-harness is in effect")
            return
        prefix = needed_privilege()
        if record.get("dockerd"):
            foreign = _foreign_containers()
            if foreign:
                say(f"Docker Engine is left running: it runs {', '.join(foreign)} of somebody else")
            else:
                ran = dockerd.stop(record["dockerd"], prefix)
                say("stopped Docker Engine" if ran else "Docker Engine did not run any more")
                record.pop("dockerd")
                _write(record)
        for name in list(record.get("binfmt", [])):
            path = binfmt.FOLDER / name
            if path.exists():
                step = Step(
                    key="unregister", why=f"remove {name}", argv=("tee", str(path)), stdin="-1"
                )
                run_step(step, prefix)
                say(f"removed the binfmt entry {name}")
            record["binfmt"].remove(name)
            _write(record)
        for place in list(record.get("mounts", [])):
            if not binfmt.handlers(Path(place)) and binfmt.mounted(Path(place)):
                run_step(Step(key="umount", why=f"unmount {place}", argv=("umount", place)), prefix)
                say(f"unmounted {place}")
            record["mounts"].remove(place)
            _write(record)


def _foreign_containers() -> list[str]:
    """Names of running containers that are not ours."""
    from edge_harness.system import docker_client

    try:
        client = docker_client.connect()
        with docker_client.explained("list containers", docker_client.daemon_url()):
            running = client.containers.list()
            return [
                str(container.name)
                for container in running
                if "edge-harness" not in container.labels
            ]
    except EdgeError:
        return []
