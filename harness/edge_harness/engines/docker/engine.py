"""The ``docker`` engine: a container with the board's limits, its programs run by QEMU.

Docker does not start QEMU: the kernel does, through binfmt_misc, for every program in the
container, grandchildren too. ``QEMU_CPU`` in the environment pins the core. Where the host's
processor is of the device's own architecture nothing is emulated, and what is proved is less.
"""

from __future__ import annotations

import os
import secrets
import shutil
import socket
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_harness.cache import explained, private_folder
from edge_harness.engines import Availability, ImageNeed, Limits, Machine, Requirements, StartSpec
from edge_harness.engines.abilities import (
    BoardKernels,
    CpuQuota,
    MemoryLimit,
    PinnedCore,
    ShellCommand,
    abilities_of,
    word_of,
)
from edge_harness.engines.docker import relay as docker_relay
from edge_harness.engines.docker.execution import NO_BINFMT, execution, host_swaps
from edge_harness.engines.docker.limits import Applied, wanted
from edge_harness.engines.docker.machine import LABEL, LEASE_LABEL, DockerMachine
from edge_harness.engines.docker.stale import sweep_once
from edge_harness.engines.launch import (
    AGENT_DIR,
    LAYERS_DIR,
    RUN_DIR,
    agent_argv,
    agent_env,
    boot_failed,
    system_files,
)
from edge_harness.errors import EdgeError, InfrastructureError, MissingTool
from edge_harness.processes import process_start_time, tail, wait_for
from edge_harness.system import docker_client
from edge_harness.system.docker_client import Daemon

if TYPE_CHECKING:
    from docker import DockerClient

    from edge_harness.profiles import Profile
    from edge_harness.system.checks import Check

BOOT_TIMEOUT_S = 120.0
#: What a container on a processor that is not the board's does not prove.
_PINNED = frozenset({word_of(PinnedCore), word_of(BoardKernels)})
_MEMORY, _QUOTA = word_of(MemoryLimit), word_of(CpuQuota)
# Long options go first, bash(1).
_BASH = ("/bin/bash", "--norc", "-i")


def container_options(
    spec: StartSpec,
    *,
    image: str,
    applied: Applied,
    daemon: Daemon,
    binds: Mapping[str, tuple[Path, bool]],
) -> dict[str, Any]:
    """Arguments of ``containers.create``; compared whole in tests.

    ``binds`` is ``{path in the device: (path on the host, writable)}``.
    """
    from docker.types import LogConfig, Mount, Ulimit

    from edge_harness.engines.docker.image import platform_of

    # A bind's missing source is an error for a mount, and a new folder of root's for a volume.
    mounts = [
        Mount(target=inside, source=str(outside), type="bind", read_only=not writable)
        for inside, (outside, writable) in sorted(binds.items())
    ]
    if not daemon.local:
        # put_archive fills it before the start; removed with the container.
        mounts.append(Mount(target="/sys/devices/system/cpu", source=None, type="volume"))
    me = os.getpid()
    options: dict[str, Any] = {
        "image": image,
        "command": agent_argv(spec),
        "environment": agent_env(spec),
        "name": f"edge-{spec.state_dir.name}-{secrets.token_hex(3)}",
        "hostname": spec.profile.name,
        "platform": platform_of(spec.tree.arch),
        "network_mode": spec.network,
        "mounts": mounts,
        "labels": {
            LABEL: "1",
            "edge-harness.device": spec.profile.name,
            LEASE_LABEL: str(spec.state_dir),
            "edge-harness.starter": f"{me}-{process_start_time(me)}",
            "edge-harness.host": socket.gethostname(),
        },
        "cap_drop": ["ALL"],
        # label=disable: SELinux would keep the container out of the user's cache folder.
        "security_opt": ["no-new-privileges", "label=disable"],
        # No tmpfs on /tmp: what a program writes there would count as its memory.
        # Not --rm: the daemon forgets with the container that the OOM killer ended it.
        "auto_remove": False,
        "ulimits": [Ulimit(name="core", soft=-1, hard=-1)],
        "log_config": LogConfig(type="json-file", config={"max-size": "32m"}),
    }
    if daemon.memory_limit:
        # Without the second as much again may be swapped.
        options["mem_limit"] = applied.memory_mib << 20
        options["memswap_limit"] = applied.memory_mib << 20
    if daemon.cpu_quota:
        options["nano_cpus"] = applied.nano_cpus
    if daemon.rootless:
        # Nobody there may raise a hard limit.
        del options["ulimits"]
    return options


