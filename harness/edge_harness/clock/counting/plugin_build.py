"""The TCG plugin as a shared library, compiled once for the plugin interface of a QEMU."""

from __future__ import annotations

import hashlib
import re
import shutil
import sys
from collections.abc import Callable, Sequence
from importlib import resources
from pathlib import Path

from edge_harness.cache import built, cache_dir
from edge_harness.errors import MissingTool
from edge_harness.image.tools import host_arch
from edge_harness.processes import completed

_SOURCES = ("edge_clock.c", "qemu_plugin_api.h")
#: QEMU release -> version of the plugin interface to build for (docs/devel/tcg-plugins.rst:
#: qemu_plugin_version must lie between the minimum and the current one of the QEMU that loads it).
_INTERFACES = (((11, 1), 7), ((9, 1), 3), ((9, 0), 2), ((4, 2), 1))
#: Compiler that pip can install where the machine has none.
ZIG = "ziglang>=0.13,<0.17"
Progress = Callable[[str], None]


def interface_of(qemu_version: str) -> int:
    """The plugin interface to build for.

    Args:
        qemu_version: as ``qemu-system-aarch64 --version`` or Debian's package has it
            (``1:10.0.2+ds-2``).

    Raises:
        MissingTool: that QEMU has none.
    """
    numbers = re.findall(r"\d+", qemu_version.partition(":")[2] or qemu_version)
    release = tuple(int(n) for n in numbers[:2])
    for since, interface in _INTERFACES:
        if release >= since:
            return interface
    raise MissingTool(
        f"QEMU {qemu_version} has no plugin interface, which the device clock counts with",
        next_step="use QEMU 8.2 or newer ('edge-harness setup' fetches one)",
    )


def check_plugins(qemu: Sequence[str]) -> None:
    """Refuse a QEMU that was built without plugins (configure --disable-plugins).

    Raises:
        MissingTool: it does not know ``-plugin``.
    """
    done = completed([*qemu, "-help"], what="ask QEMU for its options", timeout_s=60)
    if "-plugin" not in done.stdout:
        raise MissingTool(
            f"{qemu[0]!r} was built without plugins, which the device clock counts with",
            next_step="use QEMU of a distribution, or let 'edge-harness setup' fetch one",
        )


def compile_argv(compiler: Sequence[str], source: Path, output: Path, interface: int) -> list[str]:
    """The compiler's command line."""
    argv = [*compiler, "-shared", "-fPIC", "-O2", "-fvisibility=hidden"]
    argv += [f"-DEDGE_PLUGIN_API={interface}", str(source), "-o", str(output)]
    if sys.platform == "darwin":  # QEMU's own symbols are there when it loads the plugin
        argv += ["-undefined", "dynamic_lookup"]
    return argv


def ensure_plugin(qemu_version: str, progress: Progress | None = None) -> Path:
    """The plugin for that QEMU, compiled if it is not in the cache.

    Raises:
        MissingTool: there is no compiler and none can be installed, or QEMU is too old.
    """
    interface = interface_of(qemu_version)
    folder = resources.files("edge_harness.clock") / "plugin"
    prebuilt = Path(str(folder)) / "prebuilt" / f"edge_clock-{interface}.so"
    if prebuilt.exists():  # a platform wheel; see hatch_build.py
        return prebuilt
    content = {name: (folder / name).read_bytes() for name in _SOURCES}
    digest = hashlib.sha256(repr(sorted(content.items())).encode()).hexdigest()[:16]

    def build(stage: Path) -> dict[str, str]:
        for name, data in content.items():
            (stage / name).write_bytes(data)
        _compile(stage, interface, progress)
        return {"what": "the device clock's plugin"}

    final = cache_dir() / "tools" / f"clock-{host_arch()}-{interface}-{digest}"
    return built(final, build).path / "edge_clock.so"


def _compile(stage: Path, interface: int, progress: Progress | None) -> None:
    if progress:
        progress("compiling the device clock's plugin (once)")
    argv = compile_argv(
        _compiler(progress), stage / _SOURCES[0], stage / "edge_clock.so", interface
    )
    done = completed(
        argv, what="compile the device clock's plugin", timeout_s=300, error=MissingTool
    )
    if done.returncode:
        raise MissingTool(
            f"the device clock's plugin does not compile with {argv[0]!r}:\n{done.stderr.strip()}",
            next_step="install gcc or clang with its C library headers, or set CC",
        )


def _compiler(progress: Progress | None) -> list[str]:
    import os

    for name in filter(None, (os.environ.get("CC"), "cc", "gcc", "clang")):
        words = name.split()
        if shutil.which(words[0]):
            return words

    def build(stage: Path) -> dict[str, str]:
        if progress:
            progress("fetching a C compiler (ziglang) into the cache")
        done = completed(
            [
                *(sys.executable, "-m", "pip", "install", "--quiet"),
                *("--disable-pip-version-check", "--target", str(stage), ZIG),
            ],
            what=f"fetch {ZIG}",
            timeout_s=1800,
            error=MissingTool,
        )
        if done.returncode:
            raise MissingTool(
                "the device clock needs a C compiler; there is no cc, gcc or clang, and pip could "
                f"not install ziglang: {done.stderr.strip()[-300:]}",
                next_step="install gcc or clang",
            )
        return {"what": ZIG}

    site = built(cache_dir() / "tools" / "ziglang", build).path
    return [str(site / "ziglang" / "zig"), "cc"]
