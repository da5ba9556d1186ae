import json
import subprocess
import sys

import pytest
from click.testing import CliRunner
from edge_harness.cli import exit_status, main
from edge_harness.errors import (
    BootFailed,
    IllegalInstruction,
    MissingTool,
    OptionError,
    UnknownDevice,
)


@pytest.fixture
def edge(tmp_path, monkeypatch):
    """Runs the command with an empty cache and without Docker."""
    monkeypatch.setenv("EDGE_HARNESS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/docker.sock")
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: CliRunner().invoke(main, list(arguments))


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (UnknownDevice, 2),
        (OptionError, 2),
        (IllegalInstruction, 1),
        (BootFailed, 3),
        (MissingTool, 3),
    ],
)
def test_exit_statuses_tell_whose_fault_it_was(error, status):
    assert exit_status(error("x")) == status


def test_all_commands_are_there(edge):
    result = edge("--help")
    for command in ("doctor", "setup", "devices", "image", "run", "shell", "version"):
        assert f"\n  {command} " in result.output


def test_help_imports_nothing_heavy():
    script = (
        "import sys; from edge_harness.cli import main\n"
        "try: main(['--help'])\nexcept SystemExit: pass\n"
        "heavy = {'docker', 'numpy', 'rich', 'msgspec', 'hypothesis', 'requests', 'pytest'}\n"
        "sys.exit(str(heavy & set(sys.modules)) if heavy & set(sys.modules) else 0)"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_an_unknown_device_is_one_message_and_no_traceback(edge):
    result = edge("devices", "rpi44")
    assert result.exit_code == 2
    assert result.stderr.startswith("edge-harness: there is no device 'rpi44'; did you mean")
    assert "Traceback" not in result.output


def test_devices_as_a_table_and_as_json(edge):
    assert "rpi4 " in edge("devices").output
    listed = json.loads(edge("devices", "--json").output)
    assert "rpi4" in [profile["name"] for profile in listed]
    assert json.loads(edge("devices", "rpi4", "--json").output)["cpu"]["core"] == "Cortex-A72"
    assert "Cortex-A72" in edge("devices", "pi4").output


def test_doctor_of_one_engine_says_no_with_status_1(edge):
    result = edge("doctor", "--engine", "docker")
    assert result.exit_code == 1
    assert "no Docker daemon runs here" in result.output
    assert "fix:" in result.output


def test_doctor_for_programs(edge):
    answer = json.loads(edge("doctor", "--engine", "docker", "--json").output)
    assert answer["ok"] is False
    assert answer["checks"][0]["name"] == "docker for rpi4"


def test_an_engine_that_is_missing_is_infrastructure(edge):
    result = edge("run", "rpi4", "--engine", "docker", "--", "true")
    assert result.exit_code == 3
    assert "no Docker daemon runs here" in result.stderr
    assert "next:" in result.stderr


def test_a_badly_written_variable_is_refused(edge):
    result = edge("run", "rpi4", "--env", "NAME", "--", "true")
    assert result.exit_code == 2
    assert "--env 'NAME' has no '='" in result.stderr


def test_an_empty_cache_lists_nothing_and_collects_nothing(edge):
    assert "the cache is empty" in edge("image", "ls").output
    assert edge("image", "gc").output == "0 removed\n"
    result = edge("image", "rm", "nothing")
    assert result.exit_code == 2
    assert "there is no image, layer, kernel, disk or snapshot 'nothing'" in result.stderr


def test_images_are_listed_and_removed(edge, tmp_path):
    folder = tmp_path / "cache/layers/abc"
    (folder / "site").mkdir(parents=True)
    (folder / "lock.json").write_text(
        json.dumps({"arch": "arm64", "requirements": ["numpy<2"], "wheels": []})
    )
    assert "numpy<2" in edge("image", "ls").output
    [entry] = json.loads(edge("image", "ls", "--json").output)
    assert (entry["key"], entry["kind"], entry["arch"]) == ("abc", "layer", "arm64")
    assert edge("image", "rm", "abc").output == "removed abc\n"
    assert not folder.exists()


def test_a_cache_that_is_a_file_is_explained(edge, tmp_path):
    (tmp_path / "cache").write_text("")
    result = edge("image", "ls")
    assert result.exit_code == 3
    assert "a file is in its way" in result.stderr


def test_undoing_nothing_says_so(edge):
    result = edge("setup", "--undo")
    assert result.exit_code == 0
    assert "nothing to undo" in result.output


def test_profiles_of_ones_own_are_found_here_and_in_named_folders(edge, tmp_path):
    profile = 'title = "Mine"\nextends = "rpi4"\n'
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/mine.toml").write_text(profile)
    assert edge("devices", "mine").exit_code == 2
    result = edge("--edge-profiles", str(tmp_path / "elsewhere"), "devices", "mine")
    assert result.exit_code == 0, result.output
    assert "Mine" in result.output
    (tmp_path / "device_profiles").mkdir()
    (tmp_path / "device_profiles/mine.toml").write_text(profile)
    assert edge("devices", "mine").exit_code == 0


def test_a_bug_of_ours_is_one_message_too(edge, monkeypatch):
    monkeypatch.setattr("edge_harness.image.list_images", lambda: 1 // 0)
    result = edge("image", "ls")
    assert result.exit_code == 3
    assert "a bug of ours: ZeroDivisionError" in result.stderr
    assert "EDGE_HARNESS_DEBUG=1" in result.stderr
    monkeypatch.setenv("EDGE_HARNESS_DEBUG", "1")
    assert isinstance(edge("image", "ls").exception, ZeroDivisionError)
