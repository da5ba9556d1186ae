"""The layers that bring a runtime into a device: its wheels or Debian packages, and the agent's
file of a runtime that another distribution registered. A shared library is there already.

The file has a layer of its own, made in a moment, so that an edit to it fetches no wheels anew. Its
key covers the file and the layer below it, so whatever is kept by that key is kept by both.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edge_harness.agent.runtimes import FOLDER
from edge_harness.cache import built, found
from edge_harness.image.build import Layer, Progress, ensure_layer, layer_key, layers_dir
from edge_harness.image.debian import debian_layer_key, ensure_debian_layer
from edge_harness.image.environment import Environment
from edge_harness.runtimes import Runtime, WarmParent

#: Changes with what a layer of a file looks like.
_VERSION = 1


def ensure_runtime_layers(
    environment: Environment, runtime: Runtime, requirement: str, progress: Progress | None = None
) -> tuple[Layer, ...]:
    """The layers for ``runtime`` in ``environment``, made where they are not in the cache.

    Raises:
        ImageBuildFailed: there is no wheel for this architecture and Python, or no such package.
        UnsupportedModel: it is a Debian package, and the environment is no image of ours.
    """
    layers: list[Layer] = []
    if requirement and runtime.brought == "wheel":
        layers.append(ensure_layer(environment, (requirement,), progress))
    if requirement and runtime.brought == "debian":
        layers.append(ensure_debian_layer(environment, requirement, progress))
    if runtime.agent_source:
        below = [layer.key for layer in layers]
        key = _file_key(environment, runtime, below)

        def build(folder: Path) -> dict[str, Any]:
            (folder / FOLDER).mkdir()
            (folder / FOLDER / f"{runtime.name}.py").write_bytes(runtime.agent_source)
            return {
                "arch": environment.arch,
                "what": f"runtime {runtime.name} of {runtime.origin}",
                "requirements": [],
                "wheels": [],
                "agent_sha256": runtime.agent_sha256,
            }

        entry = built(layers_dir() / key, build)
        layers.append(Layer(key=key, path=entry.path, requirements=(), lock=entry.content))
    return tuple(layers)


def warm_parent(runtime: Runtime, requirement: str, layers: tuple[Layer, ...]) -> WarmParent:
    """What to ask a device for, so that it imports ``runtime`` from ``layers``."""
    return _parent(runtime, requirement, [layer.key for layer in layers])


def _parent(runtime: Runtime, requirement: str, keys: Sequence[str]) -> WarmParent:
    return WarmParent(
        layers=tuple(keys),
        runtime=runtime.name,
        agent_sha256=runtime.agent_sha256,
        library=requirement if runtime.brought == "library" else "",
    )


def cached_parent(
    environment: Environment, runtime: Runtime, requirement: str
) -> WarmParent | None:
    """As :func:`warm_parent`, if all its layers are in the cache; None if one is not."""
    keys: list[str] = []
    if requirement and runtime.brought != "library":
        below = (
            layer_key(environment, (requirement,))
            if runtime.brought == "wheel"
            else debian_layer_key(environment, requirement)
        )
        if below is None:
            return None
        keys.append(below)
    if runtime.agent_source:
        key = _file_key(environment, runtime, keys)
        if found(layers_dir() / key) is None:
            return None
        keys.append(key)
    return _parent(runtime, requirement, keys)


def _file_key(environment: Environment, runtime: Runtime, below: list[str]) -> str:
    content = [_VERSION, environment.arch, str(environment), below, runtime.agent_sha256]
    digest = hashlib.sha256(json.dumps([*content, runtime.name]).encode())
    return digest.hexdigest()[:16]
