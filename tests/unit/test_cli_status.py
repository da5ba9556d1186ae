"""What commands end with. docs/cli.md has the table."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from edge_harness import errors
from edge_harness.commands.status import Status, of_error, of_verdict, worst, worst_of_programs
from edge_harness.engines.abilities import ShellCommand
from edge_harness.evidence import VERDICT_WORDS

PAGE = Path(__file__).parents[2] / "docs" / "cli.md"


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (errors.UnknownDevice, 2),
        (errors.OptionError, 2),
        (errors.MissingAbility, 2),
        (errors.IllegalInstruction, 1),
        (errors.DeviceTimeout, 1),
        (errors.BootFailed, 3),
        (errors.MissingTool, 3),
        (errors.InternalError, 5),
        (ZeroDivisionError, 5),
    ],
)
def test_exit_statuses_tell_whose_fault_it_was(error, status):
    assert of_error(error("x")) == status


def test_every_verdict_has_a_status():
    assert {word: int(of_verdict(word)) for word in VERDICT_WORDS} == {
        "passed": 0,
        "failed": 1,
        "inconclusive": 4,
        "vacuous": 4,
        "skipped": 4,
    }


@pytest.mark.parametrize(
    ("statuses", "whole"),
    [
        ([], 0),
        ([0, 0], 0),
        ([0, 4], 4),
        ([4, 3], 3),
        ([1, 3], 1),  # what failed stays failed, whatever kept another from an answer
        ([3, 1, 4, 0, 2], 1),
        ([2, 3], 2),
        ([1, 5], 5),
    ],
)
def test_several_devices_end_with_the_worst(statuses, whole):
    assert worst(statuses) == whole


def test_of_programs_own_statuses_the_highest_counts_unless_one_could_not_run():
    assert worst_of_programs([]) == 0
    assert worst_of_programs([0, 3, 5]) == 5
    assert worst_of_programs([139, 125, 1]) == 125


def test_the_docs_have_the_same_table():
    rows = dict(re.findall(r"^\| (\d+) \| (.+?) \|$", PAGE.read_text(), re.MULTILINE))
    assert sorted(map(int, rows)) == sorted(int(status) for status in Status)


# -- each of them ----------------------------------------------------------------------------------


def test_0_what_was_asked_for_was_done(edge):
    assert edge("devices").exit_code == 0


@pytest.mark.parametrize(
    "arguments",
    [
        ["--no-such-option"],
        ["no-such-command"],
        ["devices", "--no-such-option"],
        ["image", "gc", "--days", "-1"],
        ["doctor", "--engine", "no-such-engine"],
        ["latency"],
    ],
    ids=" ".join,
)
def test_2_is_misuse_that_the_parser_sees(edge, arguments):
    result = edge(*arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr


def test_2_is_misuse_that_shows_later(edge):
    result = edge("latency", "no-such-file.tflite", "--json")
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.startswith("edge-harness: ")


def test_3_is_trouble_with_this_machine(edge, tmp_path):
    (tmp_path / "cache").write_text("")
    result = edge("image", "ls")
    assert result.exit_code == 3
    assert "a file is in its way" in result.stderr


def test_5_is_a_bug_of_ours_in_one_message(edge, monkeypatch):
    monkeypatch.setattr("edge_harness.image.list_images", lambda: 1 // 0)
    result = edge("image", "ls")
    assert result.exit_code == 5
    assert "a bug of ours: ZeroDivisionError" in result.stderr
    assert "EDGE_HARNESS_DEBUG=1" in result.stderr
    monkeypatch.setenv("EDGE_HARNESS_DEBUG", "1")
    result = edge("image", "ls")
    assert result.exit_code == 5
    assert "Traceback (most recent call last)" in result.stderr
    assert "a bug of ours: ZeroDivisionError" in result.stderr


def test_5_is_an_internal_error_too(edge, monkeypatch):
    def fails():
        raise errors.InternalError("nobody should see this", next_step="please report it")

    monkeypatch.setattr("edge_harness.image.list_images", fails)
    result = edge("image", "ls")
    assert (result.exit_code, result.stderr) == (
        5,
        "edge-harness: nobody should see this\n  next: please report it\n",
    )


def test_130_is_ctrl_c_without_a_word(edge, monkeypatch):
    def interrupted():
        raise KeyboardInterrupt

    monkeypatch.setattr("edge_harness.image.list_images", interrupted)
    result = edge("image", "ls")
    assert (result.exit_code, result.output) == (130, "")


WAITING = """
import sys, time
import edge_harness.image
from edge_harness.cli import main

def waits(*_):
    print("at work", flush=True)
    time.sleep(30)

