"""How far outputs are from a reference: metrics, references and ready-made assertions."""

from edge_harness.fidelity.boxes import Detections, iou, mean_average_precision
from edge_harness.fidelity.checks import (
    assert_deterministic,
    assert_finite,
    assert_within_steps,
    steps_between,
)
from edge_harness.fidelity.compare import assert_faithful, compare
from edge_harness.fidelity.evaluator import Evaluator
from edge_harness.fidelity.layer_report import LayerReport
from edge_harness.fidelity.layer_rows import Layer
from edge_harness.fidelity.layers import layers
from edge_harness.fidelity.measuring import Task
from edge_harness.fidelity.reference import ReferenceWarning, Way, reference_session
from edge_harness.fidelity.report import Kind, Metric, OutputReport, Report, Worst
from edge_harness.fidelity.report_table import table, table_text
from edge_harness.fidelity.tolerances import DEFAULTS, Tolerances, tolerances

__all__ = [
    "DEFAULTS",
    "Detections",
    "Evaluator",
    "Kind",
    "Layer",
    "LayerReport",
    "Metric",
    "OutputReport",
    "ReferenceWarning",
    "Report",
    "Task",
    "Tolerances",
    "Way",
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
