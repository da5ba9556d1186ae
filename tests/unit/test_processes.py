"""Telling processes apart, and the one way to wait for them."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from edge_harness.errors import ImageBuildFailed
from edge_harness.processes import (
    Watched,
    completed,
    process_start_time,
    signal_name,
    tail,
    wait_for,
    wait_until,
)


def _child(program: str, log: Path) -> subprocess.Popen[bytes]:
    with log.open("wb") as output:
        return subprocess.Popen([sys.executable, "-c", program], stdout=output, stderr=output)


def _status(child: subprocess.Popen[bytes]) -> str:
    return "" if child.poll() is None else f"it ended with exit status {child.returncode}"


def test_a_wait_ends_as_soon_as_what_was_awaited_is_there(tmp_path: Path) -> None:
    there = tmp_path / "there"
    child = _child(f"open({str(there)!r}, 'w'); import time; time.sleep(60)", tmp_path / "log")
    try:
        vain = wait_for(
            "file",
            there.exists,
            alive=lambda: child.poll() is None,
            status=lambda: _status(child),
            last_words=lambda: (tmp_path / "log").read_text(),
            deadline_s=30,
        )
    finally:
        child.kill()
        child.wait()
    assert vain is None


def test_a_wait_fails_at_once_when_the_process_is_gone_and_quotes_its_last_words(
    tmp_path: Path,
) -> None:
    child = _child("print('no such model'); raise SystemExit(3)", tmp_path / "log")
    started = time.monotonic()
    vain = wait_for(
        "answer",
        lambda: False,
        alive=lambda: child.poll() is None,
        status=lambda: _status(child),
        last_words=lambda: (tmp_path / "log").read_text(),
        deadline_s=60,
    )
    assert time.monotonic() - started < 30
    assert vain is not None
    assert vain.reason == "it ended with exit status 3"
    assert vain.last_words == "no such model\n"
    assert str(vain) == "it ended with exit status 3\n--- it said ---\nno such model\n---"


def test_a_wait_that_takes_too_long_says_for_what_how_long_and_how_things_stood() -> None:
    vain = wait_for(
        "answer of its agent",
        lambda: False,
        alive=lambda: True,
        status=lambda: "still booting",
        last_words=lambda: "",
        deadline_s=0.02,
    )
    assert str(vain) == "no answer of its agent within 0.02 s (still booting) (it said nothing)"


def test_a_wait_looks_once_where_there_is_no_time_at_all() -> None:
    assert (
        wait_for(
            "answer",
            lambda: True,
            alive=lambda: False,
            status=str,
            last_words=str,
            deadline_s=0,
        )
        is None
    )


def test_what_a_process_did_last_counts_although_it_is_gone() -> None:
    looks = [True, False]  # not yet there at the first look; the process ends between the two
    assert (
        wait_for(
            "answer",
            looks.pop,
            alive=lambda: False,
            status=str,
            last_words=str,
            deadline_s=5,
        )
        is None
    )


def test_a_costly_look_at_the_process_is_taken_seldom() -> None:
    looks = []

    def alive() -> bool:
        looks.append(1)
        return True

    wait_for(
        "answer",
        lambda: False,
        alive=alive,
        status=str,
        last_words=str,
        deadline_s=0.2,
        step_s=0.001,
        alive_step_s=0.05,
    )
    assert 1 <= len(looks) <= 4


def test_wait_until_says_whether_it_came_true() -> None:
    rest = [True, False, False]
    assert wait_until(rest.pop, deadline_s=5, step_s=0)
    assert not wait_until(lambda: False, deadline_s=0.01, step_s=0.001)


def test_a_process_has_a_start_time_until_it_has_ended() -> None:
    assert process_start_time(os.getpid())
    child = subprocess.Popen([sys.executable, "-c", ""])
    assert wait_until(lambda: process_start_time(child.pid) == "", deadline_s=30)  # a zombie
    child.wait()
    assert process_start_time(child.pid) == ""


def test_the_tail_of_a_text_is_its_last_lines() -> None:
    assert tail("a\nb\nc\n\n", 2) == "b\nc"
    assert tail("") == ""


def test_a_watched_process_runs_until_its_group_is_ended() -> None:
    child = subprocess.Popen(["sleep", "60"], start_new_session=True)
    watched = Watched(child.pid, process_start_time(child.pid))
    assert watched.alive()
    watched.kill_group()
    child.returncode = -9  # reaped where it is watched
    assert not watched.alive()
    assert watched.status == -9


def test_a_process_of_somebody_else_is_known_by_when_it_started() -> None:
    parent = os.getppid()
    assert Watched(parent, process_start_time(parent)).alive()
    later = Watched(parent, "another time")
    assert not later.alive()
    assert later.status is None


def test_a_process_that_never_was_does_not_run() -> None:
    never = Watched(0, "")
    never.kill_group()
    assert not never.alive()


def test_signals_are_told_by_name_where_they_have_one():
    assert [signal_name(n) for n in (4, 9, 64, 40)] == [
        "SIGILL",
        "SIGKILL",
        "SIGRTMAX",
        "signal 40",
    ]


def test_a_program_that_ends_is_judged_by_its_caller() -> None:
    done = completed(
        [sys.executable, "-c", "print(input() if 0 else 'said'); raise SystemExit(3)"],
        what="try",
        timeout_s=60,
    )
    assert (done.returncode, done.stdout) == (3, "said\n")


def test_a_program_that_does_not_end_is_ended_and_its_last_words_are_told() -> None:
    hang = "import time; print('half of it', flush=True); time.sleep(600)"
    with pytest.raises(ImageBuildFailed) as caught:
        completed(
            [sys.executable, "-c", hang],
            what="unpack a package",
            timeout_s=1.5,
            error=ImageBuildFailed,
        )
    assert caught.value.message.startswith("could not unpack a package: ")
    assert "was not done after 1.5 s; it said last:\nhalf of it" in caught.value.message
    assert "run the same command again" in caught.value.next_step
