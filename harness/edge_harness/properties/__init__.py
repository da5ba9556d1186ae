"""Ready-made properties of a model on a device: each hunts for an input that breaks it.

def test_properties(device):
    with device.load("model.tflite") as session:
        print(properties.check_all(session, reference="model.tflite"))
"""

from edge_harness.fidelity.distance import Tolerance
from edge_harness.properties.all_properties import Outcome, Results, check_all
from edge_harness.properties.comparing import equal_to, invariant, monotone
from edge_harness.properties.each_input import check, finite, survives
from edge_harness.properties.failing import PropertyFailed
from edge_harness.properties.hunted import Hunt
from edge_harness.properties.same_again import (
    batch_invariant,
    deterministic,
    exact,
    independent,
    thread_invariant,
)
from edge_harness.properties.whole_session import memory_flat, refuses_illegal

__all__ = [
    "Hunt",
    "Outcome",
    "PropertyFailed",
    "Results",
    "Tolerance",
    "batch_invariant",
    "check",
    "check_all",
    "deterministic",
    "equal_to",
    "exact",
    "finite",
    "independent",
    "invariant",
    "memory_flat",
    "monotone",
    "refuses_illegal",
    "survives",
    "thread_invariant",
]
