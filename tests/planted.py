"""Defects planted in sound models, for tests of what finds them."""

from __future__ import annotations

import warnings

import numpy as np

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import tflite


def _operator_input(content: bytes, operator: int, position: int):
    model = tflite.Model.GetRootAs(content, 0)
    graph = model.Subgraphs(0)
    tensor = graph.Tensors(graph.Operators(operator).Inputs(position))
    return model, tensor


def lite_weight_scales(content: bytes, operator: int, factor: float) -> bytes:
    """All scales of an operator's weights times ``factor``."""
    changed = bytearray(content)
    _, tensor = _operator_input(content, operator, 1)
    table = tensor.Quantization()._tab
    start = table.Vector(table.Offset(8))  # QuantizationParameters.scale
    count = tensor.Quantization().ScaleLength()
    scales = np.frombuffer(content, "<f4", count, start) * np.float32(factor)
    changed[start : start + 4 * count] = scales.astype("<f4").tobytes()
    return bytes(changed)


def lite_weights_shifted(content: bytes, operator: int, channel: int) -> bytes:
    """One channel's weights one step higher: what a zero point that is off by one comes to.
    (TFLite itself demands that weights have none.)"""
    changed = bytearray(content)
    model, tensor = _operator_input(content, operator, 1)
    table = model.Buffers(tensor.Buffer())._tab
    start = table.Vector(table.Offset(4))
    shape = tensor.ShapeAsNumpy()
    weights = np.frombuffer(content, np.int8, int(np.prod(shape)), start).reshape(shape).copy()
    axis = tensor.Quantization().QuantizedDimension()
    view = np.moveaxis(weights, axis, 0)
    view[channel] = np.minimum(view[channel].astype(np.int16) + 1, 127).astype(np.int8)
    changed[start : start + weights.nbytes] = weights.tobytes()
    return bytes(changed)


def lite_output_scale(content: bytes, operator: int, factor: float) -> bytes:
    """An operator's output in smaller steps, so that large sums do not fit any more."""
    changed = bytearray(content)
    graph = tflite.Model.GetRootAs(content, 0).Subgraphs(0)
    tensor = graph.Tensors(graph.Operators(operator).Outputs(0))
    table = tensor.Quantization()._tab
    start = table.Vector(table.Offset(8))
    scale = np.frombuffer(content, "<f4", 1, start) * np.float32(factor)
    changed[start : start + 4] = scale.astype("<f4").tobytes()
    return bytes(changed)


def onnx_constant(content: bytes, name: str, change) -> bytes:
    """``change(values)`` instead of the initializer ``name``."""
    import onnx
    from onnx import numpy_helper

    model = onnx.load_model_from_string(content)
    (found,) = [i for i in model.graph.initializer if i.name == name]
    old = numpy_helper.to_array(found)
    found.CopyFrom(numpy_helper.from_array(np.asarray(change(old)).astype(old.dtype), name))
    return model.SerializeToString()


def onnx_saturating(content: bytes, tensor: str, limit: float) -> bytes:
    """The real sums in ``tensor`` stop at ``limit``, as an accumulator too narrow for them."""
    import onnx
    from onnx import helper, numpy_helper

    model = onnx.load_model_from_string(content)
    (position,) = [i for i, n in enumerate(model.graph.node) if n.output[0] == tensor]
    model.graph.node[position].output[0] = f"{tensor}_wide"
    model.graph.initializer.append(numpy_helper.from_array(np.float32([limit]), "narrow"))
    model.graph.node.insert(
        position + 1, helper.make_node("Min", [f"{tensor}_wide", "narrow"], [tensor])
    )
    return model.SerializeToString()


def branching() -> bytes:
    """A convolution, batch normalization, a split and a branch that reads from outside itself."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    random = np.random.default_rng(1)
    constants = {
        "w": random.normal(0, 0.3, (8, 3, 3, 3)),
        "gain": random.uniform(0.5, 1.5, 8),
        "offset": random.normal(0, 0.1, 8),
        "mean": random.normal(0, 0.1, 8),
        "variance": random.uniform(0.5, 1.5, 8),
        "zero": np.zeros(()),
    }
    branches = [
        helper.make_graph(
            [helper.make_node(op, inputs, [f"{op}_out"])],
            op,
            [],
            [helper.make_tensor_value_info(f"{op}_out", TensorProto.FLOAT, None)],
        )
        for op, inputs in (("Add", ["joined", "joined"]), ("Neg", ["joined"]))
    ]
    normal = ["sum", "gain", "offset", "mean", "variance"]
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["x", "w"], ["sum"], pads=[1, 1, 1, 1]),
            helper.make_node("BatchNormalization", normal, ["normal"]),
            helper.make_node("Split", ["normal", "sizes"], ["left", "right"], axis=1),
            helper.make_node("Concat", ["right", "left"], ["joined"], axis=1),
            helper.make_node("ReduceSum", ["joined"], ["total"], keepdims=0),
            helper.make_node("Greater", ["total", "zero"], ["positive"]),
            helper.make_node(
                "If", ["positive"], ["y"], then_branch=branches[0], else_branch=branches[1]
            ),
        ],
        "branching",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, 3, 8, 8))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(v.astype(np.float32), n) for n, v in constants.items()]
        + [numpy_helper.from_array(np.int64([3, 5]), "sizes")],
    )
    opset = [onnx.helper.make_opsetid("", 13)]
    return helper.make_model(graph, opset_imports=opset, ir_version=8).SerializeToString()
