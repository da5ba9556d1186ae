"""The ``user`` engine: QEMU user-mode emulation in namespaces of its own; no root, no Docker.

The device is one ``bubblewrap`` call: the image as root with a throw-away layer over it, no
network interface but loopback, its own process numbers, and the profile's processors and memory
in ``/sys`` and ``/proc``. Where the host forbids user namespaces the agent runs with ``-L ROOT``
instead, and the capabilities that rest on namespaces are gone.
"""

from __future__ import annotations

import functools
import os
import signal
import socket
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_harness.cache import cache_dir, private_folder
from edge_harness.engines import Availability, Limits, StartSpec
from edge_harness.engines.launch import (
    AGENT_DIR,
    LAYERS_DIR,
    RUN_DIR,
    agent_argv,
    agent_env,
    boot_failed,
    connect_unix,
    system_files,
)
from edge_harness.errors import EdgeError, MissingCapability
from edge_harness.processes import process_start_time, tail, wait_until

if TYPE_CHECKING:
    from edge_harness.profiles import Profile

EMULATOR = "/opt/edge/qemu"
BOOT_TIMEOUT_S = 60.0
_ALWAYS = frozenset({"isa", "numerics", "crash"})
_NAMESPACES = frozenset({"offline", "rootfs"})


@functools.lru_cache(maxsize=4)
def isolation(prefix: tuple[str, ...] | None) -> tuple[str, str]:
    """How much bubblewrap can do here: ``overlay``, ``read-only`` or ``none``, and why not more.

    Each is really tried, about 10 ms apiece.
    """
    if prefix is None:
        return "none", "bubblewrap is neither fetched nor installed"
    base = [*prefix, *_NAMESPACE_FLAGS]
    tries: tuple[tuple[str, list[str]], ...] = (
        # Over a folder of the cache, where images lie: not every file system can be overlaid,
        # and the host's own root often is an overlay already.
        ("overlay", ["--overlay-src", str(cache_dir()), "--tmp-overlay", "/tmp"]),
        ("read-only", []),
    )
    why = ""
    for name, flags in tries:
        try:
            result = subprocess.run(
                [*base, "--ro-bind", "/", "/", *flags, *_PROC_FLAGS, "/bin/true"],
                capture_output=True,
                text=True,
                check=False,
                timeout=20,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            return "none", str(error)
        if result.returncode == 0:
            return name, why
        why = result.stderr.strip() or f"exit status {result.returncode}"
    return "none", why


_NAMESPACE_FLAGS = (
    *("--unshare-user", "--unshare-net", "--unshare-pid", "--unshare-ipc", "--unshare-uts"),
    "--unshare-cgroup-try",
    # Run by root, bubblewrap leaves a device all capabilities and the host's own identity 0.
    *("--cap-drop", "ALL"),
    *("--uid", "0", "--gid", "0"),
)
#: The host's sysctls are files of user 0, who needs no capability to write them.
_PROC_FLAGS = ("--proc", "/proc", "--ro-bind", "/proc/sys", "/proc/sys")


def sandbox_argv(
    *,
    bwrap: list[str],
    mode: str,
    root: Path,
    hostname: str,
    writable: Mapping[str, Path],
    readonly: Mapping[str, Path],
    env: Mapping[str, str],
) -> list[str]:
    """The bubblewrap call up to the program to run; compared whole in tests."""
    argv = [*bwrap, *_NAMESPACE_FLAGS, "--hostname", hostname]
    if mode == "overlay":
        argv += ["--overlay-src", str(root), "--tmp-overlay", "/"]
    else:
        argv += ["--ro-bind", str(root), "/"]
        for folder in ("/tmp", "/root", "/home", "/data", "/run"):
            argv += ["--tmpfs", folder]
    argv += [*_PROC_FLAGS, "--dev", "/dev", "--tmpfs", "/sys", "--tmpfs", "/opt/edge"]
    for inside, outside in readonly.items():
        argv += ["--ro-bind", str(outside), inside]
    for inside, outside in writable.items():
        argv += ["--bind", str(outside), inside]
    argv.append("--clearenv")
    for name, value in env.items():
        argv += ["--setenv", name, value]
    return [*argv, "--chdir", "/"]


class ProcessMachine:
    """A device that is a process group on this host.

    It may outlive the process that started it (others share it), so there is no ``Popen`` that
    would insist on waiting for it; the starter reaps it when it looks.
    """

    def __init__(self, record: Mapping[str, Any]) -> None:
        self.engine: str = record["engine"]
        self._record = dict(record)
        self._state_dir = Path(record["state_dir"])
        self._pid: int = record.get("pid", 0)
        self._status: int | None = None

    def record(self) -> dict[str, Any]:
        return dict(self._record)

    def connect(self, name: str, *, timeout_s: float) -> socket.socket:
        return connect_unix(
            self._state_dir / "run", name if name != "agent" else "agent.sock", timeout_s=timeout_s
        )

    def alive(self) -> bool:
        if not self._pid or self._status is not None:
            return False
        try:
            pid, status = os.waitpid(self._pid, os.WNOHANG)
        except ChildProcessError:  # another process started it
            return process_start_time(self._pid) == str(self._record["started"])
        if pid:
            self._status = os.waitstatus_to_exitcode(status)
        return pid == 0

    def end_reason(self) -> str:
        if self.alive():
            return ""
        if self._status is None:
            return "its first process is gone"
        if self._status < 0:
            return f"its first process was ended by {signal.Signals(-self._status).name}"
        return f"its first process ended with exit status {self._status}"

    def log(self) -> str:
        try:
            return (self._state_dir / "device.log").read_text(errors="replace")
        except OSError:
            return ""

    def limit(self, limits: Limits) -> None:
        if limits.memory_mib is not None or limits.cpus is not None:
            raise MissingCapability(
                f"the {self.engine} engine cannot limit memory or CPU time: user-mode emulation "
                "needs about 2.4 times the memory of the board, so a limit would mean nothing",
                next_step="use --engine=docker, or mark the test needs={'memory_limit'}",
            )

    def memory_events(self) -> Mapping[str, int]:
        return {}

    def stop(self) -> None:
        if self._pid and self.alive():
            # Nothing in the device is worth an orderly end. With the first process of its
            # namespace the kernel ends all others in it.
            try:
                os.killpg(self._pid, signal.SIGKILL)
            except (ProcessLookupError, PermissionError):
                return
            wait_until(lambda: not self.alive(), deadline_s=5.0)


def start_process(
    argv: list[str], *, spec: StartSpec, engine: str, env: Mapping[str, str]
) -> ProcessMachine:
    """Start ``argv`` as the device and wait until its agent accepts connections.

    Raises:
        BootFailed: it ended or stayed silent for a minute; the message ends with its log.
    """
    private_folder(spec.state_dir)
    run = private_folder(spec.state_dir / "run")
    log = str(spec.state_dir / "device.log")
    # A session of its own, so that Ctrl-C reaches pytest alone and the whole device can be
    # ended as one group. It must outlive this process: other workers may share it.
    pid = os.posix_spawnp(
        argv[0],
        argv,
        dict(env),
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ],
        setsid=True,
    )
    record = {
        "engine": engine,
        "state_dir": str(spec.state_dir),
        "pid": pid,
        "started": process_start_time(pid),
    }
    machine = ProcessMachine(record)
    try:
        _wait_for_agent(machine, run / "agent.sock", spec, engine)
    except BaseException:
        machine.stop()
        raise
    return machine


