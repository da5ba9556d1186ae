"""Which parameters hold for a board, and how far to trust them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from typing import TYPE_CHECKING

import msgspec

from harness.profile_clock import Parameters

if TYPE_CHECKING:
    from harness.profile import Profile


class General(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """For boards that nobody has measured: fitted to all measured boards together."""

    parameters: Parameters
    dram_share: float
    """Of the DRAM's theoretical bandwidth that inference gets."""
    dram_gb_s: float
    """Where a profile does not tell its DRAM's bandwidth."""
    little_share: float
    """What a core of a big.LITTLE chip's small cluster adds, of a big one's work."""
    error: float
    """Relative half width of 90 % bounds on a board left out of the fit."""
    systematic: float
    """Part of the error that all models on one board share."""
    rows: int
    boards: int


@dataclass(frozen=True, kw_only=True)
class Trust:
    """Parameters of a board with what they rest on."""

    parameters: Parameters
    error: float
    """Relative half width of 90 % bounds."""
    systematic: float
    source: str


@lru_cache(maxsize=1)
def general() -> General:
    """The fit that ships with the package."""
    path = resources.files("harness.clock") / "data" / "general.toml"
    return msgspec.toml.decode(path.read_bytes(), type=General)


def trust_for(profile: Profile) -> Trust:
    """What the clock knows of ``profile``: its own calibration, or the general one."""
    own = profile.clock
    if own is not None:
        return Trust(
            parameters=own,
            error=own.error,
            systematic=own.systematic,
            source=f"device-clock ±{own.error:.0%}, calibrated on {own.rows} measurements of this "
            f"board ({own.measured})",
        )
    everyone = general()
    bandwidth = profile.memory.bandwidth_gb_s * everyone.dram_share or everyone.dram_gb_s
    return Trust(
        parameters=msgspec.structs.replace(everyone.parameters, dram_gb_s=bandwidth),
        error=everyone.error,
        systematic=everyone.systematic,
        source=f"device-clock ±{everyone.error:.0%}, never calibrated on this board: parameters of "
        f"{everyone.rows} measurements on {everyone.boards} other boards",
    )


def thread_equivalent(profile: Profile, threads: int) -> float:
    """How many of the profile's own cores ``threads`` threads are worth.

    On a chip with several kinds of core, threads beyond the big ones run on the small.
    """
    big = profile.cpu.cores
    return threads if threads <= big else big + (threads - big) * general().little_share


def most_threads(profile: Profile) -> int:
    """All cores of the chip."""
    return max(profile.cpu.cores, sum(cluster.count for cluster in profile.cpu.clusters))
