"""What decides which wheels a device can load: that of an image, of this machine's own Python, or
of a board that brings files of its own."""

from __future__ import annotations

import sys
from dataclasses import dataclass

from edge_harness.image.tools import host_arch


@dataclass(frozen=True, kw_only=True)
class Environment:
    """The Python that imports runtimes on a device."""

    arch: str
    """Debian architecture: arm64, armhf, armel or amd64."""
    python: str
    """Its version, as ``3.11``."""
    glibc: int = 17
    """The minor number of its C library's version 2.x: wheels for a newer one would not load.
    17 is what wheels ask for at least."""
    suite: str = ""
    """The Debian suite whose tree it is; "" where it is none of our images."""
    interpreter: str = ""
    """Where it is this very machine's: the path of that Python. pip then chooses wheels by asking
    it, and the figures above are for people."""

    def __str__(self) -> str:
        place = self.suite or ("this machine" if self.interpreter else f"glibc 2.{self.glibc}")
        return f"{self.arch} with Python {self.python} ({place})"


def host_environment() -> Environment:
    """The Python that runs this, for devices that are processes of this machine.

    Raises:
        MissingTool: this machine's architecture is not known.
    """
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    return Environment(arch=host_arch(), python=version, interpreter=sys.executable)
