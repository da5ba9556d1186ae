"""QEMU and bubblewrap for this host, fetched into the cache: no root, nothing system-wide.

They come from one pinned Debian suite whatever the host's own release, so the emulator is the
same on every machine. ``qemu-user`` is static there; the others start through the dynamic
loader that was fetched with them.
"""

from __future__ import annotations

import functools
import platform
import re
import shutil
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from edge_harness.cache import Entry, built, cache_dir, found
from edge_harness.errors import ImageBuildFailed, MissingTool
from edge_harness.image import apt

SUITE = "trixie"
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
T = TypeVar("T")


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
class Toolset(Generic[T]):
    """Programs that are fetched together, and how to find the host's own where they cannot be."""

    packages: tuple[str, ...]
    what: str
    """What cannot be had without them, for a message."""
    by_hand: str
    """What a user may install where they cannot be fetched."""
    fetched: Callable[[Path, Mapping[str, str]], T]
    """Makes the programs' object from their tree and ``{package: version}``."""
    of_the_host: Callable[[], T | None]
    """The host's own, where they are new enough."""
    unwanted: Callable[[Path], bool] = lambda _path: False
    """Whether a program of the tree is not needed."""

    def folder(self) -> Path:
        """Where they are kept, named by what they are."""
        return cache_dir() / "tools" / f"{SUITE}-{host_arch()}-{'-'.join(self.packages)}"

    def ensure(self, progress: Progress | None = None) -> T:
        """The programs, fetched if they are not here yet.

        Raises:
            MissingTool: they can be neither fetched nor found installed.
        """

        def build(folder: Path) -> dict[str, Any]:
            if progress:
                progress(f"fetching {', '.join(self.packages)} ({SUITE}) into the cache")
            return {"suite": SUITE, "packages": self._fill(folder)}

        folder = self.folder()
        try:
            return self._of(built(folder, build))
        except (MissingTool, ImageBuildFailed) as error:
            installed = self.of_the_host()
            if installed is not None:
                return installed
            raise MissingTool(
                f"{self.what} could not be fetched: {error.message}",
                next_step=error.next_step or f"install {self.by_hand} 8.2 or newer",
                details=error.details,
            ) from error

    def installed(self) -> T | None:
        """The programs if they are there already; fetches nothing."""
        try:
            entry = found(self.folder())
        except MissingTool:
            return None
        return self._of(entry) if entry else self.of_the_host()

    def _of(self, entry: Entry) -> T:
        versions = {package["name"]: package["version"] for package in entry.content["packages"]}
        return self.fetched(
            entry.path / "root",
            {name: versions[name] for name in self.packages if name in versions},
        )

    def _fill(self, folder: Path) -> list[apt.Package]:
        debs = apt.download(host_arch(), SUITE, self.packages, folder / "debs")
        # Debian 13's packages name /lib and /lib64 through /usr; give them one place.
        root = folder / "root"
        for name in ("lib", "lib64", "bin", "sbin"):
            (root / "usr" / name).mkdir(parents=True, exist_ok=True)
            (root / name).symlink_to(f"usr/{name}")
        lock = apt.unpack(debs, root)
        shutil.rmtree(folder / "debs")
        for unused in ("usr/share/doc", "usr/share/man", "usr/share/locale", "usr/lib/ipxe"):
            shutil.rmtree(root / unused, ignore_errors=True)
        for program in (root / "usr/bin").iterdir():
            if self.unwanted(program):
                program.unlink()
        return lock


@dataclass(frozen=True, kw_only=True)
class Tools:
    """Where the programs are that engines start."""

    root: Path | None
    """The fetched tree; None where the host's own programs are used."""
    versions: Mapping[str, str]

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


def _of_the_host() -> Tools | None:
    for name in ("qemu-aarch64-static", "qemu-aarch64"):
        path = shutil.which(name)
        if path is not None and new_enough(version := qemu_version(path)):
            return Tools(root=None, versions={"qemu-user": version})
    return None


_SET = Toolset(
    packages=("qemu-user", "bubblewrap"),
    what="QEMU",
    by_hand="qemu-user",
    fetched=lambda root, versions: Tools(root=root, versions=versions),
    of_the_host=_of_the_host,
    unwanted=lambda path: path.name.startswith("qemu-") and path.name not in _QEMU.values(),
)


def ensure_tools(progress: Progress | None = None) -> Tools:
    """QEMU's user-mode emulators and bubblewrap, fetched if they are not here yet.

    Raises:
        MissingTool: they can be neither fetched nor found installed.
    """
    return _SET.ensure(progress)


def installed_tools() -> Tools | None:
    """The tools if they are there already; fetches nothing."""
    return _SET.installed()


@functools.lru_cache(maxsize=32)
def qemu_version(path: str) -> str:
    """What ``path --version`` says, e.g. ``10.0.2``; ``""`` when it says nothing or cannot run."""
    try:
        result = subprocess.run(
            [path, "--version"], capture_output=True, text=True, check=False, timeout=30
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    match = re.search(r"version (\S+)", result.stdout)
    return match[1] if match else ""


def new_enough(version: str) -> bool:
    """Whether a QEMU that calls itself ``version`` shows devices what they are to see."""
    return tuple(int(number) for number in re.findall(r"\d+", version)[:2]) >= MINIMUM_QEMU
