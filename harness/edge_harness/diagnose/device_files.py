"""Where a file that a dead process had mapped lies on this machine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

#: As many links one after another as Linux follows (path_resolution(7)).
_MOST_LINKS = 40


@dataclass(frozen=True, kw_only=True)
class DeviceFiles:
    """The device's file system as this machine sees it.

    Paths come from core dumps, which a device's program can write as it likes, and so none may
    lead out of the folders named here, be it by ``..`` or by a link.
    """

    root: Path | None
    """The image's tree, or this machine's own root for a device without one; None where the
    device's files lie elsewhere."""
    mounted: Mapping[str, Path] = field(default_factory=dict)
    """Folders that lie over it: {path in the device: path on this machine}."""

    def find(self, path: str) -> Path | None:
        """The file that the device calls ``path``; None if it is not there."""
        for inside, outside in self.mounted.items():
            # The second: without namespaces the device's paths are this machine's.
            for name in (inside, str(outside)):
                if path == name or path.startswith(name.rstrip("/") + "/"):
                    return _below(outside, path[len(name) :])
        if self.root is None:
            return None
        if self.root != Path("/") and path.startswith(f"{self.root}/"):
            path = path[len(str(self.root)) :]
        return _below(self.root, path)


def _below(root: Path, path: str) -> Path | None:
    """``path`` with ``root`` as its root: links are followed as the device would follow them."""
    wanted = [part for part in path.split("/") if part not in ("", ".")][::-1]
    found: list[str] = []
    links = 0
    try:
        while wanted:
            part = wanted.pop()
            if part == "..":
                found = found[:-1]
                continue
            here = root.joinpath(*found, part)
            if not here.is_symlink():
                found.append(part)
                continue
            links += 1
            if links > _MOST_LINKS:
                return None
            target = str(here.readlink())
            if target.startswith("/"):
                found = []
            wanted += [part for part in target.split("/") if part not in ("", ".")][::-1]
        whole = root.joinpath(*found)
        return whole if whole.exists() else None
    except (OSError, ValueError):  # a name too long, or with a NUL in it
        return None