class DockerEngine:
    """Containers of a Docker daemon."""

    name = "docker"
    auto_rank = 20
    machine_type = DockerMachine
    shell_rank = 10  # a shell in a container can start any program

    def requirements(self, profile: Profile) -> Requirements:
        return Requirements(image=ImageNeed(arch=profile.os.arch, suite=profile.os.suite))

    def probe(self, profile: Profile) -> Availability:
        try:
            daemon = docker_client.daemon()
        except EdgeError as error:
            return Availability(
                engine=self.name, available=False, reason=error.message, fix=error.next_step
            )
        if daemon.containers != "linux":
            return Availability(
                engine=self.name,
                available=False,
                reason=f"this Docker runs {daemon.containers} containers",
                fix="switch Docker Desktop to Linux containers",
            )
        how = execution(profile, daemon)
        if not how.possible:
            return Availability(
                engine=self.name, available=False, reason=how.text, fix=how.fix or NO_BINFMT
            )
        without: dict[str, str] = {}
        notes = list(wanted(profile, Limits(), daemon).notes)
        if not how.pinned:
            without |= dict.fromkeys(_PINNED, how.text)
        if not daemon.cpu_quota:
            without[_QUOTA] = "the kernel or rootless Docker has none"
            notes.append(f"no CPU limits: {without[_QUOTA]}")
        if not daemon.memory_limit:
            without[_MEMORY] = "the kernel or rootless Docker has none"
        elif not (daemon.swap_limit or (daemon.local and not host_swaps())):
            without[_MEMORY] = "the kernel does not count swap"
        if _MEMORY in without:
            notes.append(f"no memory limits: {without[_MEMORY]}")
        reason = f"Docker {daemon.version}, {how.text}"
        return Availability(
            engine=self.name,
            available=True,
            reason="; ".join([reason, *notes]),
            fix=how.fix,
            abilities=abilities_of(self.machine_type) - without.keys(),
            without=without,
            figure_kind=how.figure_kind,
        )

    def checks(self, profile: Profile) -> list[Check]:
        from edge_harness.engines.docker import checks

        return [*checks.daemon(), *checks.programs()]

    def start(self, spec: StartSpec) -> DockerMachine:
        from edge_harness.engines.docker import image as docker_image

        daemon = docker_client.daemon()
        client = docker_client.connect(daemon.url)
        applied = wanted(spec.profile, spec.limits, daemon)
        # What programs read in /proc/meminfo is what they really get.
        spec = replace(spec, limits=Limits(memory_mib=applied.memory_mib, cpus=applied.cpus))
        sweep_once(daemon.url)
        tag = docker_image.ensure(spec.tree, daemon.url)
        binds = self._binds(spec) if daemon.local else {}
        options = container_options(spec, image=tag, applied=applied, daemon=daemon, binds=binds)
        machine = None
        try:
            with docker_client.explained(f"create a container for {spec.profile.name}", daemon.url):
                created = client.containers.create(**options)
            machine = DockerMachine(
                {
                    "engine": self.name,
                    "state_dir": str(spec.state_dir),
                    "url": daemon.url,
                    "container": created.id,
                    "notes": list(applied.notes),
                    "core": spec.profile.emulation.qemu_cpu,
                    "arch": spec.tree.arch,
                    "root": str(spec.tree.root),
                    **self._relayed(spec, daemon, client, str(created.id)),
                }
            )
            self._boot(machine, spec, daemon)
            machine.verify(
                applied.memory_mib if daemon.memory_limit else None,
                applied.cpus if daemon.cpu_quota else None,
            )
        except BaseException:
            (machine or DockerMachine({"state_dir": str(spec.state_dir)})).stop()
            raise
        return machine

    def attach(self, record: Mapping[str, Any]) -> DockerMachine:
        return DockerMachine(record)

    def shell(
        self,
        profile: Profile,
        folder: Path,
        *,
        running: Callable[..., Machine],
        say: Callable[[str], None],
    ) -> ShellCommand:
        """A shell in a container of its own."""
        client = shutil.which("docker")
        if client is None:
            raise MissingTool(
                "the 'docker' command is not on this machine, and shells in containers need it",
                next_step="install the Docker command-line client, or use --engine=user",
            )
        record = running().record()
        argv = shell_argv(client, str(record["url"]), str(record["container"]), profile)
        return ShellCommand(argv=argv, env=dict(os.environ))

    def remove_unknown(self) -> list[str]:
        from edge_harness.engines.docker import image as docker_image

        return docker_image.remove_unknown()

    def _binds(self, spec: StartSpec) -> dict[str, tuple[Path, bool]]:
        """What of this machine the container sees."""
        from edge_harness.image import agent_dir, layers_dir

        run = spec.state_dir / "run"
        private_folder(spec.state_dir)
        private_folder(run)
        with explained(run):
            if os.geteuid() != 0:
                # Root in the container has no capabilities: to it this folder is another user's.
                # The folder above keeps others on this machine out.
                run.chmod(0o777)
            files = system_files(spec, spec.state_dir / "system")
        readonly = {**files, AGENT_DIR: agent_dir(), LAYERS_DIR: layers_dir()}
        return {
            RUN_DIR: (run, True),
            **{inside: (outside, False) for inside, outside in readonly.items()},
        }

    def _relayed(
        self, spec: StartSpec, daemon: Daemon, client: DockerClient, container: str
    ) -> dict[str, Any]:
        """Copy into the container what it cannot see; what the machine's record says of it."""
        if daemon.local:
            return {}
        from edge_harness.engines.docker.image import put_folders
        from edge_harness.image import agent_dir, layers_dir

        layers = docker_relay.layers_for(layers_dir(), spec.tree.arch)
        private_folder(spec.state_dir)
        with explained(spec.state_dir):
            files = system_files(spec, spec.state_dir / "system")
        cpus = files["/sys/devices/system/cpu"]
        with docker_client.explained("copy the agent into the container", daemon.url):
            put_folders(
                client,
                container,
                "/opt/edge",
                {"agent": agent_dir(), **{f"layers/{key}": path for key, path in layers.items()}},
            )
            put_folders(
                client,
                container,
                "/sys/devices/system/cpu",
                {path.name: path for path in sorted(cpus.iterdir())},
            )
        return {
            "relay": True,
            "layers": sorted(layers),
            "python": spec.tree.python,
        }

    def _boot(self, machine: DockerMachine, spec: StartSpec, daemon: Daemon) -> None:
        client = docker_client.connect(daemon.url)
        try:
            with docker_client.explained(f"start the container of {spec.profile.name}", daemon.url):
                client.api.start(machine.container_id)
        except InfrastructureError as error:
            _refuse_foreign(str(error.details.get("said", "")), spec)
            raise
        if daemon.local:
            vain = wait_for(
                "answer of its agent",
                (spec.state_dir / "run" / "agent.sock").exists,
                alive=machine.alive,
                alive_step_s=0.2,
                status=machine.end_reason,
                last_words=lambda: "",
                deadline_s=BOOT_TIMEOUT_S,
            )
            reason = vain.reason if vain else ""
        else:
            reason = docker_relay.wait_for_agent(
                daemon.url, machine.container_id, spec.tree.python, timeout_s=BOOT_TIMEOUT_S
            )
        if reason:
            log = machine.log()
            _refuse_foreign(log, spec)
            raise boot_failed(
                spec.profile.name, self.name, machine.end_reason() or reason, tail(log)
            )


def shell_argv(docker: str, url: str, container: str, profile: Profile) -> tuple[str, ...]:
    """The shell in a running container."""
    argv = [docker, "--host", url, "exec", "--interactive", "--tty", "--workdir", "/root"]
    return (*argv, "--env", f"PS1={profile.name}:\\w# ", container, *_BASH)


def _refuse_foreign(said: str, spec: StartSpec) -> None:
    if "exec format error" in said.lower():
        raise MissingTool(
            f"Docker's machine cannot run {spec.tree.arch} programs: {tail(said, 1)}",
            next_step=NO_BINFMT,
        )
