"""What a running device can do or prove: one small Protocol for each word of ``needs=``.

A machine that has the methods of a Protocol has that ability; nothing else says so. What an
engine's :meth:`~edge_harness.engines.Engine.probe` names is the part of it that holds here and
now: a container proves a memory limit only where the kernel has control groups.

The Protocols without a word, at the end, are for the harness alone: no test asks for them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal, Protocol, TypeVar, runtime_checkable

if TYPE_CHECKING:
    from edge_harness.engines import Machine
    from edge_harness.engines.log_mark import LogMark
    from edge_harness.profiles import Profile

_P = TypeVar("_P")
_T = TypeVar("_T", bound=type)
StorageAct = Literal["fill", "free", "look", "ro", "rw", "drop_caches"]


@dataclass(frozen=True, kw_only=True)
class Ability:
    """A word of ``needs=``."""

    word: str
    meaning: str
    protocol: type
    """What a machine has that has the ability."""

    def missing_in(self, machine_type: type) -> list[str]:
        """Names of the methods that machines of this type lack for it."""
        wanted = [name for name in vars(self.protocol) if not name.startswith("_")]
        return [name for name in wanted if not callable(getattr(machine_type, name, None))]


_KNOWN: dict[str, Ability] = {}
#: All words, in the order in which they are listed to people.
ABILITIES: Mapping[str, Ability] = MappingProxyType(_KNOWN)


def ability(word: str, meaning: str) -> Callable[[_T], _T]:
    """Make a Protocol the one behind ``word``; ``meaning`` is shown where words are listed."""

    def declare(protocol: _T) -> _T:
        _KNOWN[word] = Ability(word=word, meaning=meaning, protocol=protocol)
        return protocol

    return declare


def word_of(protocol: type) -> str:
    """The word of an ability's Protocol."""
    return next(each.word for each in ABILITIES.values() if each.protocol is protocol)


def abilities_of(machine_type: type) -> frozenset[str]:
    """The words of all abilities that machines of this type have."""
    return frozenset(w for w, each in ABILITIES.items() if not each.missing_in(machine_type))


def bound(thing: object, protocol: type[_P]) -> _P | None:
    """``thing`` seen as ``protocol``, where it has all of its methods; else None.

    The one place where abilities are told from an object: everybody else goes on with a type.
    """
    return thing if isinstance(thing, protocol) else None


# -- what programs on the device are --------------------------------------------------------------


@ability("isa", "instructions the board does not have raise SIGILL")
@runtime_checkable
class PinnedCore(Protocol):
    """All programs see the board's core and no other."""

    def pinned_core(self) -> str:
        """The core as the emulator calls it, as ``cortex-a72``; the harness compares the CPU
        features that programs see with the profile's."""


@ability("numerics", "the board's own kernels compute the outputs")
@runtime_checkable
class BoardKernels(Protocol):
    """Runtimes choose the kernels that they choose on the board."""

    def program_arch(self) -> str:
        """Debian architecture that runtimes are built for, as ``arm64``."""


@ability("crash", "a crashing process is told apart and explained")
@runtime_checkable
class Crashes(Protocol):
    """What a dead process leaves can be looked at."""

    def core_dumps(self, into: Path) -> None:
        """Have core dumps of dead processes in the folder ``into`` on this host; nothing to do
        where the device writes them there itself."""


@ability("offline", "processes on the device cannot reach any network")
@runtime_checkable
class Offline(Protocol):
    """Nothing on the device reaches this machine's network or any other."""

    def interfaces(self) -> frozenset[str]:
        """Network interfaces that programs may see; one more fails the start."""


@ability("rootfs", "processes see the device's own files and no others")
@runtime_checkable
class OwnFiles(Protocol):
    """The device's files are its own."""

    def root(self) -> Path:
        """The tree on this host that programs see as ``/``, without what they wrote."""


# -- limits ---------------------------------------------------------------------------------------


