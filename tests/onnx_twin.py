"""The digit classifier ``digits_float.tflite`` written again in ONNX, with its tensors' names."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from edge_harness.fidelity.graph_tflite import LiteGraph
from edge_harness.models.file import read_model
from onnx import TensorProto, helper, numpy_helper


def twin(path: Path) -> bytes:
    """Convolutions channels first; ``Relu6`` as ``Clip``; names as TFLite's, first part only."""
    graph = LiteGraph(read_model(path))
    nodes, constants = [], {"zero": np.float32(0), "six": np.float32(6)}
    value = "image"
    for number, node in enumerate(graph.nodes):
        output = node.output.split(";")[0]
        weights = {p.position: p.values for p in graph.parameters(node)}
        if node.op in ("CONV_2D", "DEPTHWISE_CONV_2D"):
            # TFLite: (out, h, w, in), depthwise (1, h, w, out); ONNX: (out, in / group, h, w).
            depthwise = node.op != "CONV_2D"
            axes = (3, 0, 1, 2) if depthwise else (0, 3, 1, 2)
            kernel = np.ascontiguousarray(np.transpose(weights[1], axes))
            constants |= {f"w{number}": kernel, f"b{number}": weights[2]}
            nodes.append(
                helper.make_node(
                    "Conv",
                    [value, f"w{number}", f"b{number}"],
                    [f"sum{number}"],
                    auto_pad="SAME_UPPER",
                    group=kernel.shape[0] if depthwise else 1,
                    strides=[2, 2] if number == 3 else [1, 1],
                )
            )
            nodes.append(helper.make_node("Clip", [f"sum{number}", "zero", "six"], [output]))
        elif node.op == "MEAN":
            nodes.append(helper.make_node("ReduceMean", [value], [output], axes=[2, 3], keepdims=0))
        elif node.op == "FULLY_CONNECTED":
            constants |= {f"w{number}": weights[1], f"b{number}": weights[2]}
            inputs = [value, f"w{number}", f"b{number}"]
            nodes.append(helper.make_node("Gemm", inputs, [output], transB=1))
        else:
            assert node.op == "SOFTMAX"
            nodes.append(helper.make_node("Softmax", [value], [output], axis=1))
        value = output
    made = helper.make_graph(
        nodes,
        "digits",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, (1, 1, 8, 8))],
        [helper.make_tensor_value_info(value, TensorProto.FLOAT, (1, 10))],
        [numpy_helper.from_array(np.asarray(v), n) for n, v in constants.items()],
    )
    opset = [helper.make_opsetid("", 13)]
    return helper.make_model(made, opset_imports=opset, ir_version=8).SerializeToString()
