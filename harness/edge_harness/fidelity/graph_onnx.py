"""ONNX files taken apart: tensors as outputs, operators one by one.

Runtimes execute ``DequantizeLinear → operator → QuantizeLinear`` as one integer operator. To ask
for the real values inside would make them execute something else, so such a unit is one node
here, and the integers after it are what is watched.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edge_harness.fidelity.graphs import Node, Parameter
from edge_harness.models.file import ModelFile
from edge_harness.models.onnx import Quantization, parse, quantization
from edge_harness.models.tensors import Array

#: Activations that runtimes fuse into what comes before them.
_FUSED = frozenset({"Relu", "Clip", "LeakyRelu", "HardSwish", "HardSigmoid", "Sigmoid"})
#: Where weights and bias stand among the inputs of operators that also take scales and zero
#: points; 1 and 2 are their places elsewhere.
_PARAMETERS = {
    "QLinearConv": {3: 1, 8: 2},
    "QLinearMatMul": {3: 1},
    "QGemm": {3: 1, 6: 2},
    "QLinearAdd": {3: 1},
    "QLinearMul": {3: 1},
}


class OnnxGraph:
    """The main graph of an ONNX file."""

    channel_axis = 1

    def __init__(self, model: ModelFile) -> None:
        self.model = model
        self.proto = parse(model.content, model.path)
        self.quantization: dict[str, Quantization] = quantization(self.proto)
        graph = self.proto.graph
        self._constants = {i.name: i for i in graph.initializer}
        self._inputs = [i.name for i in graph.input if i.name not in self._constants]
        self._outputs = {o.name for o in graph.output}
        self._all = list(graph.node)
        self._maker: dict[str, int] = {}
        self._users: dict[str, list[Any]] = {}
        alive = set(self._inputs)
        alive_nodes = []
        for position, node in enumerate(self._all):
            if _has_graphs(node) or any(name in alive for name in node.input):
                alive.update(filter(None, node.output))
                alive_nodes.append(node)
            for name in node.output:
                self._maker[name] = position
            for name in node.input:
                self._users.setdefault(name, []).append(node)
        self._alive = alive
        watchable = [
            name
            for node in alive_nodes
            for name in node.output
            if name and not self._hidden(node, name)
        ]
        self._visible = set(watchable)
        self.nodes = tuple(self._unit(name) for name in watchable)

    def _hidden(self, node: Any, name: str) -> bool:
        if name in self._outputs:
            return False
        users = self._users.get(name, [])
        if not users or node.op_type == "DequantizeLinear":
            return True
        if all(user.op_type == "QuantizeLinear" for user in users):
            return True
        # Conv → Relu → QuantizeLinear
        return (
            len(users) == 1
            and users[0].op_type in _FUSED
            and users[0].output[0] not in self._outputs
            and bool(self._users.get(users[0].output[0]))
            and all(u.op_type == "QuantizeLinear" for u in self._users[users[0].output[0]])
        )

    def _members(self, name: str) -> tuple[list[int], list[str]]:
        """Positions of the nodes of the unit that makes ``name``, and the tensors it reads."""
        members: set[int] = set()
        reads: list[str] = []
        waiting = [name]
        while waiting:
            position = self._maker[waiting.pop()]
            if position in members:
                continue
            members.add(position)
            for source in self._all[position].input:
                if source in self._visible or source in self._inputs:
                    reads.append(source)
                elif source in self._alive:
                    waiting.append(source)
        return sorted(members), list(dict.fromkeys(reads))

    def _unit(self, name: str) -> Node:
        positions, reads = self._members(name)
        members = [self._all[position] for position in positions]
        kinds = [node.op_type for node in members]
        telling = [k for k in kinds if k not in ("QuantizeLinear", "DequantizeLinear")]
        return Node(
            op="+".join(telling or kinds[-1:]),
            inputs=tuple(reads),
            output=name,
            separable=not any(_has_graphs(node) for node in members),
        )

    def watched(self) -> ModelFile:
        """See :class:`edge_harness.fidelity.graphs.Graph`."""
        from onnx import ModelProto, ValueInfoProto

        model = ModelProto()
        model.CopyFrom(self.proto)
        del model.graph.output[:]
        # Without a type: the runtime infers it.
        model.graph.output.extend(ValueInfoProto(name=node.output) for node in self.nodes)
        return self._file("watched", model)

    def isolated(
        self, nodes: Sequence[Node], feeds: Mapping[str, Array]
    ) -> tuple[ModelFile, list[str]]:
        """See :class:`edge_harness.fidelity.graphs.Graph`."""
        from onnx import ModelProto, ValueInfoProto, helper

        names = list(dict.fromkeys(name for node in nodes for name in node.inputs))
        wanted = {position for node in nodes for position in self._members(node.output)[0]}
        keep = [
            position
            for position, node in enumerate(self._all)
            # What computes from constants alone stays as it is.
            if position in wanted or not any(name in self._alive for name in node.output)
        ]
        model = ModelProto()
        model.CopyFrom(self.proto)
        kept = [model.graph.node[position] for position in keep]
        for node in kept:
            for at, name in enumerate(node.input):
                if name in names:
                    node.input[at] = _alone(name)
        copies = [type(node).FromString(node.SerializeToString()) for node in kept]
        del model.graph.node[:]
        model.graph.node.extend(copies)
        del model.graph.input[:]
        del model.graph.output[:]
        del model.graph.value_info[:]
        for name in names:
            kind = helper.np_dtype_to_tensor_dtype(feeds[name].dtype)
            model.graph.input.append(
                helper.make_tensor_value_info(_alone(name), kind, feeds[name].shape)
            )
        model.graph.output.extend(ValueInfoProto(name=node.output) for node in nodes)
        return self._file("isolated", model), names

    def parameters(self, node: Node) -> list[Parameter]:
        """See :class:`edge_harness.fidelity.graphs.Graph`."""
        from onnx import numpy_helper

        found: list[Parameter] = []
        for place in self._members(node.output)[0]:
            member = self._all[place]
            if member.op_type in ("QuantizeLinear", "DequantizeLinear"):
                continue
            for position, name in enumerate(member.input):
                source = name
                maker = self._all[self._maker[source]] if source in self._maker else None
                if maker is not None and maker.op_type == "DequantizeLinear":
                    source = maker.input[0]
                place_of = _PARAMETERS.get(member.op_type)
                if source not in self._constants or (place_of and position not in place_of):
                    continue
                known = self.quantization.get(source)
                found.append(
                    Parameter(
                        position=place_of[position] if place_of else position,
                        values=np.asarray(numpy_helper.to_array(self._constants[source])),
                        scales=known.scales if known else (),
                        zero_points=known.zero_points if known else (),
                    )
                )
        return found

    def _file(self, what: str, model: Any) -> ModelFile:
        path = Path(f"{self.model.path.stem}-{what}{self.model.path.suffix}")
        return ModelFile(path=path, content=model.SerializeToString(), format=self.model.format)


def _has_graphs(node: Any) -> bool:
    return any(a.HasField("g") or a.graphs for a in node.attribute)


def _alone(name: str) -> str:
    return f"{name}//alone"
