"""Which tensor of one graph is which of another."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from edge_harness.errors import InputError
from edge_harness.fidelity.graphs import Graph, Node

#: Operators that change the representation of a tensor and compute nothing.
_REPRESENTING = frozenset({"QUANTIZE", "DEQUANTIZE", "QuantizeLinear", "DequantizeLinear"})
#: What converters and quantizers add to the name of a tensor, the longest first.
_ENDINGS = (
    "_QuantizeLinear_Output",
    "_DequantizeLinear_Output",
    "_quantized",
    "_QuantizeLinear",
    "_q",
    ":0",
)


def pairs(
    ours: Graph,
    theirs: Graph,
    names: Mapping[str, str] | Callable[[str], str | None] | None,
) -> dict[str, str]:
    """The reference's tensor for each of ours that has one.

    What the user says comes first; then equal names; then, where both graphs are the same
    sequence of operators, the same place in it; then names that are equal without what
    converters add to them, for operators of which both graphs have one.
    """
    known = [node.output for node in theirs.nodes]
    if names is not None:
        return _said(ours, set(known), names)
    found: dict[str, str] = {}
    our_line = [n for n in ours.nodes if n.op not in _REPRESENTING]
    their_line = [n for n in theirs.nodes if n.op not in _REPRESENTING]
    same = set(known)
    for node in ours.nodes:
        if node.output in same:
            found[node.output] = node.output
    if [_kind(n) for n in our_line] == [_kind(n) for n in their_line]:
        for node, other in zip(our_line, their_line, strict=True):
            found.setdefault(node.output, other.output)
    plain: dict[str, str] = {}
    for name in known:
        for word in _words(name):
            plain.setdefault(word, name)
    taken = set(found.values())
    for node in ours.nodes:
        if node.output in found:
            continue
        for word in _words(node.output):
            if word in plain and plain[word] not in taken:
                found[node.output] = plain[word]
                break
    return found


def _said(
    ours: Graph, known: set[str], names: Mapping[str, str] | Callable[[str], str | None]
) -> dict[str, str]:
    own = [node.output for node in ours.nodes]
    if callable(names):
        answers = {name: names(name) for name in own}
        return {name: other for name, other in answers.items() if other in known and other}
    for name, other in names.items():
        if name not in own or other not in known:
            raise InputError(
                f"names={{{name!r}: {other!r}}} does not name a tensor of each side",
                next_step=f"ours are {own[:12]}, the reference's {sorted(known)[:12]}",
            )
    return dict(names)


def _kind(node: Node) -> str:
    """The operator without the activation that one side may have fused."""
    return node.op.split("+")[0]


def _words(name: str) -> list[str]:
    """The parts of a name to compare: TFLite's converter joins the names of what it fused."""
    words = []
    for part in name.split(";"):
        for ending in _ENDINGS:
            part = part.removesuffix(ending)
        if part:
            words.append(part)
    return words[:1]
