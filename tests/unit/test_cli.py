import json
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import click
import pytest
from edge_harness.cli import COMMANDS, main
from edge_harness.extensions import extensions


def every_command():
    """``(words, command)`` of each, those of groups too."""
    context = click.Context(main)
    found = []
    for name in main.list_commands(context):
        command = main.get_command(context, name)
        found.append(((name,), command))
        if isinstance(command, click.Group):
            found += [((name, sub), command.commands[sub]) for sub in sorted(command.commands)]
    return found


def options_of(command):
    return {option: p for p in command.params for option in getattr(p, "opts", ())}


# -- the door --------------------------------------------------------------------------------------


def test_all_commands_are_listed_with_what_they_do(edge):
    output = edge("--help", terminal_width=80).output
    for name, (_, summary) in COMMANDS.items():
        assert f"\n  {name} " in output
        assert " ".join(summary.split()[:6]) in output
    assert max(map(len, output.splitlines())) <= 80


@pytest.mark.parametrize("name", COMMANDS)
def test_the_line_in_the_list_is_the_first_of_the_commands_own_help(name):
    help_text = main.get_command(click.Context(main), name).help
    assert help_text.split("\n\n")[0].replace("\n", " ") == COMMANDS[name][1]


def imported_by(*arguments):
    script = (
        "import sys\nfrom edge_harness.cli import main\n"
        f"try: main({list(arguments)!r})\nexcept SystemExit as end: assert not end.code\n"
        "print('\\n' + ' '.join(sys.modules))"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return set(result.stdout.splitlines()[-1].split())


HEAVY = {"docker", "numpy", "rich", "msgspec", "hypothesis", "requests", "pytest", "packaging"}


@pytest.mark.parametrize("arguments", [["--help"], ["--version"]], ids=" ".join)
def test_a_look_at_the_door_imports_no_command_and_nothing_heavy(arguments):
    found = imported_by(*arguments)
    assert not HEAVY & found
    assert not {row[0].partition(":")[0] for row in COMMANDS.values()} & found


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_a_command_imports_that_command_alone(name):
    found = imported_by(name, "--help")
    assert not {"docker", "numpy", "rich", "hypothesis", "pytest"} & found
    modules = {row[0].partition(":")[0] for row in COMMANDS.values()}
    assert modules & found == {COMMANDS[name][0].partition(":")[0]}


def test_the_version_has_one_spelling(edge):
    from importlib.metadata import version

    assert edge("--version").output == f"edge-harness {version('pytest-edge-harness')}\n"
    assert edge("version").exit_code == 2


def test_a_mistyped_command_is_answered_with_the_nearest(edge):
    result = edge("lateny")
    assert result.exit_code == 2
    assert "there is no command 'lateny'; did you mean 'latency'?" in result.stderr


@click.command()
def toy():
    """Do something else."""
    click.echo("from elsewhere")


@pytest.fixture
def install(monkeypatch):
    """``install(target)``: another distribution adds a command, and one by a name of ours."""

    def added(target):
        owner = SimpleNamespace(name="edge-toy", version="1.0")
        points = [
            SimpleNamespace(name=name, value=value, dist=owner)
            for name, value in (("toy", target), ("doctor", "nowhere:nothing"))
        ]
        monkeypatch.setattr("importlib.metadata.entry_points", lambda *, group: points)
        extensions.cache_clear()

    yield added
    monkeypatch.undo()
    extensions.cache_clear()


def test_another_distribution_adds_a_command_and_takes_none_away(edge, install, monkeypatch):
    monkeypatch.setitem(sys.modules, "toy_commands", sys.modules[__name__])
    install("toy_commands:toy")
    assert "\n  toy        From edge-toy 1.0." in edge("--help").output
    assert edge("toy").output == "from elsewhere\n"
    assert "Do something else." in edge("toy", "--help").output
    assert "Usage: main doctor" in edge("doctor", "--help").output


@pytest.mark.parametrize("value", ["no_such_module:toy", "json:dumps"])
def test_a_broken_command_of_another_distribution_breaks_nothing_else(edge, install, value):
    install(value)
    result = edge("toy")
    assert result.exit_code == 3
    assert "the command 'toy' of edge-toy 1.0 is broken" in result.stderr
    assert "next:" in result.stderr
    assert edge("--help").exit_code == 0


# -- one spelling ----------------------------------------------------------------------------------

SHARED = {
    "--device": {
        ("calibrate",),
        ("compare",),
        ("devices",),
        ("doctor",),
        ("image", "build"),
        ("latency",),
        ("run",),
        ("setup",),
        ("shell",),
    },
    "--engine": {("compare",), ("doctor",), ("run",), ("shell",)},
    "--runtime": {("compare",), ("latency",)},
    "--kernels": {("compare",), ("latency",)},
    "--samples": {("compare",), ("latency",)},
    "--threads": {("compare",), ("latency",)},
    "--json": {
        ("calibrate",),
        ("compare",),
        ("devices",),
        ("doctor",),
        ("image", "ls"),
        ("latency",),
    },
}


@pytest.mark.parametrize("option", SHARED)
def test_shared_options_are_on_every_command_they_fit_and_alike(option):
    found = {
        words: options_of(command)[option]
        for words, command in every_command()
        if option in options_of(command)
    }
    assert set(found) == SHARED[option]
    forms = {
        (p.name, p.multiple, p.is_flag, p.nargs, p.metavar, type(p.type).__name__)
        for p in found.values()
    }
    assert len(forms) == 1


def test_choices_are_those_of_the_registries(edge):
    from edge_harness.engines.registry import engine_choices
    from edge_harness.runtimes import RUNTIMES

    text = edge("compare", "--help", terminal_width=200).output
    assert f"[{'|'.join(engine_choices())}]" in text
    assert f"[{'|'.join(RUNTIMES)}|PACKAGE==VERSION]" in text
    assert "[xnnpack|builtin|reference]" in text
    result = edge("latency", "m.tflite", "--runtime", "torch")
    assert result.exit_code == 2
    assert "there is no runtime 'torch'; use one of tflite, litert, onnx" in result.stderr


def test_no_command_takes_a_device_without_the_option(edge):
    for words, command in every_command():
        named = {p.name for p in command.params if isinstance(p, click.Argument)}
        assert not named & {"name", "names", "device", "devices"}, words


@pytest.mark.parametrize(
    ("words", "command"), every_command(), ids=lambda v: " ".join(v) if isinstance(v, tuple) else ""
)
def test_every_command_and_option_says_what_it_does(words, command):
    assert command.help
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, f"{' '.join(words)} {parameter.opts[0]}"


# -- devices ---------------------------------------------------------------------------------------


def names(result):
    return [profile["name"] for profile in json.loads(result.stdout)]


def test_devices_as_a_table_and_as_json(edge):
    assert "rpi4 " in edge("devices").output
    assert "rpi4" in names(edge("devices", "--json"))
    assert "Cortex-A72" in edge("devices", "--device", "pi4").output


def test_one_name_gives_one_json_object_and_several_a_list(edge):
    one = json.loads(edge("devices", "--device", "rpi4", "--json").stdout)
    assert one["cpu"]["core"] == "Cortex-A72"
    for several in (["--device", "rpi4,rpi5"], ["--device", "rpi4", "--device", "rpi5"]):
        assert names(edge("devices", "--json", *several)) == ["rpi4", "rpi5"]
    # Known from what was typed, not from how many there are.
    assert names(edge("devices", "--json", "--device", "rpi[4]")) == ["rpi4"]
    assert names(edge("devices", "--json", "--device", "all")) == names(edge("devices", "--json"))


def test_an_unknown_device_is_one_message_and_no_traceback(edge):
    result = edge("devices", "--device", "rpi44")
    assert result.exit_code == 2
    assert result.stderr.startswith("edge-harness: there is no device 'rpi44'; did you mean")
    assert "Traceback" not in result.output


def test_an_empty_name_is_no_device(edge):
    result = edge("doctor", "--device", " , ")
    assert result.exit_code == 2
    assert "' , ' names no device" in result.stderr


@pytest.fixture
def examined(monkeypatch):
    """The doctor looks at nothing; the names of the devices it was asked about."""
    asked = []
    monkeypatch.setattr("edge_harness.commands.doctor_checks.host", lambda profiles: [])
    monkeypatch.setattr(
        "edge_harness.commands.doctor_checks.engines",
        lambda profile, *_: asked.append(profile.name) or [],
    )
    return asked


def test_the_board_is_by_default_a_raspberry_pi_4(edge, examined):
    edge("doctor")
    assert examined == ["rpi4"]


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("pytest.ini", "[pytest]\nedge_devices = rpi5 rpi3b\n"),
        ("pyproject.toml", '[tool.pytest.ini_options]\nedge_devices = ["rpi5", "rpi3b"]\n'),
        ("tox.ini", "[pytest]\nedge_devices = rpi5 rpi3b\n"),
        ("setup.cfg", "[tool:pytest]\nedge_devices = rpi5 rpi3b\n"),
    ],
)
def test_the_projects_boards_are_the_default(edge, examined, tmp_path, monkeypatch, file, content):
    (tmp_path / file).write_text(content)
    (tmp_path / "below").mkdir()
    monkeypatch.chdir(tmp_path / "below")
    edge("doctor")
    assert examined == ["rpi5", "rpi3b"]
    examined.clear()
    monkeypatch.setenv("EDGE_DEVICE", "rpi4")
    edge("doctor")
    assert examined == ["rpi4"]
    examined.clear()
    edge("doctor", "--device", "rpi5")
    assert examined == ["rpi5"]


