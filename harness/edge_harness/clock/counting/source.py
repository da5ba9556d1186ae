"""Estimates for a model that is loaded on a device, whatever engine the device runs on."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from edge_harness.errors import MissingAbility

if TYPE_CHECKING:
    from edge_harness.clock.counting.count import Progress, Subject
    from edge_harness.clock.estimate import LatencyEstimate
    from edge_harness.device.session import Session


def subject_of(session: Session, inputs: Any = None) -> Subject:
    """What to measure for ``session``.

    Raises:
        MissingAbility: a delegate of the user's own runs the model; it may do so elsewhere
            than on the board's cores.
        InputError: inputs do not fit the model.
    """
    from edge_harness.clock.counting.count import Subject
    from edge_harness.clock.counting.inputs import made_up
    from edge_harness.models.tensors import arrange

    for name, values in session.request.off_cores().items():
        raise MissingAbility(
            f"the device clock knows the board's cores only; {name}= {', '.join(values)} may run "
            "the model elsewhere (GPU, NPU, DSP), and a guess would be worth nothing",
            next_step=f"measure on the board (ssh), or load the model without {name}=",
        )
    if inputs is None:
        arrays = made_up((t.dtype.name, t.shape) for t in session.inputs)
    else:
        arrays = tuple(arrange(inputs, session.inputs))
    # The very version that is loaded; shapes are those of the inputs.
    request = replace(session.request, requirement=session.requirement, threads=1, shapes=())
    return Subject(request=request, inputs=arrays)


class DeviceClock:
    """Predicts latencies of a device's sessions; a
    :class:`edge_harness.device.latency_source.LatencySource`."""

    def __init__(self, *, refresh: bool = False, progress: Progress | None = None) -> None:
        """``refresh``: count again although the answer is known (``--edge-refresh``)."""
        self._refresh = refresh
        self._progress = progress

    def latency(
        self,
        session: Session,
        inputs: Any = None,
        *,
        threads: int | None = None,
        refresh: bool | None = None,
    ) -> LatencyEstimate:
        """See :meth:`edge_harness.device.latency_source.LatencySource.latency`."""
        # Not before it is asked for: most tests open a device and never ask for a latency.
        from edge_harness.clock.counting.predict import predict

        return predict(
            session.device.profile,
            subject_of(session, inputs),
            threads=threads or int(session.facts["threads"]),
            refresh=self._refresh if refresh is None else refresh,
            progress=self._progress,
        )
