"""A trusted execution of ONNX models: ``onnx.reference`` in double precision, and quantized
operators in exact integers.

ONNX Runtime has no reference kernels, and its x86 ones saturate U8×S8 products on processors
without VNNI. Here every real number is a double, so that the rounding of this side is far below
one unit of the device's float32, and integer products are summed in 64 bits. Only where an
operator rounds by definition (``QuantizeLinear``, the requantization of ``QLinearConv``) does a
value get rounded, in float32 and half to even, as ONNX Runtime's MLAS does.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from edge_harness.errors import RuntimeFailed, UnsupportedModel
from edge_harness.fidelity.evaluator_ops import operators
from edge_harness.models.file import ModelFile
from edge_harness.models.onnx import package, parse, quantization
from edge_harness.models.tensors import Array, Outputs, Tensor, arrange


class Evaluator:
    """An ONNX model evaluated on this machine, with the part of a session's interface that
    comparisons need.

    Raises (from the constructor):
        MissingTool: the package ``onnx`` is not installed.
        UnsupportedModel: the evaluator does not know an operator.
    """

    def __init__(self, model: ModelFile) -> None:
        onnx = package(f"evaluating {str(model.path)!r} as a reference")
        self.model = model
        self._proto = parse(model.content, model.path)
        self._known = quantization(self._proto)
        constants = {initializer.name for initializer in self._proto.graph.initializer}
        inputs = [value for value in self._proto.graph.input if value.name not in constants]
        self.inputs = tuple(self._tensor(i, value) for i, value in enumerate(inputs))
        self.outputs = tuple(self._tensor(i, v) for i, v in enumerate(self._proto.graph.output))
        self.runtime = f"onnx.reference {onnx.__version__}"
        self.kernels = "double precision, exact integers"
        self._wide = True
        try:
            self._evaluator = self._made(wide=True)
        except (RuntimeError, NotImplementedError, TypeError) as error:
            raise UnsupportedModel(
                f"onnx.reference cannot evaluate {str(model.path)!r}: {error}",
                next_step="compare with a session on another device or on the host engine instead",
            ) from None

    def _tensor(self, index: int, value: Any) -> Tensor:
        from onnx import helper

        kind = value.type.tensor_type
        dtype = np.dtype(np.float32)
        if kind.elem_type:
            dtype = np.dtype(helper.tensor_dtype_to_np_dtype(kind.elem_type))
        dims = kind.shape.dim if kind.HasField("shape") else ()
        signature = tuple(d.dim_value if d.HasField("dim_value") else -1 for d in dims)
        known = self._known.get(value.name) if dtype.kind in "iu" else None
        return Tensor(
            name=value.name,
            index=index,
            dtype=dtype,
            shape=tuple(max(n, 1) for n in signature),
            shape_signature=signature,
            scales=known.scales if known else (),
            zero_points=known.zero_points if known else (),
            axis=known.axis if known else 0,
        )

    def run(self, inputs: Any) -> Outputs:
        """One example, as :meth:`edge_harness.device.session.Session.run` takes it.

        Raises:
            InputError: the inputs do not fit.
            RuntimeFailed: an operator failed.
        """
        arrays = arrange(inputs, self.inputs)
        values = self.evaluate(arrays, [tensor.name for tensor in self.outputs])
        outputs = Outputs()
        for tensor, value in zip(self.outputs, values, strict=True):
            outputs[tensor.name] = np.asarray(value).astype(tensor.dtype)
        return outputs

    def evaluate(self, arrays: Sequence[Array], names: Sequence[str]) -> list[Array]:
        """Any tensors of the graph for one example, reals as float64 where the model can be
        evaluated so (:attr:`kernels` says)."""
        try:
            return self._evaluate(self._evaluator, arrays, names, wide=self._wide)
        except Exception as error:
            if not self._wide:
                raise self._failed(error) from error
            first = error
        # Operators defined by other operators bring float32 constants of their own along, which
        # do not mix with doubles. What cannot be evaluated wide is evaluated as declared.
        try:
            declared = self._made(wide=False)
            values = self._evaluate(declared, arrays, names, wide=False)
        except Exception:
            raise self._failed(first) from first
        self._evaluator, self._wide = declared, False
        self.kernels = "declared precision, exact integers"
        return values

    def _evaluate(
        self, evaluator: Any, arrays: Sequence[Array], names: Sequence[str], *, wide: bool
    ) -> list[Array]:
        feeds = {
            tensor.name: array.astype(np.float64) if wide and array.dtype.kind == "f" else array
            for tensor, array in zip(self.inputs, arrays, strict=True)
        }
        # Saturating casts and divisions by zero are the model's own doing.
        with np.errstate(all="ignore"):
            return [np.asarray(value) for value in evaluator.run(list(names), feeds)]

    def _failed(self, error: Exception) -> RuntimeFailed:
        return RuntimeFailed(
            f"{self.runtime} failed on {str(self.model.path)!r}: {error}",
            next_step="compare with a session on another device or on the host engine instead",
        )

    def _made(self, *, wide: bool) -> Any:
        from onnx.reference import ReferenceEvaluator

        proto = _widened(self._proto) if wide else self._proto
        return ReferenceEvaluator(proto, new_ops=operators())

    def described(self, name: str, value: Array) -> Tensor:
        """The tensor ``name``, whose value is ``value``."""
        known = self._known.get(name) if value.dtype.kind in "iu" else None
        return Tensor(
            name=name,
            index=0,
            dtype=value.dtype,
            shape=value.shape,
            shape_signature=value.shape,
            scales=known.scales if known else (),
            zero_points=known.zero_points if known else (),
            axis=known.axis if known else 0,
        )

    def run_many(self, samples: Iterable[Any]) -> list[Outputs]:
        """Several examples, one after another."""
        return [self.run(sample) for sample in samples]

    def close(self) -> None:
        """Nothing to end; a session's counterpart."""

    def __repr__(self) -> str:
        return f"<Evaluator {self.model.path.name} by {self.runtime}>"


def _widened(proto: Any) -> Any:
    """A copy of the model with every real constant, and every cast to a real, in float64."""
    from onnx import ModelProto, TensorProto, numpy_helper

    reals = {TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16}

    def widen(tensor: Any) -> None:
        if tensor.data_type in reals:
            values = np.asarray(numpy_helper.to_array(tensor)).astype(np.float64)
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))

    def walk(graph: Any) -> None:
        for initializer in graph.initializer:
            widen(initializer)
        for node in graph.node:
            for attribute in node.attribute:
                if attribute.HasField("t"):
                    widen(attribute.t)
                if attribute.HasField("g"):
                    walk(attribute.g)
                for each in attribute.graphs:
                    walk(each)
                if node.op_type == "Cast" and attribute.name == "to" and attribute.i in reals:
                    attribute.i = TensorProto.DOUBLE
            if node.op_type == "Constant" and node.attribute[0].name in (
                "value_float",
                "value_floats",
            ):
                attribute = node.attribute[0]
                plain = attribute.name == "value_float"
                values = np.asarray(
                    attribute.f if plain else list(attribute.floats), np.float32
                ).astype(np.float64)
                attribute.Clear()
                attribute.name, attribute.type = "value", 4  # AttributeProto.TENSOR
                attribute.t.CopyFrom(numpy_helper.from_array(values))

    copy = ModelProto()
    copy.CopyFrom(proto)
    walk(copy.graph)
    return copy


__all__ = ["Evaluator"]
