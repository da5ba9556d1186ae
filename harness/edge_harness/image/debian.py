"""A Debian package as a layer over an image: it, and what it needs beyond the image."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edge_harness.cache import built, found
from edge_harness.errors import UnsupportedModel
from edge_harness.image import apt, recipe
from edge_harness.image.build import (
    Layer,
    compile_python,
    ensure_image,
    image_key,
    layers_dir,
)
from edge_harness.image.environment import Environment
from edge_harness.image.tools import host_arch

#: Changes with what such a layer looks like.
VERSION = 1
#: Where the agent looks in every layer: for Python modules, and for shared libraries, which it
#: loads beforehand (see ``edge_harness.agent.parent``).
_SITE, _LIBRARIES = "site", "lib"


def ensure_debian_layer(
    environment: Environment, requirement: str, progress: Callable[[str], None] | None = None
) -> Layer:
    """The Debian package ``requirement`` (``NAME`` or ``NAME=VERSION``) for ``environment``, with
    what it depends on and the image has not, fetched if it is not in the cache.

    No maintainer script runs. What is in the image by the same name is the image's, in whatever
    version.

    Raises:
        UnsupportedModel: the environment is no image of ours.
        ImageBuildFailed: the suite has no such package, or it cannot be fetched.
    """
    arch, suite = environment.arch, environment.suite
    key = _key(environment, requirement)

    def build(folder: Path) -> dict[str, Any]:
        image = ensure_image(arch, suite, progress)
        if progress:
            progress(f"fetching the Debian package {requirement} for {arch}")
        name, _, version = requirement.partition("=")
        there = {package["name"] for package in image.lock["packages"]}
        debs = apt.download(
            arch,
            suite,
            # With those of the image, so that of several that would do the same one is taken.
            [*recipe.packages(arch, suite), requirement],
            folder / "debs",
            # A version that was asked for lies over the image's.
            without=there - {name} if version else there,
        )
        lock = apt.unpack(debs, folder / "root")
        shutil.rmtree(folder / "debs")
        _lay_out(folder, arch)
        if (folder / _SITE).exists():
            native = ensure_image(host_arch(), suite, progress)
            compile_python(native.root, native.arch, native.suite, [folder / _SITE])
        what = f"{requirement}, which is in the image"
        return {"arch": arch, "requirements": [requirement], "packages": lock, "what": what}

    entry = built(layers_dir() / key, build)
    return Layer(key=key, path=entry.path, requirements=(requirement,), lock=entry.content)


def debian_layer_key(environment: Environment, requirement: str) -> str | None:
    """The key of such a layer that is in the cache; None if it would have to be fetched.

    Raises:
        UnsupportedModel: the environment is no image of ours.
    """
    key = _key(environment, requirement)
    return key if found(layers_dir() / key) else None


def _key(environment: Environment, requirement: str) -> str:
    if not environment.suite:
        raise UnsupportedModel(
            f"the Debian package {requirement!r} cannot be brought to {environment}, whose files "
            "are not an image of ours",
            next_step="open the device on an engine that builds the image of its profile, or take "
            "a runtime that comes as wheels",
        )
    image = image_key(environment.arch, environment.suite)
    return hashlib.sha256(json.dumps([VERSION, image, requirement]).encode()).hexdigest()[:16]


def _lay_out(folder: Path, arch: str) -> None:
    """Have Python modules and shared libraries of ``folder / "root"`` where the agent looks."""
    root = folder / "root"
    root.mkdir(exist_ok=True)
    if (root / "lib").is_dir():  # one tree, as in Debian since its usr-merge
        shutil.copytree(root / "lib", root / "usr/lib", symlinks=True, dirs_exist_ok=True)
        shutil.rmtree(root / "lib")
    recipe.settle(root, arch)
    for name, place in (
        (_SITE, "root/usr/lib/python3/dist-packages"),
        (_LIBRARIES, f"root/usr/lib/{recipe.TRIPLET[arch]}"),
    ):
        if (folder / place).is_dir():
            (folder / name).symlink_to(place)


__all__ = ["debian_layer_key", "ensure_debian_layer"]
