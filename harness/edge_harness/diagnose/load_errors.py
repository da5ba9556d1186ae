"""Why a model could not be loaded, told from what its runtime said."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edge_harness.errors import EdgeError, ModelError, RuntimeFailed, UnsupportedModel

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


@dataclass(frozen=True, kw_only=True)
class FailedLoad:
    """A load that a runtime on a device refused."""

    device: str
    model: str
    """Path of the model, as the user gave it."""
    model_bytes: int
    runtime: str
    """Its name."""
    requirement: str
    """With the version that was loaded, such as ``onnxruntime==1.21.0``."""

    def error(self, said: str) -> EdgeError:
        """What to raise when the runtime ``said`` this (the exception's type and text)."""
        lower = said.lower()
        details: Mapping[str, Any] = {"runtime": self.requirement, "device": self.device}
        if any(mark in lower for mark in _UNSUPPORTED):
            return UnsupportedModel(
                f"{self.runtime} on {self.device} cannot execute {self.model!r}: {said}",
                next_step="convert the model for this runtime's version and operators, or choose "
                "another version with runtime='…==VERSION'",
                details=details,
            )
        if any(mark in lower for mark in _DAMAGED):
            return ModelError(
                f"the model file {self.model!r} ({self.model_bytes} bytes) is damaged or cut "
                f"short: {said}",
                next_step="export or download it again and compare the size",
                details=details,
            )
        return RuntimeFailed(
            f"{self.runtime} on {self.device} could not load {self.model!r}: {said}",
            next_step="see whether the model loads with the same runtime version elsewhere",
            details=details,
        )
