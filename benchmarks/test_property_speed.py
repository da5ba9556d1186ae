"""What Hypothesis and the harness add to a property run, as a ratio to the bare invokes.

The baseline is the same number of invokes of the same shapes in a loop inside the worker, in the
same emulator, with no frames around them (``session.bare_loop_s``). Run with ``make bench``.
"""

from __future__ import annotations

import statistics
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from edge_harness import properties
from edge_harness.opening import open_device
from edge_harness.profiles import default_registry

MODELS = Path(__file__).parent.parent / "fixtures" / "models"
EXAMPLES = 500
GOAL = 1.5


@pytest.fixture(scope="module")
def device():
    with open_device(default_registry().get("rpi4"), engine="user") as running:
        yield running


def bare_s(session, shapes: Counter) -> float:
    """Seconds of the same invokes in a bare loop."""
    dtype = session.inputs[0].dtype
    return sum(
        sum(session.bare_loop_s(np.zeros(shape, dtype), count)) for shape, count in shapes.items()
    )


@pytest.mark.parametrize("model", ["digits_int8", "keyword_int8", "autoencoder_int8"])
def test_a_property_run_of_500_examples_against_a_bare_loop(device, model, record_property, capsys):
    with device.load(MODELS / f"{model}.tflite") as session:
        name = session.inputs[0].name
        properties.finite(session, max_examples=100)
        ratios = []
        for _ in range(7):
            shapes: Counter = Counter()

            def judge(inputs, outputs, shapes=shapes):
                shapes[inputs[name].shape] += 1
                return "" if all(np.isfinite(v).all() for v in outputs.values()) else "not finite"

            started = time.perf_counter()
            done = properties.check(session, judge, max_examples=EXAMPLES)
            seconds = time.perf_counter() - started
            assert done.examples == sum(shapes.values()) >= EXAMPLES
            ratios.append(seconds / bare_s(session, shapes))
    # The median: on a busy machine either side may be the one that was disturbed.
    middle = statistics.median(ratios)
    record_property("property run / bare loop", middle)
    with capsys.disabled():
        verdict = "within" if middle <= GOAL else "MISSES"
        print(
            f"\n  {model}: {EXAMPLES}+ examples / bare loop, median: {middle:.2f} × "
            f"({verdict} the goal of {GOAL} ×), all: {', '.join(f'{r:.2f}' for r in ratios)}"
        )
