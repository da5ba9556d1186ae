"""Sessions on this machine, without a device: what comparisons need of one, for tests in seconds.

ONNX models are evaluated by ``onnx.reference``, TFLite models by the reference kernels of
``tflite-runtime`` where it is installed (the extra ``test`` has it up to Python 3.11).
"""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from edge_harness.fidelity import Evaluator
from edge_harness.models.file import ModelFile, read_model
from edge_harness.models.tensors import Outputs, Tensor, arrange
from edge_harness.runtimes import RUNTIMES, LoadRequest

#: As a device on an emulator tells of itself.
DEVICE = SimpleNamespace(name="rpi4", engine="user", figure_kind="emulated")


class Native:
    """What the two kinds share; ``opened`` counts the models that were loaded, the first too."""

    def __init__(self, model: ModelFile | str | Path) -> None:
        self.model = model if isinstance(model, ModelFile) else read_model(model)
        self.device = SimpleNamespace(**vars(DEVICE))
        row = RUNTIMES.first_running(self.model.format)
        self.request = LoadRequest(
            content=self.model.content,
            file_name=str(self.model.path),
            format=self.model.format,
            runtime=row,
            requirement=row.distribution,
            options=row.reference_options,
        )
        self.facts: dict[str, Any] = {"delegates": [], "kernels": "reference", "threads": 1}
        self.others: list[Native] = []
        self.inputs: tuple[Tensor, ...] = ()
        self.outputs: tuple[Tensor, ...] = ()
        self.runs = 0

    def other(self, model: ModelFile) -> Native:
        self.others.append(type(self)(model))
        return self.others[-1]

    def run(self, inputs: Any) -> Outputs:
        raise NotImplementedError

    def run_many(self, samples: Any) -> list[Outputs]:
        return [self.run(sample) for sample in samples]

    def __enter__(self) -> Native:
        return self

    def __exit__(self, *_: object) -> None:
        pass


class OnnxSession(Native):
    """An ONNX model, evaluated with its declared results (float32)."""

    runtime = "onnxruntime 1.20.1"
    requirement = "onnxruntime==1.20.1"
    kernels = "onnxruntime-cpu (CPUExecutionProvider)"

    def __init__(self, model: ModelFile | str | Path) -> None:
        super().__init__(model)
        self._evaluator = Evaluator(self.model)
        self.inputs, self.outputs = self._evaluator.inputs, self._evaluator.outputs

    def run(self, inputs: Any) -> Outputs:
        self.runs += 1
        values = self._evaluator.evaluate(
            arrange(inputs, self.inputs), [tensor.name for tensor in self.outputs]
        )
        found = Outputs()
        described = []
        for tensor, value in zip(self.outputs, values, strict=True):
            # Without a declared type (of a watched tensor) a real number is float32 on a device.
            kind = value.dtype if value.dtype.kind != "f" else np.dtype(np.float32)
            found[tensor.name] = np.asarray(value).astype(kind)
            described.append(self._evaluator.described(tensor.name, found[tensor.name]))
        self.outputs = tuple(described)
        return found


class LiteSession(Native):
    """A TFLite model under the reference kernels."""

    runtime = "tflite-runtime 2.14.0"
    requirement = "tflite-runtime==2.14.0"
    kernels = "reference (no delegate)"

    def __init__(self, model: ModelFile | str | Path) -> None:
        super().__init__(model)
        interpreter = pytest.importorskip("tflite_runtime.interpreter")
        self._interpreter = interpreter.Interpreter(
            model_content=self.model.content,
            experimental_op_resolver_type=interpreter.OpResolverType.BUILTIN_REF,
        )
        self._interpreter.allocate_tensors()
        self._inputs = self._interpreter.get_input_details()
        self._outputs = self._interpreter.get_output_details()
        self.inputs = tuple(_described(i, each) for i, each in enumerate(self._inputs))
        self.outputs = tuple(_described(i, each) for i, each in enumerate(self._outputs))

    def run(self, inputs: Any) -> Outputs:
        self.runs += 1
        for detail, array in zip(self._inputs, arrange(inputs, self.inputs), strict=True):
            self._interpreter.set_tensor(detail["index"], array)
        self._interpreter.invoke()
        return Outputs(
            (tensor.name, self._interpreter.get_tensor(detail["index"]))
            for tensor, detail in zip(self.outputs, self._outputs, strict=True)
        )


def _described(index: int, detail: dict[str, Any]) -> Tensor:
    parameters = detail["quantization_parameters"]
    return Tensor(
        name=detail["name"],
        index=index,
        dtype=np.dtype(detail["dtype"]),
        shape=tuple(int(n) for n in detail["shape"]),
        shape_signature=tuple(int(n) for n in detail["shape_signature"]),
        scales=tuple(float(s) for s in parameters["scales"]),
        zero_points=tuple(int(z) for z in parameters["zero_points"]),
        axis=int(parameters["quantized_dimension"]),
    )
