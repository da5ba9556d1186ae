"""Where two executions of a model part: tensor by tensor, with what each operator adds itself."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_harness.errors import EdgeError, InputError, UnsupportedModel
from edge_harness.fidelity.graphs import Graph, graph_of
from edge_harness.fidelity.inputs import (
    Evaluates,
    InputMap,
    LoadsOthers,
    OnDevice,
    Runner,
    arranged,
    converted,
)
from edge_harness.fidelity.layer_comparison import Comparison, Walk
from edge_harness.fidelity.layer_names import pairs
from edge_harness.fidelity.layer_report import LayerReport
from edge_harness.fidelity.reference import (
    Way,
    computes_in_integers,
    figure_kind,
    opened,
    side,
    warn_about,
)
from edge_harness.fidelity.tolerances import Tolerances, chosen
from edge_harness.models.tensors import Array

if TYPE_CHECKING:
    from edge_harness.device.session import Session
    from edge_harness.fidelity.evaluator import Evaluator


def layers(
    session: Session,
    reference: Session | Evaluator | str | Path | None,
    x: Any,
    *,
    by: Way = "trusted",
    names: Mapping[str, str] | Callable[[str], str | None] | None = None,
    inputs: InputMap = None,
    tolerances: Tolerances | Mapping[str, float] | None = None,
    isolate: bool = True,
) -> LayerReport:
    """Walk the graphs of ``session`` and ``reference`` tensor by tensor for one input.

    Every intermediate tensor is made an output of a copy of the model. Where an operator's inputs
    already differ, it is run once more on the device on the *reference's* inputs (all such
    operators at once, each cut out of the graph): the error it then shows is what it introduces;
    the rest of its error came from before it. (Of one file on both sides only what is over
    tolerance needs that.)

    Args:
        session: the model on the device.
        reference: as for :func:`edge_harness.fidelity.compare`; None is the session's own file by a
            trusted execution.
        x: one input, as ``session.run`` takes it; real values are quantized where need be.
        by: how a reference given as a file is executed; see ``compare``.
        names: the reference's tensor for each of the device's, where names differ.
        inputs: how to make the reference's input from the model's; see ``compare``.
        tolerances: instead of the defaults; the fields that begin with ``layer_``.
        isolate: False leaves out the second run; errors are then not told apart.

    Returns:
        A row for each operator; ``report.first`` is the first over tolerance.

    Raises:
        InputError: no tensor of one side has a counterpart on the other.
        UnsupportedModel: the file cannot be taken apart, or the reference tells outputs alone.
        MissingTool: an ONNX model, and the package ``onnx`` is not installed.
    """
    limits = chosen(tolerances)
    sample = arranged(x, session)
    with ExitStack() as stack:
        other = stack.enter_context(opened(session, reference, by))
        doubts = warn_about(other)
        mine, theirs = graph_of(session.model), graph_of(other.model)
        counterparts = pairs(mine, theirs, names)
        if not counterparts:
            raise InputError(
                f"no tensor of {session.model.path.name!r} has a counterpart in "
                f"{other.model.path.name!r}",
                next_step="pass names={ours: theirs}; ours are "
                f"{[node.output for node in mine.nodes][:8]}, the reference's "
                f"{[node.output for node in theirs.nodes][:8]}",
            )
        their_sample = converted(sample, session, other, inputs)
        walked, expected = _both(
            lambda: _walk(stack, session, mine, sample),
            lambda: _walk(stack, other, theirs, their_sample),
            # A device is not shared between threads.
            at_once=not (isinstance(other, OnDevice) and other.device is session.device),
        )
        disturbed = _disturbed(session, mine, walked, sample)
        rows = Comparison(
            mine=mine,
            theirs=theirs,
            counterparts=counterparts,
            walked=walked,
            expected=expected,
            formats=(session.model.format, other.model.format),
            limits=limits,
            same_arithmetic=session.model.content == other.model.content
            or computes_in_integers(session.model) == computes_in_integers(other.model),
            other_file=session.model.content != other.model.content,
        )
        alone: Mapping[str, Array] = {}
        failed = ""
        if isolate:
            try:
                alone = rows.isolated(session, sample)
            except EdgeError as error:
                failed = error.message
        return LayerReport(
            layers=rows.finish(alone),
            unmatched=tuple(n.output for n in mine.nodes if n.output not in counterparts),
            device=side(session),
            reference=side(other),
            disturbed=disturbed,
            not_isolated=failed,
            warnings=tuple(doubts),
            figure_kind=figure_kind(session),
        )


def _both(
    left: Callable[[], Walk], right: Callable[[], Walk], *, at_once: bool
) -> tuple[Walk, Walk]:
    """Both at once where they may: the device's emulator and the reference are processes of
    their own."""
    if not at_once:
        return left(), right()
    found: list[Walk] = []
    trouble: list[BaseException] = []

    def work() -> None:
        try:
            found.append(right())
        except BaseException as error:
            trouble.append(error)

    thread = threading.Thread(target=work, name="edge-reference", daemon=True)
    thread.start()
    try:
        first = left()
    finally:
        thread.join()
    if trouble:
        raise trouble[0]
    return first, found[0]


def _walk(stack: ExitStack, runner: Runner, graph: Graph, sample: Sequence[Array]) -> Walk:
    outputs = [node.output for node in graph.nodes]
    if isinstance(runner, Evaluates):
        values = runner.evaluate(sample, outputs)
        described = {n: runner.described(n, v) for n, v in zip(outputs, values, strict=True)}
        return Walk(described, dict(zip(outputs, values, strict=True)))
    if not isinstance(runner, LoadsOthers):
        raise UnsupportedModel(
            f"{side(runner)} tells no tensors but its outputs",
            next_step="walk the layers with a session, or another reference",
        )
    watching = stack.enter_context(runner.other(graph.watched()))
    found = list(watching.run(list(sample)).values())
    return Walk(
        dict(zip(outputs, watching.outputs, strict=True)), dict(zip(outputs, found, strict=True))
    )


def _disturbed(
    session: Session, graph: Graph, walked: Walk, sample: Sequence[Array]
) -> bool | None:
    """Whether watching changed the result, which it may where a runtime fuses operators; None
    where there is nothing to fuse, so that it was not looked at."""
    fuses = session.request.runtime.fuses
    if fuses == "with delegates" and not session.facts["delegates"]:
        return None
    outputs = session.run(list(sample))
    for tensor in session.outputs:
        watched = walked.values.get(tensor.name)
        if watched is not None and watched.tobytes() != outputs[tensor.name].tobytes():
            return True
    return False


__all__ = ["layers"]
