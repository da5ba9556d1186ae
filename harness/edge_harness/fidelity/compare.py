"""Compare a session with a reference over many samples."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, get_args

from edge_harness.errors import InputError, OptionError
from edge_harness.fidelity.inputs import InputMap, arranged, converted
from edge_harness.fidelity.measuring import OutputMap, Task, build
from edge_harness.fidelity.reference import Reference, Way, opened, output_steps, warn_about
from edge_harness.fidelity.report import KINDS, Kind, Report
from edge_harness.fidelity.tolerances import Tolerances, chosen

if TYPE_CHECKING:
    from edge_harness.device.session import Session

TASKS: tuple[Task, ...] = get_args(Task)


def compare(
    session: Session,
    reference: Reference = None,
    samples: Iterable[Any] = (),
    *,
    kind: Kind | None = None,
    by: Way = "trusted",
    labels: Iterable[int] | None = None,
    inputs: InputMap = None,
    outputs: OutputMap = None,
    task: Task | None = None,
    k: int = 5,
    tolerances: Tolerances | Mapping[str, float] | None = None,
) -> Report:
    """Run ``samples`` on ``session`` and on ``reference`` and measure the distance.

    Two questions are kept apart. The same file as reference asks for *port fidelity*: does the
    device compute what the file says? Another model asks for *quantization fidelity*: is the
    compressed model like its parent? ``kind="student"`` is for pruned and distilled models, of
    which only the answers are held against the teacher's, or the labels where there are any.

    Args:
        session: the model on the device.
        reference: another session; a model file; or None for the session's own file.
        samples: inputs for ``session``, as ``run`` takes them. Real values are quantized for
            models with integer inputs, and integers dequantized for a float reference.
        kind: ``port``, ``quantization`` or ``student``; by default by whether the files are
            the same.
        by: how a reference file is executed: ``trusted`` (TFLite's reference kernels,
            ``onnx.reference`` in double precision), ``native`` (the runtime's optimised kernels on
            this machine), ``device`` (on the session's device).
        labels: the right class of each sample.
        inputs: the reference's input for each of the model's, or a function that takes ``{name:
            real array}`` and returns the reference's sample.
        outputs: the reference's output for each of the model's (others are left out), or a
            function that takes the reference's outputs and returns ``{our name: array}``.
        task: ``classification`` checks top-1 agreement; by default that is done where labels are
            given or the first output holds probabilities. ``other`` leaves it out.
        k: for top-k agreement.
        tolerances: instead of the defaults; see :class:`edge_harness.fidelity.Tolerances`.

    Returns:
        A report whose ``verdict`` is ``passed``, ``failed`` or ``vacuous``; the last where there
        are no samples, or outputs that do not vary with the inputs.

    Raises:
        InputError: samples, inputs or outputs do not fit.
        OptionError: an argument is wrong.
        MissingTool: an ONNX reference, and the package ``onnx`` is not installed.
    """
    if kind is not None and kind not in KINDS:
        raise OptionError(f"there is no kind {kind!r}", next_step=f"use one of: {', '.join(KINDS)}")
    if task is not None and task not in TASKS:
        raise OptionError(f"there is no task {task!r}", next_step=f"use one of: {', '.join(TASKS)}")
    limits = chosen(tolerances)
    arrays = [arranged(sample, session) for sample in samples]
    truth = None if labels is None else [int(label) for label in labels]
    if truth is not None and len(truth) != len(arrays):
        raise InputError(
            f"there are {len(arrays)} samples and {len(truth)} labels",
            next_step="pass one label for each sample",
        )
    actual = session.run_many(arrays)
    with opened(session, reference, by) as other:
        doubts = warn_about(other)
        wanted = other.run_many([converted(s, session, other, inputs) for s in arrays])
        same = other.model.content == session.model.content
        return build(
            session,
            other,
            arrays,
            actual,
            wanted,
            kind=kind or ("port" if same else "quantization"),
            truth=truth,
            mapping=outputs,
            task=task,
            k=k,
            limits=limits,
            doubts=doubts,
            steps=output_steps(session.model),
        )


def assert_faithful(
    session: Session,
    reference: Reference = None,
    samples: Iterable[Any] = (),
    *,
    kind: Kind | None = None,
    by: Way = "trusted",
    labels: Iterable[int] | None = None,
    inputs: InputMap = None,
    outputs: OutputMap = None,
    task: Task | None = None,
    k: int = 5,
    tolerances: Tolerances | Mapping[str, float] | None = None,
) -> Report:
    """:func:`compare`, and assert that the report passed; takes what ``compare`` takes.

    Returns:
        The report, for further assertions.

    Raises:
        AssertionError: with the whole comparison in words. Outputs that do not vary with the
            inputs, and no samples at all (``vacuous``), are no pass either.
    """
    __tracebackhide__ = True
    report = compare(
        session,
        reference,
        samples,
        kind=kind,
        by=by,
        labels=labels,
        inputs=inputs,
        outputs=outputs,
        task=task,
        k=k,
        tolerances=tolerances,
    )
    if not report.passed:
        raise AssertionError(report.explanation())
    return report


__all__ = ["assert_faithful", "compare"]
