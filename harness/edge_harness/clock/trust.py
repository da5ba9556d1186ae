"""Which parameters hold for a board, and how far to trust them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from typing import TYPE_CHECKING

import msgspec

from edge_harness.clock.pipeline import Core, block_cycles, core_named
from edge_harness.errors import MissingAbility
from edge_harness.profiles.clock import Parameters

if TYPE_CHECKING:
    from edge_harness.profiles import Profile


class General(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """For boards that nobody has measured: fitted to all measured boards together."""

    parameters: Parameters
    cores: dict[str, float]
    """Factor on ``compute`` of each core that was measured: how far its pipeline model is off."""
    dram_share: float
    """Of the DRAM's theoretical bandwidth that inference gets."""
    little_share: float
    """What cores of a chip's small clusters add, of what their clock and width promise."""
    error: float
    """Relative half width of 90 % bounds on a board left out of the fit."""
    rows: int
    boards: int


@dataclass(frozen=True, kw_only=True)
class Trust:
    """Parameters of a board with what they rest on."""

    parameters: Parameters
    error: float
    """Relative half width of 90 % bounds."""
    shortest_ms: float
    """Of the measurements that the overhead was fitted to; infinite where nobody noted it."""
    source: str


@lru_cache(maxsize=1)
def general() -> General:
    """The fit that ships with the package."""
    path = resources.files("edge_harness.clock") / "data" / "general.toml"
    return msgspec.toml.decode(path.read_bytes(), type=General)


def trust_for(profile: Profile) -> Trust:
    """What the clock knows of ``profile``: its own calibration, or the general one."""
    own = profile.clock
    if own is not None:
        return Trust(
            parameters=own,
            error=own.error,
            shortest_ms=own.shortest_ms or math.inf,
            source=f"device-clock ±{own.error:.0%}, calibrated on {own.rows} measurements of this "
            f"board ({own.measured})",
        )
    everyone = general()
    return Trust(
        parameters=general_parameters(profile.memory.bandwidth_gb_s, core_named(profile.cpu.core)),
        error=everyone.error,
        shortest_ms=math.inf,
        source=f"device-clock ±{everyone.error:.0%}, never calibrated on this board: parameters of "
        f"{everyone.rows} measurements on {everyone.boards} other boards",
    )


def general_parameters(dram_peak_gb_s: float, core: Core) -> Parameters:
    """What is known of a board with that core and DRAM before anybody measures it."""
    everyone = general()
    return msgspec.structs.replace(
        everyone.parameters,
        dram_gb_s=dram_peak_gb_s * everyone.dram_share or everyone.parameters.dram_gb_s,
        compute=everyone.parameters.compute * everyone.cores.get(core.name, 1.0),
    )


def thread_equivalent(profile: Profile, threads: int) -> float:
    """How many of the profile's own cores ``threads`` threads are worth.

    On a chip with several kinds of core, threads beyond the big ones run on the small, the
    fastest first, and each is worth its multiply-adds a second against a big one's.
    """
    own = profile.cpu.cores
    if threads <= own:
        return threads
    big = profile.cpu.mhz / _fma_cycles(profile.cpu.core)
    others: list[float] = []
    for cluster in profile.cpu.clusters:
        spare = cluster.count - (own if cluster.core == profile.cpu.core else 0)
        others += [cluster.mhz / _fma_cycles(cluster.core) / big] * max(spare, 0)
    others.sort(reverse=True)
    return own + general().little_share * sum(others[: threads - own])


@lru_cache(maxsize=32)
def _fma_cycles(core: str) -> float:
    """Cycles of a 128-bit multiply-add in a row of independent ones (fmla v0.4s, v16.4s, v17.4s,
    and so on to v15)."""
    code = b"".join((0x4E20CC00 | 17 << 16 | 16 << 5 | n).to_bytes(4, "little") for n in range(16))
    try:
        return block_cycles(core_named(core), code, 16) / 16
    except MissingAbility:
        return 1.0
