"""How far a device's log has come, so that words of now are told from words of before.

A log is that of all programs of a device, one test's after another's.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

#: Of whoever made it: each number means something to the machine alone.
LogMark = tuple[tuple[float, ...], ...]


def mark_of(paths: Sequence[Path]) -> LogMark:
    """How far the files at ``paths`` have come: which file it is, and its length in bytes. One
    stat(2) each, as it is asked for before every request."""
    return tuple(_state(path) for path in paths)


def said_since(paths: Sequence[Path], mark: LogMark) -> str:
    """What was written to the files at ``paths`` after ``mark``. All of a file that is another
    one by now, or shorter than it was: it was begun anew since."""
    text = ""
    for path, (inode, length) in zip(paths, mark, strict=True):
        try:
            with path.open("rb") as file:
                status = os.fstat(file.fileno())
                if status.st_ino == inode and status.st_size >= length:
                    file.seek(int(length))
                text += file.read().decode(errors="replace")
        except OSError:
            continue  # it has none
    return text


def _state(path: Path) -> tuple[int, int]:
    try:
        status = os.stat(path)  # noqa: PTH116 - half the time of Path.stat()
    except OSError:
        return 0, 0
    return status.st_ino, status.st_size
