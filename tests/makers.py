"""Makes what many tests need some of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from edge_harness.clock.estimate import LatencyEstimate, OperatorTime
from edge_harness.models.tensors import Tensor
from edge_harness.profiles.clock import Parameters

#: Of no board: round figures.
PARAMETERS: dict[str, float] = {
    "compute": 1.0,
    "l1_miss_cycles": 5.0,
    "l2_miss_cycles": 10.0,
    "dram_gb_s": 2.0,
    "dram_sharing": 0.5,
    "overlap": 2.0,
    "thread_efficiency": 0.8,
    "sync_us": 10.0,
    "fixed_us": 100.0,
    "input_cycles": 50.0,
}
PLAIN = Parameters(**PARAMETERS)


def tensor(
    name: str = "x", dtype: Any = "float32", signature: Sequence[int] = (1, 3), **fields: Any
) -> Tensor:
    """A tensor of a model; dimensions of -1 are free, and 1 in the file."""
    made: dict[str, Any] = {
        "name": name,
        "index": 0,
        "dtype": np.dtype(dtype),
        "shape": tuple(max(size, 1) for size in signature),
        "shape_signature": tuple(signature),
    }
    return Tensor(**{**made, **fields})


def operator(name: str = "conv_7", ms: float = 4.0, **fields: Any) -> OperatorTime:
    """Where a part of the time of :func:`estimate` went."""
    made: dict[str, Any] = {
        "name": name,
        "kind": "CONV_2D",
        "instructions": 1000,
        "latency_ms": ms,
        "share": ms / 10,
        "bound": "compute",
    }
    return OperatorTime(**{**made, **fields})


def estimate(**fields: Any) -> LatencyEstimate:
    """An answer of the device clock: 10 ms, between 8 and 12.5."""
    made: dict[str, Any] = {
        "latency_ms": 10.0,
        "low_ms": 8.0,
        "high_ms": 12.5,
        "source": "device-clock ±25%, a test",
        "device": "rpi4",
        "runtime": "tflite-runtime 2.14.0",
        "kernels": "builtin (no delegate)",
        "threads": 4,
        "cycles": 60_000_000,
        "instructions": 50_000_000,
        "compute_ms": 7.0,
        "memory_ms": 2.0,
        "overhead_ms": 1.0,
        "invoke_ms": 9.5,
        "first_ms": 20.0,
        "operators": (operator(),),
    }
    return LatencyEstimate(**{**made, **fields})
