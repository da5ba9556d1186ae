"""The whole-board emulator and what makes its disks, fetched into the cache like ``tools``.

A set of their own (about 38 MB to download), so that a person who only wants the ``user`` engine
does not wait for them.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from edge_harness.errors import MissingTool
from edge_harness.image.tools import (
    Progress,
    Toolset,
    host_arch,
    loader_argv,
    new_enough,
    qemu_version,
)

_SYSTEM = {"arm64": "qemu-system-aarch64", "armhf": "qemu-system-arm"}
_FOLDERS = ("usr/bin", "usr/sbin", "sbin")


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
    return os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin"


def _of_the_host() -> BoardTools | None:
    """Where QEMU is new enough and the disk programs are there."""
    path = shutil.which("qemu-system-aarch64")
    if path is None or not all(
        shutil.which(name, path=_search_path()) for name in ("qemu-img", "mke2fs")
    ):
        return None
    version = qemu_version(path)
    return BoardTools(root=None, version=version) if new_enough(version) else None


_SET = Toolset(
    packages=("qemu-system-arm", "qemu-utils", "e2fsprogs"),
    what="QEMU's board emulator",
    by_hand="qemu-system-arm",
    fetched=lambda root, versions: BoardTools(root=root, version=versions["qemu-system-arm"]),
    of_the_host=_of_the_host,
)


def ensure_board_tools(progress: Progress | None = None) -> BoardTools:
    """The tools, fetched if they are not here yet.

    Raises:
        MissingTool: they can be neither fetched nor found installed.
    """
    return _SET.ensure(progress)


def installed_board_tools() -> BoardTools | None:
    """The tools if they are there already; fetches nothing."""
    return _SET.installed()
