"""The device clock as what a device's sessions ask for latencies."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edge_harness.clock.estimate import LatencyEstimate
    from edge_harness.device.latency_source import LoadedModel

Progress = Callable[[str], None]


class DeviceClock:
    """Predicts; a :class:`edge_harness.device.latency_source.LatencySource`."""

    def __init__(self, *, refresh: bool = False, progress: Progress | None = None) -> None:
        """``refresh``: count again although the answer is known (``--edge-refresh``)."""
        self._refresh = refresh
        self._progress = progress

    def latency(
        self,
        model: LoadedModel,
        inputs: Any = None,
        *,
        threads: int | None = None,
        refresh: bool | None = None,
    ) -> LatencyEstimate:
        """See :meth:`edge_harness.device.latency_source.LatencySource.latency`."""
        # Not before it is asked for: most tests open a device and never ask for a latency.
        from edge_harness.clock.counting.inference import of_loaded
        from edge_harness.clock.counting.predict import predict

        return predict(
            model.profile,
            of_loaded(model, inputs, threads=threads),
            refresh=self._refresh if refresh is None else refresh,
            progress=self._progress,
        )
