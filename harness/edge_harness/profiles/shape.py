"""The shape of a device profile: what its TOML file may say, and what a loaded one looks like.

Everything here is frozen, hashable and survives pickling. Checks of single values are part of
the field's type; checks that need two fields are in ``edge_harness.profiles.file``.
"""

from __future__ import annotations

import operator
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from edge_harness.errors import OptionError, UnsupportedModel
from edge_harness.profiles.clock import Clock
from edge_harness.runtimes import RUNTIMES, Format, Runtime

Isa = Literal[
    "armv5te",
    "armv6",
    "armv7-a",
    "armv8.0-a",
    "armv8.1-a",
    "armv8.2-a",
    "armv8.3-a",
    "armv8.4-a",
    "armv8.5-a",
    "armv8.6-a",
    "armv9.0-a",
    "armv9.2-a",
    "x86-64-v1",
    "x86-64-v2",
    "x86-64-v3",
    "x86-64-v4",
]
Arch = Literal["arm64", "armhf", "armel", "amd64"]
Suite = Literal["bookworm", "trixie"]

_Text = Annotated[str, Meta(min_length=1)]
_Name = Annotated[str, Meta(pattern=r"^[a-z0-9]([a-z0-9._-]*[a-z0-9])?$")]
_Alias = Annotated[str, Meta(pattern=r"^[a-z0-9]([a-z0-9._+-]*[a-z0-9+])?$")]
_Feature = Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9_.]*$")]
_Cores = Annotated[int, Meta(ge=1, le=1024)]
_Mhz = Annotated[float, Meta(gt=0, le=20_000)]
_CacheKib = Annotated[int, Meta(ge=0, le=1_048_576)]
_Mib = Annotated[int, Meta(ge=1, le=16_777_216)]
_Bandwidth = Annotated[float, Meta(ge=0, le=10_000)]
_QemuCpu = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]*(,[A-Za-z0-9._=+-]+)*$")]


