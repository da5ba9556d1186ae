"""What lies in the cache: list it, remove it, and let go of what nobody uses."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from edge_harness.cache import cache_dir, discard, remove_tree
from edge_harness.errors import UserError

#: Folder of the cache -> what one entry of it is called.
KINDS = {
    "images": "image",
    "layers": "layer",
    "kernels": "kernel",
    "disks": "disk",
    "snapshots": "snapshot",
}
#: What is listed nowhere: made again within seconds, or small.
_OTHER = ("tools", "agents", "clock")


def list_images() -> list[dict[str, Any]]:
    """Entries of the cache: ``key``, ``kind``, ``arch``, ``content``, ``size_mib`` (on the disk:
    what is sparse counts for what it takes), ``used`` (POSIX time) and ``path``."""
    found = []
    for folder, kind in KINDS.items():
        for lock in sorted((cache_dir() / folder).glob("*/lock.json")):
            if lock.parent.name.startswith("."):
                continue  # being built, or being removed
            try:
                used = lock.stat().st_mtime
                content = json.loads(lock.read_text())
            except FileNotFoundError:
                continue  # removed by another process just now
            except ValueError:  # it will be built anew when it is wanted
                content = {"arch": "", "what": "(damaged)"}
            found.append(
                {
                    "key": lock.parent.name,
                    "kind": kind,
                    "arch": content["arch"],
                    "content": content.get("what")
                    or ", ".join(content.get("requirements", []))
                    or f"{len(content['packages'])} Debian packages",
                    "size_mib": _blocks(lock.parent) * 512 / 2**20,
                    "used": used,
                    "path": lock.parent,
                }
            )
    return found


def _blocks(folder: Path) -> int:
    """Blocks of 512 bytes, stat(2), that ``folder`` takes."""
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.lstat().st_blocks
        except FileNotFoundError:
            continue
    return total


def remove(key: str) -> None:
    """Delete one entry from the cache.

    Raises:
        UserError: nothing of that name is there.
    """
    for folder in KINDS:
        path = cache_dir() / folder / key
        if path.parent == cache_dir() / folder and (path / "lock.json").exists():
            discard(path)
            return
    names = [entry["key"] for entry in list_images()]
    raise UserError(
        f"there is no image, layer, kernel, disk or snapshot {key!r} in the cache",
        next_step=f"choose one of: {', '.join(names) or '(none)'}",
    )


def gc(*, unused_days: float = 30.0) -> list[str]:
    """Delete what has not been used for ``unused_days``, and remains of builds that died."""
    removed = []
    horizon = time.time() - unused_days * 86400
    for entry in list_images():
        if entry["used"] < horizon:
            remove(entry["key"])
            removed.append(str(entry["key"]))
    for folder in (*KINDS, *_OTHER):
        for stale in (cache_dir() / folder).glob(".building-*"):
            if stale.stat().st_mtime < time.time() - 3600:
                remove_tree(stale)
                removed.append(stale.name)
    return removed