edge_harness.image.list_images = waits
main(["image", "ls"])
"""


def test_130_is_ctrl_c_during_work_in_a_process_of_its_own():
    # A child of a background job starts with SIGINT ignored; from a terminal it does not.
    process = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import signal\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n" + WAITING,
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "at work\n"
    process.send_signal(signal.SIGINT)
    _, complaint = process.communicate(timeout=10)
    assert (process.returncode, complaint) == (130, "")


@pytest.mark.parametrize(
    "arguments", [["--help"], ["devices", "--json"], ["devices"], ["run", "--help"]], ids=" ".join
)
def test_141_is_a_reader_that_has_gone_and_nobody_complains(arguments):
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "w") as output:
        result = subprocess.run(
            [sys.executable, "-m", "edge_harness.cli", *arguments],
            stdout=output,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert (result.returncode, result.stderr) == (141, "")


def test_a_message_that_nobody_reads_does_not_change_the_status():
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "w") as output:
        command = [sys.executable, "-m", "edge_harness.cli", "devices", "--device", "rpi44"]
        assert subprocess.run(command, stdout=output, stderr=output).returncode == 2


# -- verdicts --------------------------------------------------------------------------------------


@pytest.fixture
def model(tmp_path):
    path = Path(__file__).parents[2] / "fixtures/models/digits_int8.tflite"
    return str(path)


def estimate(**changes):
    from edge_harness.clock.estimate import LatencyEstimate

    values = {
        "latency_ms": 10.0,
        "low_ms": 8.0,
        "high_ms": 12.0,
        "source": "a test",
        "device": "rpi4",
        "runtime": "tflite-runtime==2.14.0",
        "kernels": "xnnpack",
        "threads": 1,
        "cycles": 1,
        "instructions": 1,
        "compute_ms": 9.0,
        "memory_ms": 1.0,
        "overhead_ms": 0.0,
        "invoke_ms": 10.0,
        "first_ms": 11.0,
    }
    return LatencyEstimate(**{**values, **changes})


@pytest.fixture
def predicted(monkeypatch):
    """Every board takes 8 to 12 ms, or what a test says of it."""
    answers = {}

    def answer(profile, *_, **__):
        found = answers.get(profile.name, {})
        if isinstance(found, Exception):
            raise found
        return estimate(device=profile.name, **found)

    monkeypatch.setattr("edge_harness.clock.counting.predict.predict", answer)
    monkeypatch.setattr("edge_harness.device.lease.sweep", lambda say=None: None)
    return answers


@pytest.mark.parametrize(
    ("budget", "status", "verdict"),
    [("12 ms", 0, "passed"), ("7 ms", 1, "failed"), ("0.01 s", 4, "inconclusive")],
)
def test_a_latency_budget_holds_fails_or_stays_undecided(
    edge, predicted, model, budget, status, verdict
):
    result = edge("latency", model, "--budget", budget, "--json")
    assert result.exit_code == status, result.stderr
    assert json.loads(result.stdout)["verdict"]["word"] == verdict
    assert edge("latency", model, "--budget", budget).exit_code == status


def test_a_latency_without_a_budget_is_an_answer(edge, predicted, model):
    result = edge("latency", model, "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout)["latency_ms"] == 10.0


def test_an_error_about_one_of_several_devices_keeps_the_others_answers(edge, predicted, model):
    predicted["rpi5"] = errors.BootFailed("it does not boot", next_step="try again")
    result = edge("latency", model, "--device", "rpi4,rpi5,rpi3b", "--json")
    assert result.exit_code == 3
    assert result.stderr.endswith("edge-harness: rpi5: it does not boot\n  next: try again\n")
    one, two, three = json.loads(result.stdout)
    assert (one["device"], three["device"]) == ("rpi4", "rpi3b")
    assert two == {"device": "rpi5", "error": "it does not boot\n  next: try again"}


def test_several_devices_are_told_apart_and_the_worst_counts(edge, predicted, model):
    predicted["rpi5"] = {"low_ms": 1.0, "latency_ms": 2.0, "high_ms": 3.0}
    result = edge("latency", model, "--device", "rpi5", "--device", "rpi4", "--budget", "5 ms")
    assert result.exit_code == 1
    first, second = result.stdout.split("== rpi4 ==\n")
    assert first.startswith("== rpi5 ==\nwithin the budget of 5 ms")
    assert second.startswith("over the budget of 5 ms")


def test_an_error_about_the_only_device_is_the_whole_answer(edge, predicted, model):
    predicted["rpi4"] = errors.OutOfMemory("it is too large", next_step="make it smaller")
    result = edge("latency", model, "--json")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.endswith("edge-harness: it is too large\n  next: make it smaller\n")


@pytest.fixture
def compared(monkeypatch):
    """The verdict of every comparison is what a test puts here."""
    from contextlib import nullcontext

    from edge_harness.evidence import Verdict

    words = {"word": "passed"}

    class Report:
        @property
        def verdict(self):
            return Verdict(**words)

        def as_dict(self):
            return {"verdict": self.verdict.as_json()}

    session = SimpleNamespace(inputs=[])
    device = SimpleNamespace(load=lambda *_, **__: nullcontext(session))
    monkeypatch.setattr("edge_harness.opening.open_device", lambda *_, **__: nullcontext(device))
    monkeypatch.setattr("edge_harness.device.lease.sweep", lambda say=None: None)
    monkeypatch.setattr("edge_harness.fidelity.compare", lambda *_, **__: Report())
    return words


@pytest.mark.parametrize(
    ("word", "status"), [("passed", 0), ("failed", 1), ("inconclusive", 4), ("vacuous", 4)]
)
def test_a_comparison_ends_by_its_verdict(edge, compared, model, word, status):
    compared.update(word=word, reason="" if word == "passed" else "because")
    result = edge("compare", model, "--json")
    assert result.exit_code == status, result.output
    answer = json.loads(result.stdout)
    assert answer["verdict"]["word"] == word
    assert answer["samples_from"] == "16 drawn at random, seed 0"


# -- run and shell ---------------------------------------------------------------------------------


@pytest.fixture
def programs(monkeypatch):
    """Programs end at once, on each board as a test says: with a status, a signal or an error."""
    ends = {}
    monkeypatch.setattr("edge_harness.device.lease.sweep", lambda say=None: None)

    class Device:
        def __init__(self, profile):
            self.name = profile.name

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def run(self, argv, *, input, **_):
            end = ends.get(self.name, 0)
            if isinstance(end, BaseException):
                raise end
            return SimpleNamespace(
                stdout=f"{' '.join(argv)} on {self.name}\n",
                stderr=input.decode(),
                returncode=end,
                signal=max(0, -end),
                error=errors.Segfault("it died", next_step="look") if end < 0 else None,
            )

    monkeypatch.setattr("edge_harness.opening.open_device", lambda profile, **_: Device(profile))
    return ends


RUN = ("run", "--", "echo", "-n", "x")


def test_run_ends_with_the_programs_own_status(edge, programs):
    programs["rpi4"] = 7
    result = edge(*RUN, input="given")
    assert (result.exit_code, result.stdout, result.stderr) == (
        7,
        "echo -n x on rpi4\n",
        "given",
    )


def test_run_ends_with_128_and_the_signal_and_says_why(edge, programs):
    programs["rpi4"] = -signal.SIGSEGV
    result = edge(*RUN)
    assert result.exit_code == 139
    assert result.stderr.endswith("edge-harness: it died\n  next: look\n")


@pytest.mark.parametrize(
    "trouble",
    [
        errors.DeviceTimeout("it takes too long"),
        errors.MissingTool("there is no QEMU"),
        errors.OptionError("that cannot be right"),
        errors.InternalError("nobody should see this"),
        ZeroDivisionError("division by zero"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_125_is_any_trouble_of_ours_under_run(edge, programs, trouble):
    programs["rpi4"] = trouble
    result = edge(*RUN)
    assert result.exit_code == 125
    assert str(trouble) in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["run"],
        ["run", "--no-such-option", "--", "true"],
        ["run", "--memory-mib", "0", "--", "true"],
        ["run", "--engine", "no-such-engine", "--", "true"],
        ["run", "--device", "rpi44", "--", "true"],
        ["run", "--env", "NAME", "--", "true"],
        ["shell", "--no-such-option"],
        ["shell", "--device", "rpi44"],
        ["shell", "--engine", "docker"],
    ],
    ids=" ".join,
)
def test_125_is_misuse_of_run_and_shell_too(edge, arguments):
    result = edge(*arguments)
    assert result.exit_code == 125
    assert result.stdout == ""
    assert result.stderr


def test_130_is_ctrl_c_under_run_too(edge, programs):
    programs["rpi4"] = KeyboardInterrupt()
    assert edge(*RUN).exit_code == 130


def test_run_goes_on_to_the_next_device_and_ends_with_the_worst(edge, programs):
    programs.update(rpi4=3, rpi5=-signal.SIGILL)
    result = edge("run", "--device", "rpi4,rpi5,rpi3b", "--", "true")
    assert result.exit_code == 132
    assert result.stdout == (
        "== rpi4 ==\ntrue on rpi4\n== rpi5 ==\ntrue on rpi5\n== rpi3b ==\ntrue on rpi3b\n"
    )
    programs["rpi4"] = errors.BootFailed("it does not boot")
    result = edge("run", "--device", "rpi4,rpi5", "--", "true")
    assert result.exit_code == 125
    assert "edge-harness: rpi4: it does not boot" in result.stderr
    assert "== rpi5 ==" in result.stdout


def test_the_program_may_have_options_without_two_dashes_before_it(edge, programs):
    assert edge("run", "--device", "rpi4", "uname", "-a").stdout == "uname -a on rpi4\n"


@pytest.mark.parametrize(("code", "status"), [("exit 7", 7), ("kill -9 $$", 137)])
def test_shell_ends_with_the_shells_own_status(edge, monkeypatch, code, status):
    closed = []
    monkeypatch.setattr("edge_harness.device.lease.sweep", lambda say=None: None)

    @contextlib.contextmanager
    def open_shell(*_):
        yield ShellCommand(argv=("sh", "-c", code), env=os.environ)
        closed.append(True)

    monkeypatch.setattr("edge_harness.commands.open_shell.open_shell", open_shell)
    assert edge("shell", "--device", "rpi4,rpi5").exit_code == status
    assert closed == [True, True]
