"""Put images and layers together, once each."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from edge_harness.cache import built, cache_dir, explained, found
from edge_harness.errors import ImageBuildFailed
from edge_harness.image import apt, recipe, wheels
from edge_harness.image.environment import Environment
from edge_harness.image.tools import host_arch, loader_argv
from edge_harness.processes import completed

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

    @property
    def environment(self) -> Environment:
        """What decides which wheels its Python can load."""
        return recipe.environment(self.arch, self.suite)


@dataclass(frozen=True, kw_only=True)
class Layer:
    """What one environment gets beside its image: wheels, Debian packages or a file of the agent's;
    the device sees it at ``/opt/edge/layers/KEY``, Python modules in ``site``."""

    key: str
    path: Path
    requirements: tuple[str, ...]
    lock: dict[str, Any]

    @property
    def digest(self) -> str:
        return _digest(self.lock)

    @property
    def what(self) -> str:
        """Its content, in words."""
        parts = [*self.lock.get("wheels", ()), *self.lock.get("packages", ())]
        listed = ", ".join(f"{each['name']} {each['version']}" for each in parts)
        return listed or str(self.lock.get("what", "nothing"))


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
    key = image_key(arch, suite)
    say = progress or (lambda _message: None)

    def build(folder: Path) -> dict[str, Any]:
        started = time.monotonic()
        lock = _fill(folder, key, arch, suite, packages, say)
        say(f"built image {key} in {time.monotonic() - started:.0f} s")
        return {"arch": arch, "suite": suite, "recipe": recipe.VERSION, "packages": lock}

    entry = built(cache_dir() / "images" / key, build)
    return Image(key=key, arch=arch, suite=suite, path=entry.path, lock=entry.content)


def image_key(arch: str, suite: str) -> str:
    """Names the image for ``arch`` and ``suite``.

    Raises:
        ImageBuildFailed: there is no recipe for it.
    """
    content = [recipe.VERSION, recipe.packages(arch, suite), arch, suite]
    return f"{suite}-{arch}-{_digest(content)[:12]}"


def _fill(
    folder: Path, key: str, arch: str, suite: str, packages: Sequence[str], say: Progress
) -> list[apt.Package]:
    """Make the tree of the image ``key`` in ``folder``; the packages in it."""
    say(f"building image {key}: downloading Debian packages")
    debs = apt.download(arch, suite, packages, folder / "debs")
    say(f"building image {key}: unpacking {len(debs)} packages")
    root = folder / "root"
    root.mkdir()
    lock = apt.unpack(debs, root)
    shutil.rmtree(folder / "debs")
    recipe.finish(root, arch, suite)
    say(f"building image {key}: compiling Python modules")
    if arch == host_arch():
        compile_python(root, arch, suite, [root / "usr/lib"])
    else:
        native = ensure_image(host_arch(), suite, say)
        compile_python(native.root, native.arch, suite, [root / "usr/lib"])
    return lock


def native_python(root: Path, arch: str, suite: str) -> list[str]:
    """How to start the Python of a ``root`` of this host's own architecture."""
    return [*loader_argv(root, arch), str(root / f"usr/bin/python{recipe.PYTHON[suite]}")]


def compile_python(root: Path, arch: str, suite: str, folders: Sequence[Path]) -> None:
    """Compile modules with the very Python version that will run them.

    Unchecked hashes: the device never compares time stamps, which archives do not keep.
    """
    environment = {"PYTHONHOME": str(root / "usr")}
    _compile(native_python(root, arch, suite), environment, folders)


def _compile(python: Sequence[str], environment: dict[str, str], folders: Sequence[Path]) -> None:
    options = ["-m", "compileall", "-q", "-j", "0", "--invalidation-mode", "unchecked-hash"]
    completed(  # with whatever status: some packages carry files for other Python versions
        [*python, *options, *map(str, folders)],
        what="compile Python modules",
        timeout_s=1800,
        error=ImageBuildFailed,
        env={**environment, "PATH": os.defpath, "LC_ALL": "C.UTF-8"},
    )


def ensure_layer(
    environment: Environment, requirements: Sequence[str], progress: Progress | None = None
) -> Layer:
    """The wheels of ``requirements`` for ``environment``, fetched if they are not in the cache.

    Raises:
        ImageBuildFailed: no such wheel for this architecture and Python.
    """
    wanted = wheels.normalised(requirements)
    key = _layer_key(environment, wanted)

    def build(folder: Path) -> dict[str, Any]:
        if progress:
            progress(f"fetching {', '.join(wanted)} for {environment.arch}")
        lock = wheels.install(wanted, environment, folder / "site")
        if environment.suite:
            native = ensure_image(host_arch(), environment.suite, progress)
            compile_python(native.root, native.arch, native.suite, [folder / "site"])
        elif environment.interpreter:
            _compile([environment.interpreter], {}, [folder / "site"])
        # Elsewhere nothing here has that Python: the board compiles what it imports.
        return {"arch": environment.arch, "requirements": wanted, "wheels": lock}

    entry = built(layers_dir() / key, build)
    return Layer(key=key, path=entry.path, requirements=tuple(wanted), lock=entry.content)


def layer_key(environment: Environment, requirements: Sequence[str]) -> str | None:
    """The key of a layer that is in the cache; None if it would have to be fetched."""
    wanted = wheels.normalised(requirements)
    key = _layer_key(environment, wanted)
    return key if found(layers_dir() / key) else None


def _layer_key(environment: Environment, wanted: Sequence[str]) -> str:
    if environment.suite:
        return _digest([wheels.VERSION, environment.arch, environment.suite, wanted])[:16]
    others = [environment.python, environment.glibc, environment.interpreter]
    return _digest([wheels.VERSION, environment.arch, others, wanted])[:16]


def agent_dir() -> Path:
    """The agent as one folder, as the device sees it at ``/opt/edge/agent``; named by content."""
    package = Path(str(resources.files("edge_harness")))
    # The same package names as here, so that one source serves both sides; without the host's
    # own __init__, whose imports the device has no use for.
    contents = {"edge_harness/__init__.py": b""}
    agent = [
        path
        for path in sorted((package / "agent").rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    ]
    for path in (package / "wire.py", *agent):
        contents[f"edge_harness/{path.relative_to(package)}"] = path.read_bytes()
    digest = hashlib.sha256(repr(sorted(contents.items())).encode()).hexdigest()[:16]

    def build(folder: Path) -> dict[str, Any]:
        for name, data in contents.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(data)
        return {"what": "agent"}

    return built(cache_dir() / "agents" / digest, build).path
