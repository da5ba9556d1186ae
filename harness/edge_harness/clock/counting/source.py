"""Estimates for a model that is loaded on a device, whatever engine the device runs on."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from edge_harness.clock.counting.count import Subject
from edge_harness.clock.counting.inputs import made_up
from edge_harness.clock.counting.predict import estimate
from edge_harness.clock.estimate import LatencyEstimate, Percentiles
from edge_harness.errors import InputError, MissingCapability
from edge_harness.models.tensors import arrange

if TYPE_CHECKING:
    from edge_harness.device.session import Session

#: What a session was asked for that does not decide the instructions of one thread.
_OTHERS = ("threads", "resize")


def subject_of(session: Session, inputs: Any = None) -> Subject:
    """What to measure for ``session``.

    Raises:
        MissingCapability: a delegate of the user's own runs the model; it may do so elsewhere
            than on the board's cores.
        InputError: inputs do not fit the model.
    """
    request = {k: v for k, v in session._request.items() if k not in _OTHERS}
    if request.pop("delegates", None):
        raise MissingCapability(
            "the device clock knows the board's cores only; a delegate may run the model elsewhere "
            "(GPU, NPU, DSP), and a guess would be worth nothing",
            next_step="measure on the board (ssh), or load the model without delegates=",
        )
    extra = [name for name in request.get("providers", ()) if name != "CPUExecutionProvider"]
    if extra:
        raise MissingCapability(
            f"the device clock knows the board's cores only, not {', '.join(extra)}",
            next_step="measure on the board (ssh), or load the model without providers=",
        )
    if inputs is None:
        arrays = made_up((t.dtype.name, t.shape) for t in session.inputs)
    else:
        arrays = tuple(arrange(inputs, session.inputs))
    return Subject(
        model=session.model.path,
        content=session.model.content,
        format=session.model.format,
        runtime=session.requirement,
        module=session._spec.partition(":")[2],
        options=tuple(sorted(request.items())),
        inputs=arrays,
    )


def latency(
    session: Session, inputs: Any, *, threads: int | None, refresh: bool | None
) -> LatencyEstimate:
    """See :meth:`edge_harness.device.session.Session.latency`."""
    device = session.device
    return estimate(
        device.profile,
        subject_of(session, inputs),
        threads=threads or int(session.facts["threads"]),
        refresh=device.refresh_clock if refresh is None else refresh,
        progress=device._progress,
    )


def latencies(session: Session, samples: Iterable[Any], *, threads: int | None) -> Percentiles:
    """See :meth:`edge_harness.device.session.Session.latencies`."""
    found = tuple(latency(session, s, threads=threads, refresh=None) for s in samples)
    if not found:
        raise InputError("there are no samples to estimate", next_step="give at least one input")
    return Percentiles(estimates=found)