def test_a_wrong_default_is_named_with_its_place(edge, tmp_path):
    (tmp_path / "pytest.ini").write_text("[pytest]\nedge_devices = rpi44\n")
    result = edge("doctor")
    assert result.exit_code == 2
    assert f"edge_devices in {tmp_path}/pytest.ini" in result.stderr
    assert "there is no device 'rpi44'" in result.stderr


def test_a_wrong_default_engine_is_named_with_its_place(edge, tmp_path):
    (tmp_path / "pytest.ini").write_text("[pytest]\nedge_engine = vmm\n")
    result = edge("run", "--", "true")
    assert result.exit_code == 125
    assert f"ini value edge_engine in {tmp_path}/pytest.ini" in result.stderr
    assert "there is no engine 'vmm'" in result.stderr


def test_profiles_of_ones_own_are_found_here_and_in_named_folders(edge, tmp_path, monkeypatch):
    profile = 'title = "Mine"\nextends = "rpi4"\n'
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/mine.toml").write_text(profile)
    show = ("devices", "--device", "mine")
    assert edge(*show).exit_code == 2
    result = edge("--edge-profiles", str(tmp_path / "elsewhere"), *show)
    assert result.exit_code == 0, result.output
    assert "Mine" in result.output
    (tmp_path / "pytest.ini").write_text("[pytest]\nedge_profiles = elsewhere\n")
    (tmp_path / "below").mkdir()
    monkeypatch.chdir(tmp_path / "below")
    assert edge(*show).exit_code == 0
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    assert edge(*show).exit_code == 2
    (tmp_path / "device_profiles").mkdir()
    (tmp_path / "device_profiles/mine.toml").write_text(profile)
    assert edge(*show).exit_code == 0


