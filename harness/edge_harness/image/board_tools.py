"""The whole-board emulator and what makes its disks, fetched into the cache like ``tools``.

A set of their own (about 38 MB to download), so that a person who only wants the ``user`` engine
does not wait for them.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from edge_harness.cache import cache_dir, locked, staged
from edge_harness.errors import ImageBuildFailed, MissingTool
from edge_harness.image import apt
from edge_harness.image.tools import MINIMUM_QEMU, SUITE, host_arch, loader_argv, qemu_version

PACKAGES = ("qemu-system-arm", "qemu-utils", "e2fsprogs")
_SYSTEM = {"arm64": "qemu-system-aarch64", "armhf": "qemu-system-arm"}
_FOLDERS = ("usr/bin", "usr/sbin", "sbin")
Progress = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class BoardTools:
    """Where the board emulator and the disk programs are."""

    root: Path | None
    """The fetched tree; None where the host's own programs are used."""
    version: str
    """QEMU's version, as its package or ``--version`` has it."""

    def argv(self, program: str) -> list[str]:
        """How to start ``program``.

        Raises:
            MissingTool: it is neither fetched nor installed.
        """
        if self.root is not None:
            for folder in _FOLDERS:
                path = self.root / folder / program
                if path.exists():
                    return [*loader_argv(self.root, host_arch()), str(path)]
        installed = shutil.which(program, path=_search_path())
        if installed is None:
            raise MissingTool(
                f"{program!r} is neither fetched nor installed",
                next_step="run 'edge-harness setup' (needs no root), or install "
                "qemu-system-arm, qemu-utils and e2fsprogs",
            )
        return [installed]

    def qemu(self, arch: str) -> list[str]:
        """How to start the emulator of a whole board of Debian architecture ``arch``."""
        argv = self.argv(_SYSTEM[arch])
        # Firmware and keymaps beside the fetched emulator, not the host's of another version.
        return [*argv, "-L", str(self.root / "usr/share/qemu")] if self.root else argv

    def environment(self) -> dict[str, str]:
        """Keeps QEMU from loading modules of another version that the host has installed."""
        if self.root is None:
            return {}
        return {"QEMU_MODULE_DIR": str(self.root / "usr/lib/qemu-modules")}


def _search_path() -> str:
    import os

    return os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin"


def board_tools_dir() -> Path:
    """Where fetched board tools are kept, named by what they are."""
    return cache_dir() / "tools" / f"{SUITE}-{host_arch()}-{'-'.join(PACKAGES)}"


def ensure_board_tools(progress: Progress | None = None) -> BoardTools:
    """The tools, fetched if they are not here yet.

    Raises:
        MissingTool: they can be neither fetched nor found installed.
    """
    final = board_tools_dir()
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
                        f"QEMU's board emulator could not be fetched: {error.message}",
                        next_step=error.next_step or "install qemu-system-arm 8.2 or newer",
                        details=error.details,
                    ) from error
    return _load(final)


def _fetch(final: Path, progress: Progress | None) -> None:
    if progress:
        progress(f"fetching {', '.join(PACKAGES)} ({SUITE}) into the cache")
    with staged(final) as folder:
        debs = apt.download(host_arch(), SUITE, PACKAGES, folder / "debs")
        root = folder / "root"
        for name in ("lib", "lib64", "bin", "sbin"):
            (root / "usr" / name).mkdir(parents=True, exist_ok=True)
            (root / name).symlink_to(f"usr/{name}")
        lock = apt.unpack(debs, root)
        shutil.rmtree(folder / "debs")
        for unused in ("usr/share/doc", "usr/share/man", "usr/share/locale", "usr/lib/ipxe"):
            shutil.rmtree(root / unused, ignore_errors=True)
        (folder / "lock.json").write_text(json.dumps({"suite": SUITE, "packages": lock}, indent=1))


def _load(final: Path) -> BoardTools:
    lock = json.loads((final / "lock.json").read_text())
    versions = {package["name"]: package["version"] for package in lock["packages"]}
    return BoardTools(root=final / "root", version=versions["qemu-system-arm"])


def _installed() -> BoardTools | None:
    """The host's own, where QEMU is new enough and the disk programs are there."""
    path = shutil.which("qemu-system-aarch64")
    if path is None or not all(
        shutil.which(name, path=_search_path()) for name in ("qemu-img", "mke2fs")
    ):
        return None
    try:
        version = qemu_version(path)
    except (OSError, subprocess.SubprocessError):
        return None
    numbers = tuple(int(n) for n in re.findall(r"\d+", version)[:2])
    return BoardTools(root=None, version=version) if numbers >= MINIMUM_QEMU else None


def installed_board_tools() -> BoardTools | None:
    """The tools if they are there already; fetches nothing."""
    try:
        final = board_tools_dir()
    except MissingTool:
        return None
    if (final / "lock.json").exists():
        return _load(final)
    return _installed()
