"""Tensors to and from frame payloads, and what sessions over arrays have in common."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from edge_harness import wire

Array = npt.NDArray[Any]


def unpack(header: wire.Header, payload: bytes) -> list[Array]:
    """The arrays of a frame, as views of its payload."""
    arrays: list[Array] = []
    offset = 0
    for dtype, shape in header["tensors"]:
        kind = np.dtype(dtype)
        count = 1
        for size in shape:
            count *= size
        arrays.append(np.frombuffer(payload, kind, count, offset).reshape(shape))
        offset += count * kind.itemsize
    return arrays


class Packer:
    """Heads of answers, made once per combination of dtypes and shapes."""

    def __init__(self) -> None:
        self.heads: dict[Any, wire.Head] = {}

    def __call__(self, arrays: list[Array]) -> tuple[Any, ...]:
        key = tuple([(a.dtype, a.shape) for a in arrays])
        head = self.heads.get(key)
        if head is None:
            head = wire.encode(
                {"ok": True, "tensors": [[a.dtype.name, list(a.shape)] for a in arrays]},
                sum(a.nbytes for a in arrays),
            )
            if len(self.heads) < 64:
                self.heads[key] = head
        views = [
            # As bytes by numpy: memoryview cannot cast complex numbers.
            np.ascontiguousarray(a).reshape(-1).view(np.uint8).data
            for a in arrays
            if a.nbytes
        ]
        return (head, *views)


class ArraySession:
    """A session of a runtime that takes arrays and gives arrays: override :meth:`infer` and
    :meth:`describe`."""

    def __init__(self) -> None:
        self.packer = Packer()

    def infer(self, arrays: list[Array]) -> list[Array]:
        """One inference: outputs in the model's order, from inputs in the model's order."""
        raise NotImplementedError

    def describe(self) -> dict[str, Any]:
        """See :class:`edge_harness.agent.runtimes.protocol.RuntimeSession`."""
        raise NotImplementedError

    @staticmethod
    def tensor(name: str, dtype: Any, shape: list[int]) -> dict[str, Any]:
        """The description of a tensor that is not quantized; -1 in ``shape`` for any size."""
        return {
            "name": name,
            "dtype": np.dtype(dtype).name,
            "shape": [max(size, 1) for size in shape],
            "shape_signature": list(shape),
            "scales": [],
            "zero_points": [],
            "axis": 0,
        }

    def resize(self, shapes: dict[str, list[int]]) -> None:
        """Nothing to prepare."""

    def run(self, header: wire.Header, payload: bytes) -> tuple[Any, ...]:
        return self.packer(self.infer(unpack(header, payload)))

    def run_batch(self, header: wire.Header, payload: bytes) -> tuple[Any, ...]:
        batches = unpack(header, payload)
        outputs = [self.infer([b[i] for b in batches]) for i in range(header["count"])]
        first = [(a.dtype, a.shape) for a in outputs[0]]
        if any([(a.dtype, a.shape) for a in row] != first for row in outputs):
            raise ValueError("the outputs of these examples have different shapes")
        return self.packer([np.stack(column) for column in zip(*outputs)])

    def invoker(self, header: wire.Header, payload: bytes) -> Callable[[], Any]:
        arrays = unpack(header, payload)
        return lambda: self.infer(arrays)

    def bench(self, header: wire.Header, payload: bytes) -> dict[str, Any]:
        arrays = unpack(header, payload)
        seconds = []
        for _ in range(header["repeats"]):
            started = time.perf_counter()
            self.infer(arrays)
            seconds.append(time.perf_counter() - started)
        return {"seconds": seconds}
