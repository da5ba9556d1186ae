"""The runtime ``npy``: a matrix in a ``.npy`` file is a model that multiplies its input by it.

A whole runtime of another distribution: this file and one entry point. The file is read twice:
here, where :func:`runtime` tells what there is, and in the device, where :func:`warm` and
:class:`Session` run the model. So what stands at its top has to be in both places: the standard
library, what the runtime's requirement brings, and ``edge_harness.agent``.
"""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from edge_harness.agent.runtimes.arrays import ArraySession

# -- here ----------------------------------------------------------------------------------------


def runtime() -> Any:
    """The row of the table of runtimes."""
    from edge_harness.runtimes import Format, Option, Part, Runtime

    npy = Format(
        name="npy",
        title="NumPy matrix",
        suffixes=(".npy",),
        signatures=((0, b"\x93NUMPY"),),
        export="write it with numpy.save",
        inputs=Part(path="npy_runtime:inputs"),
    )
    return Runtime(
        name="npy",
        distribution="numpy",
        imports="numpy",
        formats=(npy,),
        options=(Option(name="transpose", kind="flag", default=False),),
        requirement="numpy>=1.22",
    )


def inputs(model: Any) -> list[tuple[str, str, tuple[int, ...]]]:
    """Inputs by the file alone, for ``edge-harness latency``."""
    matrix = np.load(io.BytesIO(model.content), allow_pickle=False)
    return [("x", matrix.dtype.name, (1, int(matrix.shape[0])))]


# -- in the device -------------------------------------------------------------------------------


def warm() -> dict[str, Any]:
    """Import everything; which distribution runs the models, and its version."""
    return {"runtime": "numpy", "version": np.__version__}


class Session(ArraySession):
    """One matrix."""

    def __init__(self, header: dict[str, Any], payload: bytes) -> None:
        super().__init__()
        self.threads = header["threads"]
        self.matrix = np.load(io.BytesIO(payload), allow_pickle=False)
        if self.matrix.ndim != 2:
            raise ValueError(f"the file holds {self.matrix.ndim} dimension(s), not a matrix")
        if header["transpose"]:
            self.matrix = np.ascontiguousarray(self.matrix.T)

    def describe(self) -> dict[str, Any]:
        rows, columns = self.matrix.shape
        return {
            "inputs": [self.tensor("x", self.matrix.dtype, [-1, rows])],
            "outputs": [self.tensor("y", self.matrix.dtype, [-1, columns])],
            "signatures": {},
            "kernels": "numpy",
            "delegates": [],
            "threads": self.threads,
        }

    def infer(self, arrays: list[Any]) -> list[Any]:
        return [arrays[0] @ self.matrix]
