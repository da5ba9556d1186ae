"""A model as a graph whose intermediate tensors can be watched, and whose operators can be run
each by itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from edge_harness.models.file import ModelFile
from edge_harness.models.tensors import Array


@dataclass(frozen=True, kw_only=True)
class Node:
    """One operator, or several that a runtime executes as one (a QDQ unit)."""

    op: str
    """Operator names, joined by ``+``."""
    inputs: tuple[str, ...]
    """Names of the tensors it computes from; constants are left out."""
    output: str
    separable: bool = True
    """Whether it can be run by itself; operators with a state or with graphs inside cannot."""


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """A constant of an operator: weights or bias."""

    position: int
    """Among the operator's inputs."""
    values: Array
    scales: tuple[float, ...] = field(default=())
    zero_points: tuple[int, ...] = field(default=())


class Graph(Protocol):
    """What :mod:`edge_harness.fidelity.layers` needs of a model file."""

    nodes: tuple[Node, ...]
    """In the order of execution; the output of each is a tensor that can be watched."""
    channel_axis: int
    """Of tensors with four dimensions; of others it is the last."""

    def watched(self) -> ModelFile:
        """The same model with the outputs of all :attr:`nodes` as its outputs, in this order."""

    def isolated(
        self, nodes: Sequence[Node], feeds: Mapping[str, Array]
    ) -> tuple[ModelFile, list[str]]:
        """A model in which each of ``nodes`` stands alone: it reads from inputs of the model and
        writes to outputs of the model, in this order. Its inputs are the tensors named in the
        second value; ``feeds`` has values of their dtypes and shapes."""

    def parameters(self, node: Node) -> list[Parameter]:
        """Constants of ``node``."""


def graph_of(model: ModelFile) -> Graph:
    """The graph in ``model``.

    Raises:
        MissingTool: an ONNX model, and the package ``onnx`` is not installed.
        UnsupportedModel: the file has something that cannot be taken apart.
    """
    graph: Graph = model.format.graph(model)
    return graph
