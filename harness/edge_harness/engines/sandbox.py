"""A device as one ``bubblewrap`` call: an image as root with a throw-away layer over it, no network
interface but loopback, its own process numbers, no capability, and the profile's processors and
memory in ``/sys`` and ``/proc``. For engines of other distributions too."""

from __future__ import annotations

import functools
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from edge_harness.cache import cache_dir, private_folder
from edge_harness.engines import StartSpec
from edge_harness.engines.launch import AGENT_DIR, LAYERS_DIR, RUN_DIR, agent_env, system_files

#: Where the emulator lies in the device.
EMULATOR = "/opt/edge/qemu"


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
    bwrap: Sequence[str],
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


def boxed_argv(
    spec: StartSpec,
    *,
    bwrap: Sequence[str],
    mode: str,
    emulator: Sequence[str] = (),
    qemu: Path | None = None,
) -> list[str]:
    """The namespaces for ``spec``, up to the program to run in them.

    Args:
        spec: of the device, with an image.
        bwrap: how bubblewrap is started here.
        mode: ``overlay`` or ``read-only``, as :func:`isolation` has it.
        emulator: what goes before each program in there.
        qemu: that emulator on this host; shown at :data:`EMULATOR`.
    """
    from edge_harness.image import agent_dir, layers_dir

    files = system_files(spec, spec.state_dir / "system")
    run = private_folder(spec.state_dir / "run")
    readonly = {**files, AGENT_DIR: agent_dir(), LAYERS_DIR: layers_dir()}
    if qemu is not None:
        readonly[EMULATOR] = qemu
    return sandbox_argv(
        bwrap=bwrap,
        mode=mode,
        root=spec.tree.root,
        hostname=spec.profile.name,
        writable={RUN_DIR: run},
        readonly=readonly,
        env={**agent_env(spec), "EDGE_EXEC_PREFIX": " ".join(emulator)},
    )
