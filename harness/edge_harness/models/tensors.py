"""A model's inputs and outputs: what a tensor is, and checks before anything is sent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from edge_harness.errors import InputError

Array = npt.NDArray[Any]


@dataclass(frozen=True, kw_only=True)
class Tensor:
    """One input or output of a model, as its runtime describes it."""

    name: str
    index: int
    """Position among the inputs or outputs."""
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    shape_signature: tuple[int, ...]
    """As ``shape``, with -1 where the model allows any size."""
    scales: tuple[float, ...] = ()
    zero_points: tuple[int, ...] = ()
    axis: int = 0

    @property
    def quantized(self) -> bool:
        return bool(self.scales)

    @property
    def scale(self) -> float:
        """The step of a per-tensor quantized tensor, in real units; 0.0 if it has none."""
        return self.scales[0] if len(self.scales) == 1 else 0.0

    @property
    def zero_point(self) -> int:
        return self.zero_points[0] if len(self.zero_points) == 1 else 0

    def _factors(self, ndim: int) -> tuple[Array, Array]:
        if not self.scales:
            raise InputError(
                f"tensor {self.name!r} is {self.dtype.name} without quantization parameters",
                next_step="use its values as they are",
            )
        scales = np.asarray(self.scales, np.float64)
        zeros = np.asarray(self.zero_points, np.float64)
        if scales.size > 1:
            shape = [1] * ndim
            shape[self.axis] = scales.size
            scales, zeros = scales.reshape(shape), zeros.reshape(shape)
        return scales, zeros

    def quantize(self, values: npt.ArrayLike) -> Array:
        """Real values to this tensor's integers: ``round(x / scale) + zero_point``, saturated.

        Rounds half away from zero as TFLite's ``AffineQuantize`` does.
        """
        real = np.asarray(values, np.float64)
        scales, zeros = self._factors(real.ndim)
        scaled = real / scales
        rounded = np.copysign(np.floor(np.abs(scaled) + 0.5), scaled) + zeros
        limits = np.iinfo(self.dtype)
        result: Array = np.clip(rounded, limits.min, limits.max).astype(self.dtype)
        return result

    def dequantize(self, values: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """This tensor's integers to real values: ``(q - zero_point) * scale``."""
        integers = np.asarray(values, np.float64)
        scales, zeros = self._factors(integers.ndim)
        result: npt.NDArray[np.float64] = (integers - zeros) * scales
        return result

    def real(self, values: Array) -> npt.NDArray[np.float64]:
        """Values of this tensor as real numbers: integers of a quantized one dequantized, of
        complex ones both parts side by side, all others as they are."""
        if values.dtype.kind == "c":
            parts = np.ascontiguousarray(np.atleast_1d(values)).view(values.real.dtype)
            return parts.astype(np.float64)
        if self.quantized and values.dtype.kind in "iu":
            return self.dequantize(values)
        return values.astype(np.float64)

    def __str__(self) -> str:
        sizes = "×".join("?" if n < 0 else str(n) for n in self.shape_signature) or "scalar"
        return f"{self.name!r} {self.dtype.name} [{sizes}]"


def tensor_from(index: int, fields: Mapping[str, Any]) -> Tensor:
    """A tensor from the agent's description."""
    return Tensor(
        name=fields["name"],
        index=index,
        dtype=np.dtype(fields["dtype"]),
        shape=tuple(fields["shape"]),
        shape_signature=tuple(fields["shape_signature"] or fields["shape"]),
        scales=tuple(fields["scales"]),
        zero_points=tuple(fields["zero_points"]),
        axis=fields["axis"],
    )


class Outputs(dict[str, Array]):
    """Output arrays by name; an integer index takes them by position."""

    if TYPE_CHECKING:  # at run time dict's own, which asks __missing__ only for what it lacks

        def __getitem__(self, key: str | int, /) -> Array: ...

    def __missing__(self, key: object) -> Array:
        if isinstance(key, int) and -len(self) <= key < len(self):
            return list(self.values())[key]
        raise InputError(
            f"the model has no output {key!r}",
            next_step=f"its outputs are: {', '.join(map(repr, self))}",
        )


def arrange(values: Any, tensors: Sequence[Tensor]) -> list[Array]:
    """``values`` (an array, a list, or ``{name: array}``) as one array per input, checked.

    Raises:
        InputError: names, count, dtype or shape do not fit the model.
    """
    found = in_order(values, tensors)
    return [checked(value, tensor) for value, tensor in zip(found, tensors, strict=True)]


