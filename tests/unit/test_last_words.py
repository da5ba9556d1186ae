"""Whose words of a device's log a diagnosis goes by: a worker's own, and never another test's."""

from types import SimpleNamespace

import pytest
from edge_harness.device.endings import Endings
from edge_harness.device.hold import Hold
from edge_harness.device.last_words import LastWords
from edge_harness.diagnose import Explainer
from edge_harness.engines.abilities import MarksLog, bound
from edge_harness.engines.docker.machine import DockerMachine
from edge_harness.engines.process_machine import ProcessMachine
from edge_harness.engines.vm.machine import VmMachine
from edge_harness.profiles import default_registry

EARLIER = "MemoryError: this one said\nqemu: uncaught target signal 11 (Segmentation fault)\n"


class Log(Hold):
    """A hold on a machine that is nothing but a log, and on which workers end as they are told."""

    def __init__(self, machine, status):
        self.speaker = None
        self.machine = machine
        self.others = 0
        self._marks = bound(machine, MarksLog)
        self._oom_kills = 0
        self._status = status

    name = "rpi4"
    open = True

    def shared(self):
        return self.others > 0

    def connect(self, _name, *, timeout_s):
        return SimpleNamespace(
            ask=lambda _header: ({"status": self._status}, b""), close=lambda: None
        )


def test_others_are_those_with_a_share_in_the_lease():
    for holders, others in (([1], False), ([1, 2], True)):
        lease = SimpleNamespace(living_holders=lambda found=holders: found)
        assert Hold.shared(SimpleNamespace(_lease=lease)) is others


@pytest.fixture
def device(tmp_path):
    """``device(status, marks=…)``: endings, and what writes to the log."""

    def made(status, machine=None):
        machine = machine or ProcessMachine({"engine": "x", "state_dir": str(tmp_path)})
        hold = Log(machine, status)
        explainer = Explainer(
            device="rpi4",
            profile=default_registry().get("rpi4"),
            find=lambda _path: None,
            cores=tmp_path,
            emulator_counts=True,
        )
        endings = Endings(hold=hold, explainer=explainer, findings=[], state_dir=tmp_path)

        def write(text):
            with (tmp_path / "device.log").open("a") as log:
                log.write(text)

        def died(words):
            return endings.worker_death("x.sock", 7, "running the model 'a'", said=words.since)

        return SimpleNamespace(hold=hold, write=write, died=died, endings=endings)

    return made


def test_a_silent_end_is_not_explained_by_what_an_earlier_worker_said(device):
    made = device({"code": 7, "signal": None})
    made.write(EARLIER)
    words = LastWords(made.hold)
    words.loading()
    words.asked()
    error = made.died(words)
    assert type(error).__name__ == "ProcessDied"
    assert error.message == "rpi4 ended with exit status 7 while running the model 'a'"
    assert error.next_step.startswith("it wrote nothing to standard error")


def test_a_worker_that_lacks_memory_and_says_so_is_believed(device):
    made = device({"code": 1, "signal": None})
    words = LastWords(made.hold)
    words.loading()
    made.write("MemoryError\n")
    words.asked()
    assert type(made.died(words)).__name__ == "OutOfMemory"


def test_what_was_said_before_an_answer_explains_no_later_end(device):
    made = device({"code": 7, "signal": None})
    words = LastWords(made.hold)
    words.loading()
    words.asked()
    made.write(EARLIER)
    words.answered()
    words.asked()
    assert type(made.died(words)).__name__ == "ProcessDied"
    made.write("MemoryError: while nobody asked\n")
    words.asked()
    assert type(made.died(words)).__name__ == "OutOfMemory"


def test_workers_of_one_process_take_turns(device):
    made = device({"code": 7, "signal": None})
    first, second = LastWords(made.hold), LastWords(made.hold)
    first.loading()
    second.loading()
    first.asked()
    made.write(EARLIER)
    second.asked()
    assert second.since().text == ""
    made.write("second\n")
    second.asked()
    assert second.since().text == "second\n"
    assert type(made.died(second)).__name__ == "ProcessDied"


