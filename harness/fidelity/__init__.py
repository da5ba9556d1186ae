"""How far outputs are from a reference: metrics, references and ready-made assertions."""

from harness.fidelity.checks import (
    assert_deterministic,
    assert_finite,
    assert_within_steps,
    steps_between,
)
from harness.fidelity.compare import OutputReport, Report, compare
from harness.fidelity.reference import reference_session

__all__ = [
    "OutputReport",
    "Report",
    "assert_deterministic",
    "assert_finite",
    "assert_within_steps",
    "compare",
    "reference_session",
    "steps_between",
]
