import json
import os
import subprocess
import sys

import pytest
from edge_harness.commands import setup_steps as setup
from edge_harness.errors import BootFailed, InfrastructureError, MissingTool
from edge_harness.image import tools
from edge_harness.processes import process_start_time
from edge_harness.system import binfmt, dockerd, runner


@pytest.fixture(autouse=True)
def bare_machine(tmp_path, monkeypatch):
    """A Debian machine without Docker, its binfmt_misc not mounted, its cache in ``tmp_path``."""
    programs = tmp_path / "bin"
    programs.mkdir()
    program(programs / "apt-get", "exit 0")
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/docker.sock")
    monkeypatch.setenv("EDGE_HARNESS_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "binfmt_misc"
    folder.mkdir()
    monkeypatch.setattr(binfmt, "FOLDER", folder)
    monkeypatch.setattr(dockerd, "installed", lambda: None)
    monkeypatch.setattr(dockerd, "systemd_runs", lambda: False)
    monkeypatch.setattr(setup, "debian_like", lambda: True)
    monkeypatch.setattr(tools, "host_arch", lambda: "amd64")
    root = tmp_path / "tools"
    (root / "usr/bin").mkdir(parents=True)
    for name in ("qemu-aarch64", "qemu-arm"):
        program(root / "usr/bin" / name, "echo qemu-x version 10.0.2")
    fetched = tools.Tools(root=root, versions={})
    monkeypatch.setattr(tools, "installed_tools", lambda: fetched)
    return tmp_path


def program(path, text):
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def mount(folder):
    (folder / "status").write_text("enabled\n")


def test_the_whole_plan_for_a_bare_machine(bare_machine):
    steps, notes = setup.plan()
    folder, root = bare_machine / "binfmt_misc", bare_machine / "tools"
    assert notes == []
    assert [step.argv for step in steps] == [
        ("apt-get", "-q", "update"),
        ("apt-get", "-q", "install", "--yes", "--no-install-recommends", "docker.io"),
        ("dockerd", "--pidfile", str(bare_machine / "cache/dockerd.pid")),
        ("mount", "-t", "binfmt_misc", "binfmt_misc", str(folder)),
        ("tee", f"{folder}/register"),
        ("tee", f"{folder}/register"),
    ]
    assert [step.stdin for step in steps[4:]] == [
        binfmt.register_line("arm64", root / "usr/bin/qemu-aarch64"),
        binfmt.register_line("armhf", root / "usr/bin/qemu-arm"),
    ]


def test_with_systemd_docker_is_its_service(monkeypatch):
    monkeypatch.setattr(dockerd, "systemd_runs", lambda: True)
    steps, _ = setup.plan()
    assert ("systemctl", "start", "docker.service") in [step.argv for step in steps]


def test_docker_that_is_installed_is_only_started(monkeypatch):
    monkeypatch.setattr(dockerd, "installed", lambda: "/usr/sbin/dockerd")
    steps, _ = setup.plan()
    assert [step.key for step in steps] == ["dockerd", "mount", "binfmt", "binfmt"]


def test_on_other_distributions_it_says_what_to_do(monkeypatch):
    monkeypatch.setattr(setup, "debian_like", lambda: False)
    steps, [note] = setup.plan()
    assert "install it with your distribution's package manager" in note
    assert not {"install", "dockerd"} & {step.key for step in steps}


def test_what_is_there_is_left_alone(bare_machine, monkeypatch):
    monkeypatch.setattr(dockerd, "reachable", lambda: True)
    folder = bare_machine / "binfmt_misc"
    mount(folder)
    for arch, name in (("arm64", "qemu-aarch64"), ("armhf", "qemu-arm")):
        (folder / name).write_text(
            f"enabled\ninterpreter /x\nflags: F\noffset 0\nmagic {binfmt.elf_header(arch).hex()}\n"
        )
    assert setup.plan() == ([], [])


def test_our_own_outdated_entry_is_replaced(bare_machine, monkeypatch):
    monkeypatch.setattr(dockerd, "reachable", lambda: True)
    folder = bare_machine / "binfmt_misc"
    mount(folder)
    magic = binfmt.elf_header("arm64").hex()
    (folder / "edge-harness-aarch64").write_text(
        f"enabled\ninterpreter /x\nflags: P\noffset 0\nmagic {magic}\n"
    )
    steps, _ = setup.plan()
    assert [(step.key, step.argv[1]) for step in steps] == [
        ("unregister", f"{folder}/edge-harness-aarch64"),
        ("binfmt", f"{folder}/register"),
        ("binfmt", f"{folder}/register"),
    ]
    assert steps[0].stdin == "-1"


def test_a_step_is_shown_as_one_would_type_it():
    step = runner.Step(key="binfmt", why="", argv=("tee", "/a b"), stdin=r":x:\x7f")
    assert step.command(("sudo", "-n")) == r"printf %s ':x:\x7f' | sudo -n tee '/a b'"


def test_a_failing_step_is_quoted(bare_machine):
    program(bare_machine / "bin/apt-get", "echo E: no such package >&2; exit 100")
    step = runner.Step(key="install", why="install Docker Engine", argv=("apt-get", "install"))
    with pytest.raises(InfrastructureError, match=r"exit status 100\nE: no such package"):
        runner.run_step(step, ())


def test_a_program_that_is_not_there_is_an_error_with_the_command(bare_machine):
    step = runner.Step(key="x", why="do it", argv=("no-such-program", "now"))
    with pytest.raises(InfrastructureError, match="could not do it") as caught:
        runner.run_step(step, ())
    assert "no-such-program now" in caught.value.next_step


def test_without_root_and_sudo_the_error_says_so(monkeypatch, bare_machine):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("PATH", str(bare_machine / "bin"))
    with pytest.raises(MissingTool, match="system changes need root"):
        setup.apply(lambda text: None)


def test_sudo_is_used_only_where_it_asks_nothing(monkeypatch, bare_machine):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    sudo = bare_machine / "bin/sudo"
    program(sudo, 'printf "%s\\n" "$*" >>"$0.log"; exit 1')
    assert runner.privilege() is None
    assert (bare_machine / "bin/sudo.log").read_text() == "-n true\n"
    program(sudo, "exit 0")
    assert runner.privilege() == (str(sudo), "-n")


def test_a_daemon_that_does_not_come_up_is_quoted(bare_machine, monkeypatch):
    daemon = bare_machine / "bin/dockerd"
    program(daemon, "echo level=fatal msg='no cgroups' >&2; exit 1")
    monkeypatch.setattr(dockerd, "installed", lambda: str(daemon))
    with pytest.raises(BootFailed, match=r"exit status 1(?s:.*)no cgroups"):
        dockerd.start((), lambda text: None)


def test_without_netfilter_the_daemon_is_tried_without_networks(bare_machine, monkeypatch):
    daemon = bare_machine / "bin/dockerd"
    program(daemon, 'echo "$@" >>"$0.log"; echo iptables failed >&2; exit 1')
    monkeypatch.setattr(dockerd, "installed", lambda: str(daemon))
    said = []
    with pytest.raises(BootFailed):
        dockerd.start((), said.append)
    first, second = (bare_machine / "bin/dockerd.log").read_text().splitlines()
    assert first == f"--pidfile {bare_machine}/cache/dockerd.pid"
    assert second == first + " --iptables=false --ip6tables=false --bridge=none"
    assert said == ["dockerd could not set up container networks; starting it without them"]


def test_undo_stops_what_was_started_and_removes_what_was_registered(bare_machine, monkeypatch):
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    folder = bare_machine / "binfmt_misc"
    mount(folder)
    (folder / "edge-harness-arm").write_text("")
    program(bare_machine / "bin/umount", f'echo "$@" >{bare_machine}/umounted; rm "$1/status"')
    (bare_machine / "cache").mkdir()
    setup.record_file().write_text(
        json.dumps(
            {
                "packages": ["docker.io 1"],
                "dockerd": {
                    "how": "direct",
                    "pid": process.pid,
                    "started": process_start_time(process.pid),
                },
                "binfmt": ["edge-harness-arm", "edge-harness-gone"],
                "mounts": [str(folder)],
            }
        )
    )
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    said = []
    setup.undo(said.append)
    assert process_start_time(process.pid) == ""
    process.returncode = 0
    assert (folder / "edge-harness-arm").read_text() == "-1"
    assert (bare_machine / "umounted").read_text().strip() == str(folder)
    assert said == [
        "stopped Docker Engine",
        "removed the binfmt entry edge-harness-arm",
        f"unmounted {folder}",
    ]
    assert setup.read_record() == {"packages": ["docker.io 1"], "binfmt": [], "mounts": []}
    said.clear()
    setup.undo(said.append)
    assert said == ["nothing to undo: no system change of edge-harness is in effect"]


def test_a_process_number_used_by_another_since_is_not_killed(bare_machine):
    record = {"how": "direct", "pid": os.getpid(), "started": "1"}
    assert dockerd.stop(record, ()) is False


def test_a_mount_with_entries_of_others_stays(bare_machine, monkeypatch):
    folder = bare_machine / "binfmt_misc"
    mount(folder)
    (folder / "other").write_text("enabled\ninterpreter /x\nflags: F\noffset 0\nmagic 7f\n")
    (bare_machine / "cache").mkdir()
    setup.record_file().write_text(json.dumps({"mounts": [str(folder)]}))
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    setup.undo(lambda text: None)
    assert binfmt.mounted()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ID=debian\n", True),
        ('ID=linuxmint\nID_LIKE="ubuntu debian"\n', True),
        ("ID=fedora\n", False),
        ("", False),
    ],
)
def test_which_distributions_have_the_package(bare_machine, monkeypatch, text, expected):
    monkeypatch.undo()
    monkeypatch.setenv("PATH", str(bare_machine / "bin"))
    path = bare_machine / "os-release"
    path.write_text(text)
    assert setup.debian_like(path) is expected
