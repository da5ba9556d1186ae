"""Ready-made properties of a model on a device: each hunts for an input that breaks it.

def test_properties(device):
    with device.load("model.tflite") as session:
        print(properties.check_all(session, reference="model.tflite"))
"""

from edge_harness.fidelity.distance import Tolerance
from edge_harness.properties.against import equal_to, invariant, monotone
from edge_harness.properties.all import Outcome, Results, check_all
from edge_harness.properties.hunt import Hunt, PropertyFailed
from edge_harness.properties.limits import memory_flat, refuses_illegal
from edge_harness.properties.members import (
    batch_invariant,
    check,
    deterministic,
    exact,
    finite,
    independent,
    survives,
    thread_invariant,
)

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
