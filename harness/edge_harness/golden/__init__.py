"""Golden outputs: what a model gave when somebody looked, kept in files beside the tests.

def test_outputs(device, golden):
    with device.load("model.tflite") as session:
        golden.assert_golden(session.run(image), session=session)

``pytest --edge-update-goldens`` writes them, nothing else does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edge_harness.golden.compare import FOLDER, GoldenFailed, assert_golden

__all__ = ["FOLDER", "GoldenFailed", "assert_golden"]

if not TYPE_CHECKING:
    # Only when asked for: ``running_test`` beside this is imported by every run of pytest on a
    # machine where the plugin is installed, and NumPy must not be.
    def __getattr__(name: str) -> object:
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from edge_harness.golden import compare

        return getattr(compare, name)
