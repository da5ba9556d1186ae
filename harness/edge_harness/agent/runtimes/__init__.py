"""The runtimes that the agent can load models with: one file each, found by name.

A runtime of this package lies here. One of another distribution comes with the layers of the
device, as ``agent/NAME.py`` in one of them. What such a file defines is in ``protocol.py``.
"""

from __future__ import annotations

import importlib
import os
import sys

TYPE_CHECKING = False  # importing typing costs 20 ms under emulation
if TYPE_CHECKING:
    from typing import Any

    from edge_harness.agent.runtimes.protocol import RuntimeFile

#: Where a layer has the file of its runtime.
FOLDER = "agent"
#: What a file must define, and what its sessions must.
DEFINES = ("warm", "Session")
SESSION = ("describe", "run", "run_batch", "resize", "invoker", "bench")


def named(name: str, layers: list[str]) -> RuntimeFile:
    """The file of the runtime ``name``, imported.

    Args:
        name: of the runtime.
        layers: folders of the layers that it was warmed over.

    Raises:
        TypeError: the file lacks something that every runtime defines.
        ImportError: there is no such file, or what it needs is not there.
    """
    places = [os.path.join(layer, FOLDER, name + ".py") for layer in layers]
    outside = [path for path in places if os.path.exists(path)]
    found: Any = (
        from_file(name, outside[-1]) if outside else importlib.import_module(f"{__name__}.{name}")
    )
    missing = [each for each in DEFINES if not hasattr(found, each)]
    missing += [
        "Session." + each for each in SESSION if not missing and not hasattr(found.Session, each)
    ]
    if missing:
        raise TypeError(f"the file of the runtime {name!r} defines no {', no '.join(missing)}")
    return found  # type: ignore[no-any-return]


def from_file(name: str, path: str) -> Any:
    """The module in ``path``, under a name of our own: a runtime may be called as the package it
    is made of."""
    import importlib.util

    spec = importlib.util.spec_from_file_location(f"edge_runtime_{name}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def rehearsal(module: RuntimeFile) -> bytes | None:
    """A small model that ``module`` wants loaded once before any worker is forked."""
    given = getattr(module, "REHEARSAL", None)
    if given is None or isinstance(given, bytes):
        return given
    with open(os.path.join(os.path.dirname(__file__), given), "rb") as file:
        return file.read()
