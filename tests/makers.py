"""Makes what many tests need some of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from edge_harness.models.tensors import Tensor


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
