"""What can be done to a running device, each by an ability of its machine: power, clock, storage,
network, limits."""

from __future__ import annotations

import datetime
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from edge_harness import wire
from edge_harness.engines import Availability, Boot
from edge_harness.engines.abilities import (
    Clock,
    CpuQuota,
    CpuThrottle,
    MemoryLimit,
    Network,
    Offline,
    Pause,
    PowerLoss,
    Reboot,
    StorageFaults,
    bound,
    word_of,
)
from edge_harness.errors import InputError, InternalError, MissingAbility, OptionError

if TYPE_CHECKING:
    from edge_harness.device.hold import Hold
    from edge_harness.egress.packets import Egress

_P = TypeVar("_P")
Moment = datetime.datetime | float
"""A time of day, aware of its zone, or seconds since 1970."""


def _seconds(moment: Moment) -> float:
    if isinstance(moment, datetime.datetime):
        if moment.tzinfo is None:
            raise OptionError(
                f"{moment!r} has no time zone", next_step="add tzinfo=datetime.timezone.utc"
            )
        return moment.timestamp()
    return float(moment)


class Controls:
    """The machine of one device, seen as what it is able to.

    Args:
        hold: the machine.
        availability: which abilities hold, and why others do not.
    """

    def __init__(self, *, hold: Hold, availability: Availability) -> None:
        self._hold = hold
        self._availability = availability

    def require(self, *needs: str) -> None:
        """See :meth:`edge_harness.device.device.Device.require`."""
        seen = self._availability
        missing = [need for need in needs if need not in seen.abilities]
        if missing:
            reasons = [seen.without[need] for need in missing if need in seen.without]
            raise MissingAbility(
                f"{self._hold.name} on the {seen.engine} engine cannot prove {', '.join(missing)} "
                f"({'; '.join(dict.fromkeys(reasons)) or seen.reason})",
                next_step="mark the test with needs={…} so that an engine that can is chosen; "
                + (seen.fix or "edge-harness doctor shows what is missing"),
            )

    def with_ability(self, protocol: type[_P], *, revive: bool = True) -> _P:
        """The running machine as ``protocol``; brought up again if it was switched off.

        Raises:
            MissingAbility: the device does not have that ability.
        """
        self.require(word_of(protocol))
        if revive:
            self._hold.revive()
        machine = bound(self._hold.machine, protocol)
        if machine is None:  # held to its word when the engine was chosen
            raise InternalError(f"{self._hold.machine!r} is no {protocol.__name__}")
        return machine

    # -- power -------------------------------------------------------------------------------

    def power_cut(self, *, while_running: Sequence[str] | None, after_s: float) -> bool:
        """See :meth:`edge_harness.device.device.Device.power_cut`."""
        machine = self.with_ability(PowerLoss)
        ran = False
        if while_running is None:
            machine.cut_power()
        else:
            ran = self._cut_in_the_middle(machine, list(while_running), after_s)
        self._hold.switch_off()
        return ran

    def _cut_in_the_middle(self, machine: PowerLoss, argv: list[str], after_s: float) -> bool:
        started = time.monotonic()
        stream = self._hold.connect("agent", timeout_s=30)
        header: wire.Header = {"op": wire.Op.EXEC, "argv": argv, "timeout_s": None}
        stream.request(header)
        ended = False
        try:
            stream.sock.settimeout(max(after_s, 0.001))
            answer, _ = stream.answer()  # only if it ends before its time
            if not answer["ok"]:
                raise InputError(
                    f"{argv[0]!r} cannot be started on the device: {answer['error']}",
                    next_step=self._hold.program_hint,
                )
            ended = True
            time.sleep(max(0.0, started + after_s - time.monotonic()))
        except TimeoutError:
            pass
        finally:
            machine.cut_power()
            stream.close()
            self._hold.switch_off()
        return not ended

    def boot(self, *, clock: Moment | None) -> None:
        """See :meth:`edge_harness.device.device.Device.boot`."""
        self.require(word_of(Reboot))
        seconds = None if clock is None else _seconds(clock)
        self._hold.switch_off()
        self._hold.restart(Boot(keep_storage=True, clock_s=seconds))

    def reboot(self, *, clock: Moment | None) -> None:
        """See :meth:`edge_harness.device.device.Device.reboot`."""
        self.with_ability(Reboot).sync()
        self.boot(clock=clock)

    def pause(self) -> None:
        """See :meth:`edge_harness.device.device.Device.pause`."""
        self.with_ability(Pause).pause()

    def resume(self) -> None:
        """See :meth:`edge_harness.device.device.Device.resume`."""
        self.with_ability(Pause).resume()

    # -- clock and speed ---------------------------------------------------------------------

    def set_clock(self, clock: Moment) -> None:
        """See :meth:`edge_harness.device.device.Device.set_clock`."""
        self.with_ability(Clock).set_clock(_seconds(clock))

    def shift_clock(self, seconds: float) -> None:
        """See :meth:`edge_harness.device.device.Device.shift_clock`."""
        self.with_ability(Clock).shift_clock(float(seconds))

    def throttle(self, cpus: float | None, then: Sequence[tuple[float, float | None]]) -> None:
        """See :meth:`edge_harness.device.device.Device.throttle`."""
        self.require(word_of(CpuThrottle))
        for value in (cpus, *(step for _, step in then)):
            if value is not None and value <= 0:
                raise OptionError(f"cpus={value!r} is not positive", next_step="use 0.5, say")
        self.with_ability(CpuThrottle).throttle(cpus, then)

    def limit(self, *, memory_mib: int | None, cpus: float | None) -> None:
        """See :meth:`edge_harness.device.device.Device.limit`."""
        for name, value in (("memory_mib", memory_mib), ("cpus", cpus)):
            if value is not None and not value > 0:
                raise OptionError(
                    f"{name}={value!r} is not positive", next_step="leave it out to keep what is"
                )
        # Both are looked at before either is changed.
        memory = None if memory_mib is None else self.with_ability(MemoryLimit, revive=False)
        quota = None if cpus is None else self.with_ability(CpuQuota, revive=False)
        if memory is not None and memory_mib is not None:
            memory.limit_memory(memory_mib)
        if quota is not None and cpus is not None:
            quota.limit_cpus(cpus)

    # -- storage -----------------------------------------------------------------------------

    @property
    def storage(self) -> Storage:
        """See :attr:`edge_harness.device.device.Device.storage`."""
        self.require(word_of(StorageFaults))
        return Storage(self)

    # -- network -----------------------------------------------------------------------------

    def can_connect(self, host: str, port: int, *, timeout_s: float) -> bool:
        """See :meth:`edge_harness.device.device.Device.can_connect`.

        Raises:
            OSError, WireError: the device hung up.
        """
        self.require(word_of(Offline))
        place = {"address": host, "port": port, "timeout_s": timeout_s}
        header: wire.Header = {"op": wire.Op.CONNECT, **place}
        self._hold.revive()
        stream = self._hold.connect("agent", timeout_s=timeout_s + 30)
        try:
            stream.send(header)
            answer, _ = stream.receive()
        finally:
            stream.close()
        return bool(answer["connected"])

    def connect_network(self) -> None:
        """See :meth:`edge_harness.device.device.Device.connect_network`."""
        self.with_ability(Network).connect_network()

    def disconnect_network(self) -> None:
        """See :meth:`edge_harness.device.device.Device.disconnect_network`."""
        self.with_ability(Network).disconnect_network()

    @property
    def packets(self) -> Path:
        """See :attr:`edge_harness.device.device.Device.packets`."""
        return self.with_ability(Network, revive=False).packets()

    @property
    def egress(self) -> list[Egress]:
        """See :attr:`edge_harness.device.device.Device.egress`."""
        from edge_harness.egress.packets import egress_in

        if word_of(Network) not in self._availability.abilities:
            raise MissingAbility(
                f"the {self._availability.engine} engine cuts the network of {self._hold.name} but "
                "cannot list what was tried",
                next_step="mark the test needs={'network'} and call device.connect_network() "
                "first, or assert not device.can_connect(host, port)",
            )
        if not self.packets.exists():
            raise MissingAbility(
                "no network was connected yet, so nothing could be recorded: an empty list would "
                "be a lie",
                next_step="call device.connect_network() before the program runs",
            )
        return egress_in(self.packets)


