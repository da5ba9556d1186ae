"""Model files as the host sees them: read, recognised, and refused early where they are not
what their name says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from edge_harness.errors import ModelError, OptionError

#: Names a user may give for a runtime, and the distribution that carries it.
RUNTIMES = {"tflite": "tflite-runtime", "litert": "ai-edge-litert", "onnx": "onnxruntime"}
_MODULE = {package: name for name, package in RUNTIMES.items()}
Kernels = Literal["xnnpack", "builtin", "reference"]
KERNELS: tuple[Kernels, ...] = get_args(Kernels)
#: ONNX Runtime's levels of graph optimization, the default first.
GraphOptimization = Literal["all", "extended", "basic", "disabled"]
GRAPH_OPTIMIZATION: tuple[GraphOptimization, ...] = get_args(GraphOptimization)
_TFLITE_IDENTIFIER = b"TFL3"


@dataclass(frozen=True, kw_only=True)
class ModelFile:
    """A model read into memory."""

    path: Path
    content: bytes
    format: str
    """``tflite`` or ``onnx``."""


def read_model(path: str | Path) -> ModelFile:
    """Read ``path`` and recognise its format.

    Raises:
        ModelError: it is missing, unreadable, empty, or not a model of a known format.
    """
    path = Path(path)
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise ModelError(
            f"there is no model file {str(path)!r}",
            next_step=f"check the path; the current folder is {str(Path.cwd())!r}",
        ) from None
    except IsADirectoryError:
        raise ModelError(
            f"{str(path)!r} is a folder, not a model file",
            next_step="name a .tflite or .onnx file (convert a SavedModel first)",
        ) from None
    except OSError as error:
        raise ModelError(
            f"the model file {str(path)!r} cannot be read: {error.strerror}",
            next_step="check its permissions",
        ) from None
    suffix = path.suffix.lower()
    if not content:
        raise ModelError(
            f"the model file {str(path)!r} is empty (0 bytes)",
            next_step="export or download it again; with Git LFS, run 'git lfs pull'",
        )
    if content.startswith(b"version https://git-lfs"):
        raise ModelError(
            f"{str(path)!r} is a Git LFS pointer, not the model itself",
            next_step="run 'git lfs pull'",
        )
    if content[4:8] == _TFLITE_IDENTIFIER:
        _verify(path, content)
        return ModelFile(path=path, content=content, format="tflite")
    if suffix in (".tflite", ".lite"):
        raise ModelError(
            f"{str(path)!r} is not a TFLite model: bytes 4 to 8 are {content[4:8]!r}, not "
            f"{_TFLITE_IDENTIFIER!r}, and it begins with {content[:16]!r}",
            next_step="export it again with the TFLite converter",
        )
    if suffix == ".onnx":
        # The first field of an ONNX ModelProto in practice: ir_version, a varint (onnx.proto3).
        if content[0] not in (0x08, 0x12, 0x1A, 0x3A, 0x42):
            raise ModelError(
                f"{str(path)!r} is not an ONNX model: it begins with {content[:16]!r}",
                next_step="export it again; check it with onnx.checker",
            )
        return ModelFile(path=path, content=content, format="onnx")
    raise ModelError(
        f"{str(path)!r} is neither a TFLite nor an ONNX model (it begins with {content[:16]!r})",
        next_step="use a .tflite or .onnx file",
    )


def _verify(path: Path, content: bytes) -> None:
    from edge_harness.models.tflite import Damaged, verify

    try:
        verify(content)
    except Damaged as error:
        raise ModelError(
            f"the model file {str(path)!r} ({len(content)} bytes) is damaged or cut short: {error}",
            next_step="export or download it again and compare the size",
        ) from None


def pinned(asked: str | None, pins: Sequence[str], model_format: str) -> str | None:
    """The runtime to take where ``asked`` leaves its version open: the first of ``pins`` that
    fits, else ``asked``.

    ``pins`` are what a project or a run has set (``edge_runtime``, ``--edge-runtime``). A version
    that ``asked`` names stands; a bare name (``onnx``) takes the pin of the same runtime; None
    takes any pin for the format.

    Raises:
        OptionError: ``asked`` or a pin names no runtime.
    """
    wanted = None
    if asked is not None:
        wanted, requirement = runtime_requirement(asked, {})
        if Requirement(requirement).specifier:
            return asked
    for pin in pins:
        module, _ = runtime_requirement(pin, {})
        if module == wanted or (wanted is None and (module == "onnx") == (model_format == "onnx")):
            return pin
    return asked


def runtime_requirement(asked: str, defaults: dict[str, str]) -> tuple[str, str]:
    """``(agent module, requirement)`` for a runtime as a user names it.

    ``asked`` is ``tflite``, ``litert``, ``onnx``, a distribution (``onnxruntime``) or a pinned
    one (``onnxruntime==1.21.0``); ``defaults`` maps the short names to requirements.

    Raises:
        OptionError: no such runtime.
    """
    try:
        requirement = Requirement(RUNTIMES.get(asked, asked))
        name = canonicalize_name(requirement.name)
    except InvalidRequirement:
        requirement, name = None, canonicalize_name("")
    if requirement is None or name not in _MODULE:
        raise OptionError(
            f"there is no runtime {asked!r}",
            next_step=f"use one of {', '.join(RUNTIMES)}, or pin a version like "
            "'onnxruntime==1.20.1'",
        )
    module = _MODULE[name]
    if requirement.specifier:
        return module, str(requirement)
    return module, defaults.get(module) or str(requirement)
