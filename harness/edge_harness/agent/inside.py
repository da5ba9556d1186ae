"""What the agent knows and does about the device it runs in."""

from __future__ import annotations

import os
import resource
import socket
import struct
import sys
import time

TYPE_CHECKING = False  # importing typing costs 20 ms under emulation
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from edge_harness import wire

HWCAP, HWCAP2 = 16, 26


def listen(path: str) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    if os.path.exists(path):
        os.unlink(path)
    listener.bind(path)
    os.chmod(path, os.stat(path).st_mode & 0o666)  # nobody executes a socket
    listener.listen(64)
    return listener


def guarded(work: Callable[[], None]) -> None:
    """Run ``work`` as the whole life of a forked child."""
    code = 1
    try:
        work()
        code = 0
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else 0
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def confine(cpus: int) -> None:
    """Use no more of the host's processors than the board has, and leave core dumps."""
    if cpus and hasattr(os, "sched_getaffinity"):
        allowed = sorted(os.sched_getaffinity(0))
        if len(allowed) > cpus:
            # Not always the first ones: several devices may run side by side.
            first = os.getppid() % len(allowed)
            os.sched_setaffinity(0, [allowed[(first + n) % len(allowed)] for n in range(cpus)])
    _, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))


def precious() -> None:
    """Keep the OOM killer of the board's own kernel away from the agent."""
    os.environ["EDGE_PRECIOUS"] = "1"
    with open("/proc/self/oom_score_adj", "w") as file:
        file.write("-900")


def expendable() -> None:
    """Undo :func:`precious` in a process that does the test's work."""
    if "EDGE_PRECIOUS" in os.environ:
        with open("/proc/self/oom_score_adj", "w") as file:
            file.write("0")


def status_fields(status: int, usage: resource.struct_rusage) -> dict[str, Any]:
    fields: dict[str, Any] = {"peak_rss_kib": usage.ru_maxrss, "user_s": usage.ru_utime}
    if os.WIFSIGNALED(status):
        fields["signal"] = os.WTERMSIG(status)
    else:
        fields["code"] = os.WEXITSTATUS(status)
    return fields