class Storage:
    """Trouble with the storage of a whole emulated board."""

    def __init__(self, controls: Controls) -> None:
        self._controls = controls

    @property
    def _machine(self) -> StorageFaults:
        return self._controls.with_ability(StorageFaults)

    def fill(self, *, keep_kib: int = 0) -> int:
        """Fill the storage up to ``keep_kib`` KiB; what is really free then, in KiB."""
        return self._machine.storage("fill", keep_kib=keep_kib)

    def free(self) -> int:
        """Undo :meth:`fill`; KiB free."""
        return self._machine.storage("free")

    def read_only(self) -> None:
        """Remount read-only, as a worn-out card ends."""
        self._machine.storage("ro")

    def read_write(self) -> None:
        """Undo :meth:`read_only`."""
        self._machine.storage("rw")

    def fail_io(self, *, read: bool = False, write: bool = True, once: bool = False) -> None:
        """Answer reads or writes with I/O errors from now on.

        Linux shows them to a program when it asks the storage: ``fsync`` for writes, and reads
        of what is not cached any more.
        """
        machine = self._machine
        if read:
            machine.storage("drop_caches")
        machine.fail_io(read=read, write=write, once=once)

    def heal_io(self) -> None:
        """End :meth:`fail_io`. A file system that gave up meanwhile stays as it is until boot."""
        self._machine.heal_io()


__all__ = ["Controls", "Moment", "Storage"]
