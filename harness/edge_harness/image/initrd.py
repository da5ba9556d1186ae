"""The archive a board's kernel unpacks first (cpio, "newc" format: kernel documentation,
driver-api/early-userspace/buffer-format)."""

from __future__ import annotations

import stat
from collections.abc import Mapping
from pathlib import Path


class Archive:
    """Collects entries; :meth:`data` is the archive."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._folders: set[str] = set()
        self._inode = 0

    def file(self, name: str, data: bytes, *, mode: int = 0o644) -> None:
        """A regular file; its folders are added as needed."""
        parent = str(Path(name).parent)
        if parent != ".":
            self.folder(parent)
        self._add(name, stat.S_IFREG | mode, data)

    def folder(self, name: str) -> None:
        """A folder and those above it."""
        for path in [*reversed(Path(name).parents), Path(name)]:
            text = str(path)
            if text != "." and text not in self._folders:
                self._folders.add(text)
                self._add(text, stat.S_IFDIR | 0o755, b"")

    def tree(self, name: str, source: Path) -> None:
        """The files below ``source``."""
        for path in sorted(source.rglob("*")):
            if path.is_file():
                self.file(f"{name}/{path.relative_to(source)}", path.read_bytes())

    def data(self) -> bytes:
        """The whole archive."""
        return b"".join([*self._parts, _entry("TRAILER!!!", 0, 0, b"")])

    def _add(self, name: str, mode: int, data: bytes) -> None:
        self._inode += 1
        self._parts.append(_entry(name, self._inode, mode, data))


def _entry(name: str, inode: int, mode: int, data: bytes) -> bytes:
    encoded = name.encode() + b"\0"
    fields: Mapping[str, int] = {
        "ino": inode,
        "mode": mode,
        "uid": 0,
        "gid": 0,
        "nlink": 1,
        "mtime": 0,
        "filesize": len(data),
        "devmajor": 0,
        "devminor": 0,
        "rdevmajor": 0,
        "rdevminor": 0,
        "namesize": len(encoded),
        "check": 0,
    }
    head = b"070701" + b"".join(b"%08X" % value for value in fields.values()) + encoded
    head += b"\0" * (-len(head) % 4)
    return head + data + b"\0" * (-len(data) % 4)
