"""What goes into an image, and what maintainer scripts would have done."""

from __future__ import annotations

import shutil
from pathlib import Path

from edge_harness.errors import ImageBuildFailed
from edge_harness.image.environment import Environment

#: Raised whenever ``finish`` or the package list changes, so that old images are not reused.
VERSION = 1
PYTHON = {"bookworm": "3.11", "trixie": "3.13"}
#: Minor version of glibc in each suite.
GLIBC = {"bookworm": 36, "trixie": 41}
TRIPLET = {
    "arm64": "aarch64-linux-gnu",
    "armhf": "arm-linux-gnueabihf",
    "armel": "arm-linux-gnueabi",
    "amd64": "x86_64-linux-gnu",
}
_BASE = (
    "base-files",
    "bash",
    "coreutils",
    "dash",
    "grep",
    "sed",
    "hostname",
    "python3",
    "python3-minimal",
    "libstdc++6",
    "libgcc-s1",
    "libgomp1",
    "libatomic1",
)


def packages(arch: str, suite: str) -> list[str]:
    """Names of the Debian packages of an image, without what they depend on.

    Raises:
        ImageBuildFailed: there is no recipe for the suite or architecture.
    """
    if suite not in PYTHON or arch not in TRIPLET:
        raise ImageBuildFailed(
            f"there is no image recipe for suite {suite!r} on {arch!r}",
            next_step=f"use a suite of {sorted(PYTHON)} and an architecture of {sorted(TRIPLET)} "
            "in the profile",
        )
    chosen = [*_BASE, f"python{PYTHON[suite]}"]
    if arch in ("armhf", "armel"):
        # No numpy wheel for 32-bit Arm exists; Debian's own fits its Python.
        chosen.append("python3-numpy")
    return chosen


def environment(arch: str, suite: str) -> Environment:
    """What decides which wheels load in such an image."""
    return Environment(arch=arch, python=PYTHON[suite], glibc=GLIBC[suite], suite=suite)


def finish(root: Path, arch: str, suite: str) -> None:
    """Do by hand what the packages' maintainer scripts would have done."""
    for folder in ("proc", "sys", "dev", "tmp", "run/edge", "opt/edge", "root", "home", "data"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    (root / "tmp").chmod(0o1777)
    etc = root / "etc"
    (etc / "passwd").write_text(
        "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n"
    )
    (etc / "group").write_text("root:x:0:\nnogroup:x:65534:\n")
    (etc / "hosts").write_text("127.0.0.1 localhost\n::1 localhost\n")
    (etc / "nsswitch.conf").write_text("passwd: files\ngroup: files\nhosts: files dns\n")
    (etc / "resolv.conf").write_text("")
    if not (root / "bin/sh").exists() and not (root / "bin/sh").is_symlink():
        (root / "bin/sh").symlink_to("dash")
    settle(root, arch)


def settle(root: Path, arch: str) -> None:
    """Of that, what packages need wherever they are unpacked to."""
    libraries = root / "usr/lib" / TRIPLET[arch]
    # update-alternatives would make these links.
    for name, folder in (("libblas.so.3", "blas"), ("liblapack.so.3", "lapack")):
        if (libraries / folder / name).exists() and not (libraries / name).exists():
            (libraries / name).symlink_to(f"{folder}/{name}")
    for unused in ("usr/share/doc", "usr/share/man", "usr/share/locale", "usr/share/info"):
        shutil.rmtree(root / unused, ignore_errors=True)
    for path in root.rglob("*"):
        # Packages make some folders and files unreadable for others (/root, gshadow); an
        # ordinary user must be able to archive and remove the whole tree.
        if not path.is_symlink():
            mode = path.stat().st_mode
            path.chmod((mode | (0o755 if path.is_dir() else 0o644)) & 0o1777)
