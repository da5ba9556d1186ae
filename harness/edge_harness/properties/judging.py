"""What a property says of one input, and how inputs are run to be judged."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from edge_harness.errors import DeviceFailed
from edge_harness.models.tensors import Outputs
from edge_harness.properties.smallest import Inputs

if TYPE_CHECKING:
    from edge_harness.fidelity.inputs import Runner


@dataclass(frozen=True)
class Judged:
    """What a property says of one input."""

    failure: str = ""
    """Empty where it holds."""
    error: DeviceFailed | None = None
    """What the device died of, where it did."""
    scores: dict[str, float] = field(default_factory=dict)
    """What a targeted search drives up, by label; ``error`` is the distance itself."""
    outputs: npt.NDArray[np.float64] | None = None
    """Real values of all outputs with the error behind them, to learn from."""
    answer: Outputs | None = None
    """What the model gave, to see whether it varies at all."""
    ran: bool = True
    """Whether the input ran at all: what comes after a deadly one does not."""


Judge = Callable[[Sequence[Inputs]], list[Judged]]
#: In place of the answers to what comes after a deadly input.
NOT_RUN = DeviceFailed("not run: an earlier input killed the worker")


def dead(answer: Outputs | DeviceFailed) -> Judged | None:
    """What an answer says that is none; None for outputs."""
    if answer is NOT_RUN:
        return Judged(ran=False)
    if isinstance(answer, DeviceFailed):
        return Judged(failure=f"the device failed: {answer.message.splitlines()[0]}", error=answer)
    return None


def pairwise(
    first: Sequence[Outputs | DeviceFailed],
    second: Sequence[Outputs | DeviceFailed],
    compared: Callable[[Outputs, Outputs], Judged],
) -> list[Judged]:
    """``compared`` of both answers to each input, where there are two."""
    found = []
    for a, b in zip(first, second, strict=True):
        if isinstance(a, DeviceFailed) or isinstance(b, DeviceFailed):
            found.append(dead(a) or dead(b) or Judged())
        else:
            found.append(replace(compared(a, b), answer=a))
    return found


def answers(
    session: Runner, samples: Sequence[Inputs], *, in_order: bool = False
) -> list[Outputs | DeviceFailed]:
    """Outputs of each sample up to the first that the device dies of, and what it died of.

    Samples of one shape run together, because a model is resized between shapes, unless
    ``in_order`` is asked for.
    """
    if in_order or len(samples) < 3:
        return _run_in_order(session, samples)
    order = sorted(
        range(len(samples)), key=lambda i: [array.shape for array in samples[i].values()]
    )
    found = _run_in_order(session, [samples[i] for i in order])
    return [answer for _, answer in sorted(zip(order, found, strict=True), key=lambda p: p[0])]


def _run_in_order(session: Runner, samples: Sequence[Inputs]) -> list[Outputs | DeviceFailed]:
    try:
        return list(session.run_many(samples))
    except DeviceFailed as error:
        fatal = int(error.details.get("example", 0))
        before = session.run_many(samples[:fatal]) if fatal else []
        return [*before, error, *[NOT_RUN] * (len(samples) - fatal - 1)]
