"""What is done to a device goes to its machine by the ability it takes, and not otherwise."""

import datetime
from types import SimpleNamespace

import pytest
from edge_harness.device.controls import Controls
from edge_harness.engines import Availability, Boot
from edge_harness.errors import MissingAbility, OptionError


class Board:
    """A machine with some abilities, that notes what it is told."""

    def __init__(self):
        self.told = []

    def limit_memory(self, memory_mib):
        self.told.append(("memory", memory_mib))

    def memory_events(self):
        return {}

    def limit_cpus(self, cpus):
        self.told.append(("cpus", cpus))

    def set_clock(self, time_s):
        self.told.append(("clock", time_s))

    def shift_clock(self, seconds):
        self.told.append(("shift", seconds))

    def throttle(self, cpus, then):
        self.told.append(("throttle", cpus, list(then)))

    def cut_power(self):
        self.told.append(("cut",))

    def sync(self):
        self.told.append(("sync",))

    def storage(self, do, *, keep_kib=0):
        self.told.append((do, keep_kib))
        return 5

    def fail_io(self, **how):
        self.told.append(("fail", how))

    def heal_io(self):
        self.told.append(("heal",))


ABLE = {"memory_limit", "cpu_quota", "clock", "cpu_throttle", "power_loss", "reboot"}
ABLE |= {"storage_faults"}


@pytest.fixture
def board():
    return Board()


@pytest.fixture
def controls(board):
    return controls_of(board, ABLE)


def controls_of(board, abilities, **more):
    hold = SimpleNamespace(
        name="rpi4",
        machine=board,
        revive=lambda: board.told.append(("revive",)),
        switch_off=lambda: board.told.append(("off",)),
        restart=lambda boot: board.told.append(("restart", boot)),
    )
    seen = Availability(
        engine="toy", available=True, reason="fine", abilities=frozenset(abilities), **more
    )
    return Controls(hold=hold, availability=seen)


def test_a_missing_ability_says_why_it_is_missing(board):
    controls = controls_of(
        board, {"cpu_quota"}, without={"memory_limit": "swap is not counted"}, fix="count swap"
    )
    with pytest.raises(
        MissingAbility,
        match=r"rpi4 on the toy engine cannot prove memory_limit \(swap is not counted\)",
    ) as error:
        controls.limit(memory_mib=64, cpus=1)
    assert "count swap" in error.value.next_step
    assert board.told == [], "one limit was set although the other could not be"


def test_both_limits_go_to_the_machine(controls, board):
    controls.limit(memory_mib=64, cpus=0.5)
    assert board.told == [("memory", 64), ("cpus", 0.5)]


@pytest.mark.parametrize("limits", [{"memory_mib": 0}, {"cpus": -1.0}, {"cpus": float("nan")}])
def test_a_limit_that_means_nothing_is_refused(controls, board, limits):
    with pytest.raises(OptionError, match="is not positive"):
        controls.limit(**{"memory_mib": None, "cpus": None, **limits})
    assert board.told == []


def test_power_goes_and_comes_again_with_the_storage(controls, board):
    assert controls.power_cut(while_running=None, after_s=0) is False
    controls.boot(clock=datetime.datetime(1970, 1, 2, tzinfo=datetime.timezone.utc))
    assert board.told == [
        ("revive",),
        ("cut",),
        ("off",),
        ("off",),
        ("restart", Boot(keep_storage=True, clock_s=86400.0)),
    ]


def test_a_reboot_in_order_is_synced_first(controls, board):
    controls.reboot(clock=None)
    assert board.told[:2] == [("revive",), ("sync",)]
    assert board.told[-1] == ("restart", Boot(keep_storage=True))


def test_a_moment_without_a_zone_is_refused(controls):
    with pytest.raises(OptionError, match="has no time zone"):
        controls.set_clock(datetime.datetime(2020, 1, 1))


def test_clock_and_speed_go_to_the_machine(controls, board):
    controls.set_clock(12)
    controls.shift_clock(-5)
    controls.throttle(0.5, [(1.0, None)])
    told = [each for each in board.told if each != ("revive",)]
    assert told == [("clock", 12.0), ("shift", -5.0), ("throttle", 0.5, [(1.0, None)])]
    with pytest.raises(OptionError, match="cpus=0 is not positive"):
        controls.throttle(0, [])


def test_storage_that_is_to_fail_at_reads_forgets_what_it_has_cached(controls, board):
    storage = controls.storage
    assert storage.fill(keep_kib=7) == 5
    storage.fail_io(read=True, write=False)
    storage.heal_io()
    told = [each for each in board.told if each != ("revive",)]
    assert told == [
        ("fill", 7),
        ("drop_caches", 0),
        ("fail", {"read": True, "write": False, "once": False}),
        ("heal",),
    ]


@pytest.mark.parametrize(
    "use",
    [
        lambda c: c.pause(),
        lambda c: c.resume(),
        lambda c: c.connect_network(),
        lambda c: c.disconnect_network(),
        lambda c: c.packets,
        lambda c: c.egress,
        lambda c: c.can_connect("192.0.2.1", 1, timeout_s=1),
    ],
)
def test_what_the_engine_does_not_claim_is_refused(controls, board, use):
    with pytest.raises(MissingAbility):
        use(controls)
    assert board.told == []
