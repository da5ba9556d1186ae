"""TFLite through tflite-runtime."""

from __future__ import annotations

from typing import Any

from edge_harness.agent.runtimes._lite import LiteSession

#: Loaded once before any worker; see parent.rehearse.
REHEARSAL = "rehearsal.tflite"


def warm() -> dict[str, Any]:
    import numpy
    import tflite_runtime
    import tflite_runtime.interpreter as interpreter

    Session.interpreter_module = interpreter
    return {
        "runtime": "tflite-runtime",
        "version": tflite_runtime.__version__,
        "numpy": numpy.__version__,
    }


class Session(LiteSession):
    """A session of tflite-runtime."""