def in_order(values: Any, tensors: Sequence[Tensor]) -> list[Any]:
    """``values`` (an array, a list, or ``{name: array}``) as one value per input, as it is.

    Raises:
        InputError: names or count do not fit the model.
    """
    if isinstance(values, Mapping):
        by_name = {tensor.name: tensor for tensor in tensors}
        unknown = [name for name in values if name not in by_name]
        missing = [name for name in by_name if name not in values]
        if unknown or missing:
            raise InputError(
                "the inputs do not fit the model: "
                + "; ".join(
                    part
                    for part in (
                        unknown and f"unknown {', '.join(map(repr, unknown))}",
                        missing and f"missing {', '.join(map(repr, missing))}",
                    )
                    if part
                ),
                next_step=f"the model's inputs are: {', '.join(map(str, tensors))}",
            )
        return [values[tensor.name] for tensor in tensors]
    if len(tensors) == 1 and not (
        isinstance(values, (list, tuple)) and len(values) == 1 and isinstance(values[0], np.ndarray)
    ):
        return [values]
    if not isinstance(values, (list, tuple)) or len(values) != len(tensors):
        given = f"{len(values)}" if isinstance(values, (list, tuple)) else "one array"
        raise InputError(
            f"the model has {len(tensors)} inputs, {given} given",
            next_step=f"pass a list in this order, or a dict: {', '.join(map(str, tensors))}",
        )
    return list(values)


def checked(value: Any, tensor: Tensor) -> Array:
    """``value`` as an array that fits ``tensor``; numbers and lists are converted, arrays never.

    Raises:
        InputError: dtype or shape do not fit, or a number is out of the dtype's range.
    """
    if isinstance(value, (np.ndarray, np.generic)):
        array = np.asarray(value)
        if array.dtype != tensor.dtype:
            if array.dtype.newbyteorder("=") != tensor.dtype:
                cure = f"x.astype(np.{tensor.dtype.name})"
                if tensor.quantized and array.dtype.kind == "f":
                    cure = f"session.inputs[{tensor.index}].quantize(x)"
                raise InputError(
                    f"input {tensor.name!r} takes {tensor.dtype.name}, but the array is "
                    f"{array.dtype.name}",
                    next_step=f"convert it yourself, so that no precision is lost unseen: {cure}",
                )
            array = array.astype(tensor.dtype)
    else:
        array = _converted(value, tensor)
    if len(array.shape) != len(tensor.shape_signature) or any(
        wanted not in (-1, size)
        for size, wanted in zip(array.shape, tensor.shape_signature, strict=True)
    ):
        hint = f"give it the shape {list(tensor.shape_signature)} (-1 means any size)"
        if tuple(array.shape) == tuple(tensor.shape_signature[1:]):
            hint = "add the batch axis: x[np.newaxis]"
        raise InputError(
            f"input {tensor.name!r} takes shape {list(tensor.shape_signature)}, but the array has "
            f"{list(array.shape)}",
            next_step=hint,
        )
    return np.ascontiguousarray(array) if array.ndim else array


def _converted(value: Any, tensor: Tensor) -> Array:
    try:
        natural = np.asarray(value)
    except ValueError as error:
        raise InputError(
            f"input {tensor.name!r}: the value is not a rectangular array ({error})",
            next_step=f"pass a numpy array of {tensor.dtype.name}",
        ) from None
    if natural.dtype.kind not in "biufc":
        raise InputError(
            f"input {tensor.name!r} takes {tensor.dtype.name}, but the value is "
            f"{type(value).__name__} {value!r:.60}",
            next_step=f"pass a numpy array of {tensor.dtype.name}",
        )
    if tensor.dtype.kind in "iu" and natural.size:
        limits = np.iinfo(tensor.dtype)
        if (
            natural.dtype.kind not in "iub"
            or natural.min() < limits.min
            or natural.max() > limits.max
        ):
            raise InputError(
                f"input {tensor.name!r} takes {tensor.dtype.name} ({limits.min} to {limits.max}), "
                f"but the values run from {natural.min()!r} to {natural.max()!r}",
                next_step=f"session.inputs[{tensor.index}].quantize(x) turns real values into it"
                if tensor.quantized
                else "pass whole numbers in that range",
            )
    return natural.astype(tensor.dtype)
