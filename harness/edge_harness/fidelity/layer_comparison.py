"""Tensors of two walks side by side, and operators run once more on the reference's inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from edge_harness.fidelity.causes import Evidence, cause, file_differences, over
from edge_harness.fidelity.graphs import Graph, Node
from edge_harness.fidelity.inputs import laid_out
from edge_harness.fidelity.layer_rows import Layer
from edge_harness.fidelity.tolerances import Tolerances
from edge_harness.models.tensors import Array, Tensor
from edge_harness.runtimes import Format

if TYPE_CHECKING:
    from edge_harness.device.session import Session


@dataclass(frozen=True)
class Walk:
    """One side's tensors by name."""

    tensors: Mapping[str, Tensor]
    values: Mapping[str, Array]


@dataclass(frozen=True, kw_only=True)
class Comparison:
    mine: Graph
    theirs: Graph
    counterparts: Mapping[str, str]
    walked: Walk
    expected: Walk
    formats: tuple[Format, Format]
    limits: Tolerances
    same_arithmetic: bool
    """Whether both models compute in integers, or both in reals."""
    other_file: bool
    """Whether the reference is another file, whose parameters may differ."""
    _equal: dict[str, bool] = field(default_factory=dict)

    def wanted(self, name: str) -> tuple[Array, Tensor]:
        """The reference's value of our tensor ``name``, in our layout."""
        other = self.counterparts[name]
        value = laid_out(
            self.expected.values[other],
            self.formats[1],
            self.formats[0],
            self.walked.values[name].shape,
        )
        if value.shape != self.walked.values[name].shape and (
            value.size == self.walked.values[name].size
        ):
            value = value.reshape(self.walked.values[name].shape)
        return value, self.expected.tensors[other]

    def equal(self, name: str) -> bool:
        """Whether both sides hold the same integers or reals; most layers do, and then nothing
        more has to be worked out."""
        if name not in self._equal:
            value, theirs = self.wanted(name)
            mine, ours = self.walked.values[name], self.walked.tensors[name]
            self._equal[name] = (
                (ours.scales, ours.zero_points) == (theirs.scales, theirs.zero_points)
                and value.dtype == mine.dtype
                and np.array_equal(value, mine)
                and bool(np.all(np.isfinite(mine)))
            )
        return self._equal[name]

    def evidence(self, name: str, actual: Array) -> Evidence | None:
        """``actual`` as our tensor ``name``, beside the reference; None where shapes differ."""
        value, theirs = self.wanted(name)
        if value.shape != actual.shape:
            return None
        mine = self.walked.tensors[name]
        integers = mine.quantized and actual.dtype.kind in "iu"
        whole = not integers and actual.dtype.kind in "iub"
        return Evidence(
            actual=mine.real(actual),
            wanted=theirs.real(value),
            step=mine.scale if integers else 1.0 if whole else 0.0,
            stored=actual,
            zero_point=mine.zero_point,
            channel_axis=self.mine.channel_axis,
        )

    def alike(self, name: str) -> bool:
        """Whether both sides hold ``name`` in the same kind of number."""
        mine, theirs = self.walked.tensors[name], self.expected.tensors[self.counterparts[name]]
        return self.same_arithmetic and mine.quantized == theirs.quantized

    def isolated(self, session: Session, sample: Sequence[Array]) -> dict[str, Array]:
        """Outputs of the operators whose inputs differ, each on the reference's inputs."""
        given = {t.name: array for t, array in zip(session.inputs, sample, strict=True)}
        differing = {
            name
            for name in self.counterparts
            if not self.equal(name)
            and (
                (found := self.evidence(name, self.walked.values[name])) is None
                or bool(np.any(found.error != 0))
            )
        }
        nodes = [
            node
            for node in self.mine.nodes
            if node.separable
            and node.output in differing
            and any(source in differing for source in node.inputs)
            and self._worth_isolating(node.output)
            and all(s in self.counterparts or s in given for s in node.inputs)
        ]
        feeds: dict[str, Array] = {}
        for source in {source for node in nodes for source in node.inputs}:
            if source in given:
                feeds[source] = given[source]
                continue
            fed = self._as_ours(source)
            if fed is not None:
                feeds[source] = fed
        nodes = [node for node in nodes if all(source in feeds for source in node.inputs)]
        if not nodes:
            return {}
        file, order = self.mine.isolated(nodes, feeds)
        with session.other(file) as alone:
            outputs = list(alone.run([feeds[name] for name in order]).values())
        return {node.output: array for node, array in zip(nodes, outputs, strict=True)}

    def _worth_isolating(self, name: str) -> bool:
        """Of one file a tensor that is within tolerance as it is needs no second run. Two files
        may differ in a parameter, and there what an operator adds is told however small."""
        if self.other_file:
            return True
        total = self.evidence(name, self.walked.values[name])
        return total is None or over(total, self.limits, alike=self.alike(name))

    def _as_ours(self, name: str) -> Array | None:
        """The reference's value of ``name`` in our numbers."""
        value, theirs = self.wanted(name)
        mine, ours = self.walked.values[name], self.walked.tensors[name]
        if value.shape != mine.shape:
            return None
        same = ours.scales == theirs.scales and ours.zero_points == theirs.zero_points
        if value.dtype == mine.dtype and (same or not ours.quantized):
            return value
        real = theirs.real(value)
        if ours.quantized and mine.dtype.kind in "iu":
            if not np.all(np.isfinite(real)):
                return None
            return ours.quantize(real)
        return np.asarray(real.astype(mine.dtype))

    def finish(self, alone: Mapping[str, Array]) -> tuple[Layer, ...]:
        """A row for each operator that has a counterpart."""
        rows: list[Layer] = []
        clean: set[str] = set()
        their_nodes = {node.output: node for node in self.theirs.nodes}
        for position, node in enumerate(self.mine.nodes):
            if node.output not in self.counterparts:
                continue
            if self.equal(node.output):
                own_known = 0.0 if self._given_clean(node, clean, len(rows)) else None
                clean.add(node.output)
                rows.append(self._equal_row(position, node, own_known, their_nodes))
                continue
            total = self.evidence(node.output, self.walked.values[node.output])
            if total is None:
                continue
            if not np.any(total.error != 0):
                clean.add(node.output)
            own: Evidence | None = None
            if node.output in alone:
                own = self.evidence(node.output, alone[node.output])
            elif self._given_clean(node, clean, len(rows)):
                own = total
            rows.append(self._row(position, node, total, own, their_nodes))
        return tuple(rows)

    def _given_clean(self, node: Node, clean: set[str], before: int) -> bool:
        """Whether what ``node`` computes from is equal on both sides. Operators with graphs inside
        read tensors that are not among their inputs: there everything before must be."""
        if not node.separable:
            return len(clean) == before
        return all(s in clean or s not in self.walked.values for s in node.inputs)

    def _equal_row(
        self,
        position: int,
        node: Node,
        introduced: float | None,
        their_nodes: Mapping[str, Node],
    ) -> Layer:
        tensor = self.walked.tensors[node.output]
        return Layer(
            position=position,
            op=node.op,
            name=node.output,
            reference_name=self.counterparts[node.output],
            dtype=tensor.dtype.name,
            in_steps=tensor.dtype.kind in "iub",
            error=0.0,
            introduced=introduced,
            mean=0.0,
            sqnr_db=np.inf,
            over=False,
            cause=self._told_by_files(node, their_nodes),
        )

    def _row(
        self,
        position: int,
        node: Node,
        total: Evidence,
        own: Evidence | None,
        their_nodes: Mapping[str, Node],
    ) -> Layer:
        alike = self.alike(node.output)
        judged = own or total
        bad = over(judged, self.limits, alike=alike)
        told = self._told_by_files(node, their_nodes)
        if told and own is not None and np.any(own.error != 0):
            # With other parameters on the same inputs another result, however near: no rounding.
            bad = True
        why = cause(judged, self.limits) if bad else ""
        if told and why.startswith("rounding"):
            why = ""  # the small difference has a reason
        if bad:
            told = "; ".join(filter(None, (told, self._output_told(node.output))))
        why = f"{why} ({told})" if why and told else why or told
        noise = float(np.sum((total.actual - total.wanted) ** 2))
        signal = float(np.sum(total.wanted**2))
        return Layer(
            position=position,
            op=node.op,
            name=node.output,
            reference_name=self.counterparts[node.output],
            dtype=self.walked.values[node.output].dtype.name,
            in_steps=bool(total.step),
            error=_greatest(total),
            introduced=None if own is None else _greatest(own),
            mean=float(np.mean(total.error)),
            sqnr_db=np.inf
            if noise == 0
            else float(10 * np.log10(signal / noise))
            if signal > 0 and np.isfinite(noise)
            else float("nan"),
            over=bad,
            cause=why,
        )

    def _output_told(self, name: str) -> str:
        """How the quantization of an output differs between the files."""
        mine, theirs = self.walked.tensors[name], self.expected.tensors[self.counterparts[name]]
        if not (self.other_file and mine.scale and theirs.scale):
            return ""
        found = []
        if mine.scale != theirs.scale:
            found.append(f"the scale of its output is ×{mine.scale / theirs.scale:.4f}")
        if mine.zero_point != theirs.zero_point:
            found.append(
                f"the zero point of its output is {mine.zero_point - theirs.zero_point:+d}"
            )
        return "; ".join(found)

    def _told_by_files(self, node: Node, their_nodes: Mapping[str, Node]) -> str:
        """In which parameters of ``node`` the two files differ, where they could be alike: between
        a quantized model and its float parent, or between formats, all of them differ."""
        counterpart = their_nodes.get(self.counterparts[node.output])
        if (
            counterpart is None
            or not self.other_file
            or not self.alike(node.output)
            or self.formats[0] != self.formats[1]
        ):
            return ""
        return file_differences(self.mine.parameters(node), self.theirs.parameters(counterpart))


def _greatest(evidence: Evidence) -> float:
    return float(np.max(np.abs(evidence.error), initial=0.0))
