"""Put images and layers together, once each."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from edge_harness.cache import cache_dir, explained, locked, staged
from edge_harness.image import apt, recipe, wheels
from edge_harness.image.tools import host_arch, loader_argv

Progress = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Image:
    """A device's root filesystem in the cache; treat ``root`` as read-only."""

    key: str
    arch: str
    """Debian architecture: arm64, armhf, armel or amd64."""
    suite: str
    path: Path
    lock: dict[str, Any]

    @property
    def root(self) -> Path:
        return self.path / "root"

    @property
    def digest(self) -> str:
        """SHA-256 over every part's name, version and hash."""
        return _digest(self.lock)

    @property
    def python(self) -> str:
        """The device's Python, as a path inside the device."""
        return f"/usr/bin/python{recipe.PYTHON[self.suite]}"


@dataclass(frozen=True, kw_only=True)
class Layer:
    """Wheels for one kind of image; the device sees them at ``/opt/edge/layers/KEY/site``."""

    key: str
    path: Path
    requirements: tuple[str, ...]
    lock: dict[str, Any]

    @property
    def digest(self) -> str:
        return _digest(self.lock)


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def layers_dir() -> Path:
    """The folder that devices see at ``/opt/edge/layers``."""
    path = cache_dir() / "layers"
    with explained(path):
        path.mkdir(exist_ok=True)
    return path


def ensure_image(arch: str, suite: str, progress: Progress | None = None) -> Image:
    """The image for ``arch`` and ``suite``, built if it is not in the cache.

    Raises:
        ImageBuildFailed: packages could not be fetched or unpacked.
        CacheError: the cache is full or read-only.
    """
    packages = recipe.packages(arch, suite)
    key = f"{suite}-{arch}-{_digest([recipe.VERSION, packages, arch, suite])[:12]}"
    final = cache_dir() / "images" / key
    if not (final / "lock.json").exists():
        with locked(f"image-{key}"):
            if not (final / "lock.json").exists():
                _build_image(final, arch, suite, packages, progress)
    return _image_at(final)


def _image_at(path: Path) -> Image:
    lock = json.loads((path / "lock.json").read_text())
    with explained(path):
        os.utime(path / "lock.json")  # gc goes by last use
    return Image(key=path.name, arch=lock["arch"], suite=lock["suite"], path=path, lock=lock)


def _build_image(
    final: Path, arch: str, suite: str, packages: Sequence[str], progress: Progress | None
) -> None:
    say = progress or (lambda _message: None)
    started = time.monotonic()
    say(f"building image {final.name}: downloading Debian packages")
    with staged(final) as folder:
        debs = apt.download(arch, suite, packages, folder / "debs")
        say(f"building image {final.name}: unpacking {len(debs)} packages")
        root = folder / "root"
        root.mkdir()
        lock = apt.unpack(debs, root)
        shutil.rmtree(folder / "debs")
        recipe.finish(root, arch, suite)
        say(f"building image {final.name}: compiling Python modules")
        if arch == host_arch():
            compile_python(root, arch, suite, [root / "usr/lib"])
        else:
            native = ensure_image(host_arch(), suite, progress)
            compile_python(native.root, native.arch, suite, [root / "usr/lib"])
        (folder / "lock.json").write_text(
            json.dumps(
                {"arch": arch, "suite": suite, "recipe": recipe.VERSION, "packages": lock},
                indent=1,
            )
        )
    say(f"built image {final.name} in {time.monotonic() - started:.0f} s")


def native_python(root: Path, arch: str, suite: str) -> list[str]:
    """How to start the Python of a ``root`` of this host's own architecture."""
    return [*loader_argv(root, arch), str(root / f"usr/bin/python{recipe.PYTHON[suite]}")]


def compile_python(root: Path, arch: str, suite: str, folders: Sequence[Path]) -> None:
    """Compile modules with the very Python version that will run them.

    Unchecked hashes: the device never compares time stamps, which archives do not keep.
    """
    subprocess.run(
        [
            *native_python(root, arch, suite),
            "-m",
            "compileall",
            "-q",
            "-j",
            "0",
            "--invalidation-mode",
            "unchecked-hash",
            *map(str, folders),
        ],
        env={"PYTHONHOME": str(root / "usr"), "PATH": os.defpath, "LC_ALL": "C.UTF-8"},
        capture_output=True,
        check=False,  # some packages carry files for other Python versions
    )


def ensure_layer(
    image: Image, requirements: Sequence[str], progress: Progress | None = None
) -> Layer:
    """The wheels of ``requirements`` for ``image``, fetched if they are not in the cache.

    Raises:
        ImageBuildFailed: no such wheel for this architecture and Python.
    """
    wanted = wheels.normalised(requirements)
    key = _layer_key(image, wanted)
    final = layers_dir() / key
    if not (final / "lock.json").exists():
        with locked(f"layer-{key}"):
            if not (final / "lock.json").exists():
                if progress:
                    progress(f"fetching {', '.join(wanted)} for {image.arch}")
                with staged(final) as folder:
                    lock = wheels.install(wanted, image.arch, image.suite, folder / "site")
                    native = ensure_image(host_arch(), image.suite, progress)
                    compile_python(native.root, native.arch, image.suite, [folder / "site"])
                    (folder / "lock.json").write_text(
                        json.dumps(
                            {"arch": image.arch, "requirements": wanted, "wheels": lock}, indent=1
                        )
                    )
    lock = json.loads((final / "lock.json").read_text())
    os.utime(final / "lock.json")
    return Layer(key=key, path=final, requirements=tuple(wanted), lock=lock)


def layer_key(image: Image, requirements: Sequence[str]) -> str | None:
    """The key of a layer that is in the cache; None if it would have to be fetched."""
    wanted = wheels.normalised(requirements)
    key = _layer_key(image, wanted)
    return key if (layers_dir() / key / "lock.json").exists() else None


def _layer_key(image: Image, wanted: Sequence[str]) -> str:
    return _digest([wheels.VERSION, image.arch, image.suite, wanted])[:16]


def agent_dir() -> Path:
    """The agent as one folder, as the device sees it at ``/opt/edge/agent``; named by content."""
    package = Path(str(resources.files("edge_harness")))
    # The same package names as here, so that one source serves both sides; without the host's
    # own __init__, whose imports the device has no use for.
    contents = {"edge_harness/__init__.py": b""}
    agent = [
        path
        for path in sorted((package / "agent").rglob("*"))
        if path.suffix in (".py", ".tflite", ".onnx")
    ]
    for path in (package / "wire.py", *agent):
        contents[f"edge_harness/{path.relative_to(package)}"] = path.read_bytes()
    digest = hashlib.sha256(repr(sorted(contents.items())).encode()).hexdigest()[:16]
    final = cache_dir() / "agents" / digest
    if not final.exists():
        with locked(f"agent-{digest}"):
            if not final.exists():
                with staged(final) as folder:
                    for name, data in contents.items():
                        (folder / name).parent.mkdir(parents=True, exist_ok=True)
                        (folder / name).write_bytes(data)
    return final
