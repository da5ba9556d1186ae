"""A command means the boards that pytest would: both read the same values of the same file."""

import pytest
from edge_harness.commands.project import (
    asked_for,
    engine_asked_for,
    profile_folders,
    project_at,
)
from edge_harness.errors import OptionError

TOML = pytest.version_tuple >= (9,)
INI = """
edge_devices = rpi5 "rpi3b"
edge_engine = vm
edge_profiles =
    boards
    ~/more boards
"""
CLASSIC = """
edge_devices = ["rpi5", "rpi3b"]
edge_engine = "vm"
edge_profiles = ["boards", "~/more boards"]
"""
FILES = {
    "pytest.ini": f"[pytest]{INI}",
    ".pytest.ini": f"[pytest]{INI}",
    "pyproject.toml": f"[tool.pytest.ini_options]{CLASSIC}",
    "tox.ini": f"[tox]\n[pytest]{INI}",
    "setup.cfg": f"[tool:pytest]{INI}",
}
if TOML:
    FILES["pytest.toml"] = f"[pytest]{CLASSIC}"
    FILES[".pytest.toml"] = f"[pytest]{CLASSIC}"


@pytest.fixture
def both(pytester, monkeypatch):
    """What pytest and a command make of the folder, side by side."""
    monkeypatch.setenv("HOME", str(pytester.path))

    def read():
        config = pytester.parseconfig()
        found = project_at(pytester.path)
        assert found.root == config.rootpath
        if found.values:  # of files without any, versions of pytest name another or none
            assert found.ini == config.inipath
        assert list(found.words("edge_devices")) == list(config.getini("edge_devices"))
        assert found.text("edge_engine") == config.getini("edge_engine")
        assert list(found.lines("edge_profiles")) == list(config.getini("edge_profiles"))
        return found

    return read


@pytest.mark.parametrize("name", FILES)
def test_each_file_is_read_as_pytest_reads_it(pytester, both, name):
    pytester.path.joinpath(name).write_text(FILES[name])
    found = both()
    assert asked_for(found, {}) == ("rpi5", "rpi3b")
    assert engine_asked_for(found, {}) == ("vm", f"ini value edge_engine in {found.ini}")
    folder = pytester.path
    assert profile_folders(found) == (folder / "boards", folder / "more boards")


@pytest.mark.parametrize("winner", range(len(FILES)))
def test_of_several_files_the_one_that_pytest_takes_counts(pytester, both, winner):
    names = [*(("pytest.toml", ".pytest.toml") if TOML else ()), "pytest.ini", ".pytest.ini"]
    names += ["pyproject.toml", "tox.ini", "setup.cfg"]
    for name in names[winner:]:
        content = FILES[name].replace("rpi5", f"rpi5 {name}" if "ini" in name else "rpi5")
        pytester.path.joinpath(name).write_text(content)
    assert both().ini == pytester.path / names[winner]


@pytest.mark.parametrize(
    "files",
    [
        {},
        {"pytest.ini": ""},
        {"pyproject.toml": ""},
        {"pyproject.toml": "[tool.ruff]\n"},
        {"tox.ini": "[tox]\n"},
        {"pyproject.toml": "", "tox.ini": "[pytest]\nedge_devices = rpi5\n"},
        {"setup.py": "", "setup.cfg": "[metadata]\n"},
        {
            "pyproject.toml": "[tool.pytest.ini_options]\n"
            "edge_engine = ''\nedge_devices = \"a 'b c'\"\n"
        },
    ],
    ids=lambda files: "+".join(files) or "nothing",
)
def test_a_project_that_says_little_or_nothing(pytester, both, files):
    for name, content in files.items():
        pytester.path.joinpath(name).write_text(content)
    both()


def test_the_file_of_a_folder_above_is_the_projects(pytester, monkeypatch, both):
    pytester.path.joinpath("tox.ini").write_text(FILES["tox.ini"])
    below = pytester.path / "src" / "app"
    below.mkdir(parents=True)
    assert project_at(below) == project_at(pytester.path)


@pytest.mark.skipif(not TOML, reason="came with pytest 9")
def test_native_toml_of_pytest_9(pytester, both):
    pytester.path.joinpath("pyproject.toml").write_text(f"[tool.pytest]{CLASSIC}")
    assert asked_for(both(), {}) == ("rpi5", "rpi3b")


@pytest.mark.parametrize("name", ["pytest.toml", "pyproject.toml"])
def test_an_older_pytest_passes_over_native_toml(pytester, monkeypatch, name):
    section = "pytest" if name == "pytest.toml" else "tool.pytest"
    pytester.path.joinpath(name).write_text(f"[{section}]{CLASSIC}")
    monkeypatch.setattr("importlib.metadata.version", lambda _: "8.4.2")
    assert asked_for(project_at(pytester.path), {}) == ()


def test_the_environment_goes_before_the_file(pytester):
    pytester.path.joinpath("pytest.ini").write_text(FILES["pytest.ini"])
    found = project_at(pytester.path)
    assert asked_for(found, {"EDGE_DEVICE": "rpi4, rpi2"}) == ("rpi4", "rpi2")
    assert engine_asked_for(found, {"EDGE_ENGINE": "user"})[0] == "user"
    assert asked_for(found, {"EDGE_DEVICE": ""}) == ("rpi5", "rpi3b")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("pytest.ini", "[pytest\n", r"pytest\.ini cannot be read"),
        ("pytest.ini", "no section = 1\n", r"pytest\.ini cannot be read"),
        ("pyproject.toml", "[tool", r"pyproject\.toml cannot be read"),
        (
            "pytest.ini",
            "[pytest]\nedge_devices = 'rpi4\n",
            'edge_devices = "\'rpi4" cannot be read',
        ),
        (
            "pyproject.toml",
            "[tool.pytest.ini_options]\nedge_devices = [1]\n",
            r"edge_devices = \[1\]",
        ),
    ],
)
def test_what_pytest_cannot_read_is_one_error(pytester, name, content, message):
    pytester.path.joinpath(name).write_text(content)
    with pytest.raises(OptionError, match=message):
        asked_for(project_at(pytester.path), {})