def test_a_time_out_shows_the_words_of_its_own_request(device):
    made = device({})
    words = LastWords(made.hold)
    words.loading()
    words.asked()
    made.write("of the request before\n")
    words.answered()
    words.asked()
    error = made.endings.timed_out("the worker", "answering", 2.0, said=words.since())
    assert error.message.endswith("after 2 s and was ended; it said nothing")
    made.write("still here\n")
    error = made.endings.timed_out("the worker", "answering", 2.0, said=words.since())
    assert error.message.endswith("and was ended\n--- its last words ---\nstill here\n---")


@pytest.mark.parametrize("signal", [None, 6])
def test_no_cause_is_read_from_words_that_may_be_anothers(device, signal):
    made = device({"code": 7 if signal is None else None, "signal": signal})
    words = LastWords(made.hold)
    words.loading()
    made.hold.others = 1
    made.write("std::bad_alloc\n")
    error = made.died(words)
    assert type(error).__name__ == "ProcessDied"
    assert "whose words these are is not known ---\nstd::bad_alloc" in error.message
    assert "its last words" not in error.message
    if signal is None:
        assert error.next_step.startswith("run it alone")
    made.hold.others = 0
    assert words.since().alone
    made.hold.others = 1
    words.loading()
    made.hold.others = 0  # it left, but was there
    assert not words.since().alone


def test_a_machine_that_cannot_tell_new_words_from_old_proves_nothing(device):
    made = device({"code": 7}, machine=SimpleNamespace(log=lambda: EARLIER))
    words = LastWords(made.hold)
    words.loading()
    assert type(made.died(words)).__name__ == "ProcessDied"


def test_a_log_that_was_begun_anew_is_read_whole(tmp_path):
    machine = ProcessMachine({"engine": "x", "state_dir": str(tmp_path)})
    log = tmp_path / "device.log"
    before = machine.log_mark()
    assert machine.log_since(before) == ""
    log.write_text("old words\n")
    assert machine.log_since(before) == "old words\n"
    mark = machine.log_mark()
    with log.open("a") as file:
        file.write("new\n")
    assert machine.log_since(mark) == "new\n"
    log.write_text("cut\n")
    assert machine.log_since(mark) == "cut\n"
    log.rename(tmp_path / "rotated")
    log.write_text("another file, and longer than the old one\n")
    assert machine.log_since(mark) == "another file, and longer than the old one\n"
    log.unlink()
    assert machine.log_since(mark) == ""


def test_a_boards_console_and_its_emulators_log_are_marked_both(tmp_path):
    machine = VmMachine({"state_dir": str(tmp_path)})
    (tmp_path / "console.log").write_bytes(b"booted\r\n")
    mark = machine.log_mark()
    for name in ("console.log", "qemu.log"):
        with (tmp_path / name).open("ab") as file:
            file.write(f"{name}\r\n".encode())
    assert machine.log_since(mark) == "qemu.log\nconsole.log\n"


def test_docker_is_asked_for_what_came_after_the_mark(tmp_path, monkeypatch):
    asked = []

    def logs(container, **options):
        asked.append((container, options))
        return b"new\n"

    monkeypatch.setattr(
        "edge_harness.system.docker_client.connect",
        lambda _url: SimpleNamespace(api=SimpleNamespace(logs=logs)),
    )
    record = {"state_dir": str(tmp_path), "url": "unix:///x", "container": "abc", "notes": ["n"]}
    machine = DockerMachine(record)
    mark = machine.log_mark()
    assert machine.log_since(mark) == "new\n"
    assert asked == [("abc", {"stdout": True, "stderr": True, "since": mark[0][0]})]
    assert machine.log() == "edge-harness: n\nnew\n"
    assert DockerMachine({**record, "relay": True}).log_mark() is None, "another machine's clock"


def test_every_engine_of_ours_marks_its_log():
    for machine_type in (ProcessMachine, VmMachine, DockerMachine):
        assert callable(machine_type.log_mark)
        assert callable(machine_type.log_since)