def auxiliary_vector() -> dict[int, int]:
    """{type: value} of this process, as the (emulated) kernel handed it over."""
    word = struct.calcsize("P")
    with open("/proc/self/auxv", "rb") as file:
        data = file.read()
    pairs = struct.iter_unpack(
        "<QQ" if word == 8 else "<II", data[: len(data) // (2 * word) * 2 * word]
    )
    return dict(pairs)


def read(path: str, default: str = "") -> str:
    try:
        with open(path) as file:
            return file.read()
    except OSError:
        return default


def cpu_features() -> list[str]:
    """The first processor's ``Features`` line (Arm) or ``flags`` line (x86)."""
    for line in read("/proc/cpuinfo").splitlines():
        name, _, value = line.partition(":")
        if name.strip() in ("Features", "flags"):
            return value.split()
    return []


def describe() -> dict[str, Any]:
    system = os.uname()
    vector = auxiliary_vector()
    memory = {}
    for line in read("/proc/meminfo").splitlines():
        name, _, value = line.partition(":")
        if value.strip().endswith("kB"):
            memory[name] = int(value.split()[0])
    return {
        "machine": system.machine,
        "bits": struct.calcsize("P") * 8,
        "kernel": system.release,
        "os": next(
            (
                line.partition("=")[2].strip('"')
                for line in read("/etc/os-release").splitlines()
                if line.startswith("PRETTY_NAME=")
            ),
            "",
        ),
        "python": sys.version.split()[0],
        "hwcap": vector.get(HWCAP, 0),
        "hwcap2": vector.get(HWCAP2, 0),
        "features": cpu_features(),
        "page_size": os.sysconf("SC_PAGE_SIZE"),
        "cpu_count": os.cpu_count(),
        "memory_kib": memory.get("MemTotal", 0),
        "cpuinfo": read("/proc/cpuinfo"),
        "interfaces": sorted(name for _, name in socket.if_nameindex()),
        "hostname": system.nodename,
        "uid": os.getuid(),
    }


def memory_events() -> dict[str, int]:
    """OOM kills, peak and limit of the control group this device runs in, where there is one."""
    two = "/sys/fs/cgroup/"
    one = "/sys/fs/cgroup/memory/"
    facts = {}
    events = read(two + "memory.events") or read(one + "memory.oom_control")
    for line in events.splitlines():
        name, _, value = line.partition(" ")
        if name == "oom_kill":
            facts["oom_kills"] = int(value)
    for key, names in (
        ("peak_mib", (two + "memory.peak", one + "memory.max_usage_in_bytes")),
        ("limit_mib", (two + "memory.max", one + "memory.limit_in_bytes")),
    ):
        for name in names:
            text = read(name).strip()
            if text.isdigit():
                facts[key] = int(text) >> 20
    return facts


def program(argv: list[str], env: dict[str, str]) -> list[str]:
    """``argv`` made startable where the kernel cannot start the device's programs itself.

    Under user-mode emulation without binfmt_misc only the emulator can be executed, so the
    program is put behind it ($EDGE_EXEC_PREFIX), interpreter lines are followed by hand.
    """
    prefix = os.environ.get("EDGE_EXEC_PREFIX", "").split()
    if not prefix:
        return argv
    path = argv[0]
    # Without namespaces the device's files stand below a folder of the host.
    root = os.environ.get("EDGE_EXEC_ROOT", "")
    if root and path.startswith("/") and os.path.exists(root + path):
        path = root + path
    if "/" not in path:
        for folder in env.get("PATH", os.defpath).split(":"):
            candidate = os.path.join(root + folder, path)
            if os.access(candidate, os.X_OK) and os.path.isfile(candidate):
                path = candidate
                break
        else:
            raise FileNotFoundError(2, "No such file or directory", argv[0])
    if not os.path.isfile(path):
        raise FileNotFoundError(2, "No such file or directory", argv[0])
    if not os.access(path, os.X_OK):
        raise PermissionError(13, "Permission denied", argv[0])
    with open(path, "rb") as file:
        first = file.readline(256)
    if first.startswith(b"#!"):
        words = first[2:].decode(errors="replace").split(None, 1)
        return program([*[w.strip() for w in words], path, *argv[1:]], env)
    return [*prefix, "-0", argv[0], path, *argv[1:]]


def execute(stream: wire.Stream, header: wire.Header, payload: bytes) -> None:
    """Run one program to its end and send back how it ended and what it wrote."""
    import subprocess

    expendable()
    env = dict(os.environ)
    env.pop("EDGE_PRECIOUS", None)
    for name in [name for name in env if name.startswith("EDGE_EXEC_")]:
        del env[name]
    env.update(header.get("env") or {})
    timeout_s = header.get("timeout_s")
    home = os.getcwd()
    # Without namespaces /tmp is the host's, and must stay clean of core dumps.
    cwd = header.get("cwd") or (home if os.environ.get("EDGE_EXEC_ROOT") else "/tmp")
    started = time.time() - 1
    try:
        argv = program(list(header["argv"]), env)
        process = subprocess.Popen(
            argv,
            env=env,
            cwd=cwd,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            umask=0o022,  # what a board's programs start with; the agent's own is for its sockets
        )
    except OSError as error:
        stream.send({"ok": False, "kind": "exec", "errno": error.errno, "error": str(error)})
        return
    timed_out = False
    try:
        out, err = process.communicate(payload, timeout=timeout_s)
    except subprocess.TimeoutExpired:
        timed_out = True
        os.killpg(process.pid, 9)
        out, err = process.communicate()
    code = process.returncode
    core = collect_core(cwd, home, started) if code else None
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    stream.send(
        {
            "ok": True,
            "code": None if code < 0 else code,
            "signal": -code if code < 0 else None,
            "timed_out": timed_out,
            "pid": process.pid,
            "core": core,
            "peak_rss_kib": usage.ru_maxrss,
            "stdout_bytes": len(out),
        },
        out,
        err,
    )


def collect_core(cwd: str, home: str, started: float) -> str | None:
    """Bring the core dump of a process that died in ``cwd`` to where the harness can read it."""
    found = []
    for name in os.listdir(cwd):
        path = os.path.join(cwd, name)
        if name.endswith(".core") or name == "core" or name.startswith("core."):
            try:
                written = os.stat(path).st_mtime
            except OSError:
                continue
            if written >= started:
                found.append((written, path, name))
    if not found:
        return None
    _, path, name = max(found)
    if os.path.abspath(cwd) != os.path.abspath(home):
        import shutil

        shutil.move(path, os.path.join(home, name))
    return name


def try_connect(stream: wire.Stream, header: wire.Header) -> None:
    """Whether a program on this device can open a TCP connection."""
    try:
        socket.create_connection((header["address"], header["port"]), header["timeout_s"]).close()
    except OSError as error:
        stream.send({"ok": True, "connected": False, "error": f"{type(error).__name__}: {error}"})
    else:
        stream.send({"ok": True, "connected": True, "error": ""})
