"""Properties of the same input run in another way: again, elsewhere, after others, in a batch, on
other threads."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from edge_harness.errors import MissingAbility
from edge_harness.fidelity.checks import other_bits
from edge_harness.fidelity.distance import Tolerance, distance
from edge_harness.models.tensors import Array, Outputs
from edge_harness.properties.drawing import Ranges, drawing_of
from edge_harness.properties.hunt import hunt
from edge_harness.properties.hunted import Hunt
from edge_harness.properties.judging import Judged, answers, pairwise
from edge_harness.properties.smallest import Inputs

if TYPE_CHECKING:
    from edge_harness.device.session import Session


def deterministic(
    session: Session,
    *,
    name: str = "deterministic",
    max_examples: int = 100,
    ranges: Ranges | None = None,
    samples: Sequence[Any] = (),
    float_range: tuple[float, float] | None = None,
) -> Hunt:
    """The same input gives the same bits when it is run again, and in a second worker.
    Arguments as those of :func:`edge_harness.properties.check`."""
    drawing = drawing_of(ranges, samples, float_range)
    with session.again() as other:

        def judge(inputs: Sequence[Inputs]) -> list[Judged]:
            first = answers(session, inputs)
            again = pairwise(first, answers(session, inputs), _bits("in a second run"))
            elsewhere = pairwise(first, answers(other, inputs), _bits("in another worker"))
            return [a if a.failure else b for a, b in zip(again, elsewhere, strict=True)]

        return hunt(session, judge, name=name, max_examples=max_examples, drawing=drawing)


def _bits(what: str) -> Callable[[Outputs, Outputs], Judged]:
    return lambda one, other: Judged(failure=other_bits(one, other, what))


def independent(
    session: Session,
    *,
    name: str = "independent",
    max_examples: int = 100,
    ranges: Ranges | None = None,
    samples: Sequence[Any] = (),
    float_range: tuple[float, float] | None = None,
) -> Hunt:
    """What an input gives does not depend on the inputs before it: no state leaks.

    Each batch runs in order in one fresh worker and in reverse in another. When an answer
    differs, the earlier inputs are cut down to one that suffices, if there is one.
    """
    drawing = drawing_of(ranges, samples, float_range)
    history: list[Inputs] = []

    def leaks(before: Sequence[Inputs], sample: Inputs) -> Judged:
        with session.again() as one, session.again() as two:
            alone = answers(one, [sample])
            after = answers(two, [*before, sample], in_order=True)[-1:]
        many = "another input" if len(before) == 1 else f"{len(before)} other inputs"
        return pairwise(alone, after, _bits(f"after {many}"))[0]

    def judge(inputs: Sequence[Inputs]) -> list[Judged]:
        if history:
            return [leaks(history, sample) for sample in inputs]
        with session.again() as one, session.again() as two:
            forward = answers(one, inputs, in_order=True)
            back = answers(two, inputs[::-1], in_order=True)[::-1]
        found = pairwise(forward, back, _bits("when the inputs run in another order"))
        for position, judged in enumerate(found):
            if not judged.failure or judged.error is not None:
                continue
            before, after = inputs[:position], inputs[:position:-1]
            for others in (before[-1:], after[-1:], before, after):
                worse = leaks(others, inputs[position]) if others else Judged()
                if worse.failure:
                    history[:] = others
                    found[position] = worse
                    return found
        return found

    return hunt(session, judge, name=name, max_examples=max_examples, drawing=drawing)


#: TFLite's optimised int8 kernels multiply one row and several with different code that rounds
#: differently: up to 3 steps at the output of a small convolutional model, tflite-runtime 2.14.0
#: and ai-edge-litert 2.3.0. Reference kernels and XNNPACK gave the same bits (900 inputs each).
UNPROMISED_STEPS = 4


def exact(session: Session, *, batch: bool = False) -> bool:
    """Whether the runtime gives the same bits however the work is divided among threads, or
    among batches with ``batch``.

    It does where all numbers are whole, because integer sums do not depend on their order; but
    TFLite's optimised kernels without XNNPACK round a batch otherwise than a single row. Floats
    are promised no more than to be close.
    """
    tensors = (*session.inputs, *session.outputs)
    if not all(tensor.dtype.kind in "iub" for tensor in tensors):
        return False
    return not batch or (
        session.facts.get("kernels") != "builtin"
        and (session.facts.get("kernels") != "xnnpack" or bool(session.facts.get("delegates")))
    )


def _same(
    session: Session, a: Outputs, b: Mapping[str, Array], what: str, tolerance: Tolerance | None
) -> Judged:
    if tolerance is None:
        return Judged(failure=other_bits(a, b, what))
    for tensor in session.outputs:
        far = distance(a[tensor.name], b[tensor.name], tensor, tensor, tolerance)
        if not far.units <= 1:
            return Judged(failure=f"output {tensor.name!r} differs {what}: {far.text}")
    return Judged()


def batch_invariant(
    session: Session,
    *,
    max_examples: int = 100,
    name: str = "batch_invariant",
    tolerance: Tolerance | None = None,
    ranges: Ranges | None = None,
    samples: Sequence[Any] = (),
    float_range: tuple[float, float] | None = None,
) -> Hunt:
    """An input gives the same in a batch of three as alone: bit for bit where the runtime
    promises it (see :func:`exact`), else within ``tolerance``, by default 4 quantization steps
    or, of floats, 1e-5 absolute and relative.

    Raises:
        MissingAbility: the model's batch size is fixed.
    """
    fixed = [t for t in (*session.inputs, *session.outputs) if t.shape_signature[:1] != (-1,)]
    if fixed:
        raise MissingAbility(
            f"the batch size of {session.model.path.name} is fixed: {fixed[0]}",
            next_step="export the model with a free first dimension, or leave this property out",
        )
    drawing = drawing_of(ranges, samples, float_range)
    limits = tolerance
    if limits is None and not exact(session, batch=True):
        limits = Tolerance(max_steps=UNPROMISED_STEPS)

    def judge(inputs: Sequence[Inputs]) -> list[Judged]:
        single = [{n: a[:1] for n, a in sample.items()} for sample in inputs]
        three = [
            {n: np.concatenate([a, a[..., ::-1], a]) for n, a in sample.items()}
            for sample in single
        ]

        def compared(alone: Outputs, batch: Outputs) -> Judged:
            if any(len(v) != 3 * len(alone[n]) for n, v in batch.items()):
                return Judged(failure="the outputs do not follow the batch size")
            rows = [{n: v[row : row + 1] for n, v in batch.items()} for row in (0, 2)]
            first = _same(session, alone, rows[0], "in a batch, first row", limits)
            return (
                first
                if first.failure
                else _same(session, alone, rows[1], "in a batch, last row", limits)
            )

        return pairwise(answers(session, single), answers(session, three), compared)

    return hunt(session, judge, name=name, max_examples=max_examples, drawing=drawing)


def thread_invariant(
    session: Session,
    *,
    threads: int | None = None,
    max_examples: int = 100,
    name: str = "thread_invariant",
    tolerance: Tolerance | None = None,
    ranges: Ranges | None = None,
    samples: Sequence[Any] = (),
    float_range: tuple[float, float] | None = None,
) -> Hunt:
    """An input gives the same with ``threads`` threads (default: all of the board's cores, or 1
    where the session has them all): bit for bit where numbers are whole, else within
    ``tolerance``.

    Raises:
        MissingAbility: the board has one core.
    """
    cores = session.device.profile.cpu.cores
    now = int(session.facts.get("threads", 1))
    wanted = threads or (cores if now != cores else 1)
    if wanted == now:
        raise MissingAbility(
            f"{session.device.name} has one core, so there is nothing to compare",
            next_step="leave this property out on this device",
        )
    drawing = drawing_of(ranges, samples, float_range)
    limits = tolerance
    if limits is None and not exact(session):
        limits = Tolerance()
    with session.again(threads=wanted) as other:

        def judge(inputs: Sequence[Inputs]) -> list[Judged]:
            what = f"with {wanted} threads instead of {now}"
            return pairwise(
                answers(session, inputs),
                answers(other, inputs),
                lambda a, b: _same(session, a, b, what, limits),
            )

        return hunt(session, judge, name=name, max_examples=max_examples, drawing=drawing)