@ability("cpu_quota", "CPU time is limited to the profile's cores")
@runtime_checkable
class CpuQuota(Protocol):
    """CPU time is limited."""

    def limit_cpus(self, cpus: float) -> None:
        """Give the running device ``cpus`` cores' worth of time.

        Raises:
            OptionError: it cannot have so much or so little.
        """


@ability("memory_limit", "memory is limited and the real OOM killer acts")
@runtime_checkable
class MemoryLimit(Protocol):
    """Memory is limited."""

    def limit_memory(self, memory_mib: int) -> None:
        """Give the running device ``memory_mib`` MiB.

        Raises:
            OptionError: it cannot have so much or so little.
        """

    def memory_events(self) -> Mapping[str, int]:
        """``oom_kills``, ``peak_mib`` and ``limit_mib`` so far, those that are known; also after
        its end."""


# -- the board as a whole -------------------------------------------------------------------------


@ability("kernel", "the device runs its own kernel")
@runtime_checkable
class OwnKernel(Protocol):
    """A kernel of its own."""

    def console(self) -> str:
        """What that kernel wrote on its console so far."""


@ability("page_size", "memory pages have the board's size")
@runtime_checkable
class PageSize(Protocol):
    """Pages as on the board."""

    def page_size_kib(self) -> int:
        """Size of a page in KiB; the harness compares it with what programs see."""


@ability("power_loss", "power can be cut in the middle of a write: unsynced data is gone")
@runtime_checkable
class PowerLoss(Protocol):
    """The plug can be pulled."""

    def cut_power(self) -> None:
        """End everything at once. The storage keeps what was synced, and no more."""


@ability("reboot", "the device starts again with the storage it had")
@runtime_checkable
class Reboot(Protocol):
    """Storage outlives a boot: such an engine's ``start`` heeds ``spec.boot``."""

    def sync(self) -> None:
        """Have all that was written on the storage, as an orderly shutdown has."""


@ability("memory", "memory figures are the device's own, free of the emulator's overhead")
@runtime_checkable
class BoardMemory(Protocol):
    """Figures of memory are the board's."""

    def memory_source(self) -> str:
        """Who counts, for reports."""


@ability("storage_faults", "storage can be full, read-only or fail")
@runtime_checkable
class StorageFaults(Protocol):
    """Trouble with the storage."""

    def storage(self, do: StorageAct, *, keep_kib: int = 0) -> int:
        """Fill the storage up to ``keep_kib`` KiB, free it again, remount it read-only or
        writable, drop what is cached of it, or just look; KiB free after it."""

    def fail_io(self, *, read: bool, write: bool, once: bool) -> None:
        """Answer reads or writes with I/O errors from now on, or once."""

    def heal_io(self) -> None:
        """End :meth:`fail_io`."""


@ability("clock", "the device's clock can be set, and starts in 1970 where there is none")
@runtime_checkable
class Clock(Protocol):
    """A clock of its own: such an engine's ``start`` heeds ``spec.boot.clock_s``."""

    def set_clock(self, time_s: float) -> None:
        """Set it to ``time_s`` seconds since 1970."""

    def shift_clock(self, seconds: float) -> None:
        """Let it jump by so many seconds, backwards if negative."""


@ability("cpu_throttle", "processors can be slowed while the device runs")
@runtime_checkable
class CpuThrottle(Protocol):
    """Processors can be slowed."""

    def throttle(self, cpus: float | None, then: Sequence[tuple[float, float | None]]) -> None:
        """Give programs ``cpus`` processors' worth of time, None for all of it; then, so many
        seconds of the device's own clock after the step before, what each pair says."""


@ability("network", "a network can be connected that leads nowhere and records all packets")
@runtime_checkable
class Network(Protocol):
    """A network that leads nowhere."""

    def connect_network(self) -> None:
        """Plug it in and record what goes over it."""

    def disconnect_network(self) -> None:
        """Unplug it: no interface but loopback."""

    def packets(self) -> Path:
        """The recording on this host (pcap); it need not be there before the first connection."""


