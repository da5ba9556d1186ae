"""Which engine gives a shell, and on which device."""

import json
import os
import sys

import pytest
from edge_harness.cache import cache_dir
from edge_harness.commands import open_shell as opening
from edge_harness.engines import Availability, registry
from edge_harness.engines.abilities import ShellCommand
from edge_harness.engines.choose import Choice, choose_engine
from edge_harness.engines.docker.engine import shell_argv
from edge_harness.engines.terminal import terminal_command
from edge_harness.errors import BrokenExtension, MissingAbility, MissingTool
from edge_harness.profiles import default_registry

RPI4 = default_registry().get("rpi4")


@pytest.fixture
def probes(monkeypatch, tmp_path):
    """``probes["user"] = False`` and the user engine cannot run here."""
    monkeypatch.setenv("EDGE_HARNESS_CACHE", str(tmp_path))
    runs = dict.fromkeys(registry.engine_names(), True)
    for name in runs:

        def probe(profile, name=name):
            return Availability(engine=name, available=runs[name], reason=f"{name} is as it is")

        monkeypatch.setattr(registry.engine_named(name), "probe", probe)
    return runs


@pytest.fixture
def shells(monkeypatch):
    """The engines that were asked for a shell."""
    asked = []
    for name in opening.shell_engines():

        def shell(profile, folder, *, running, say, name=name):
            asked.append(name)
            return ShellCommand(argv=(name,), env={})

        monkeypatch.setattr(registry.engine_named(name), "shell", shell)
    return asked


def test_a_shell_that_can_start_anything_is_tried_first(probes, shells):
    with opening.open_shell(RPI4, "auto", print) as command:
        assert command.argv == ("docker",)
    probes["docker"] = False
    with opening.open_shell(RPI4, "auto", print) as command:
        assert command.argv == ("user",)
    assert shells == ["docker", "user"]


def test_a_board_is_opened_on_request_alone(probes, shells):
    probes["docker"] = probes["user"] = False
    with (
        pytest.raises(MissingTool, match="user is as it is"),
        opening.open_shell(RPI4, "auto", print),
    ):
        pass
    with opening.open_shell(RPI4, "vm", print) as command:
        assert command.argv == ("vm",)


def test_an_engine_without_shells_names_those_that_have_one(probes):
    with (
        pytest.raises(MissingAbility, match="'host' offers no shell") as error,
        opening.open_shell(RPI4, "host", print),
    ):
        pass
    assert "user, docker, vm" in error.value.next_step


def test_an_engine_of_others_that_fails_to_give_a_shell_is_named(monkeypatch, tmp_path):
    class Toy:
        name = "toy"
        shell_rank = None

        def shell(self, profile, folder, *, running, say):
            raise KeyError("tty")

    said = Availability(engine="toy", available=True, reason="fine")
    toy = Choice(engine=Toy(), availability=said, why="asked for")
    monkeypatch.setenv("EDGE_HARNESS_CACHE", str(tmp_path))
    monkeypatch.setattr(opening, "choose_engine", lambda *_: toy)
    with (
        pytest.raises(BrokenExtension, match=r"'toy' is broken: shell\(\) fails: KeyError: 'tty'"),
        opening.open_shell(RPI4, "toy", print),
    ):
        pass


def test_the_youngest_device_that_runs_is_joined(probes, monkeypatch):
    choice = choose_engine(RPI4, "vm")
    folder = cache_dir() / "run"
    for number, key in enumerate(("rpi4-vm-old", "rpi4-vm-new", "rpi4-vm-dead", "rpi4-user-x")):
        (folder / key).mkdir(parents=True)
        record = {"engine": "vm", "state_dir": str(folder / key), "pid": 1}
        path = folder / key / "machine.json"
        path.write_text(json.dumps(record))
        os.utime(path, (number, number))
    monkeypatch.setattr(
        choice.engine.machine_type, "alive", lambda self: self.state_dir.name != "rpi4-vm-dead"
    )
    machine = opening.running_machine(RPI4, choice)
    assert machine is not None
    assert machine.record()["state_dir"].endswith("rpi4-vm-new")


def test_the_whole_command_of_a_shell_in_a_container():
    assert shell_argv("/usr/bin/docker", "unix:///s", "abc", RPI4) == (
        *("/usr/bin/docker", "--host", "unix:///s", "exec", "--interactive", "--tty"),
        *("--workdir", "/root", "--env", "PS1=rpi4:\\w# ", "abc", "/bin/bash", "--norc", "-i"),
    )


def test_the_whole_command_of_a_terminal_over_the_agent(tmp_path):
    machine = registry.engine_named("vm").attach({"engine": "vm", "state_dir": str(tmp_path)})
    assert terminal_command(machine, "rpi4").argv == (
        *(sys.executable, "-m", "edge_harness.engines.terminal"),
        json.dumps({"engine": "vm", "state_dir": str(tmp_path)}),
        "rpi4:\\w# ",
    )
