"""What somebody wants when a device is opened."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from edge_harness.engines import Instrumentation, Limits
from edge_harness.engines.abilities import CpuQuota, MemoryLimit, word_of
from edge_harness.engines.registry import AUTO

if TYPE_CHECKING:
    from edge_harness.device.latency_source import LatencySource
    from edge_harness.engines.choose import Choice
    from edge_harness.profiles import Profile
    from edge_harness.runtimes import Runtime

Progress = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class DeviceRequest:
    """All that decides which device comes up and how; what users do not set has a default that
    they want. They have :func:`edge_harness.opening.open_device`."""

    profile: Profile
    engine: str = AUTO
    needs: frozenset[str] = frozenset()
    """Words of :data:`edge_harness.engines.abilities.ABILITIES`."""
    choice: Choice | None = None
    """The engine, where it was chosen before; ``engine`` and ``needs`` decided it then."""
    share: str | None = None
    """Processes that give the same string share one running device."""
    limits: Limits = field(default_factory=Limits)
    progress: Progress | None = None
    """Called with a line of text while something slow happens."""
    latency_source: LatencySource | None = None
    """What sessions ask for latencies; None where nobody will ask."""
    among: Sequence[Profile] = ()
    """Profiles among which to look for one that has a missing CPU feature; () for all."""
    runtimes: Sequence[str] = ()
    """Instead of the profile's, where ``load`` names no version: pinned distributions such as
    ``onnxruntime==1.21.0``."""
    warm: tuple[Runtime, str] | None = None
    """Runtime and requirement to import at start, instead of the likely one."""
    instrumentation: Instrumentation | None = None
    """How the board is watched (the device clock's counting)."""

    def all_needs(self) -> frozenset[str]:
        """What is needed, limits among it."""
        wanted = set(self.needs)
        if self.limits.memory_mib is not None:
            wanted.add(word_of(MemoryLimit))
        if self.limits.cpus is not None:
            wanted.add(word_of(CpuQuota))
        return frozenset(wanted)
