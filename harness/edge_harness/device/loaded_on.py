"""What a session needs of the device that its model is loaded on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from edge_harness.device.loading import Loading

if TYPE_CHECKING:
    from edge_harness.device.latency_source import LatencySource
    from edge_harness.evidence import FigureKind
    from edge_harness.models.file import ModelFile
    from edge_harness.profiles import Profile
    from edge_harness.runtimes import LoadRequest


class LoadedOn(Protocol):
    """The device of a session: :class:`edge_harness.device.device.Device`, seen from below."""

    profile: Profile
    loading: Loading

    @property
    def name(self) -> str:
        """Of the profile."""

    @property
    def engine(self) -> str:
        """Name of the engine that runs it."""

    @property
    def abilities(self) -> frozenset[str]:
        """What it can do or prove."""

    @property
    def figure_kind(self) -> FigureKind:
        """How figures seen on it come about."""

    @property
    def memory_source(self) -> str:
        """Whose figures those of memory are, in a few words."""

    @property
    def latency_source(self) -> LatencySource | None:
        """What latencies are asked of; None where nobody knows."""

    def load(self, model: str | Path | ModelFile, *, runtime: str | None = None) -> Any:
        """A session of another model."""

    def open_session(self, request: LoadRequest, *, timeout_s: float = 300.0) -> Any:
        """A session for ``request``: a fresh worker."""

    def log(self) -> str:
        """All that the device, its agent and its emulator wrote."""
