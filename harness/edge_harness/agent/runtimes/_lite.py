"""What TFLite (tflite-runtime) and LiteRT (ai-edge-litert) have in common: one Python API."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from edge_harness.agent.runtimes.arrays import Packer, unpack


class LiteSession:
    """One TFLite model in one interpreter."""

    interpreter_module: Any = None

    def __init__(self, header: dict[str, Any], payload: bytes) -> None:
        resolver = self.interpreter_module.OpResolverType
        self.kernels = header.get("kernels") or "xnnpack"
        kinds = {
            "xnnpack": resolver.AUTO,
            "builtin": resolver.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
            "reference": resolver.BUILTIN_REF,
        }
        self.interpreter = self.interpreter_module.Interpreter(
            model_content=bytes(payload),
            num_threads=header.get("threads") or 1,
            experimental_op_resolver_type=kinds[self.kernels],
            experimental_delegates=[
                self.interpreter_module.load_delegate(library, dict(options))
                for library, options in header.get("delegates") or ()
            ],
            experimental_preserve_all_tensors=bool(header.get("preserve_all_tensors")),
        )
        self.threads = header.get("threads") or 1
        self.refuse_strings()
        self.interpreter.allocate_tensors()
        self.packer = Packer()
        self.signatures: dict[str, Any] = {}
        self.refresh()

    def refuse_strings(self) -> None:
        for detail in (
            *self.interpreter.get_input_details(),
            *self.interpreter.get_output_details(),
        ):
            if detail["dtype"] in (np.bytes_, np.str_, np.object_):
                raise TypeError(
                    f"tensor {detail['name']!r} holds strings, which numpy arrays of fixed size "
                    "cannot carry"
                )

    def refresh(self) -> None:
        self.inputs = self.interpreter.get_input_details()
        self.outputs = self.interpreter.get_output_details()
        self.in_indices = [d["index"] for d in self.inputs]
        self.out_indices = [d["index"] for d in self.outputs]

    def describe(self) -> dict[str, Any]:
        # Nothing public tells which operators a delegate took.
        operators = self.interpreter._get_ops_details()  # noqa: SLF001
        delegated = [op for op in operators if "delegate" in op["op_name"].lower()]
        return {
            "inputs": [self.tensor(d) for d in self.inputs],
            "outputs": [self.tensor(d) for d in self.outputs],
            "signatures": self.interpreter.get_signature_list(),
            "kernels": self.kernels,
            "delegates": sorted({op["op_name"] for op in delegated}),
            "threads": self.threads,
        }

    @staticmethod
    def tensor(detail: dict[str, Any]) -> dict[str, Any]:
        quantization = detail["quantization_parameters"]
        return {
            "name": detail["name"],
            "dtype": np.dtype(detail["dtype"]).name,
            "shape": [int(n) for n in detail["shape"]],
            "shape_signature": [int(n) for n in detail["shape_signature"]],
            "scales": [float(s) for s in quantization["scales"]],
            "zero_points": [int(z) for z in quantization["zero_points"]],
            "axis": int(quantization["quantized_dimension"]),
        }

    def resize(self, shapes: dict[str, list[int]]) -> None:
        for detail in self.inputs:
            shape = shapes.get(detail["name"])
            if shape is not None and list(detail["shape"]) != list(shape):
                self.interpreter.resize_tensor_input(detail["index"], shape)
        self.interpreter.allocate_tensors()
        self.refresh()

    def run(self, header: dict[str, Any], payload: bytes) -> tuple[Any, ...]:
        key = header.get("signature")
        if key is not None:
            return self.run_signature(key, header, payload)
        interpreter = self.interpreter
        for index, array in zip(self.in_indices, unpack(header, payload)):
            interpreter.set_tensor(index, array)
        interpreter.invoke()
        return self.packer([interpreter.get_tensor(index) for index in self.out_indices])

    def run_batch(self, header: dict[str, Any], payload: bytes) -> tuple[Any, ...]:
        """Many examples in one frame; their inputs and outputs are stacked."""
        interpreter = self.interpreter
        inputs = list(zip(self.in_indices, unpack(header, payload)))
        results: list[Any] = []
        for position in range(header["count"]):
            for index, batch in inputs:
                interpreter.set_tensor(index, batch[position])
            interpreter.invoke()
            arrays = [interpreter.get_tensor(index) for index in self.out_indices]
            if not results:
                results = [np.empty((header["count"], *a.shape), a.dtype) for a in arrays]
            for result, array in zip(results, arrays):
                if result.shape[1:] != array.shape:
                    raise ValueError("the outputs of these examples have different shapes")
                result[position] = array
        return self.packer(results)

    def run_signature(self, key: str, header: dict[str, Any], payload: bytes) -> tuple[Any, ...]:
        runner = self.signatures.get(key)
        if runner is None:
            runner = self.signatures[key] = self.interpreter.get_signature_runner(key)
        names = header["names"]
        answers = runner(**dict(zip(names, unpack(header, payload))))
        return self.packer(
            [answers[name] for name in self.interpreter.get_signature_list()[key]["outputs"]]
        )

    def invoker(self, header: dict[str, Any], payload: bytes) -> Callable[[], Any]:
        """One inference and nothing else, for the device clock; inputs are set here."""
        for index, array in zip(self.in_indices, unpack(header, payload)):
            self.interpreter.set_tensor(index, array)
        return self.interpreter.invoke  # type: ignore[no-any-return]

    def bench(self, header: dict[str, Any], payload: bytes) -> dict[str, Any]:
        """The bare loop: the same invokes with no frames around them; seconds for each."""
        arrays = unpack(header, payload)
        interpreter = self.interpreter
        seconds = []
        for _ in range(header["repeats"]):
            started = time.perf_counter()
            for index, array in zip(self.in_indices, arrays):
                interpreter.set_tensor(index, array)
            interpreter.invoke()
            for index in self.out_indices:
                interpreter.get_tensor(index)
            seconds.append(time.perf_counter() - started)
        return {"seconds": seconds}
