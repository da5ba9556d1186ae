"""The seam between what a device is and what brings it to life.

An engine answers three things: *can I run here, and what can I prove* (:meth:`Engine.probe`),
*start the agent and give me byte streams to it* (:meth:`Engine.start`, :meth:`Machine.connect`),
and *apply a limit* (:meth:`Machine.limit`). Everything above is shared by all engines.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from edge_harness.evidence import FigureKind

if TYPE_CHECKING:
    from edge_harness.image import Image
    from edge_harness.profiles import Profile

#: What a test may ask for with ``needs={...}``, and what it means.
CAPABILITIES: Mapping[str, str] = {
    "isa": "instructions the board does not have raise SIGILL",
    "numerics": "the board's own kernels compute the outputs",
    "crash": "a crashing process is told apart and explained",
    "offline": "processes on the device cannot reach any network",
    "rootfs": "processes see the device's own files and no others",
    "cpu_quota": "CPU time is limited to the profile's cores",
    "memory_limit": "memory is limited and the real OOM killer acts",
    "kernel": "the device runs its own kernel",
    "page_size": "memory pages have the board's size",
    "power_loss": "power can be cut in the middle of a write: unsynced data is gone",
    "reboot": "the device starts again with the storage it had",
    "memory": "memory figures are the device's own, free of the emulator's overhead",
    "storage_faults": "storage can be full, read-only or fail",
    "clock": "the device's clock can be set, and starts in 1970 where there is none",
    "cpu_throttle": "processors can be slowed while the device runs",
    "network": "a network can be connected that leads nowhere and records all packets",
    "pause": "the whole device can be stopped and go on",
}


@dataclass(frozen=True, kw_only=True)
class Availability:
    """Whether an engine can run a profile on this machine, and what it then proves."""

    engine: str
    available: bool
    reason: str
    """Why not, or how it will run (one line, shown in the header)."""
    fix: str = ""
    """The command or action that would make it available."""
    capabilities: frozenset[str] = frozenset()
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
class StartSpec:
    """All an engine needs to start one device."""

    profile: Profile
    image: Image
    state_dir: Path
    """A folder of this device alone on the host. Sockets live in ``state_dir / "run"`` (which
    the device sees as ``/run/edge``), the device's log in ``state_dir / "device.log"``."""
    warm: tuple[str, ...] = ()
    """Runtime layers to import at start, as ``layer_key:runtime`` (see ``edge_harness.agent``)."""
    limits: Limits = field(default_factory=Limits)
    network: str = "none"
    env: Mapping[str, str] = field(default_factory=dict)
    boot: Boot = field(default_factory=Boot)
    plugin: str = ""
    """What QEMU's ``-plugin`` loads, on engines that take one (``vm``)."""
    icount: bool = False
    """Whether the board's clock is to count instructions, one a nanosecond (``vm``)."""
    repeatable: bool = False
    """Whether programs lie at the same addresses and hash alike at every start, everywhere."""
    progress: Callable[[str], None] | None = None
    """Called with a line of text while something slow happens."""


class Machine(Protocol):
    """A started device, as its engine sees it. Safe to use from several processes."""

    engine: str

    def record(self) -> dict[str, Any]:
        """Plain JSON values from which :meth:`Engine.attach` makes this machine again."""

    def connect(self, name: str, *, timeout_s: float) -> socket.socket:
        """A new byte stream to the agent's socket ``name`` (``"agent"`` is the supervisor)."""

    def alive(self) -> bool:
        """Whether the device still runs."""

    def end_reason(self) -> str:
        """Why it stopped, in one sentence (OOM kill, exit status, signal); "" while it runs."""

    def log(self) -> str:
        """Everything the device and its emulator wrote so far (stdout and stderr)."""

    def limit(self, limits: Limits) -> None:
        """Change limits of the running device; raises MissingCapability where it cannot."""

    def memory_events(self) -> Mapping[str, int]:
        """``oom_kills``, ``peak_mib``, ``limit_mib`` from the control group; {} if unknown."""

    def stop(self) -> None:
        """End everything the device owns. Idempotent, never raises for a device already gone."""


class Engine(Protocol):
    """One way to bring a profile to life."""

    name: str

    def image_arch(self, profile: Profile) -> str:
        """Debian architecture of the image this engine runs ``profile`` on."""

    def probe(self, profile: Profile) -> Availability:
        """Can this engine run here? Cheap, starts nothing, changes nothing."""

    def start(self, spec: StartSpec) -> Machine:
        """Start the agent in the device; returns once its supervisor socket accepts.

        Raises:
            MissingTool: something the engine needs is not there.
            BootFailed: the device did not come up; the message ends with its log.
        """

    def attach(self, record: Mapping[str, Any]) -> Machine:
        """The machine another process started, from its :meth:`Machine.record`."""


def engine_named(name: str) -> Engine:
    """The engine called ``name``: ``user``, ``docker``, ``vm`` or ``host``."""
    from edge_harness.errors import OptionError

    if name == "user":
        from edge_harness.engines.user import UserEngine

        return UserEngine()
    if name == "docker":
        from edge_harness.engines.docker.engine import DockerEngine

        return DockerEngine()
    if name == "vm":
        from edge_harness.engines.vm.engine import VmEngine

        return VmEngine()
    if name == "host":
        from edge_harness.engines.host import HostEngine

        return HostEngine()
    raise OptionError(
        f"there is no engine called {name!r}", next_step=f"use one of: {', '.join(ENGINE_NAMES)}"
    )


#: In the order ``--engine=auto`` tries them: cheapest to start first.
ENGINE_NAMES: tuple[str, ...] = ("user", "docker", "vm", "host")
