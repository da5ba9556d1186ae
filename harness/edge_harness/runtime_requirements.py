"""How a runtime comes into a device, and what a requirement for one looks like by that."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import PurePosixPath
from typing import Literal

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

#: As wheels in a layer, as a Debian package with what it needs beyond the image in a layer, or not
#: at all: it is a shared library that the device has.
Brought = Literal["wheel", "debian", "library"]


def pinned(brought: Brought, asked: str, distribution: str) -> str | None:
    """The requirement for ``distribution`` that ``asked`` is: "" where it names that and leaves the
    version open, None where it names something else."""
    return _PINNED[brought](asked, distribution)


def example(brought: Brought, distribution: str) -> str:
    """A requirement for ``distribution``, as people write one."""
    return _PINS[brought].format(PurePosixPath(distribution).name)


def _wheel(asked: str, distribution: str) -> str | None:
    try:
        requirement = Requirement(asked)
    except InvalidRequirement:
        return None
    if canonicalize_name(requirement.name) != canonicalize_name(distribution):
        return None
    return str(requirement) if requirement.specifier or requirement.url else ""


#: deb-version(7), and the names of Debian Policy 5.6.1.
_DEBIAN = re.compile(r"([a-z0-9][a-z0-9+.-]+)(?:=([0-9][A-Za-z0-9.+~:-]*))?")


def _debian(asked: str, distribution: str) -> str | None:
    match = _DEBIAN.fullmatch(asked)
    if match is None or match[1] != distribution:
        return None
    return asked if match[2] else ""


def _library(asked: str, distribution: str) -> str | None:
    path = PurePosixPath(asked)
    same = path.name == PurePosixPath(distribution).name != ""
    return asked if same and path.is_absolute() else None


_PINNED: Mapping[Brought, Callable[[str, str], str | None]] = {
    "wheel": _wheel,
    "debian": _debian,
    "library": _library,
}
_PINS: Mapping[Brought, str] = {
    "wheel": "{}==VERSION",
    "debian": "{}=VERSION",
    "library": "/PATH/{}",
}
