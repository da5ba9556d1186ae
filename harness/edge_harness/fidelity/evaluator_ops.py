"""Operators that ``onnx.reference`` lacks or has wrong, for :mod:`edge_harness.fidelity.evaluator`.

It has ``QuantizeLinear`` and ``DequantizeLinear`` for the newest operator sets only, and none of
ONNX Runtime's own (``com.microsoft``); those are here in exact integers. Older operator sets it
gets wrong in places: batch normalization before 14, softmax and its kin before 13 (onnx 1.23, seen
by running its node tests at sets 9 to 17 beside ONNX Runtime). Definitions:
onnx.ai/onnx/operators and onnxruntime's docs/ContribOperators.md.
"""

# Arguments are named and ordered as the operators define them, hence the capitals.
# ruff: noqa: N803

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from edge_harness.models.tensors import Array


def rounded(values: npt.NDArray[Any], zero_point: Array, dtype: np.dtype[Any]) -> Array:
    """Half to even, shifted and saturated to ``dtype``'s range.

    Raises:
        NotImplementedError: ``dtype`` is no integer (8-bit floats).
    """
    if dtype.kind in "iu":
        limits: Any = np.iinfo(dtype)
    else:
        import ml_dtypes  # onnx brings it, for 4-bit integers

        try:
            limits = ml_dtypes.iinfo(dtype)  # type: ignore[no-untyped-call, unused-ignore]
        except ValueError:
            raise NotImplementedError(f"rounding to {dtype.name}") from None
    whole = np.rint(values.astype(np.float64)) + zero_point.astype(np.float64)
    result: Array = np.clip(whole, limits.min, limits.max).astype(dtype)
    return result


def _along(parameter: Array, ndim: int, axis: int) -> Array:
    if parameter.size == 1 or parameter.ndim != 1:
        return parameter.reshape(()) if parameter.size == 1 else parameter
    shape = [1] * ndim
    shape[axis] = -1
    return parameter.reshape(shape)


def _spread(parameter: Array, x: Array, attributes: dict[str, Any]) -> Array:
    """Scales or zero points in the shape of ``x``: one for the tensor, one for each place along
    an axis, or one for each block of places (``block_size``)."""
    axis = attributes.get("axis")
    axis = 1 if axis is None else axis
    size = attributes.get("block_size")
    if not size or parameter.ndim == 0:
        return _along(parameter, x.ndim, axis)
    axis %= x.ndim
    whole: Array = np.repeat(parameter, size, axis=axis).take(range(x.shape[axis]), axis=axis)
    return whole


def _centred(values: Array, zero_point: Array | None, axis: int = 0) -> npt.NDArray[np.int64]:
    whole: npt.NDArray[np.int64] = np.asarray(values).astype(np.int64)
    if zero_point is None:
        return whole
    result: npt.NDArray[np.int64] = whole - _along(
        np.asarray(zero_point).astype(np.int64), whole.ndim, axis
    )
    return result


