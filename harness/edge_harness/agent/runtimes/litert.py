"""TFLite models through LiteRT (ai-edge-litert)."""

from __future__ import annotations

from typing import Any

from edge_harness.agent.runtimes._lite import LiteSession

#: Loaded once before any worker; see parent.rehearse.
REHEARSAL = "rehearsal.tflite"


def warm() -> dict[str, Any]:
    from importlib.metadata import version

    import ai_edge_litert.interpreter as interpreter
    import numpy

    Session.interpreter_module = interpreter
    return {
        "runtime": "ai-edge-litert",
        "version": version("ai-edge-litert"),
        "numpy": numpy.__version__,
    }


class Session(LiteSession):
    """A session of ai-edge-litert."""
