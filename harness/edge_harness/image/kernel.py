"""Debian kernels for boards: the kernel, the few modules a board needs, and BusyBox."""

from __future__ import annotations

import hashlib
import io
import lzma
import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_harness.cache import Entry, built, cache_dir, remove_tree
from edge_harness.errors import ImageBuildFailed, MissingAbility
from edge_harness.image import apt

#: (architecture, KiB per page) -> Debian suite and package. Page size is the kernel's choice.
FLAVOURS: dict[tuple[str, int], tuple[str, str]] = {
    ("arm64", 4): ("bookworm", "linux-image-arm64"),
    ("arm64", 16): ("trixie", "linux-image-arm64-16k"),
    ("armhf", 4): ("bookworm", "linux-image-armmp"),
}
#: Loaded at boot, in this order and after what they depend on. The checksum is asked for by
#: ext4 at run time, so no dependency names it.
_BOOT = (
    "virtio_pci",
    "virtio_scsi",
    "sd_mod",
    "crc32c_generic",
    "ext4",
    "overlay",
    "virtio_console",
)
#: Loaded when a test connects the network: without its driver a board has no interface at all.
_NETWORK = ("virtio_net", "af_packet")
VERSION = 1
Progress = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Kernel:
    """One kernel in the cache."""

    key: str
    path: Path
    version: str
    page_size_kib: int
    boot_modules: tuple[str, ...]
    network_modules: tuple[str, ...]

    @property
    def image(self) -> Path:
        """What QEMU's ``-kernel`` takes."""
        return self.path / "vmlinuz"

    @property
    def busybox(self) -> Path:
        """A statically linked BusyBox for the board."""
        return self.path / "busybox"

    @property
    def modules(self) -> Path:
        """The folder of the modules' files."""
        return self.path / "modules"


def flavour(arch: str, page_size_kib: int) -> tuple[str, str]:
    """Suite and package of the kernel for ``arch`` with pages of ``page_size_kib``.

    Raises:
        MissingAbility: Debian has none.
    """
    try:
        return FLAVOURS[arch, page_size_kib]
    except KeyError:
        have = ", ".join(f"{a} with {size} KiB pages" for a, size in FLAVOURS)
        raise MissingAbility(
            f"Debian has no kernel for {arch} with {page_size_kib} KiB pages",
            next_step="leave --engine at auto, which takes one that needs no kernel for this "
            f"board; kernels are there for {have}",
        ) from None


def ensure_kernel(arch: str, page_size_kib: int, progress: Progress | None = None) -> Kernel:
    """The kernel, fetched if it is not in the cache.

    Raises:
        MissingAbility: there is none for this architecture and page size.
        ImageBuildFailed: it could not be fetched.
    """
    suite, package = flavour(arch, page_size_kib)
    key = f"{package.removeprefix('linux-image-')}-{suite}-{VERSION}"

    def build(folder: Path) -> dict[str, Any]:
        if progress:
            progress(f"fetching the kernel {package} ({suite}) into the cache")
        return _build(folder, arch, suite, package, page_size_kib)

    return _kernel(built(cache_dir() / "kernels" / key, build))


def _kernel(entry: Entry) -> Kernel:
    lock = entry.content
    return Kernel(
        key=f"{entry.path.name}-{lock['version']}-{lock['sha256'][:12]}",
        path=entry.path,
        version=lock["version"],
        page_size_kib=lock["page_size_kib"],
        boot_modules=tuple(lock["boot_modules"]),
        network_modules=tuple(lock["network_modules"]),
    )


def _build(folder: Path, arch: str, suite: str, package: str, page_size_kib: int) -> dict[str, Any]:
    """Make the kernel in ``folder``; what is to be known about it."""
    debs = apt.download(arch, suite, [package, "busybox-static"], folder / "debs")
    wanted = [d for d in debs if d.name.startswith(("linux-image-", "busybox-static_"))]
    lock = apt.unpack(wanted, folder / "root")
    root = folder / "root"
    images = sorted(root.glob("boot/vmlinu[xz]-*"))
    boxes = [p for p in (root / "bin/busybox", root / "usr/bin/busybox") if p.exists()]
    if not images or not boxes:
        raise ImageBuildFailed(
            f"the package {package} of {suite} has no kernel where one was expected",
            next_step="please report this with the package's version",
            details={"packages": lock},
        )
    shutil.move(images[0], folder / "vmlinuz")
    shutil.move(boxes[0], folder / "busybox")
    files = {
        _name(path.name): path
        for path in root.rglob("*.ko*")
        if path.name.endswith((".ko", ".ko.xz"))
    }
    (folder / "modules").mkdir()
    order: dict[str, list[str]] = {}
    done: dict[str, bytes] = {}
    for kind, names in (("boot_modules", _BOOT), ("network_modules", _NETWORK)):
        before = set(done)
        _collect(names, files, done)
        order[kind] = [f"{name}.ko" for name in done if name not in before]
    for name, data in done.items():
        (folder / "modules" / f"{name}.ko").write_bytes(data)
    version = images[0].name.partition("-")[2]
    digest = hashlib.sha256((folder / "vmlinuz").read_bytes())
    for data in done.values():
        digest.update(data)
    remove_tree(folder / "debs")
    remove_tree(root)
    return {
        "arch": arch,
        "suite": suite,
        "what": f"kernel {version}",
        "version": version,
        "page_size_kib": page_size_kib,
        "sha256": digest.hexdigest(),
        "packages": lock,
        **order,
    }


def _name(file: str) -> str:
    return re.sub(r"\.ko(\.xz)?$", "", file).replace("-", "_")


def _collect(names: Sequence[str], files: dict[str, Path], done: dict[str, bytes]) -> None:
    """Add ``names`` to ``done``, what they depend on first; what is built in has no file."""
    for name in names:
        path = files.get(name)
        if path is None or name in done:
            continue
        data = path.read_bytes()
        if path.suffix == ".xz":
            data = lzma.decompress(data)
        _collect(depends(data), files, done)
        done[name] = data


def depends(module: bytes) -> list[str]:
    """Names in the ``depends=`` entry of a kernel module's ``.modinfo`` section."""
    from elftools.elf.elffile import ELFFile

    section = ELFFile(io.BytesIO(module)).get_section_by_name(".modinfo")
    if section is None:
        return []
    for entry in section.data().split(b"\0"):
        if entry.startswith(b"depends="):
            text = entry.partition(b"=")[2].decode()
            return [name.replace("-", "_") for name in text.split(",") if name]
    return []