def _product(left: npt.NDArray[np.int64], right: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Exact: whole numbers below 2**53 are exact as doubles, and BLAS multiplies those."""
    result: npt.NDArray[np.int64] = (left.astype(np.float64) @ right.astype(np.float64)).astype(
        np.int64
    )
    return result


def _requantized(
    sums: npt.NDArray[np.int64], factor: Array, zero_point: Array | None, dtype: np.dtype[Any]
) -> Array:
    """As MLAS: the 32-bit sum as float32 times a float32 factor, half to even, saturated."""
    scaled = sums.astype(np.float32) * factor.astype(np.float32)
    zero = np.zeros((), dtype) if zero_point is None else np.asarray(zero_point)
    return rounded(scaled, zero, zero.dtype)


def _factor(left: Array, right: Array, out: Array) -> Array:
    """``left * right / out`` in float32, in ONNX Runtime's order."""
    narrow = (np.asarray(scale).astype(np.float32) for scale in (left, right, out))
    a, b, c = narrow
    return np.asarray(a * b / c)


def _float32(values: Array) -> npt.NDArray[Any]:
    """Back to float32 where nothing is lost by it: an operator that is defined in float32 then
    rounds as it is defined."""
    with np.errstate(over="ignore"):
        narrow = values.astype(np.float32)
    return narrow if np.array_equal(narrow.astype(np.float64), values) else values


def _softmax(x: Array, axis: int) -> Array:
    powers = np.exp(x - x.max(axis=axis, keepdims=True))
    result: Array = powers / powers.sum(axis=axis, keepdims=True)
    return result


def _hardmax(x: Array, axis: int) -> Array:
    result = np.zeros_like(x)
    np.put_along_axis(result, np.argmax(x, axis=axis, keepdims=True), 1, axis=axis)
    return result


@cache
def operators() -> list[Any]:
    """Classes for ``ReferenceEvaluator(new_ops=…)``."""
    from onnx import helper
    from onnx.reference.op_run import OpRun
    from onnx.reference.ops.op_conv import _conv_implementation

    class QuantizeLinear(OpRun):  # type: ignore[misc, unused-ignore]
        def _run(
            self, x: Array, y_scale: Array, y_zero_point: Array | None = None, **kwargs: Any
        ) -> tuple[Array]:
            if y_zero_point is None:
                named = kwargs.get("output_dtype")
                dtype = helper.tensor_dtype_to_np_dtype(named) if named else np.dtype(np.uint8)
                zero = np.zeros((), dtype)
            else:
                zero = np.asarray(y_zero_point)
            scaled = _float32(x) / _spread(_float32(np.asarray(y_scale)), x, kwargs)
            return (rounded(scaled, _spread(zero, x, kwargs), zero.dtype),)

    class DequantizeLinear(OpRun):  # type: ignore[misc, unused-ignore]
        def _run(
            self, x: Array, x_scale: Array, x_zero_point: Array | None = None, **kwargs: Any
        ) -> tuple[Array]:
            # Not as integers: there are 8-bit floats too.
            values = np.asarray(x).astype(np.float64)
            if x_zero_point is not None:
                zero = np.asarray(x_zero_point).astype(np.float64)
                values = values - _spread(zero, x, kwargs)
            return (values * _spread(np.asarray(x_scale).astype(np.float64), x, kwargs),)

    class DynamicQuantizeLinear(OpRun):  # type: ignore[misc, unused-ignore]
        def _run(self, x: Array) -> tuple[Array, Array, Array]:
            # In float32 throughout, as it is defined.
            narrow = x.astype(np.float32)
            low = np.minimum(narrow.min(initial=0), np.float32(0))
            high = np.maximum(narrow.max(initial=0), np.float32(0))
            scale = np.float32((high - low) / np.float32(255))
            scale = scale if scale else np.float32(1)
            nothing, kind = np.zeros(()), np.dtype(np.uint8)
            zero = rounded(np.asarray(-low / scale), nothing, kind)
            return rounded(narrow / scale, zero, kind), np.asarray(np.float64(scale)), zero

    class BatchNormalization(OpRun):  # type: ignore[misc, unused-ignore]
        # onnx.reference takes models before operator set 14 to be in training, and mixes the
        # batch's own mean and variance in.
        def _run(
            self,
            x: Array,
            scale: Array,
            bias: Array,
            mean: Array,
            variance: Array,
            epsilon: float | None = None,
            training_mode: int | None = None,
            **kwargs: Any,
        ) -> tuple[Array]:
            if training_mode or len(self.onnx_node.output) > 1:
                raise NotImplementedError("BatchNormalization in training")
            gain, offset, centre, spread = (
                _along(np.asarray(p), x.ndim, 1) for p in (scale, bias, mean, variance)
            )
            small = 1e-5 if epsilon is None else epsilon
            return ((x - centre) / np.sqrt(spread + small) * gain + offset,)

    def along_rows(name: str, work: Any) -> Any:
        def run(self: Any, x: Array, axis: int | None = None) -> tuple[Array]:
            if self.run_params["opsets"][""] >= 13:
                return (work(x, -1 if axis is None else axis),)
            # Before operator set 13 all dimensions from ``axis`` on were one; onnx.reference
            # takes the axis alone, and today's default for it.
            given = any(attribute.name == "axis" for attribute in self.onnx_node.attribute)
            first = axis % x.ndim if given and axis is not None else 1
            rows = x.reshape(int(np.prod(x.shape[:first], dtype=np.int64)), -1)
            return (work(rows, 1).reshape(x.shape),)

        return type(name, (OpRun,), {"_run": run})

    class QLinearConv(OpRun):  # type: ignore[misc, unused-ignore]
        def _run(
            self,
            x: Array,
            x_scale: Array,
            x_zero_point: Array,
            w: Array,
            w_scale: Array,
            w_zero_point: Array,
            y_scale: Array,
            y_zero_point: Array,
            B: Array | None = None,
            auto_pad: Any = None,
            dilations: Any = None,
            group: Any = None,
            kernel_shape: Any = None,
            pads: Any = None,
            strides: Any = None,
        ) -> tuple[Array]:
            found = _conv_implementation(  # type: ignore[no-untyped-call, unused-ignore]
                # As doubles: whole numbers below 2**53 stay exact, and BLAS multiplies them.
                _centred(x, x_zero_point).astype(np.float64),
                _centred(w, w_zero_point).astype(np.float64),
                None if B is None else B.astype(np.float64),
                auto_pad,
                dilations,
                group or 1,
                kernel_shape,
                pads,
                strides,
            )
            sums = found.astype(np.int64)
            factor = _along(_factor(x_scale, w_scale, y_scale), sums.ndim, 1)
            return (_requantized(sums, factor, y_zero_point, x.dtype),)

    class QLinearMatMul(OpRun):  # type: ignore[misc, unused-ignore]
        def _run(
            self,
            a: Array,
            a_scale: Array,
            a_zero_point: Array,
            b: Array,
            b_scale: Array,
            b_zero_point: Array,
            y_scale: Array,
            y_zero_point: Array,
        ) -> tuple[Array]:
            sums = _product(_centred(a, a_zero_point), _centred(b, b_zero_point, axis=-1))
            factor = _along(_factor(a_scale, b_scale, y_scale), sums.ndim, -1)
            return (_requantized(sums, factor, y_zero_point, a.dtype),)

    class QGemm(OpRun):  # type: ignore[misc, unused-ignore]
        op_domain = "com.microsoft"

        def _run(
            self,
            A: Array,
            a_scale: Array,
            a_zero_point: Array,
            B: Array,
            b_scale: Array,
            b_zero_point: Array,
            C: Array | None = None,
            y_scale: Array | None = None,
            y_zero_point: Array | None = None,
            alpha: float = 1.0,
            transA: int = 0,
            transB: int = 0,
        ) -> tuple[Array]:
            left, right = _centred(A, a_zero_point), _centred(B, b_zero_point, axis=-1)
            sums = _product(left.T if transA else left, right.T if transB else right)
            if C is not None:
                sums = sums + C.astype(np.int64)
            left_scale = np.asarray(a_scale) * np.float32(alpha)
            if y_scale is None:
                factor = _along(np.asarray(left_scale * b_scale), sums.ndim, -1)
                return (sums.astype(np.float64) * factor,)
            factor = _along(_factor(left_scale, b_scale, y_scale), sums.ndim, -1)
            return (_requantized(sums, factor, y_zero_point, A.dtype),)

    def elementwise(name: str, combine: Any) -> Any:
        def run(
            self: Any,
            A: Array,
            a_scale: Array,
            a_zero_point: Array,
            B: Array,
            b_scale: Array,
            b_zero_point: Array,
            y_scale: Array,
            y_zero_point: Array | None = None,
        ) -> tuple[Array]:
            left = _centred(A, a_zero_point).astype(np.float64) * np.float64(a_scale)
            right = _centred(B, b_zero_point).astype(np.float64) * np.float64(b_scale)
            zero = np.zeros((), A.dtype) if y_zero_point is None else np.asarray(y_zero_point)
            return (rounded(combine(left, right) / np.float64(y_scale), zero, zero.dtype),)

        return type(name, (OpRun,), {"op_domain": "com.microsoft", "_run": run})

    class QLinearGlobalAveragePool(OpRun):  # type: ignore[misc, unused-ignore]
        op_domain = "com.microsoft"

        def _run(
            self,
            x: Array,
            x_scale: Array,
            x_zero_point: Array,
            y_scale: Array,
            y_zero_point: Array,
            channels_last: int = 0,
        ) -> tuple[Array]:
            axes = tuple(range(1, x.ndim - 1) if channels_last else range(2, x.ndim))
            mean = _centred(x, x_zero_point).astype(np.float64).mean(axis=axes, keepdims=True)
            scaled = mean * np.float64(x_scale) / np.float64(y_scale)
            return (rounded(scaled, np.asarray(y_zero_point), x.dtype),)

    return [
        QuantizeLinear,
        DequantizeLinear,
        DynamicQuantizeLinear,
        BatchNormalization,
        along_rows("Softmax", _softmax),
        along_rows("LogSoftmax", lambda x, axis: np.log(_softmax(x, axis))),
        along_rows("Hardmax", _hardmax),
        QLinearConv,
        QLinearMatMul,
        QGemm,
        QLinearGlobalAveragePool,
        elementwise("QLinearAdd", np.add),
        elementwise("QLinearMul", np.multiply),
    ]
