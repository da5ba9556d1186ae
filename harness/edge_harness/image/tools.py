"""QEMU and bubblewrap for this host, fetched into the cache: no root, nothing system-wide.

They come from one pinned Debian suite whatever the host's own release, so the emulator is the
same on every machine. ``qemu-user`` is static there; the others start through the dynamic
loader that was fetched with them.
"""

from __future__ import annotations

import functools
import json
import platform
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from edge_harness.cache import cache_dir, locked, staged
from edge_harness.errors import ImageBuildFailed, MissingTool
from edge_harness.image import apt

SUITE = "trixie"
PACKAGES = ("qemu-user", "bubblewrap")
MINIMUM_QEMU = (8, 2)
"""Older versions show the host's /proc/cpuinfo to the guest (FACTS in docs/engines.md)."""

_DEBIAN_ARCH = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "armhf", "arm64": "arm64"}
_LOADER = {
    "amd64": ("lib64/ld-linux-x86-64.so.2", "x86_64-linux-gnu"),
    "arm64": ("lib/ld-linux-aarch64.so.1", "aarch64-linux-gnu"),
    "armhf": ("lib/ld-linux-armhf.so.3", "arm-linux-gnueabihf"),
}
_QEMU = {
    "arm64": "qemu-aarch64",
    "armhf": "qemu-arm",
    "armel": "qemu-arm",
    "amd64": "qemu-x86_64",
}
Progress = Callable[[str], None]


def host_arch() -> str:
    """Debian's name of this machine's architecture."""
    machine = platform.machine()
    if machine not in _DEBIAN_ARCH:
        raise MissingTool(
            f"there are no emulator packages for a {machine!r} host",
            next_step="run on an x86-64 or arm64 Linux machine, or use --engine=docker",
        )
    return _DEBIAN_ARCH[machine]


def loader_argv(root: Path, arch: str) -> list[str]:
    """What to put before a program of ``root`` so that it runs here with its own libraries."""
    loader, triplet = _LOADER[arch]
    path = root / loader
    if not path.exists():
        path = root / "usr" / loader
    return [
        str(path),
        "--library-path",
        ":".join(str(root / part / triplet) for part in ("lib", "usr/lib")),
    ]


@dataclass(frozen=True, kw_only=True)
class Tools:
    """Where the programs are that engines start."""

    root: Path | None
    versions: dict[str, str]

    def qemu_user(self, arch: str) -> Path:
        """The user-mode emulator for a device of Debian architecture ``arch``."""
        name = _QEMU[arch]
        if self.root is not None and (self.root / "usr/bin" / name).exists():
            return self.root / "usr/bin" / name
        installed = shutil.which(f"{name}-static") or shutil.which(name)
        if installed is None:
            raise MissingTool(
                f"{name!r} is neither fetched nor installed",
                next_step="run 'edge-harness setup' (needs no root)",
            )
        return Path(installed)

    @property
    def bwrap(self) -> list[str] | None:
        """How to start bubblewrap, or None where there is none."""
        if self.root is not None and (self.root / "usr/bin/bwrap").exists():
            return [*loader_argv(self.root, host_arch()), str(self.root / "usr/bin/bwrap")]
        installed = shutil.which("bwrap")
        return [installed] if installed else None


def tools_dir() -> Path:
    """Where fetched tools are kept, named by what they are."""
    return cache_dir() / "tools" / f"{SUITE}-{host_arch()}-{'-'.join(PACKAGES)}"


def ensure_tools(progress: Progress | None = None) -> Tools:
    """The tools, fetched if they are not here yet.

    Raises:
        MissingTool: they can be neither fetched nor found installed.
    """
    final = tools_dir()
    if not (final / "lock.json").exists():
        with locked(final.name):
            if not (final / "lock.json").exists():
                try:
                    _fetch(final, progress)
                except (MissingTool, ImageBuildFailed) as error:
                    found = _installed()
                    if found is not None:
                        return found
                    raise MissingTool(
                        f"QEMU could not be fetched: {error.message}",
                        next_step=error.next_step or "install qemu-user 8.2 or newer",
                        details=error.details,
                    ) from error
    return _load(final)


def _fetch(final: Path, progress: Progress | None) -> None:
    if progress:
        progress(f"fetching {' and '.join(PACKAGES)} ({SUITE}) into the cache")
    with staged(final) as folder:
        debs = apt.download(host_arch(), SUITE, PACKAGES, folder / "debs")
        # Debian 13's packages name /lib and /lib64 through /usr; give them one place.
        root = folder / "root"
        for name in ("lib", "lib64", "bin", "sbin"):
            (root / "usr" / name).mkdir(parents=True, exist_ok=True)
            (root / name).symlink_to(f"usr/{name}")
        lock = apt.unpack(debs, root)
        shutil.rmtree(folder / "debs")
        for unused in ("usr/share/doc", "usr/share/man", "usr/share/locale"):
            shutil.rmtree(root / unused, ignore_errors=True)
        for program in (root / "usr/bin").iterdir():
            if program.name.startswith("qemu-") and program.name not in {*_QEMU.values()}:
                program.unlink()
        (folder / "lock.json").write_text(json.dumps({"suite": SUITE, "packages": lock}, indent=1))


def _load(final: Path) -> Tools:
    lock = json.loads((final / "lock.json").read_text())
    versions = {package["name"]: package["version"] for package in lock["packages"]}
    return Tools(
        root=final / "root",
        versions={name: versions[name] for name in PACKAGES if name in versions},
    )


def _installed() -> Tools | None:
    """QEMU of the host itself, where it is new enough."""
    for name in ("qemu-aarch64-static", "qemu-aarch64"):
        path = shutil.which(name)
        if path is not None:
            version = qemu_version(path)
            numbers = tuple(int(n) for n in re.findall(r"\d+", version)[:2])
            if numbers >= MINIMUM_QEMU:
                return Tools(root=None, versions={"qemu-user": version})
    return None


def installed_tools() -> Tools | None:
    """The tools if they are there already; fetches nothing."""
    try:
        final = tools_dir()
    except MissingTool:
        return None
    if (final / "lock.json").exists():
        return _load(final)
    return _installed()


@functools.lru_cache(maxsize=32)
def qemu_version(path: str) -> str:
    """What ``path --version`` says, e.g. ``10.0.2``; ``""`` when it says nothing."""
    result = subprocess.run(
        [path, "--version"], capture_output=True, text=True, check=False, timeout=30
    )
    match = re.search(r"version (\S+)", result.stdout)
    return match[1] if match else ""


def bwrap_works(prefix: list[str]) -> str:
    """Why bubblewrap cannot make namespaces here; ``""`` when it can. Really tries, ~10 ms."""
    argv = [*prefix, "--unshare-all", "--ro-bind", "/", "/", "--proc", "/proc", "/bin/true"]
    try:
        result = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=20)
    except OSError as error:
        return str(error)
    return result.stderr.strip() or f"exit status {result.returncode}" if result.returncode else ""
