"""What can be done to a device that is a whole emulated board: power, clock, storage, network."""

from __future__ import annotations

import datetime
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from edge_harness import wire
from edge_harness.engines import Boot
from edge_harness.errors import InputError, MissingCapability, OptionError

if TYPE_CHECKING:
    from edge_harness.device.hold import Hold
    from edge_harness.egress.packets import Egress
    from edge_harness.engines.vm.machine import VmMachine

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


class BoardControls:
    """Methods of :class:`edge_harness.device.device.Device`; each needs the capability it names
    and raises :class:`edge_harness.errors.MissingCapability` on engines without it.

    They change the whole machine: use them on ``fresh_device``, not on the shared ``device``.
    """

    hold: Hold

    if TYPE_CHECKING:

        def require(self, *needs: str) -> None: ...

    @property
    def _board(self) -> VmMachine:
        """The running board; brought up again if it was switched off."""
        self.hold.revive()
        return cast("VmMachine", self.hold.machine)

    # -- power (power_loss, reboot, pause) ---------------------------------------------------

    def power_cut(
        self, *, while_running: Sequence[str] | None = None, after_s: float = 0.0
    ) -> bool:
        """Cut the power: what was not synced to the storage is gone. :meth:`boot` follows.

        Args:
            while_running: a program to start first, in whose middle the power goes.
            after_s: how long after its start, in seconds of wall time.

        Returns:
            Whether the power went while the program ran; False if it had ended before, or none
            was given.

        Raises:
            InputError: there is no such program on the device.
        """
        self.require("power_loss")
        board = self._board
        if while_running is not None:
            started = time.monotonic()
            stream = self.hold.connect("agent", timeout_s=30)
            header = {"op": "exec", "argv": list(while_running), "timeout_s": None}
            stream.send(cast("wire.Header", header))
            ended = False
            try:
                stream.sock.settimeout(max(after_s, 0.001))
                answer, _ = stream.receive()  # only if it ends before its time
                if not answer["ok"]:
                    raise InputError(
                        f"{while_running[0]!r} cannot be started on the device: {answer['error']}",
                        next_step="name a program of the device's image",
                    )
                ended = True
                time.sleep(max(0.0, started + after_s - time.monotonic()))
            except TimeoutError:
                pass
            finally:
                board.stop()
                stream.close()
                self.hold.switch_off()
            return not ended
        self.hold.switch_off()
        return False

    def boot(self, *, clock: Moment | None = None) -> None:
        """Switch the board on again, with the storage it had; its kernel starts anew.

        Args:
            clock: what its clock shows at first; a board without a battery-backed clock starts
                at 0, the first of January 1970. Default: this machine's time.
        """
        self.require("reboot")
        seconds = None if clock is None else _seconds(clock)
        self.hold.switch_off()
        self.hold.restart(Boot(keep_storage=True, clock_s=seconds))

    def reboot(self, *, clock: Moment | None = None) -> None:
        """Shut down in order (everything is synced), then :meth:`boot`."""
        self.require("reboot")
        self._board.act("sync")
        self.boot(clock=clock)

    def pause(self) -> None:
        """Stop the whole board between two instructions; its own clock stops with it."""
        self.require("pause")
        self._board.qmp(("stop", {}))

    def resume(self) -> None:
        """Go on after :meth:`pause`."""
        self.require("pause")
        self._board.qmp(("cont", {}))

    # -- clock and speed (clock, cpu_throttle) -----------------------------------------------

    def set_clock(self, clock: Moment) -> None:
        """Set the board's clock, as a time server might."""
        self.require("clock")
        self._board.act("clock", time_s=_seconds(clock))

    def shift_clock(self, seconds: float) -> None:
        """Let the board's clock jump, forwards or (negative) backwards."""
        self.require("clock")
        self._board.act("clock", by_s=float(seconds))

    def throttle(
        self, cpus: float | None, *, then: Sequence[tuple[float, float | None]] = ()
    ) -> None:
        """Give the board's programs ``cpus`` processors' worth of time; None lifts the limit.

        Args:
            then: ``(seconds, cpus)`` pairs that follow, as a board that gets hot and cools
                down; seconds are of the board's own clock, after the step before.
        """
        self.require("cpu_throttle")
        for value in (cpus, *(step for _, step in then)):
            if value is not None and value <= 0:
                raise OptionError(f"cpus={value!r} is not positive", next_step="use 0.5, say")
        self._board.act("throttle", cpus=cpus, then=[list(step) for step in then])

    # -- storage (storage_faults) ------------------------------------------------------------

    @property
    def storage(self) -> Storage:
        """The storage under the device's files."""
        self.require("storage_faults")
        return Storage(self)

    # -- network (network) -------------------------------------------------------------------

    def connect_network(self) -> None:
        """Plug in a network that leads nowhere: every packet the device sends is recorded, none
        reaches this machine or any other. See :attr:`egress` and :attr:`packets`."""
        self.require("network")
        board = self._board
        board.connect_network(tuple(board.record()["network_modules"]))

    def disconnect_network(self) -> None:
        """Unplug the network: the device has no interface but loopback again."""
        self.require("network")
        self._board.act("network", up=False)

    @property
    def packets(self) -> Path:
        """The recording of the device's network, a pcap file; gone when the device ends."""
        self.require("network")
        return cast("VmMachine", self.hold.machine).packets

    def _recorded_egress(self) -> list[Egress]:
        from edge_harness.egress.packets import egress_in

        if not self.packets.exists():
            raise MissingCapability(
                "no network was connected yet, so nothing could be recorded: an empty list would "
                "be a lie",
                next_step="call device.connect_network() before the program runs",
            )
        return egress_in(self.packets)


class Storage:
    """Trouble with the storage of a whole emulated board."""

    def __init__(self, device: BoardControls) -> None:
        self._device = device

    def _act(self, do: str, **arguments: Any) -> int:
        answer, _ = self._device._board.act("storage", do=do, **arguments)
        return int(answer["free_kib"])

    def fill(self, *, keep_kib: int = 0) -> int:
        """Fill the storage up to ``keep_kib`` KiB; what is really free then, in KiB."""
        return self._act("fill", keep_kib=keep_kib)

    def free(self) -> int:
        """Undo :meth:`fill`; KiB free."""
        return self._act("free")

    def read_only(self) -> None:
        """Remount read-only, as a worn-out card ends."""
        self._act("ro")

    def read_write(self) -> None:
        """Undo :meth:`read_only`."""
        self._act("rw")

    def fail_io(self, *, read: bool = False, write: bool = True, once: bool = False) -> None:
        """Answer reads or writes with I/O errors from now on (QEMU's blkdebug).

        Linux shows them to a program when it asks the storage: ``fsync`` for writes, and reads
        of what is not cached any more.
        """
        if read:
            self._act("drop_caches")
        self._device._board.fail_io(read=read, write=write, once=once)

    def heal_io(self) -> None:
        """End :meth:`fail_io`. A file system that gave up meanwhile stays as it is until boot."""
        self._device._board.heal_io()


__all__ = ["BoardControls", "Moment", "Storage"]