class _Table(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table of the file."""


class Cluster(_Table, frozen=True, kw_only=True):
    """Cores of one kind on a chip that has several kinds."""

    core: _Text
    """Arm's name of the core, as ``Cortex-A53``."""
    count: _Cores
    mhz: _Mhz
    l1d_kib: _CacheKib = 0
    """Per core; 0 here and below: not known."""
    l1i_kib: _CacheKib = 0
    """Per core."""
    l2_kib: _CacheKib = 0
    """Of one core's own or of the cluster's, as the core has it."""


class Cpu(_Table, frozen=True, kw_only=True):
    """The processor of the board."""

    soc: _Text
    core: _Text
    """The core that programs run on, as ``Cortex-A72``."""
    cores: _Cores
    """How many of that core programs may use; what ``os.cpu_count()`` says on the device."""
    isa: Isa
    mhz: _Mhz
    """Highest clock that the board sustains with its stock settings."""
    features: tuple[_Feature, ...]
    """What the board's own Linux shows in ``/proc/cpuinfo`` (Arm ``Features``, x86 ``flags``).
    On x86 only the names that stand for instructions."""
    l1d_kib: _CacheKib
    """Per core."""
    l1i_kib: _CacheKib
    """Per core."""
    l2_kib: _CacheKib = 0
    """Of one core's own or of the cluster's, as the core has it; 0 where there is none."""
    l3_kib: _CacheKib = 0
    clusters: tuple[Cluster, ...] = ()
    """All cores of the chip, where it has several kinds (big.LITTLE)."""
    pinned_because: str = ""
    """Why programs are kept on ``core`` and not on the other cores of ``clusters``."""


class Memory(_Table, frozen=True, kw_only=True):
    """RAM of the board."""

    ram_mib: _Mib
    """What is soldered on."""
    usable_mib: _Mib
    """What Linux has of it (``MemTotal``), without what firmware and GPU keep."""
    technology: str = ""
    """Kind and transfer rate of the DRAM, as ``LPDDR4-3200``; "" where not known."""
    bandwidth_gb_s: _Bandwidth = 0
    """Theoretical peak, 10⁹ bytes a second: transfer rate times width of the bus. No program
    reaches it. 0 where not known."""


class Storage(_Table, frozen=True, kw_only=True):
    """The card or flash that the device's files lie on."""

    size_mib: Annotated[int, Meta(ge=64, le=4_194_304)] = 8192
    """What a whole emulated board has for changes to its files."""


class Os(_Table, frozen=True, kw_only=True):
    """The userland that the device runs."""

    arch: Arch
    suite: Suite
    page_size_kib: Annotated[int, Meta(ge=1, le=1024)]
    """Page size of the board's own kernel; user-mode emulation shows the host's instead."""


class Emulation(_Table, frozen=True, kw_only=True):
    """How QEMU stands in for the board, and where the two are known to differ."""

    qemu_cpu: _QemuCpu
    extra_features: tuple[_Feature, ...] = ()
    """What the emulated core has and the board lacks: code that needs them passes wrongly."""
    missing_features: tuple[_Feature, ...] = ()
    """What the board has and the emulated core lacks."""
    cpuinfo: Literal["core", "this-machine"] = "core"
    """Whose processor ``/proc/cpuinfo`` in the emulator shows: the pinned core, or the one that
    the emulator runs on."""
    notes: tuple[str, ...] = ()


class Runtimes(_Table, frozen=True, kw_only=True):
    """What runs models on this device. The file's table has a key for each runtime of
    ``edge_harness.runtimes``, and ``default_runtime_FORMAT`` for each format."""

    requirements: tuple[tuple[str, str], ...] = ()
    """``(runtime, requirement)`` in the file's order; "" where none exists for this device."""
    preferred: tuple[tuple[str, str], ...] = ()
    """``(format, runtime)``: what runs such files when the test names no runtime, where it is
    not the first in the table of runtimes."""
    notes: str = ""
    """Why some are missing."""

    def defaults(self) -> dict[str, str]:
        """``{runtime: requirement}`` of those the device has."""
        return {name: text for name, text in self.requirements if text}


class Profile(_Table, frozen=True, kw_only=True):
    """What a board is. Made by ``ProfileRegistry``, never by hand."""

    name: _Name
    title: _Text
    source_file: str
    """The TOML file that was read."""
    cpu: Cpu
    memory: Memory
    os: Os
    emulation: Emulation
    runtimes: Runtimes = Runtimes()
    storage: Storage = Storage()
    clock: Clock | None = None
    """None where nobody measured this board: then the clock's general figures hold."""
    aliases: tuple[_Alias, ...] = ()
    extends: str = ""
    """Name of the profile this one is based on; "" for none."""
    notes: str = ""
    sources: tuple[tuple[str, str], ...] = ()
    """``(fact, where it is from)``; a fact is ``cpu.mhz``, or ``cpu`` for the whole table."""

    def source_of(self, fact: str) -> str:
        """Where the value of ``cpu.mhz`` (say) is from; "" if the file does not tell."""
        sources = dict(self.sources)
        return sources.get(fact) or sources.get(fact.partition(".")[0], "")

    @property
    def total_cores(self) -> int:
        """Of the chip, of whatever kind, those included that programs are kept away from: as many
        threads as make sense."""
        return max(self.cpu.cores, sum(cluster.count for cluster in self.cpu.clusters))

    def checked_threads(self, threads: int) -> int:
        """``threads`` of a runtime, where the board has a core for each.

        On a chip with several kinds of core all of them count: runtimes put threads on any, and
        published figures do.

        Raises:
            OptionError: it is no whole number, or there are not so many cores.
        """
        most = self.total_cores
        try:
            number = 0 if isinstance(threads, bool) else operator.index(threads)
        except TypeError:
            number = 0
        if not 1 <= number <= most:
            raise OptionError(
                f"threads={threads!r}, but {self.name} has {most} core(s)",
                next_step=f"use 1 to {most}" if most > 1 else "use 1",
            )
        return number

    def runtime_requirement(self, runtime: Runtime) -> str:
        """The requirement for ``runtime`` on this device; "" for one that needs nothing but
        Python.

        Raises:
            UnsupportedModel: nothing is published for this device.
        """
        said = dict(self.runtimes.requirements).get(runtime.name)
        requirement = runtime.requirement if said is None else said
        if requirement or not runtime.distribution:
            return requirement
        have = self.runtimes.defaults()
        reason = self.runtimes.notes or f"its profile {self.source_file} names no distribution"
        raise UnsupportedModel(
            f"{self.name} ({self.title}) has no runtime {runtime.name!r}: {reason}",
            next_step=(
                f"load the model with runtime= one of {', '.join(have)}"
                if have
                else "choose another device for this model; programs of your own run on "
                f"{self.name} with device.run([...])"
            ),
            details={"device": self.name, "runtime": runtime.name, "available": sorted(have)},
        )

    def default_runtime(self, model_format: Format) -> str:
        """Name of the runtime for models of ``model_format`` when the test names none."""
        preferred = dict(self.runtimes.preferred).get(model_format.name)
        return preferred or RUNTIMES.first_running(model_format).name
