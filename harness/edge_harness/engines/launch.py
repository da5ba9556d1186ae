"""What every engine needs to start the agent: its command line, environment, sockets and the
system files that show the profile instead of the host.

For engines of other distributions too. The agent takes a Python of 3.9 or newer with nothing but
its standard library; runtimes come from layers, which it imports from the folder named by
``EDGE_LAYERS``.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Sequence
from pathlib import Path

from edge_harness.engines import StartSpec
from edge_harness.errors import BootFailed
from edge_harness.processes import tail

RUN_DIR = "/run/edge"
LAYERS_DIR = "/opt/edge/layers"
AGENT_DIR = "/opt/edge/agent"
#: Marks the processes of a device, so that all of them can be found and ended; not seen in its
#: namespaces where it has some.
STATE_VARIABLE = "EDGE_STATE_DIR"
#: The agent ends itself this long after its last client left: no holder, no device.
LINGER_S = 3.0


def agent_argv(
    spec: StartSpec,
    *,
    python: str | None = None,
    agent_dir: str = AGENT_DIR,
    run_dir: str = RUN_DIR,
) -> list[str]:
    """The command that starts the agent in the device.

    Args:
        spec: of the device.
        python: which Python runs it (default: the image's), as a path inside the device.
        agent_dir: where the device sees :func:`edge_harness.image.agent_dir`.
        run_dir: where the device sees ``spec.state_dir / "run"``.

    ``-I``: nothing of the user's environment may reach the agent's own imports.
    """
    # With -I Python would not read PYTHONHASHSEED; -s and -P are the rest of it.
    isolated = ["-I"] if spec.instrumentation is None else ["-s", "-P"]
    argv = [python or spec.tree.python, *isolated, "-S", "-B"]
    argv.append(f"{agent_dir}/edge_harness/agent/main.py")
    argv += ["--run-dir", run_dir, "--linger-s", f"{LINGER_S:g}"]
    argv += ["--cpus", str(spec.profile.cpu.cores)]
    for parent in spec.warm:
        argv += ["--warm", json.dumps(parent.header(), separators=(",", ":"))]
    return argv


def agent_env(spec: StartSpec) -> dict[str, str]:
    """The whole environment of processes in the device.

    ``QEMU_CPU`` pins the core for every emulated process, grandchildren too: without it QEMU
    emulates ``max`` and hides each missing instruction. ``OPENBLAS_NUM_THREADS=1`` more than
    halves ``import numpy`` under user-mode emulation (4.7 s to 2.8 s, measured).
    """
    env = {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": "/root",
        "LANG": "C.UTF-8",
        "TMPDIR": "/tmp",
        "EDGE_DEVICE_NAME": spec.profile.name,
        "EDGE_LAYERS": LAYERS_DIR,
        "OPENBLAS_NUM_THREADS": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    if spec.instrumentation is not None:
        env["PYTHONHASHSEED"] = "0"
    if spec.profile.emulation.qemu_cpu:
        env["QEMU_CPU"] = spec.profile.emulation.qemu_cpu
    return {**env, **spec.env}


def plain_process(
    spec: StartSpec, *, python: str, emulator: Sequence[str] = (), root: Path | None = None
) -> tuple[list[str], dict[str, str]]:
    """The agent as a process of this host without namespaces, every path the host's: its command
    line and its whole environment.

    Args:
        spec: of the device.
        python: which Python runs it, a path on this host.
        emulator: what to put before it and before each program that is started through it.
        root: the folder below which programs are looked for, as an image's tree; None for this
            host's own files.
    """
    from edge_harness.image import agent_dir, layers_dir

    run = str(spec.state_dir / "run")
    argv = agent_argv(spec, python=python, agent_dir=str(agent_dir()), run_dir=run)
    env = agent_env(spec)
    if root is None:
        # This host's files: nothing of the person's own folders, and the agent's Python first.
        env["HOME"] = run
        env["PATH"] = f"{Path(python).parent}:{env['PATH']}"
    env["EDGE_LAYERS"] = str(layers_dir())
    env[STATE_VARIABLE] = str(spec.state_dir)
    env["EDGE_EXEC_PREFIX"] = " ".join(emulator)
    env["EDGE_EXEC_ROOT"] = str(root or "/")
    return [*emulator, *argv], env


def system_files(spec: StartSpec, dest: Path) -> dict[str, Path]:
    """Write the profile's ``/proc/meminfo`` and ``/sys/devices/system/cpu`` below ``dest``.

    Returns ``{path in the device: path on the host}`` for read-only binds. Without the second,
    runtimes count the host's processors or, finding no ``/sys``, silently use other kernels.
    """
    profile = spec.profile
    cpus = dest / "cpu"
    span = "0" if profile.cpu.cores == 1 else f"0-{profile.cpu.cores - 1}"
    cpus.mkdir(parents=True, exist_ok=True)
    for name in ("online", "possible", "present"):
        (cpus / name).write_text(span + "\n")
    (cpus / "kernel_max").write_text("255\n")
    khz = round(profile.cpu.mhz * 1000)
    for number in range(profile.cpu.cores):
        topology = cpus / f"cpu{number}" / "topology"
        topology.mkdir(parents=True, exist_ok=True)
        for name, text in (
            ("core_id", str(number)),
            ("physical_package_id", "0"),
            ("core_siblings_list", span),
            ("core_cpus_list", str(number)),
            ("package_cpus_list", span),
            ("thread_siblings_list", str(number)),
        ):
            (topology / name).write_text(text + "\n")
        frequency = cpus / f"cpu{number}" / "cpufreq"
        frequency.mkdir(exist_ok=True)
        for name in ("cpuinfo_max_freq", "scaling_max_freq", "scaling_cur_freq"):
            (frequency / name).write_text(f"{khz}\n")
    memory_mib = spec.limits.memory_mib or profile.memory.usable_mib
    kib = memory_mib * 1024
    fields = {
        "MemTotal": kib,
        "MemFree": kib * 9 // 10,
        "MemAvailable": kib * 9 // 10,
        "Buffers": 0,
        "Cached": 0,
        "SwapCached": 0,
        "SwapTotal": 0,
        "SwapFree": 0,
    }
    meminfo = dest / "meminfo"
    meminfo.write_text(
        "".join(f"{name + ':':<16}{value:>8} kB\n" for name, value in fields.items())
    )
    return {"/proc/meminfo": meminfo, "/sys/devices/system/cpu": cpus}


def connect_unix(folder: Path, name: str, *, timeout_s: float) -> socket.socket:
    """Connect to the socket ``name`` in ``folder``.

    Through an open descriptor of the folder where Linux allows it, because the path of a Unix
    socket may have 107 bytes at most and cache folders are often deeper.

    Raises:
        OSError: nobody listens there.
    """
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.settimeout(timeout_s)
    try:
        if Path("/proc/self/fd").is_dir():
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            try:
                sock.connect(f"/proc/self/fd/{descriptor}/{name}")
            finally:
                os.close(descriptor)
        else:
            sock.connect(str(folder / name))
    except BaseException:
        sock.close()
        raise
    return sock


def boot_failed(name: str, engine: str, reason: str, log: str) -> BootFailed:
    """The error for a device that did not come up, with the end of its log."""
    log = tail(log)
    return BootFailed(
        f"{name} did not come up on the {engine} engine: {reason}"
        + (f"\n--- its log ---\n{log}\n---" if log else " (its log is empty)"),
        next_step="run 'edge-harness doctor' to check this machine",
        details={"device": name, "engine": engine, "reason": reason, "log": log},
    )
