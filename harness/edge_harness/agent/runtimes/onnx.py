"""ONNX models through ONNX Runtime's CPU provider."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Any

from edge_harness.agent.runtimes._arrays import Packer, unpack

#: Loaded once before any worker; see parent.rehearse.
REHEARSAL = "rehearsal.onnx"
#: As edge_harness.models.file.GRAPH_OPTIMIZATION names them.
LEVELS = {
    "all": "ORT_ENABLE_ALL",
    "extended": "ORT_ENABLE_EXTENDED",
    "basic": "ORT_ENABLE_BASIC",
    "disabled": "ORT_DISABLE_ALL",
}
#: ONNX Runtime's element types by numpy's names; bfloat16, float8 and 4-bit types have none.
DTYPES = {
    "float": "float32",
    "double": "float64",
    **{name: name for name in ("float16", "bool", "complex64", "complex128")},
    **{f"{sign}int{bits}": f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)},
}


def warm() -> dict[str, Any]:
    import numpy
    import onnxruntime

    return {
        "runtime": "onnxruntime",
        "version": onnxruntime.__version__,
        "numpy": numpy.__version__,
    }


class Session:
    def __init__(self, header: dict[str, Any], payload: bytes) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = header.get("threads") or 1
        options.inter_op_num_threads = 1
        self.threads = options.intra_op_num_threads
        self.level = header.get("graph_optimization") or "all"
        options.graph_optimization_level = getattr(
            onnxruntime.GraphOptimizationLevel, LEVELS[self.level]
        )
        for key, value in (header.get("config") or {}).items():
            options.add_session_config_entry(key, value)
        providers = header.get("providers") or ["CPUExecutionProvider"]
        missing = [p for p in providers if p not in onnxruntime.get_available_providers()]
        if missing:
            # ONNX Runtime itself would warn and run on the CPU.
            raise LookupError(
                f"this build has no execution provider {missing[0]!r}, it has "
                f"{', '.join(onnxruntime.get_available_providers())}"
            )
        self.session = onnxruntime.InferenceSession(bytes(payload), options, providers=providers)
        self.names = [node.name for node in self.session.get_inputs()]
        self.packer = Packer()

    def describe(self) -> dict[str, Any]:
        return {
            "inputs": [self.tensor(node) for node in self.session.get_inputs()],
            "outputs": [self.tensor(node) for node in self.session.get_outputs()],
            "signatures": {},
            "kernels": "onnxruntime-cpu"
            + ("" if self.level == "all" else f", graph optimization {self.level}"),
            "graph_optimization": self.level,
            "delegates": self.session.get_providers(),
            "threads": self.threads,
        }

    @staticmethod
    def tensor(node: Any) -> dict[str, Any]:
        kind = re.fullmatch(r"tensor\((\w+)\)", node.type)
        dtype = DTYPES.get(kind[1]) if kind else None
        if dtype is None:
            raise TypeError(f"tensor {node.name!r} is a {node.type}, which has no numpy equivalent")
        shape = [size if isinstance(size, int) else -1 for size in node.shape]
        return {
            "name": node.name,
            "dtype": dtype,
            "shape": [max(size, 1) for size in shape],
            "shape_signature": shape,
            "scales": [],
            "zero_points": [],
            "axis": 0,
        }

    def resize(self, shapes: dict[str, list[int]]) -> None:
        """ONNX Runtime takes any shape the model allows; nothing to prepare."""

    def run(self, header: dict[str, Any], payload: bytes) -> tuple[Any, ...]:
        return self.packer(self.session.run(None, dict(zip(self.names, unpack(header, payload)))))

    def run_batch(self, header: dict[str, Any], payload: bytes) -> tuple[Any, ...]:
        """Many examples in one frame; their inputs and outputs are stacked."""
        import numpy as np

        batches = unpack(header, payload)
        outputs = [
            self.session.run(None, {n: b[i] for n, b in zip(self.names, batches)})
            for i in range(header["count"])
        ]
        if any(a.shape != b.shape for row in outputs for a, b in zip(row, outputs[0])):
            raise ValueError("the outputs of these examples have different shapes")
        return self.packer([np.stack(column) for column in zip(*outputs)])

    def invoker(self, header: dict[str, Any], payload: bytes) -> Callable[[], Any]:
        """One inference and nothing else, for the device clock; inputs are set here."""
        feeds = dict(zip(self.names, unpack(header, payload)))
        return lambda: self.session.run(None, feeds)

    def bench(self, header: dict[str, Any], payload: bytes) -> dict[str, Any]:
        feeds = dict(zip(self.names, unpack(header, payload)))
        seconds = []
        for _ in range(header["repeats"]):
            started = time.perf_counter()
            self.session.run(None, feeds)
            seconds.append(time.perf_counter() - started)
        return {"seconds": seconds}
