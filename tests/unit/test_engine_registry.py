"""Engines by name: built-in ones, and those of other distributions."""

import subprocess
import sys

import pytest
from click.testing import CliRunner
from edge_harness.commands import doctor_checks
from edge_harness.commands.doctor import doctor
from edge_harness.engines import registry
from edge_harness.engines.choose import choose_engine
from edge_harness.errors import BrokenExtension, OptionError
from edge_harness.extensions import extensions
from edge_harness.profiles import default_registry
from edge_harness.system.checks import Check

ENGINE = """
from edge_harness.engines import Availability, Requirements

class Toy:
    name = "toy"
    auto_rank = None
    machine_type = object
    def requirements(self, profile): return Requirements()
    def probe(self, profile):
        return Availability(engine=self.name, available=True, reason="it is a toy")
    def checks(self, profile): return []
    def start(self, spec): raise NotImplementedError
    def attach(self, record): raise NotImplementedError
"""


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Puts a distribution with one engine on the path."""
    monkeypatch.syspath_prepend(str(tmp_path))
    extensions.cache_clear()
    registry._loaded.cache_clear()

    def put(name, text, attribute="Toy"):
        info = tmp_path / f"{name}_toy-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}-toy\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(
            f"[{registry.GROUP}]\n{name} = {name}_module:{attribute}\n"
        )
        (tmp_path / f"{name}_module.py").write_text(text)
        sys.modules.pop(f"{name}_module", None)

    yield put
    extensions.cache_clear()


def test_the_built_in_engines_are_listed_and_none_is_imported():
    code = (
        "import sys; from edge_harness.engines.registry import engine_choices; "
        "print(*engine_choices()); "
        "print([m for m in sys.modules if m.startswith('edge_harness.engines.')])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.splitlines() == [
        "auto user docker vm host",
        "['edge_harness.engines.registry']",
    ]


def test_an_engine_of_another_distribution_is_one_like_the_built_in(install):
    install("toy", ENGINE)
    assert registry.engine_names()[-1] == "toy"
    choice = choose_engine(default_registry().get("rpi4"), "toy")
    assert choice.availability.reason == "it is a toy"
    engines, broken = registry.working_engines()
    assert [engine.name for engine in engines] == ["user", "docker", "vm", "host", "toy"]
    assert broken == []


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("import nowhere_to_be_found", "nowhere_to_be_found"),
        (ENGINE.replace("self, profile): return []", "self): pass").replace("checks", "x"), "no c"),
        (ENGINE.replace('"toy"', '"other"'), "it calls itself 'other'"),
        (ENGINE + "    def __init__(self): 1/0\n", "ZeroDivisionError"),
        (ENGINE.replace("auto_rank = None", "auto_rank = 'first'"), "its auto_rank is 'first'"),
        (ENGINE.replace("machine_type = object", "machine_type = 7"), "machine_type is no class"),
    ],
)
def test_a_broken_engine_is_one_error_and_harms_no_other(install, text, why):
    install("toy", text)
    with pytest.raises(BrokenExtension, match="'toy' of toy-toy 1.0 is broken: .*" + why):
        registry.engine_named("toy")
    engines, broken = registry.working_engines()
    assert [engine.name for engine in engines] == ["user", "docker", "vm", "host"]
    assert [error.details["engine"] for error in broken] == ["toy"]
    assert choose_engine(default_registry().get("rpi4"), "host").engine.name == "host"


@pytest.mark.parametrize(
    "text",
    [
        "import nowhere",
        *(
            ENGINE.replace("profile): return []", f"profile): return {wrong}")
            for wrong in ("1 / 0", "None", "[7]")
        ),
    ],
)
def test_the_doctor_names_a_broken_engine_and_goes_on(install, text, monkeypatch):
    mirror = Check(group="parts", name="Debian mirror", status="ok", found="")
    monkeypatch.setattr(doctor_checks, "_mirror", lambda: mirror)
    install("toy", text)
    checks = doctor_checks.host([default_registry().get("rpi4")])
    [bad] = [check for check in checks if check.name == "toy engine"]
    assert bad.status == "missing"
    assert any(check.name == "cache folder" for check in checks)


def test_a_built_in_engine_keeps_its_name(install):
    install("user", ENGINE)
    assert registry.engine_named("user").__class__.__module__ == "edge_harness.engines.user"
    assert registry.engine_names().count("user") == 1
    _, [error] = registry.working_engines()
    assert "the name 'user' is taken" in error.message


@pytest.mark.parametrize("name", ["auto", "kvm"])
def test_what_is_no_engine_lists_those_that_are(name):
    with pytest.raises(OptionError, match=f"no engine called {name!r}") as error:
        registry.engine_named(name)
    assert error.value.next_step == "use one of: user, docker, vm, host"


def test_the_doctor_asked_about_one_engine_shows_what_that_rests_on(install):
    row = "[Check(group='toys', name='battery', status='ok', found='half full')]"
    text = "from edge_harness.system.checks import Check\n" + ENGINE
    install("toy", text.replace("profile): return []", f"profile): return {row}"))
    result = CliRunner().invoke(doctor, ["--device", "rpi4,rpi5", "--engine", "toy"])
    assert result.exit_code == 0, result.output
    assert result.output.count("battery") == 1
    assert "half full" in result.output
    assert "toy for rpi5" in result.output
    assert "cache folder" not in result.output


def test_the_doctor_has_a_row_for_an_engine_that_says_nothing_and_goes_on(install):
    install("toy", ENGINE.replace("return Availability(", "Availability("))
    rpi4 = default_registry().get("rpi4")
    rows = doctor_checks.engines(rpi4)
    assert [row.name for row in rows if row.name.startswith(("host", "toy"))] == [
        "host for rpi4",
        "toy for rpi4",
    ]
    assert rows[-1].status == "missing"
    assert "the engine 'toy' of toy-toy 1.0 is broken: probe() gives None" in rows[-1].found


def test_what_an_engine_of_others_raises_is_told_with_whose_it_is_and_ours_is_not(install):
    install("toy", ENGINE)
    with (
        pytest.raises(
            BrokenExtension, match=r"'toy' of toy-toy 1\.0 is broken: start\(\) fails"
        ) as e,
        registry.blaming("toy", "start"),
    ):
        raise KeyError("board")
    assert e.value.details == {"engine": "toy", "distribution": "toy-toy 1.0"}
    with pytest.raises(KeyError), registry.blaming("host", "start"):
        raise KeyError("board")
