"""What the ``docker`` engine rests on, for ``edge-harness doctor``."""

from __future__ import annotations

import shutil
import sys

from edge_harness.errors import EdgeError
from edge_harness.system import docker_client
from edge_harness.system.checks import Check, output_of

_SYSTEM = "edge-harness setup --system"


def daemon() -> list[Check]:
    """The daemon, what it can limit, and its command-line client."""
    client = shutil.which("docker")
    checks = [
        Check(
            group="docker",
            name="Docker client",
            status="ok" if client else "limited",
            found=output_of([client, "--version"]).strip()
            if client
            else "no 'docker' command; "
            "needed for shells in devices and for daemons on other machines only",
            optional=True,
        )
    ]
    try:
        daemon = docker_client.daemon()
    except EdgeError as error:
        checks.append(
            Check(
                group="docker",
                name="Docker Engine",
                status="missing",
                found=error.message,
                fix=error.next_step,
            )
        )
        return checks
    kind = "rootless" if daemon.rootless else "with root"
    place = "this machine" if daemon.local else f"elsewhere ({daemon.system}), reached by relay"
    checks.append(
        Check(
            group="docker",
            name="Docker Engine",
            status="ok",
            found=f"{daemon.version}, {kind}, on {place}, {daemon.url}",
        )
    )
    limits: list[str] = []
    if not daemon.memory_limit:
        limits.append("no memory limits")
    if not daemon.cpu_quota:
        limits.append("no CPU limits")
    fix = ""
    if limits:
        fix = "rootless Docker needs cgroup version 2 with systemd delegation of memory and cpu"
    checks.append(
        Check(
            group="docker",
            name="control groups",
            status="limited" if limits else "ok",
            found=f"version {daemon.cgroup}, " + (", ".join(limits) or "memory and CPU limits"),
            fix=fix,
        )
    )
    checks.append(
        Check(
            group="docker",
            name="swap accounting",
            status="ok" if daemon.swap_limit else "limited",
            found="on" if daemon.swap_limit else "off: a memory limit does not stop swapping",
            fix="" if daemon.swap_limit else "boot with swapaccount=1 or cgroup version 2",
        )
    )
    return checks


def programs() -> list[Check]:
    """Whether the kernel starts programs of the boards' architectures in containers."""
    from edge_harness.image.tools import host_arch
    from edge_harness.system import binfmt

    if not sys.platform.startswith("linux"):
        return []
    if not binfmt.mounted():
        return [
            Check(
                group="docker",
                name="binfmt_misc",
                status="missing",
                found=f"not mounted at {binfmt.FOLDER}; the docker engine needs it",
                fix=_SYSTEM,
            )
        ]
    checks = []
    for arch in binfmt.foreign_archs(host_arch()):
        handler = binfmt.handler_for(arch, binfmt.handlers())
        why = binfmt.usable(handler)
        found = why
        if handler is not None and not why:
            found = f"{handler.name}, flags {handler.flags}, {handler.interpreter}"
        checks.append(
            Check(
                group="docker",
                name=f"binfmt for {binfmt.qemu_target(arch)}",
                status="missing" if why else "ok",
                found=found,
                fix=_SYSTEM if why else "",
            )
        )
    return checks