# -- doctor, setup, image --------------------------------------------------------------------------


def test_doctor_of_one_engine_says_no_with_status_1(edge):
    result = edge("doctor", "--engine", "docker")
    assert result.exit_code == 1
    assert "no Docker daemon runs here" in result.output
    assert "fix:" in result.output


def test_doctor_for_programs(edge):
    answer = json.loads(edge("doctor", "--engine", "docker", "--json").stdout)
    assert answer["ok"] is False
    assert answer["checks"][0]["name"] == "Docker client"
    assert answer["checks"][-1]["name"] == "docker for rpi4"


def test_doctor_answers_for_each_device(edge):
    answer = json.loads(
        edge("doctor", "--engine", "docker", "--device", "rpi4,rpi5", "--json").stdout
    )
    rows = [check["name"] for check in answer["checks"]]
    assert rows[-2:] == ["docker for rpi4", "docker for rpi5"]
    assert rows.count("Docker client") == 1


def test_doctor_names_the_boards_that_cannot_be_emulated(edge, monkeypatch):
    from edge_harness.system.checks import Check

    def look(profile, _names):
        status = "missing" if profile.name == "rpi5" else "ok"
        return [Check(group="engines", name=f"user for {profile.name}", status=status, found="-")]

    monkeypatch.setattr("edge_harness.commands.doctor_checks.host", lambda _: [])
    monkeypatch.setattr("edge_harness.commands.doctor_checks.engines", look)
    result = edge("doctor", "--device", "rpi4,rpi3b")
    assert (result.exit_code, result.stdout.splitlines()[-1]) == (
        0,
        "rpi4, rpi3b can be emulated here",
    )
    result = edge("doctor", "--device", "rpi4,rpi5")
    assert (result.exit_code, result.stdout.splitlines()[-1]) == (
        1,
        "rpi5 cannot be emulated here: see the fixes above",
    )


