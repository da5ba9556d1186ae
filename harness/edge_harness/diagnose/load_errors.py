"""Why a model could not be loaded, told from what its runtime said."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from edge_harness.errors import ModelError, RuntimeFailed, UnsupportedModel

if TYPE_CHECKING:
    from edge_harness.device.session import Session

_DAMAGED = (
    "flatbuffer",
    "schema version",
    "no subgraph",
    "model identifier",
    "invalid_protobuf",
    "protobuf parsing failed",
)
_UNSUPPORTED = (
    "unresolved custom op",
    "didn't find op",
    "unsupported model ir",
    "not_implemented",
    "could not find an implementation",
    "opset",
    "which numpy arrays",
    "no numpy equivalent",
    "op builtin_code out of range",
)


def load_error(session: Session, answer: Mapping[str, Any]) -> Exception:
    """What to raise when a worker answered that it could not load the model of ``session``."""
    text = f"{answer['type']}: {answer['error']}" if "type" in answer else answer["error"]
    name = str(session.model.path)
    lower = text.lower()
    details = {"runtime": session._spec, "device": session.device.name}
    if answer["kind"] == "memory":
        return session.device.endings.out_of_memory(f"loading {name!r}", text)
    if any(mark in lower for mark in _UNSUPPORTED):
        return UnsupportedModel(
            f"{session.runtime} on {session.device.name} cannot execute {name!r}: {text}",
            next_step="convert the model for this runtime's version and operators, or choose "
            "another version with runtime='…==VERSION'",
            details=details,
        )
    if any(mark in lower for mark in _DAMAGED):
        return ModelError(
            f"the model file {name!r} ({len(session.model.content)} bytes) is damaged or cut "
            f"short: {text}",
            next_step="export or download it again and compare the size",
            details=details,
        )
    return RuntimeFailed(
        f"{session.runtime} on {session.device.name} could not load {name!r}: {text}",
        next_step="see whether the model loads with the same runtime version elsewhere",
        details=details,
    )