def _wait_for_agent(machine: ProcessMachine, sock: Path, spec: StartSpec, engine: str) -> None:
    end = time.monotonic() + BOOT_TIMEOUT_S
    while not sock.exists():
        if not machine.alive():
            raise boot_failed(spec.profile.name, engine, machine.end_reason(), machine.log())
        if time.monotonic() > end:
            reason = f"its agent was silent for {BOOT_TIMEOUT_S:g} s"
            raise boot_failed(spec.profile.name, engine, reason, machine.log())
        time.sleep(0.005)


class UserEngine:
    """QEMU user-mode emulation."""

    name = "user"

    def image_arch(self, profile: Profile) -> str:
        return profile.os.arch

    def probe(self, profile: Profile) -> Availability:
        from edge_harness.image.tools import installed_tools

        tools = installed_tools()
        if tools is None:
            import shutil

            if shutil.which("apt-get") is None:
                return Availability(
                    engine=self.name,
                    available=False,
                    reason="QEMU is not here and there is no apt-get to fetch it with",
                    fix="install qemu-user 8.2 or newer, or use --engine=docker",
                )
            # Namespaces are tried when the parts are here; nothing is fetched by a probe.
            return Availability(
                engine=self.name,
                available=True,
                reason="QEMU will be fetched into the cache",
                capabilities=_ALWAYS | _NAMESPACES,
            )
        try:
            tools.qemu_user(profile.os.arch)
        except EdgeError as error:
            return Availability(
                engine=self.name, available=False, reason=error.message, fix=error.next_step
            )
        mode, why = isolation(tuple(tools.bwrap) if tools.bwrap else None)
        version = tools.versions.get("qemu-user", "?")
        if mode == "none":
            return Availability(
                engine=self.name,
                available=True,
                reason=f"QEMU {version}, without namespaces ({tail(why, 1)}): the host's network "
                "and files stay visible",
                fix="allow unprivileged user namespaces (kernel.unprivileged_userns_clone=1; on "
                "Ubuntu 24.04 kernel.apparmor_restrict_unprivileged_userns=0)",
                capabilities=_ALWAYS,
            )
        return Availability(
            engine=self.name,
            available=True,
            reason=f"QEMU {version} -cpu {profile.emulation.qemu_cpu}, own namespaces",
            capabilities=_ALWAYS | _NAMESPACES,
        )

    def start(self, spec: StartSpec) -> ProcessMachine:
        from edge_harness.image import agent_dir, layers_dir
        from edge_harness.image.tools import ensure_tools

        self_made = Limits()
        if spec.limits != self_made:
            ProcessMachine({"engine": self.name, "state_dir": ""}).limit(spec.limits)
        tools = ensure_tools()
        qemu = tools.qemu_user(spec.profile.os.arch)
        bwrap = tools.bwrap
        mode, _ = isolation(tuple(bwrap) if bwrap else None)
        core = spec.profile.emulation.qemu_cpu
        if mode == "none" or bwrap is None:
            emulator = [str(qemu), "-cpu", core, "-L", str(spec.image.root)]
            argv, env = bare_argv(spec, emulator, agent_dir(), layers_dir())
        else:
            emulator = [EMULATOR, "-cpu", core]
            env = {"PATH": os.defpath}
            argv = [
                *boxed_argv(spec, bwrap, mode, agent_dir(), layers_dir(), emulator, qemu),
                *emulator,
                *agent_argv(spec),
            ]
        return start_process(argv, spec=spec, engine=self.name, env=env)

    def attach(self, record: Mapping[str, Any]) -> ProcessMachine:
        return ProcessMachine(record)


