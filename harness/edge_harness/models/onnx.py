"""What an ONNX file says about quantization, which ONNX Runtime does not tell.

Reading it needs the package ``onnx`` (extra ``onnx``); it is not imported before a model asks
for it.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from edge_harness.errors import MissingTool, ModelError

if TYPE_CHECKING:
    from edge_harness.runtimes import Model

#: Where scale and zero point of the (first) output stand among a node's inputs (ONNX operator
#: specification, and ONNX Runtime's com.microsoft contributions): (scale, zero point).
_OUTPUT_PARAMETERS = {
    "QuantizeLinear": (1, 2),
    "QLinearConv": (6, 7),
    "QLinearMatMul": (6, 7),
    "QLinearAdd": (6, 7),
    "QLinearMul": (6, 7),
    "QGemm": (7, 8),
    "QLinearGlobalAveragePool": (3, 4),
    "QLinearAveragePool": (3, 4),
    "QLinearSigmoid": (3, 4),
    "QLinearLeakyRelu": (3, 4),
    "QLinearSoftmax": (3, 4),
    "QLinearReduceMean": (3, 4),
    "QLinearConcat": (0, 1),
}
#: Operators that give their first input back in another shape or choice of values, hence with
#: the same scale.
_PASSING = frozenset(
    {
        "Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "Identity", "Slice", "Gather",
        "MaxPool", "Pad", "DepthToSpace", "SpaceToDepth", "Expand", "Tile", "Split", "Dropout",
    }
)  # fmt: skip
#: Operators that take quantized integers whose scale is among their own inputs: data input →
#: (scale, zero point).
_INPUT_PARAMETERS = {
    "DequantizeLinear": {0: (1, 2)},
    "QLinearConv": {0: (1, 2), 3: (4, 5)},
    "QLinearMatMul": {0: (1, 2), 3: (4, 5)},
    "QLinearAdd": {0: (1, 2), 3: (4, 5)},
    "QLinearMul": {0: (1, 2), 3: (4, 5)},
    "QGemm": {0: (1, 2), 3: (4, 5)},
    "QLinearGlobalAveragePool": {0: (1, 2)},
    "QLinearAveragePool": {0: (1, 2)},
    "QLinearSigmoid": {0: (1, 2)},
    "QLinearLeakyRelu": {0: (1, 2)},
}
_QUANTIZED_OPS = (
    b"QuantizeLinear",  # also the end of DynamicQuantizeLinear
    b"DequantizeLinear",
    b"QLinear",
    b"MatMulInteger",
    b"ConvInteger",
    b"QGemm",
    b"QAttention",
)
MISSING = "not read: the package onnx is not installed (pip install 'pytest-edge-harness[onnx]')"


@dataclass(frozen=True, kw_only=True)
class Quantization:
    """How integers of one tensor become real values: ``(q - zero_points) * scales``."""

    scales: tuple[float, ...]
    zero_points: tuple[int, ...]
    axis: int = 0


def package(what_for: str) -> ModuleType:
    """The package ``onnx``.

    Raises:
        MissingTool: it is not installed; names the extra.
    """
    try:
        import onnx
    except ImportError:
        raise MissingTool(
            f"{what_for} needs the package onnx, which is not installed here",
            next_step="pip install 'pytest-edge-harness[onnx]'",
        ) from None
    return onnx


def installed() -> bool:
    return importlib.util.find_spec("onnx") is not None


def uses_integers(content: bytes) -> bool:
    """Whether the model computes in quantized integers; operator names stand in the file as
    they are, so that this needs no parser."""
    return any(name in content for name in _QUANTIZED_OPS)


def parse(content: bytes, path: object = "model") -> Any:
    """The ``ModelProto`` in ``content``.

    Raises:
        MissingTool: the package ``onnx`` is not installed.
        ModelError: it cannot be parsed.
    """
    onnx = package(f"looking into {str(path)!r}")
    try:
        return onnx.load_model_from_string(content)
    except Exception as error:  # protobuf's DecodeError, whose class depends on its back end
        raise ModelError(
            f"{str(path)!r} is not a sound ONNX model: {error}",
            next_step="export it again; check it with onnx.checker",
        ) from None


def quantization(model: Any, names: Iterable[str] | None = None) -> dict[str, Quantization]:
    """Scales of the tensors of ``model`` (a ``ModelProto``) that hold quantized integers.

    Tensors whose scale is computed while the model runs (``DynamicQuantizeLinear``) have none
    here. ``names`` limits the answer.
    """
    from onnx import numpy_helper

    constants = {i.name: i for i in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Constant" and node.attribute and node.attribute[0].name == "value":
            constants[node.output[0]] = node.attribute[0].t

    def read(node: Any, scale_at: int, zero_at: int) -> Quantization | None:
        if scale_at >= len(node.input) or node.input[scale_at] not in constants:
            return None
        scales = numpy_helper.to_array(constants[node.input[scale_at]]).astype(np.float64)
        zeros = np.zeros(scales.size, np.int64)
        if zero_at < len(node.input) and node.input[zero_at]:
            if node.input[zero_at] not in constants:
                return None
            zeros = numpy_helper.to_array(constants[node.input[zero_at]]).astype(np.int64)
        # Per-tensor parameters may be scalars or vectors of one; QLinear weights are per axis 0.
        axis = 0 if node.op_type.startswith("QLinear") or scales.size == 1 else 1
        for attribute in node.attribute:
            if attribute.name == "axis" and scales.size > 1:
                axis = attribute.i
        return Quantization(
            scales=tuple(float(s) for s in scales.ravel()),
            zero_points=tuple(int(z) for z in np.broadcast_to(zeros.ravel(), scales.size)),
            axis=axis,
        )

    found: dict[str, Quantization] = {}
    for node in model.graph.node:  # in topological order, as the format demands
        for data_at, (scale_at, zero_at) in _INPUT_PARAMETERS.get(node.op_type, {}).items():
            if data_at < len(node.input):
                value = read(node, scale_at, zero_at)
                if value is not None:
                    found.setdefault(node.input[data_at], value)
        if node.op_type in _OUTPUT_PARAMETERS:
            value = read(node, *_OUTPUT_PARAMETERS[node.op_type])
            if value is not None:
                found[node.output[0]] = value
        elif node.op_type in _PASSING and node.input and node.input[0] in found:
            value = found[node.input[0]]
            if len(value.scales) == 1:  # an axis may have moved otherwise
                for output in node.output:
                    found.setdefault(output, value)
    if names is None:
        return found
    wanted = set(names)
    return {name: value for name, value in found.items() if name in wanted}


def dequantized(model: Any) -> dict[str, float]:
    """Scale of the integers behind each output of ``model`` that a ``DequantizeLinear`` makes."""
    known = quantization(model)
    outputs = {output.name for output in model.graph.output}
    return {
        node.output[0]: known[node.input[0]].scales[0]
        for node in model.graph.node
        if node.op_type == "DequantizeLinear"
        and node.output[0] in outputs
        and len(known.get(node.input[0], Quantization(scales=(), zero_points=())).scales) == 1
    }


def inputs(model: Model) -> list[tuple[str, str, tuple[int, ...]]]:
    """Name, dtype and shape of each input of an ONNX file, free dimensions as 1.

    Raises:
        MissingTool: the package ``onnx`` is not installed.
        ModelError: the file cannot be parsed.
    """
    numpy_type = package("a latency").helper.tensor_dtype_to_np_dtype
    graph = parse(model.content, model.path).graph
    constant = {tensor.name for tensor in graph.initializer}
    return [
        (
            value.name,
            np.dtype(numpy_type(value.type.tensor_type.elem_type)).name,
            tuple(max(1, size.dim_value) for size in value.type.tensor_type.shape.dim),
        )
        for value in graph.input
        if value.name not in constant
    ]


def tensor_quantization(
    model: Model, names: Iterable[str]
) -> tuple[Mapping[str, Quantization], str]:
    """Scales of the tensors ``names`` by the file, and a note why there are none."""
    if not installed():
        return {}, MISSING
    return quantization(parse(model.content, model.path), names), ""


def output_steps(model: Model) -> dict[str, float]:
    """Steps of real outputs that were integers to the last; none where the package ``onnx`` is
    not there to look into the file."""
    if not (installed() and uses_integers(model.content)):
        return {}
    return dequantized(parse(model.content, model.path))
