"""The operators of a model file: what each is, and how much it computes and moves."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Operator:
    """One operator, in the order a runtime steps through them."""

    name: str
    """Of its first output."""
    kind: str
    """As the format calls it: ``CONV_2D``, ``Conv`` …"""
    macs: int
    """Multiply-accumulates; 0 for operators that have none."""
    activation_bytes: int
    """Inputs and outputs that are not constants."""
    integer: bool
    """Whether its output is of an integer type."""


#: Bytes of one element by the TFLite schema's TensorType.
_WIDTH = dict(zip(range(17), (4, 2, 4, 1, 8, 0, 1, 2, 8, 1, 8, 16, 8, 0, 0, 4, 2), strict=True))
#: TensorType numbers of the TFLite schema that are integers.
_INTEGERS = {2, 3, 4, 7, 9, 12, 15, 16}


def tflite_operators(content: bytes) -> list[Operator]:
    """The operators of a TFLite file's main graph."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the generated code warns of its own deprecations
        import tflite

        names = {v: k for k, v in vars(tflite.BuiltinOperator).items() if isinstance(v, int)}
        model = tflite.Model.GetRootAs(content, 0)
        graph = model.Subgraphs(0)
        found = []
        for index in range(graph.OperatorsLength()):
            operator = graph.Operators(index)
            code = model.OperatorCodes(operator.OpcodeIndex())
            number = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
            custom = code.CustomCode()
            kind = custom.decode() if number == 32 and custom else names.get(number, str(number))
            found.append(_tflite_operator(model, graph, operator, kind))
        return found


def _tflite_operator(model: Any, graph: Any, operator: Any, kind: str) -> Operator:
    inputs = [graph.Tensors(i) for i in _all(operator, "Inputs") if i >= 0]
    outputs = [graph.Tensors(i) for i in _all(operator, "Outputs") if i >= 0]
    constant = [model.Buffers(t.Buffer()).DataLength() > 0 for t in inputs]
    moving = [t for t, fixed in zip(inputs, constant, strict=True) if not fixed] + outputs
    out = _elements(outputs[0]) if outputs else 0
    macs = 0
    if len(inputs) > 1:
        shape = _all(inputs[1], "Shape")
        if kind == "CONV_2D" and len(shape) == 4:
            macs = out * shape[1] * shape[2] * shape[3]
        elif kind == "DEPTHWISE_CONV_2D" and len(shape) == 4:
            macs = out * shape[1] * shape[2]
        elif kind == "FULLY_CONNECTED" and len(shape) == 2:
            macs = out * shape[1]
        elif kind == "TRANSPOSE_CONV" and len(shape) == 4 and len(inputs) > 2:
            macs = _elements(inputs[2]) * shape[0] * shape[1] * shape[2]
        elif kind == "BATCH_MATMUL" and shape:
            macs = out * _all(inputs[0], "Shape")[-1]
    return Operator(
        name=outputs[0].Name().decode(errors="replace") if outputs else "",
        kind=kind,
        macs=macs,
        activation_bytes=sum(_elements(t) * _WIDTH.get(t.Type(), 4) for t in moving),
        integer=bool(outputs) and outputs[0].Type() in _INTEGERS,
    )


def _all(table: Any, field: str) -> list[int]:
    length = getattr(table, f"{field}Length")()
    return [int(getattr(table, field)(i)) for i in range(length)]


def _elements(tensor: Any) -> int:
    count = 1
    for size in _all(tensor, "Shape"):
        count *= max(size, 1)
    return count


def onnx_operators(content: bytes) -> list[Operator]:
    """The operators of an ONNX file; empty where the package ``onnx`` is not installed."""
    from edge_harness.models import onnx as onnx_file

    if not onnx_file.installed():
        return []
    graph = onnx_file.parse(content).graph
    return [
        Operator(
            name=node.output[0] if node.output else "",
            kind=node.op_type,
            macs=0,
            activation_bytes=0,
            integer="Integer" in node.op_type or node.op_type.startswith("QLinear"),
        )
        for node in graph.node
        if node.op_type != "Constant"
    ]