def test_an_empty_cache_lists_nothing_and_collects_nothing(edge):
    assert "the cache is empty" in edge("image", "ls").output
    assert edge("image", "ls", "--json").output == "[]\n"
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
    listed = edge("image", "ls").output
    assert "numpy<2" in listed
    assert not any(line.endswith(" ") for line in listed.splitlines())
    [entry] = json.loads(edge("image", "ls", "--json").output)
    assert (entry["key"], entry["kind"], entry["arch"]) == ("abc", "layer", "arm64")
    assert edge("image", "rm", "abc").output == "removed abc\n"
    assert not folder.exists()


def test_undoing_nothing_says_so(edge):
    result = edge("setup", "--undo")
    assert result.exit_code == 0
    assert "nothing to undo" in result.output


@pytest.mark.parametrize("words", [("setup",), ("image", "build")], ids=" ".join)
def test_parts_are_fetched_for_each_device(edge, monkeypatch, words):
    asked = []
    monkeypatch.setattr(
        "edge_harness.commands.setup_steps.fetch",
        lambda profiles, _say: asked.extend(profile.name for profile in profiles),
    )
    monkeypatch.setattr("edge_harness.commands.setup_steps.plan", lambda: ([], []))
    assert edge(*words, "--device", "rpi5,rpi3b").exit_code == 0
    assert asked == ["rpi5", "rpi3b"]


# -- docs/cli.md -----------------------------------------------------------------------------------

PAGE = (Path(__file__).parents[2] / "docs" / "cli.md").read_text()


def sections():
    """``{command: its part of the page}``."""
    parts = re.split(r"^## ", PAGE, flags=re.MULTILINE)
    return {part.partition("\n")[0]: part for part in parts if part.partition("\n")[0] in COMMANDS}


def test_the_page_has_every_command():
    assert set(sections()) == set(COMMANDS)
    assert set(re.findall(r"^\| \[`(\w+)`\]\(#\1\)", PAGE, re.MULTILINE)) == set(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_the_page_and_the_help_name_the_same_options(name):
    of_command = {
        option
        for words, command in every_command()
        if words[0] == name
        for option in options_of(command)
        if option.startswith("--")
    }
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", sections()[name])) == of_command


def test_the_page_explains_every_shared_option():
    shared = PAGE.partition("## One spelling")[2].partition("\n## ")[0]
    assert set(re.findall(r"^\| `(--[a-z]+)", shared, re.MULTILINE)) == set(SHARED)