@ability("pause", "the whole device can be stopped and go on")
@runtime_checkable
class Pause(Protocol):
    """Time can stand still."""

    def pause(self) -> None:
        """Stop everything between two instructions, the device's clock too."""

    def resume(self) -> None:
        """Go on."""


# -- for the harness alone ------------------------------------------------------------------------


@runtime_checkable
class TakesLayers(Protocol):
    """A running machine that does not see the cache's layers, and has to be brought each."""

    def bring_layer(self, key: str) -> None:
        """Have the runtime layer ``key`` at the machine's ``layers_dir``. Cheap where it has it;
        it forgets with every boot."""


@runtime_checkable
class HostTrouble(Protocol):
    """A machine that can tell this host's failures from the device's own."""

    def host_trouble(self, *, ended_well: bool) -> str:
        """How this host, not the device, is to blame for what just happened; "" if it is not.

        Args:
            ended_well: whether the program that just ended thinks that all is well.
        """


@runtime_checkable
class MarksLog(Protocol):
    """A machine that can tell what was written to its log of late from what is older. Without it,
    whose last words the log has is not known."""

    def log_mark(self) -> LogMark | None:
        """How far the log has come; None if that is not known. Asked for before every request to
        a worker: a few microseconds, and no round trip."""

    def log_since(self, mark: LogMark) -> str:
        """What came after ``mark``; all of a log that was begun anew since."""


@runtime_checkable
class SharesFiles(Protocol):
    """A machine whose programs see files of this host, where a diagnosis can read them."""

    def host_root(self) -> Path:
        """The folder of this host that stands for the device's ``/``."""


@dataclass(frozen=True, kw_only=True)
class ShellCommand:
    """A program here that connects this terminal to a shell on the device, and ends with the
    shell's own exit status."""

    argv: tuple[str, ...]
    env: Mapping[str, str]


@runtime_checkable
class OpensShell(Protocol):
    """An engine that can give people a shell on its devices."""

    shell_rank: int | None
    """Place in the order in which ``edge-harness shell`` tries engines; None for only on
    request."""

    def shell(
        self,
        profile: Profile,
        folder: Path,
        *,
        running: Callable[..., Machine],
        say: Callable[[str], None],
    ) -> ShellCommand:
        """The command that is the shell.

        Args:
            profile: the board.
            folder: to write to on this host; removed after the shell's end.
            running: brings a device of this engine up, or with ``join=True`` takes the youngest
                one that runs already; ended after the shell's end.
            say: called with a line of text for the person.

        Raises:
            MissingAbility: programs of such a shell could not start others, or would run on
                this machine's own files.
            MissingTool: something it takes is not there.
        """


@dataclass(frozen=True, kw_only=True)
class Emulator:
    """A QEMU that can be watched."""

    argv: tuple[str, ...]
    version: str
    """As its package or ``--version`` has it."""
    fetched: bool
    """Whether it is the one we fetch, and not an installation whose options nobody knows."""


@runtime_checkable
class Instruments(Protocol):
    """An engine that starts boards whose instructions can be counted: it heeds
    ``spec.instrumentation``."""

    def emulator(self, profile: Profile, progress: Callable[[str], None] | None = None) -> Emulator:
        """What its boards of ``profile`` run on, fetched if need be.

        Raises:
            MissingTool: it can be neither fetched nor found installed.
        """


@runtime_checkable
class RunsNatively(Protocol):
    """An engine for reference runs on this machine's own processor: says nothing about a board."""

    name: str

    def native_arch(self) -> str:
        """Debian architecture of this machine."""


@runtime_checkable
class KeepsImages(Protocol):
    """An engine that keeps copies of images outside the cache."""

    def remove_unknown(self) -> list[str]:
        """Remove those whose image is no longer in the cache; what was removed.

        Raises:
            EdgeError: the place where they are kept cannot be reached.
        """
