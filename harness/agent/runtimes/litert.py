"""TFLite models through LiteRT (ai-edge-litert)."""

from runtimes._lite import LiteSession


def warm():
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
