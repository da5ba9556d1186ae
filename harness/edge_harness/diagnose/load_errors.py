"""Why a model could not be loaded, told from what its runtime said."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edge_harness.errors import EdgeError, ModelError, RuntimeFailed, UnsupportedModel

_CONVERT = (
    "convert the model for this runtime's version and operators, or choose another version with "
    "runtime='…==VERSION'"
)
_NEWER = (
    "choose a runtime that is newer than the model (runtime='…==VERSION'), or convert the model "
    "for this one"
)
_LAYOUT = (
    "it was saved optimised for the vector registers of the machine that saved it: export it again "
    "with graph optimisations up to 'extended', or load the model it was made from"
)
_FLEX = (
    "convert it to built-in operators alone (TFLITE_BUILTINS): those of TensorFlow are in no "
    "runtime for such boards"
)
#: What runtimes say of a sound model that they cannot execute, and what helps; the first that is
#: found counts. Each is held by the words of a real runtime in tests/unit/data/deaths.json.
_UNSUPPORTED = (
    (r"com\.microsoft\.nchwc", _LAYOUT),
    (r"select tensorflow op|flex delegate", _FLEX),
    (r"unsupported model ir|opset \d+ is under development", _NEWER),
    (r"didn't find op for builtin opcode|op builtin_code out of range", _NEWER),
    (r"no op registered for|is not a registered function/op|unresolved custom op", _CONVERT),
    (r"not_implemented|could not find an implementation", _CONVERT),
    (r"which numpy arrays|no numpy equivalent", _CONVERT),
)
_DAMAGED = (
    r"flatbuffer|schema version|no subgraph|model identifier",
    r"invalid_protobuf|protobuf parsing failed",
    r"shapeinferenceerror|invalid_graph",
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
    where: str = ""
    """Files and lines of the runtime that raised it, where they tell somebody something."""

    def error(self, said: str) -> EdgeError:
        """What to raise when the runtime ``said`` this (the exception's type and text)."""
        lower = said.lower()
        at = f" (at {self.where})" if self.where else ""
        details: Mapping[str, Any] = {"runtime": self.requirement, "device": self.device}
        for pattern, helps in _UNSUPPORTED:
            if re.search(pattern, lower):
                return UnsupportedModel(
                    f"{self.runtime} on {self.device} cannot execute {self.model!r}: {said}{at}",
                    next_step=helps,
                    details=details,
                )
        if any(re.search(pattern, lower) for pattern in _DAMAGED):
            return ModelError(
                f"the model file {self.model!r} ({self.model_bytes} bytes) is damaged, cut short "
                f"or contradicts itself: {said}{at}",
                next_step="export or download it again and compare the size",
                details=details,
            )
        return RuntimeFailed(
            f"{self.runtime} on {self.device} could not load {self.model!r}: {said}{at}",
            next_step="see whether the model loads with the same runtime version elsewhere",
            details=details,
        )
