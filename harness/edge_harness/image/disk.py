"""Disks for boards: ext4 file systems made from trees of the cache, without root."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path

from edge_harness.cache import built, cache_dir, refuse_full
from edge_harness.errors import ImageBuildFailed
from edge_harness.image.board_tools import BoardTools
from edge_harness.processes import completed

VERSION = 3
#: As Debian's mke2fs.conf has them for ext4, less checksums and 64-bit block numbers; written out
#: so that a host's own file does not decide.
_FEATURES = (
    "none,filetype,sparse_super,large_file,dir_index,ext_attr,resize_inode,extent,huge_file,"
    "flex_bg,dir_nlink,extra_isize"
)


def ensure_disk(tools: BoardTools, name: str, tree: Path) -> Path:
    """A read-only ext4 file system with the content of ``tree``; ``name`` says what that is and
    must change with it.

    Raises:
        ImageBuildFailed: mke2fs failed.
        CacheError: the cache is full or read-only.
    """

    def make(path: Path) -> None:
        blocks = inodes = 0
        for folder, folders, files in os.walk(tree):
            inodes += len(folders) + len(files)
            blocks += len(folders)
            for file in files:
                blocks += ((Path(folder) / file).lstat().st_size + 4095) // 4096
        inodes += inodes // 50 + 64
        size_kib = (blocks + blocks // 16 + inodes // 16 + 2048) * 4
        # No journal: nothing is ever written to it.
        _mke2fs(tools, path, size_kib, ["-N", str(inodes), "-d", str(tree)])

    return _ensure(f"{name}-{VERSION}", make)


def ensure_blank(tools: BoardTools, size_mib: int) -> Path:
    """An empty, journalled ext4 file system of ``size_mib`` MiB, as on a new card. Sparse."""

    def make(path: Path) -> None:
        # A fixed number of inodes, all set up: no kernel thread of the guest writes them later.
        inodes = max(1024, min(131072, size_mib * 16))
        options = [
            "-O",
            f"{_FEATURES},has_journal",
            "-N",
            str(inodes),
            "-J",
            f"size={8 if size_mib < 1024 else 64}",
        ]
        options += ["-E", "lazy_itable_init=0,lazy_journal_init=0", "-m", "0"]
        _mke2fs(tools, path, size_mib * 1024, options)

    return _ensure(f"blank-{size_mib}-{VERSION}", make)


def _ensure(key: str, make: Callable[[Path], None]) -> Path:
    def build(folder: Path) -> dict[str, str]:
        make(folder / "disk.img")
        # mke2fs writes times and random numbers: a disk made again is another disk, and no board
        # that was saved with the first may be restored onto it.
        return {"arch": "", "what": "ext4 file system", "id": uuid.uuid4().hex}

    return built(cache_dir() / "disks" / key, build).path / "disk.img"


def disk_id(disk: Path) -> str:
    """What tells this very file system from one made again of the same content."""
    return str(json.loads((disk.parent / "lock.json").read_text())["id"])


def _mke2fs(tools: BoardTools, path: Path, size_kib: int, options: Sequence[str]) -> None:
    argv = [*tools.argv("mke2fs"), "-q", "-F", "-t", "ext4", "-b", "4096", "-I", "256"]
    argv += ["-O", _FEATURES, *options]
    result = completed(
        [*argv, str(path), f"{size_kib}k"],
        what="make a file system",
        timeout_s=1800,
        error=ImageBuildFailed,
        env={"PATH": os.defpath, "MKE2FS_CONFIG": os.devnull, "LC_ALL": "C"},
    )
    if result.returncode:
        refuse_full(result.stderr, path)
        raise ImageBuildFailed(
            f"mke2fs could not make {path.parent.name}: {result.stderr.strip()[-400:]}",
            next_step="run the same command again; if it stays, please report it",
        )


def overlay(tools: BoardTools, base: Path, base_format: str, path: Path) -> None:
    """A qcow2 file at ``path`` that keeps changes to ``base`` to itself."""
    argv = [*tools.argv("qemu-img"), "create", "-q", "-f", "qcow2", "-F", base_format]
    result = completed(
        [*argv, "-b", str(base), str(path)],
        what=f"make {path.name}",
        timeout_s=120,
        error=ImageBuildFailed,
    )
    if result.returncode:
        refuse_full(result.stderr, path)
        raise ImageBuildFailed(
            f"qemu-img could not make {path.name}: {result.stderr.strip()[-400:]}",
            next_step="run 'edge-harness image gc', then the same command again",
        )
