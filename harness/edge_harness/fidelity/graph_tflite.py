"""TFLite files taken apart: tensors as outputs, operators one by one.

Asking a runtime to keep all tensors (``preserve_all_tensors``) is not enough: tensors inside a
delegate's partition are never computed, and an in-place ADD overwrites its input. A tensor that
is an output of the graph is always computed and never overwritten. So the file is changed: new
tables are put in front of it, which point forward into the old file (offsets in flatbuffers are
relative and unsigned). Nothing of the old file is moved or decoded; readers and builder are the
packages ``tflite`` and ``flatbuffers``.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np

from edge_harness.errors import UnsupportedModel
from edge_harness.fidelity.graphs import Node, Parameter
from edge_harness.models.file import ModelFile
from edge_harness.models.tensors import Array

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # the generated code warns of its own deprecations
    import tflite

#: numpy's types by TFLite's; the others (strings, resources, variants, 4-bit) cannot be read.
_DTYPES = {
    tflite.TensorType.FLOAT32: "float32",
    tflite.TensorType.FLOAT16: "float16",
    tflite.TensorType.INT32: "int32",
    tflite.TensorType.UINT8: "uint8",
    tflite.TensorType.INT64: "int64",
    tflite.TensorType.BOOL: "bool",
    tflite.TensorType.INT16: "int16",
    tflite.TensorType.COMPLEX64: "complex64",
    tflite.TensorType.INT8: "int8",
    tflite.TensorType.FLOAT64: "float64",
    tflite.TensorType.UINT32: "uint32",
    tflite.TensorType.UINT64: "uint64",
    tflite.TensorType.COMPLEX128: "complex128",
}
_OPS = {
    value: name for name, value in vars(tflite.BuiltinOperator).items() if not name.startswith("_")
}
_ALIGNMENT = 16


_QUANTIZED = (
    tflite.TensorType.INT8,
    tflite.TensorType.UINT8,
    tflite.TensorType.INT16,
    tflite.TensorType.INT4,
)


def output_steps(model: ModelFile) -> dict[str, float]:
    """Quantization steps of real outputs that were integers until the last operator."""
    return LiteGraph(model).dequantized()


def has_quantized_tensors(content: bytes) -> bool:
    """Whether anything in the file is computed in quantized integers."""
    graph = tflite.Model.GetRootAs(content, 0).Subgraphs(0)
    for position in range(graph.OperatorsLength()):
        for index in _indices(graph.Operators(position).OutputsAsNumpy()):
            tensor = graph.Tensors(index)
            quantization = tensor.Quantization()
            if (
                tensor.Type() in _QUANTIZED
                and quantization is not None
                and quantization.ScaleLength()
            ):
                return True
    return False


class LiteGraph:
    """The first subgraph of a TFLite file."""

    channel_axis = -1

    def __init__(self, model: ModelFile) -> None:
        self.model = model
        self._root = tflite.Model.GetRootAs(model.content, 0)
        self._graph = self._root.Subgraphs(0)
        self._names = _unique([_text(t.Name()) for t in self._tensors()])
        self._inputs = [int(i) for i in self._graph.InputsAsNumpy()]
        self._made_by: dict[int, tuple[int, int]] = {}
        self.nodes = tuple(self._find_nodes())
        self._index = {name: i for i, name in enumerate(self._names)}

    def _tensors(self) -> list[Any]:
        return [self._graph.Tensors(i) for i in range(self._graph.TensorsLength())]

    def _find_nodes(self) -> list[Node]:
        """Operators that depend on an input; what they make of constants alone is constant."""
        alive = set(self._inputs)
        nodes = []
        tensors = self._tensors()
        for position in range(self._graph.OperatorsLength()):
            operator = self._graph.Operators(position)
            sources = [i for i in _indices(operator.InputsAsNumpy()) if i >= 0]
            moving = [i for i in sources if i in alive]
            stateful = any(tensors[i].IsVariable() for i in sources)
            if not moving and not stateful:
                continue
            for target in _indices(operator.OutputsAsNumpy()):
                alive.add(target)
                self._made_by[target] = position, target
                if tensors[target].Type() in _DTYPES:
                    nodes.append(
                        Node(
                            op=self._op(operator),
                            inputs=tuple(self._names[i] for i in dict.fromkeys(moving)),
                            output=self._names[target],
                            separable=not stateful
                            and all(tensors[i].Type() in _DTYPES for i in moving),
                        )
                    )
        return nodes

    def _op(self, operator: Any) -> str:
        code = self._root.OperatorCodes(operator.OpcodeIndex())
        # Before schema 3a there was one byte for it; both are written since.
        number = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
        if code.CustomCode() is not None:
            return _text(code.CustomCode())
        return str(_OPS.get(number, f"operator {number}"))

    def dequantized(self) -> dict[str, float]:
        """Scale of the integers behind each tensor that a DEQUANTIZE makes."""
        found = {}
        for node in self.nodes:
            if node.op == "DEQUANTIZE" and len(node.inputs) == 1:
                quantization = self._graph.Tensors(self._index[node.inputs[0]]).Quantization()
                if quantization is not None and quantization.ScaleLength() == 1:
                    found[node.output] = float(quantization.Scale(0))
        return found

    def watched(self) -> ModelFile:
        """See :class:`edge_harness.fidelity.graphs.Graph`."""
        outputs = [self._index[node.output] for node in self.nodes]
        return self._changed("watched", inputs=self._inputs, outputs=outputs)

    def isolated(
        self, nodes: Sequence[Node], feeds: Mapping[str, Array]
    ) -> tuple[ModelFile, list[str]]:
        """See :class:`edge_harness.fidelity.graphs.Graph`."""
        names = list(dict.fromkeys(name for node in nodes for name in node.inputs))
        sources = [self._index[name] for name in names]
        clones = {
            source: len(self._names) + number
            for number, source in enumerate(s for s in sources if s not in self._inputs)
        }
        operators: dict[int, list[int]] = {}
        for node in nodes:
            position, _ = self._made_by[self._index[node.output]]
            old = _indices(self._graph.Operators(position).InputsAsNumpy())
            operators[position] = [clones.get(i, i) for i in old]
        # What computes from constants alone stays as it is.
        made = {position for position, _ in self._made_by.values()}
        constant = [i for i in range(self._graph.OperatorsLength()) if i not in made]
        return (
            self._changed(
                "isolated",
                inputs=[clones.get(s, s) for s in sources],
                outputs=[self._index[node.output] for node in nodes],
                clones=list(clones),
                operators=operators,
                keep=constant,
            ),
            names,
        )

    def parameters(self, node: Node) -> list[Parameter]:
        """See :class:`edge_harness.fidelity.graphs.Graph`."""
        operator = self._graph.Operators(self._made_by[self._index[node.output]][0])
        found = []
        for position, index in enumerate(_indices(operator.InputsAsNumpy())):
            if index < 0:
                continue
            tensor = self._graph.Tensors(index)
            buffer = self._root.Buffers(tensor.Buffer())
            if not buffer.DataLength() or tensor.Type() not in _DTYPES:
                continue
            values = np.frombuffer(buffer.DataAsNumpy().tobytes(), _DTYPES[tensor.Type()])
            if tensor.ShapeLength():
                values = values.reshape(tensor.ShapeAsNumpy())
            quantization = tensor.Quantization()
            scales: tuple[float, ...] = ()
            zeros: tuple[int, ...] = ()
            if quantization is not None and quantization.ScaleLength():
                scales = tuple(float(s) for s in quantization.ScaleAsNumpy())
            if quantization is not None and quantization.ZeroPointLength():
                zeros = tuple(int(z) for z in quantization.ZeroPointAsNumpy())
            found.append(
                Parameter(position=position, values=values, scales=scales, zero_points=zeros)
            )
        return found

    def _changed(
        self,
        what: str,
        *,
        inputs: list[int],
        outputs: list[int],
        clones: Sequence[int] = (),
        operators: Mapping[int, list[int]] | None = None,
        keep: Sequence[int] = (),
    ) -> ModelFile:
        """The file with other inputs and outputs. ``clones``: tensors to have once more, after
        the others. ``operators``: new inputs by the operator's position; ``keep``: positions of
        others to keep, in place; with None all stay as they are."""
        build = flatbuffers.Builder(1024)
        build.Prep(_ALIGNMENT, 0)  # so that the old file keeps the alignment of its buffers
        graph, root = _table(self._graph), _table(self._root)
        tensors = [_target(graph.Vector(graph.Offset(4)) + 4 * i, root.Bytes)
                   for i in (*range(len(self._names)), *clones)]  # fmt: skip
        count = self._graph.OperatorsLength()
        positions = range(count) if operators is None else sorted({*operators, *keep})
        tables = []
        for position in positions:
            old = _table(self._graph.Operators(position))
            if operators is None or position not in operators:
                tables.append(-old.Pos)
            else:
                tables.append(self._operator(build, old, operators[position]))
        tensors_at = _offsets(build, [-place for place in tensors])
        operators_at = _offsets(build, tables)
        inputs_at, outputs_at = _numbers(build, inputs), _numbers(build, outputs)
        build.StartObject(5)
        for slot, offset in ((0, tensors_at), (1, inputs_at), (2, outputs_at), (3, operators_at)):
            build.PrependUOffsetTRelativeSlot(slot, offset, 0)
        _keep(build, graph, (4,))
        first = build.EndObject()
        count = self._root.SubgraphsLength()
        others = [-_table(self._root.Subgraphs(i)).Pos for i in range(1, count)]
        subgraphs = _offsets(build, [first, *others])
        build.StartObject(8)
        build.PrependUint32Slot(0, self._root.Version(), 0)
        build.PrependUOffsetTRelativeSlot(2, subgraphs, 0)
        # Signatures name the old outputs and are left out.
        _keep(build, root, (1, 3, 4, 5, 6))
        build.Finish(build.EndObject(), file_identifier=b"TFL3")
        content = bytes(build.Output()) + self.model.content
        path = Path(f"{self.model.path.stem}-{what}{self.model.path.suffix}")
        return ModelFile(path=path, content=content, format=self.model.format)

    def _operator(self, build: Any, old: Any, inputs: list[int]) -> int:
        if old.Offset(4 + 2 * 9):  # large_custom_options_offset: counted from the file's start
            raise UnsupportedModel(
                f"{str(self.model.path)!r} keeps options outside its tables and cannot be taken "
                "apart",
                next_step="compare its outputs instead: fidelity.compare",
            )
        inputs_at = _numbers(build, inputs)
        build.StartObject(14)
        for slot, kind, prepend in (
            (0, flatbuffers.number_types.Uint32Flags, build.PrependUint32Slot),
            (3, flatbuffers.number_types.Uint8Flags, build.PrependUint8Slot),
            (6, flatbuffers.number_types.Int8Flags, build.PrependInt8Slot),
            (11, flatbuffers.number_types.Uint8Flags, build.PrependUint8Slot),
        ):
            at = old.Offset(4 + 2 * slot)
            if at:
                prepend(slot, old.Get(kind, old.Pos + at), 0)
        build.PrependUOffsetTRelativeSlot(1, inputs_at, 0)
        _keep(build, old, (2, 4, 5, 7, 8, 12))
        return int(build.EndObject())


def _keep(build: Any, old: Any, slots: Sequence[int]) -> None:
    """Point to what fields of an old table point to."""
    for slot in slots:
        at = old.Offset(4 + 2 * slot)
        if at:
            build.PrependUOffsetTRelativeSlot(slot, -_target(old.Pos + at, old.Bytes), 0)


def _table(generated: Any) -> Any:
    """Where an object of the generated reader lies in the file; it has no public name for it."""
    return generated._tab  # noqa: SLF001


def _target(place: int, content: Any) -> int:
    """What the offset at ``place`` points to."""
    return place + int(flatbuffers.encode.Get(flatbuffers.packer.uoffset, content, place))


def _offsets(build: Any, offsets: Sequence[int]) -> int:
    """A vector of tables; a negative offset is a place in the old file."""
    build.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        build.PrependUOffsetTRelative(offset)
    return int(build.EndVector())


def _numbers(build: Any, numbers: Sequence[int]) -> int:
    build.StartVector(4, len(numbers), 4)
    for number in reversed(numbers):
        build.PrependInt32(number)
    return int(build.EndVector())


def _indices(array: Any) -> list[int]:
    # The generated reader returns 0 for a vector that is not there.
    return [int(i) for i in array] if isinstance(array, np.ndarray) else []


def _text(value: bytes | None) -> str:
    return (value or b"").decode(errors="replace")


def _unique(names: list[str]) -> list[str]:
    count = Counter(names)
    return [n if n and count[n] == 1 else f"{n}#{i}" for i, n in enumerate(names)]
