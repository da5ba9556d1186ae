import io

import pytest
from edge_harness.commands import doctor_checks as doctor
from edge_harness.commands.doctor_table import print_checks
from edge_harness.engines import sandbox
from edge_harness.profiles import default_registry
from edge_harness.system import binfmt
from edge_harness.system.checks import Check
from rich.console import Console


@pytest.fixture
def rpi4():
    return default_registry().get("rpi4")


@pytest.fixture
def bare(tmp_path, monkeypatch):
    """A machine with nothing on it: no programs, no daemon, an empty cache."""
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/docker.sock")
    monkeypatch.setenv("EDGE_HARNESS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(binfmt, "FOLDER", tmp_path / "binfmt_misc")
    return tmp_path


def named(checks, name):
    [check] = [check for check in checks if check.name == name]
    return check


def test_on_a_bare_machine_everything_is_missing_and_has_a_fix(bare, rpi4):
    checks = doctor.examine(rpi4)
    for name, fix in (
        ("QEMU user mode", "edge-harness setup"),
        ("user namespaces", "edge-harness setup"),
        ("apt-get and dpkg-deb", "use a Debian or Ubuntu machine"),
        ("Docker Engine", "edge-harness setup --system"),
        ("binfmt_misc", "edge-harness setup --system"),
        ("user for rpi4", "install qemu-user 8.2 or newer"),
        ("docker for rpi4", "edge-harness setup --system"),
    ):
        check = named(checks, name)
        assert check.status == "missing", name
        assert fix in check.fix, name
    assert not doctor.can_run(checks)


def test_every_check_that_is_not_well_has_a_fix_or_is_optional(bare, rpi4):
    for check in doctor.examine(rpi4):
        if check.status == "missing":
            assert check.fix or check.optional, check.name


def test_a_cache_that_cannot_be_written_is_found(bare, rpi4, monkeypatch):
    (bare / "cache").write_text("a file")
    check = named(doctor.examine(rpi4), "cache folder")
    assert check.status == "missing"
    assert "EDGE_HARNESS_CACHE" in check.fix


def test_a_docker_command_alone_is_no_engine(bare, rpi4):
    docker = bare / "bin/docker"
    docker.write_text("#!/bin/sh\necho Docker version 28.2.2\n")
    docker.chmod(0o755)
    checks = doctor.examine(rpi4)
    assert named(checks, "Docker client").found == "Docker version 28.2.2"
    assert named(checks, "Docker Engine").status == "missing"


def test_namespaces_are_really_tried(bare, rpi4, monkeypatch):
    bwrap = bare / "bin/bwrap"
    bwrap.write_text("#!/bin/sh\necho 'bwrap: setting up uid map: Permission denied' >&2; exit 1\n")
    bwrap.chmod(0o755)
    qemu = bare / "bin/qemu-aarch64"
    qemu.write_text("#!/bin/sh\necho qemu-aarch64 version 10.0.2\n")
    qemu.chmod(0o755)
    sandbox.isolation.cache_clear()
    try:
        check = named(doctor.examine(rpi4), "user namespaces")
    finally:
        sandbox.isolation.cache_clear()
    assert check.status == "missing"
    assert "setting up uid map: Permission denied" in check.found
    assert "sysctl" in check.fix


def test_an_engine_that_emulates_makes_a_machine_fit():
    def engine(name, status, **more):
        return Check(group="engines", name=f"{name} for rpi4", status=status, found="", **more)

    assert doctor.can_run([engine("user", "limited"), engine("docker", "missing")])
    assert doctor.can_run([engine("user", "missing"), engine("docker", "ok")])
    native = engine("host", "ok", optional=True)
    assert not doctor.can_run([engine("user", "missing"), native])


def test_an_engine_for_request_alone_makes_no_machine_fit(rpi4):
    checks = doctor.engines(rpi4)
    assert [check.name for check in checks if check.optional] == ["host for rpi4"]


@pytest.mark.parametrize(
    ("status", "optional", "word"),
    [
        ("ok", False, "passed"),
        ("limited", False, "inconclusive"),
        ("missing", False, "failed"),
        ("missing", True, "skipped"),
        ("ok", True, "passed"),
    ],
)
def test_a_check_has_one_of_the_five_verdicts(status, optional, word):
    check = Check(group="a", name="b", status=status, found="seen", optional=optional)
    assert (check.verdict.word, check.verdict.reason) == (word, "seen")


def test_the_table_shows_each_fix_below_its_check():
    checks = [
        Check(group="a", name="one", status="ok", found="fine [really]", fix="not shown"),
        Check(group="b", name="two", status="missing", found="gone", fix="add [it]"),
    ]
    output = io.StringIO()
    print_checks(checks, Console(file=output, width=80))
    lines = [line.strip() for line in output.getvalue().splitlines()]
    assert lines[0] == "ok       one  fine [really]"
    assert lines[2] == "missing  two  gone"
    assert lines[3] == "fix: add [it]"
    assert "not shown" not in output.getvalue()


def test_checks_are_plain_values_for_programs():
    check = Check(group="a", name="one", status="ok", found="x")
    assert doctor.as_json([check]) == [
        {
            "group": "a",
            "name": "one",
            "status": "ok",
            "found": "x",
            "fix": "",
            "optional": False,
            "verdict": {"word": "passed", "reason": "x", "figures": []},
        }
    ]
