"""ONNX models through ONNX Runtime's CPU provider."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Any

from edge_harness import wire
from edge_harness.agent.runtimes.arrays import Array, ArraySession, unpack

#: Loaded once before any worker; see parent.rehearse.
REHEARSAL = "rehearsal.onnx"
#: As the option "graph_optimization" of edge_harness.runtimes names them.
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


class Session(ArraySession):
    def __init__(self, header: wire.Header, payload: bytes) -> None:
        import onnxruntime

        super().__init__()

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = header.get("threads") or 1
        options.inter_op_num_threads = 1
        self.threads = options.intra_op_num_threads
        self.level = header.get("graph_optimization") or "all"
        options.graph_optimization_level = getattr(
            onnxruntime.GraphOptimizationLevel, LEVELS[self.level]
        )
        for key, value in header.get("config") or ():
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

    def describe(self) -> dict[str, Any]:
        return {
            "inputs": [self.described(node) for node in self.session.get_inputs()],
            "outputs": [self.described(node) for node in self.session.get_outputs()],
            "signatures": {},
            "kernels": "onnxruntime-cpu"
            + ("" if self.level == "all" else f", graph optimization {self.level}"),
            "graph_optimization": self.level,
            "delegates": self.session.get_providers(),
            "threads": self.threads,
        }

    @staticmethod
    def described(node: Any) -> dict[str, Any]:
        kind = re.fullmatch(r"tensor\((\w+)\)", node.type)
        dtype = DTYPES.get(kind[1]) if kind else None
        if dtype is None:
            raise TypeError(f"tensor {node.name!r} is a {node.type}, which has no numpy equivalent")
        shape = [size if isinstance(size, int) else -1 for size in node.shape]
        return ArraySession.tensor(node.name, dtype, shape)

    def infer(self, arrays: list[Array]) -> list[Array]:
        outputs: list[Array] = self.session.run(None, dict(zip(self.names, arrays)))
        return outputs

    def invoker(self, header: wire.Header, payload: bytes) -> Callable[[], Any]:
        """The feeds are made here, not where it is counted."""
        feeds = dict(zip(self.names, unpack(header, payload)))
        return lambda: self.session.run(None, feeds)

    def bench(self, header: wire.Header, payload: bytes) -> dict[str, Any]:
        feeds = dict(zip(self.names, unpack(header, payload)))
        seconds = []
        for _ in range(header["repeats"]):
            started = time.perf_counter()
            self.session.run(None, feeds)
            seconds.append(time.perf_counter() - started)
        return {"seconds": seconds}
