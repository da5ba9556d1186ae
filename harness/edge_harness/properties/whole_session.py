"""Properties of the session as a whole: what it must refuse, and what it must not keep."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from edge_harness.errors import DeviceFailed, InputError, RuntimeFailed
from edge_harness.evidence import Figure
from edge_harness.models.tensors import Array, Outputs
from edge_harness.properties.drawing import Ranges, drawing_of
from edge_harness.properties.failing import PropertyFailed
from edge_harness.properties.hunted import Hunt
from edge_harness.properties.smallest import Inputs
from edge_harness.strategies.space import Space

if TYPE_CHECKING:
    from edge_harness.device.session import Session

_Fail = Callable[[str, Inputs], PropertyFailed]
#: A dtype that a runtime may not take in place of one of this kind.
_OTHER = {"b": "float32", "i": "float32", "u": "float32", "f": "int8", "c": "float32"}


def refuses_illegal(
    session: Session,
    *,
    illegal: Sequence[Any] = (),
    name: str = "refuses_illegal",
    ranges: Ranges | None = None,
    samples: Sequence[Any] = (),
    float_range: tuple[float, float] | None = None,
) -> Hunt:
    """Inputs of another dtype, rank, size or name are refused, by the check on this machine
    and, sent past it, by the runtime on the device; afterwards the worker answers as before.

    Args:
        illegal: more inputs that must be refused, in the model's own dtypes and shapes: a token
            beyond the vocabulary, say. Raising an error is right, an answer or a crash is not.

    Raises:
        PropertyFailed: an illegal input was answered, or changed later answers.
        DeviceFailed: one killed the worker.
    """
    started = time.monotonic()
    space = drawing_of(ranges, samples, float_range).space(session)
    legal = space.build(0)
    before = session.run(legal)
    result = Hunt()

    def fail(what: str, inputs: Inputs) -> PropertyFailed:
        return PropertyFailed(
            f"{name}: {what}\n  on {session.device.name} ({session.device.engine}), "
            f"{session.runtime}, kernels {session.kernels}",
            name=name,
            inputs=inputs,
            found=inputs,
            repeatable=True,
        )

    for what, wrong in _wrong(legal, space):
        result.examples += 1
        try:
            session.run(wrong)
        except InputError:
            pass
        else:
            raise fail(f"{what} was answered, not refused", wrong)
        if list(wrong) == list(legal):
            _past_the_check(session, wrong, what, fail)
        _still_the_same(session, legal, before, what, fail)
    for number, each in enumerate(illegal):
        result.examples += 1
        what = f"illegal[{number}]"
        try:
            session.run(each)
        except (InputError, RuntimeFailed):
            pass
        else:
            raise fail(f"{what} was answered, not refused", _as_dict(each, session))
        _still_the_same(session, legal, before, what, fail)
    result.seconds = time.monotonic() - started
    return result


def _as_dict(value: Any, session: Session) -> Inputs:
    if isinstance(value, Mapping):
        return dict(value)
    values = [value] if len(session.inputs) == 1 else list(value)
    return {t.name: np.asarray(v) for t, v in zip(session.inputs, values, strict=False)}


def _past_the_check(session: Session, wrong: Inputs, what: str, fail: _Fail) -> None:
    try:
        session.run_unchecked(list(wrong.values()))
    except RuntimeFailed:
        return
    except DeviceFailed as error:
        text = f"{error.message}\n  the input was illegal: {what}"
        raise error.but(message=text) from error.__cause__
    raise fail(f"the runtime answered {what} instead of refusing it", wrong)


def _still_the_same(
    session: Session, legal: Inputs, before: Outputs, what: str, fail: _Fail
) -> None:
    after = session.run(legal)
    if any(after[n].tobytes() != values.tobytes() for n, values in before.items()):
        raise fail(f"after {what} was refused, a legal input gives something else", legal)


def _wrong(legal: Inputs, space: Space) -> Iterator[tuple[str, Inputs]]:
    for span in space.spans:
        name, array = span.tensor.name, legal[span.tensor.name]
        other = _OTHER[array.dtype.kind]
        yield f"input {name!r} as {other}", {**legal, name: array.astype(other)}
        yield f"input {name!r} with another axis", {**legal, name: array[np.newaxis]}
        if array.ndim:
            yield f"input {name!r} without its first axis", {**legal, name: array[0]}
        for axis, size in enumerate(span.tensor.shape_signature):
            if size < 1:
                continue
            for wrong in (size + 1, size - 1):
                changed: Array = np.take(array, np.arange(wrong) % size, axis)
                yield f"input {name!r} with {wrong} in axis {axis}", {**legal, name: changed}
        yield f"no input {name!r}", {n: a for n, a in legal.items() if n != name}
    yield "an input that is not the model's", {**legal, "no such input": np.zeros(1)}


def memory_flat(
    session: Session,
    *,
    calls: int = 400,
    max_growth_mib: float = 1.0,
    name: str = "memory_flat",
    ranges: Ranges | None = None,
    samples: Sequence[Any] = (),
    float_range: tuple[float, float] | None = None,
) -> Hunt:
    """The worker's resident memory stops growing: the second half of ``calls`` adds at most
    ``max_growth_mib`` to what it was after the first half, which warms caches up.

    The absolute figure of an emulated process holds the translator's memory too; growth at
    constant work is what leaks.

    Raises:
        PropertyFailed: it grows; the message has the figures.
        DeviceFailed: an input killed the worker.
    """
    started = time.monotonic()
    space = drawing_of(ranges, samples, float_range).space(session)
    inputs = [space.build(code) for code in range(min(calls, 16))]
    pattern = [inputs[i % len(inputs)] for i in range(max(1, calls // 4))]
    figures = []
    for _ in range(4):
        session.run_many(pattern)
        figures.append(session.memory().rss_mib)
    growth = figures[3] - figures[1]
    if growth > max_growth_mib and figures[3] > figures[2]:
        raise PropertyFailed(
            f"{name}: resident memory grew by {growth:.2f} MiB over {2 * len(pattern)} calls "
            f"(allowed {max_growth_mib:g}): "
            + ", ".join(f"{f:.2f}" for f in figures)
            + f" MiB after each quarter, {session.memory().source}",
            name=name,
            inputs=inputs[0],
            found=inputs[0],
            repeatable=True,
        )
    return Hunt(
        examples=4 * len(pattern),
        seconds=time.monotonic() - started,
        worst=growth,
        figures=(
            Figure(
                value=growth,
                unit="MiB",
                kind=session.device.figure_kind,
                source=f"growth over {2 * len(pattern)} calls, {session.memory().source}",
            ),
        ),
    )