def boxed_argv(
    spec: StartSpec,
    bwrap: list[str],
    mode: str,
    agent: Path,
    layers: Path,
    emulator: list[str],
    qemu: Path | None,
) -> list[str]:
    """The namespaces for ``spec``, up to the program to run in them."""
    files = system_files(spec, spec.state_dir / "system")
    run = private_folder(spec.state_dir / "run")
    readonly = {**files, AGENT_DIR: agent, LAYERS_DIR: layers}
    if qemu is not None:
        readonly[EMULATOR] = qemu
    return sandbox_argv(
        bwrap=bwrap,
        mode=mode,
        root=spec.image.root,
        hostname=spec.profile.name,
        writable={RUN_DIR: run},
        readonly=readonly,
        env={**agent_env(spec), "EDGE_EXEC_PREFIX": " ".join(emulator)},
    )


def bare_argv(
    spec: StartSpec, emulator: list[str], agent: Path, layers: Path
) -> tuple[list[str], dict[str, str]]:
    """The agent without namespaces: every path is the host's."""
    argv = agent_argv(
        spec,
        python=str(spec.image.root) + spec.image.python,
        agent_dir=str(agent),
        run_dir=str(spec.state_dir / "run"),
    )
    env = {
        **agent_env(spec),
        "EDGE_LAYERS": str(layers),
        "EDGE_EXEC_PREFIX": " ".join(emulator),
        "EDGE_EXEC_ROOT": str(spec.image.root),
    }
    return [*emulator, *argv], env
