"""How far outputs are from a reference: metrics, references and ready-made assertions."""

from harness.fidelity.boxes import Detections, iou, mean_average_precision
from harness.fidelity.checks import (
    assert_deterministic,
    assert_finite,
    assert_within_steps,
    steps_between,
)
from harness.fidelity.compare import assert_faithful, compare
from harness.fidelity.evaluator import Evaluator
from harness.fidelity.layer_report import Layer, LayerReport
from harness.fidelity.layers import layers
from harness.fidelity.reference import ReferenceWarning, reference_session
from harness.fidelity.report import OutputReport, Report, Worst, table, table_text
from harness.fidelity.tolerances import DEFAULTS, Tolerances, tolerances

__all__ = [
    "DEFAULTS",
    "Detections",
    "Evaluator",
    "Layer",
    "LayerReport",
    "OutputReport",
    "ReferenceWarning",
    "Report",
    "Tolerances",
    "Worst",
    "assert_deterministic",
    "assert_faithful",
    "assert_finite",
    "assert_within_steps",
    "compare",
    "iou",
    "layers",
    "mean_average_precision",
    "reference_session",
    "steps_between",
    "table",
    "table_text",
    "tolerances",
]
