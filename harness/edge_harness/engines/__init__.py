"""The seam between what a device is and what brings it to life.

An engine answers three things: *can I run here, and what can I prove* (:meth:`Engine.probe`),
*start the agent and give me byte streams to it* (:meth:`Engine.start`, :meth:`Machine.connect`),
and *apply a limit, a fault, a network policy*, through the Protocols of
:mod:`edge_harness.engines.abilities` that its machines have the methods of. Everything above is
shared by all engines, and knows none of them by name.

An engine of another distribution is a class named by an entry point in the group
``edge_harness.engines``. What the built-in ones are made from is there for it too:
:mod:`~edge_harness.engines.launch` (the agent's command line, environment and sockets) and
:mod:`~edge_harness.engines.process_machine` (a device that is a process of this host).
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from edge_harness.evidence import FigureKind

if TYPE_CHECKING:
    from edge_harness.image import Environment, Image
    from edge_harness.image.kernel import Kernel
    from edge_harness.profiles import Profile
    from edge_harness.runtimes import WarmParent
    from edge_harness.system.checks import Check


@dataclass(frozen=True, kw_only=True)
class Availability:
    """Whether an engine can run a profile on this machine, and what it then proves."""

    engine: str
    available: bool
    reason: str
    """Why not, or how it will run (one line, shown in the header)."""
    fix: str = ""
    """The command or action that would make it available."""
    abilities: frozenset[str] = frozenset()
    """What holds here and now, words of :data:`edge_harness.engines.abilities.ABILITIES`: of what
    the engine's machines have the methods for."""
    without: Mapping[str, str] = field(default_factory=dict)
    """Why abilities that people may look for are not among them: ``{word: reason}``."""
    figure_kind: FigureKind = "emulated"
    """How figures seen on such a device come about; ``native`` where this machine's own processor
    runs its programs, ``measured`` where they run on the board itself."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What the device may use; ``None`` leaves the profile's own figure."""

    memory_mib: int | None = None
    cpus: float | None = None


@dataclass(frozen=True, kw_only=True)
class Boot:
    """How a device with a kernel of its own comes up."""

    keep_storage: bool = False
    """Boot on the storage the device had before, as after a power cut."""
    clock_s: float | None = None
    """What its clock shows at boot, in seconds since 1970; None for this machine's time."""


@dataclass(frozen=True, kw_only=True)
class Instrumentation:
    """How a board is watched while it runs, by engines that implement
    :class:`edge_harness.engines.abilities.Instruments`. Programs of such a board lie at the same
    addresses and hash alike at every start, everywhere, so that what is seen can be repeated."""

    plugin: str = ""
    """What QEMU's ``-plugin`` loads."""
    icount: bool = False
    """Whether the board's clock is to count instructions, one a nanosecond."""


@dataclass(frozen=True, kw_only=True)
class ImageNeed:
    """A root filesystem by Debian architecture and suite."""

    arch: str
    suite: str


@dataclass(frozen=True, kw_only=True)
class KernelNeed:
    """A kernel by Debian architecture and size of its pages."""

    arch: str
    page_size_kib: int


@dataclass(frozen=True, kw_only=True)
class Requirements:
    """What an engine needs before it starts a board of a profile; the harness makes it and hands
    it over in the :class:`StartSpec`."""

    image: ImageNeed | None = None
    """None where the board has files of its own: no Debian tree is built then, and
    ``environment`` says which wheels fit."""
    kernel: KernelNeed | None = None
    """None where the device runs on this machine's kernel, or on one of its own."""
    environment: Environment | None = None
    """What decides which wheels of runtimes the board can load; None for what the image says."""
    runtime: bool = False
    """Whether the runtime that most tests will ask for is wanted before the start, fetched if need
    be: worth it where what is started is saved with the runtime imported and used many times."""


@dataclass(frozen=True, kw_only=True)
class StartSpec:
    """All an engine needs to start one device."""

    profile: Profile
    image: Image | None
    """What :meth:`Engine.requirements` asked for, as ``kernel`` is."""
    state_dir: Path
    """A folder of this device alone on the host. Sockets live in ``state_dir / "run"`` (which
    the device sees as ``/run/edge``), the device's log in ``state_dir / "device.log"``."""
    kernel: Kernel | None = None
    warm: tuple[WarmParent, ...] = ()
    """Runtimes to import at start."""
    limits: Limits = field(default_factory=Limits)
    network: str = "none"
    env: Mapping[str, str] = field(default_factory=dict)
    boot: Boot = field(default_factory=Boot)
    instrumentation: Instrumentation | None = None
    progress: Callable[[str], None] | None = None
    """Called with a line of text while something slow happens."""

    @property
    def tree(self) -> Image:
        """The image, of an engine that asked for one."""
        assert self.image is not None
        return self.image


class Machine(Protocol):
    """A started device, as its engine sees it. Safe to use from several processes.

    What else it can do it says by having the methods of Protocols in
    :mod:`edge_harness.engines.abilities`.
    """

    engine: str

    @property
    def layers_dir(self) -> str:
        """Where programs on the device find runtime layers."""

    def record(self) -> dict[str, Any]:
        """Plain JSON values from which :meth:`Engine.attach` makes this machine again; ``engine``
        is the engine's name."""

    def connect(self, name: str, *, timeout_s: float) -> socket.socket:
        """A new byte stream to the agent's socket ``name`` (``"agent"`` is the supervisor)."""

    def alive(self) -> bool:
        """Whether the device still runs."""

    def end_reason(self) -> str:
        """Why it stopped, in one sentence (OOM kill, exit status, signal); "" while it runs."""

    def log(self) -> str:
        """Everything the device and its emulator wrote so far (stdout and stderr)."""

    def stop(self) -> None:
        """End everything the device owns. Idempotent, never raises for a device already gone."""


class Engine(Protocol):
    """One way to bring a profile to life."""

    name: str
    auto_rank: int | None
    """Place in the order in which ``--engine=auto`` tries engines: what answers first has the
    lowest (``user`` 10, ``docker`` 20, ``vm`` 30). None for only on request."""
    machine_type: type[Machine]
    """Of what :meth:`start` returns; its methods say which abilities there can be."""

    def requirements(self, profile: Profile) -> Requirements:
        """What :meth:`start` needs for ``profile``. Cheap, fetches nothing."""

    def probe(self, profile: Profile) -> Availability:
        """Can this engine run here? Cheap, starts nothing, changes nothing."""

    def checks(self, profile: Profile) -> list[Check]:
        """What ``edge-harness doctor`` shows of what this engine rests on, besides
        :meth:`probe`."""

    def start(self, spec: StartSpec) -> Machine:
        """Start the agent in the device; returns once its supervisor socket accepts.

        Raises:
            MissingTool: something the engine needs is not there.
            BootFailed: the device did not come up; the message ends with its log.
        """

    def attach(self, record: Mapping[str, Any]) -> Machine:
        """The machine another process started, from its :meth:`Machine.record`; also one whose
        start was cut short, of which there are only ``engine`` and ``state_dir``."""
