"""Mistakes in a profile: one error that names file, line, table and key, and what to do."""

from __future__ import annotations

from pathlib import Path

import pytest
from edge_harness.errors import OptionError, ProfileError, UnknownDevice, UnsupportedModel
from edge_harness.profiles import ProfileRegistry, builtin_dir, default_registry
from edge_harness.runtime_requirements import Brought
from edge_harness.runtimes import RUNTIMES, Format, Outside, Runtime

GOOD = """\
title = "A board"

[cpu]
soc = "A chip"
core = "Cortex-A53"
cores = 4
isa = "armv8.0-a"
mhz = 1000
features = ["fp", "asimd"]
l1d_kib = 32
l1i_kib = 32

[memory]
ram_mib = 512
usable_mib = 400

[os]
arch = "arm64"
suite = "bookworm"
page_size_kib = 4

[emulation]
qemu_cpu = "cortex-a53"
"""


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / f"{name}.toml"
    path.write_text(text)
    return path


def error_of(folder: Path, text: str, name: str = "board") -> ProfileError:
    path = write(folder, name, text)
    with pytest.raises(ProfileError) as caught:
        default_registry([folder]).get(name)
    error = caught.value
    assert str(path) in error.message
    assert error.next_step
    return error


def test_a_good_profile_loads(tmp_path: Path) -> None:
    write(tmp_path, "board", GOOD)
    profile = default_registry([tmp_path]).get("board")
    assert (profile.name, profile.title, profile.cpu.cores) == ("board", "A board", 4)
    assert profile.source_file == str(tmp_path / "board.toml")


@pytest.mark.parametrize(
    ("old", "new", "where", "nearest"),
    [
        ("mhz = 1000", "mzh = 1000", "line 8: [cpu] mzh", "'mhz'"),
        ("cores = 4", "core_count = 4", "line 6: [cpu] core_count", "'core"),
        ("ram_mib", "ram_mb", "line 14: [memory] ram_mb", "'ram_mib'"),
        ("suite", "suit", "line 19: [os] suit", "'suite'"),
        ("qemu_cpu", "qemucpu", "line 23: [emulation] qemucpu", "'qemu_cpu'"),
        ("title", "titel", "line 1: titel", "'title'"),
        ("[memory]", "[memry]", "line 13: memry", "'memory'"),
        ("mhz = 1000", "mhz = 1000\nram_mib = 5", "line 9: [cpu] ram_mib", "[memory]"),
        ('title = "A board"', 'name = "board"', "line 1: name", "its file"),
    ],
)
def test_an_unknown_key_is_named_with_the_nearest_known_one(
    tmp_path: Path, old: str, new: str, where: str, nearest: str
) -> None:
    error = error_of(tmp_path, GOOD.replace(old, new, 1))
    assert f"board.toml, {where}: unknown key" in error.message
    assert nearest in error.message
    assert error.next_step.startswith("use one of: ")


def test_an_unknown_key_in_a_cluster_is_named(tmp_path: Path) -> None:
    cluster = '\n[[cpu.clusters]]\ncore = "Cortex-A53"\ncuont = 4\nmhz = 1000\n'
    error = error_of(tmp_path, GOOD + cluster)
    assert "[cpu.clusters] cuont: unknown key 'cuont'" in error.message
    assert "'count'" in error.message


@pytest.mark.parametrize(
    ("old", "new", "where", "problem"),
    [
        ("cores = 4", "cores = 0", "line 6: [cpu] cores = 0", ">= 1"),
        ("cores = 4", "cores = -2", "[cpu] cores = -2", ">= 1"),
        ("cores = 4", 'cores = "four"', "[cpu] cores = 'four'", "whole number"),
        ("cores = 4", "cores = 2.5", "[cpu] cores = 2.5", "whole number"),
        ("cores = 4", "cores = true", "[cpu] cores = True", "whole number"),
        ("mhz = 1000", "mhz = 0", "line 8: [cpu] mhz = 0", "> 0"),
        ("mhz = 1000", "mhz = -1.5", "[cpu] mhz = -1.5", "> 0"),
        ("mhz = 1000", "mhz = inf", "[cpu] mhz = inf", "20000"),
        ("mhz = 1000", "mhz = nan", "[cpu] mhz = nan", "number"),
        ("ram_mib = 512", "ram_mib = 0", "line 14: [memory] ram_mib = 0", ">= 1"),
        ("usable_mib = 400", "usable_mib = 600", "[memory] usable_mib = 600", "ram_mib = 512"),
        ("page_size_kib = 4", "page_size_kib = 5", "line 20: [os] page_size_kib = 5", "power"),
        ("page_size_kib = 4", "page_size_kib = 0", "[os] page_size_kib = 0", ">= 1"),
        ('"fp", "asimd"', '"fp", "AS IMD"', "[cpu] features = 'AS IMD'", "not allowed"),
        ('"fp", "asimd"', '"fp", 7', "[cpu] features = 7", "text in quotes"),
        ('["fp", "asimd"]', '"fp asimd"', "[cpu] features = 'fp asimd'", "list"),
        ('"cortex-a53"', '"cortex a53; ls"', "[emulation] qemu_cpu", "not allowed"),
        ('"cortex-a53"', '""', "[emulation] qemu_cpu = ''", "not allowed"),
        ('"A chip"', '""', "[cpu] soc = ''", "not empty"),
        ('isa = "armv8.0-a"', 'isa = "armv8"', "[cpu] isa = 'armv8'", "did you mean"),
        ('arch = "arm64"', 'arch = "aarch64"', "[os] arch = 'aarch64'", "did you mean"),
        ('suite = "bookworm"', 'suite = "bookwrm"', "[os] suite = 'bookwrm'", "'bookworm'"),
        ('arch = "arm64"', 'arch = "armhf"\nx = 1', "[os] x", "unknown key"),
        ('isa = "armv8.0-a"', 'isa = "armv7-a"', "[os] arch = 'arm64'", "armv7-a"),
    ],
)
def test_a_wrong_value_is_shown_with_what_is_right(
    tmp_path: Path, old: str, new: str, where: str, problem: str
) -> None:
    error = error_of(tmp_path, GOOD.replace(old, new, 1))
    assert where in error.message
    assert problem in error.message


@pytest.mark.parametrize(
    ("line", "table", "key"),
    [
        ('soc = "A chip"', "[cpu]", "soc"),
        ("cores = 4", "[cpu]", "cores"),
        ("usable_mib = 400", "[memory]", "usable_mib"),
        ('qemu_cpu = "cortex-a53"', "[emulation]", "qemu_cpu"),
        ('title = "A board"', "the profile", "title"),
    ],
)
def test_a_missing_key_is_named_with_its_table(
    tmp_path: Path, line: str, table: str, key: str
) -> None:
    error = error_of(tmp_path, GOOD.replace(line, "", 1))
    assert f"{table} has no {key!r}" in error.message
    assert "extends" in error.next_step


def test_a_missing_table_is_named(tmp_path: Path) -> None:
    head, _, _ = GOOD.partition("[emulation]")
    assert "the profile has no 'emulation'" in error_of(tmp_path, head).message


def test_a_table_that_is_a_value_is_refused(tmp_path: Path) -> None:
    assert "cpu = 5: expected a table" in error_of(tmp_path, 'title = "x"\ncpu = 5\n').message


def test_text_that_is_not_toml_names_the_line(tmp_path: Path) -> None:
    error = error_of(tmp_path, GOOD.replace("mhz = 1000", "mhz = one thousand"))
    assert "is not valid TOML" in error.message
    assert "line 8" in error.message


def test_a_duplicate_key_is_refused(tmp_path: Path) -> None:
    error = error_of(tmp_path, GOOD.replace("mhz = 1000", "mhz = 1000\nmhz = 1200"))
    assert "is not valid TOML" in error.message


def test_an_empty_file_says_what_it_lacks(tmp_path: Path) -> None:
    assert "has no" in error_of(tmp_path, "").message


def test_bytes_that_are_not_utf8_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "board.toml"
    path.write_bytes(b'title = "\xff\xfe"')
    with pytest.raises(ProfileError, match="is not UTF-8"):
        default_registry([tmp_path]).get("board")


def test_a_folder_named_like_a_profile_is_refused(tmp_path: Path) -> None:
    (tmp_path / "board.toml").mkdir()
    with pytest.raises(ProfileError, match="cannot be read"):
        default_registry([tmp_path]).get("board")


def test_a_file_name_that_is_no_device_name_is_refused(tmp_path: Path) -> None:
    error = error_of(tmp_path, GOOD, name="My Board")
    assert "name = 'My Board'" in error.message
    assert "rename the file" in error.next_step


def test_extra_features_must_not_be_the_boards_own(tmp_path: Path) -> None:
    error = error_of(tmp_path, GOOD + 'extra_features = ["asimd"]\n')
    assert "[emulation] extra_features = ['asimd']" in error.message


def test_missing_features_must_be_the_boards_own(tmp_path: Path) -> None:
    error = error_of(tmp_path, GOOD + 'missing_features = ["sve"]\n')
    assert "[emulation] missing_features = ['sve']" in error.message


def test_more_cores_than_the_clusters_have_are_refused(tmp_path: Path) -> None:
    cluster = '\n[[cpu.clusters]]\ncore = "Cortex-A53"\ncount = 2\nmhz = 1000\n'
    error = error_of(tmp_path, GOOD + cluster)
    assert "[cpu] cores = 4: [[cpu.clusters]] has 2 of 'Cortex-A53'" in error.message


def test_a_requirement_that_is_no_text_is_refused(tmp_path: Path) -> None:
    error = error_of(tmp_path, GOOD + "[runtimes]\ntflite = 2.14\n")
    assert "line 25: [runtimes] tflite = 2.14: expected a text in quotes" in error.message


@pytest.mark.parametrize("key", ["torch", "default_runtime_torch"])
def test_a_runtime_or_format_that_nobody_registers_is_an_unknown_key(
    tmp_path: Path, key: str
) -> None:
    error = error_of(tmp_path, GOOD + f'[runtimes]\n{key} = "torch==2"\n')
    assert f"unknown key {key!r} in table [runtimes]" in error.message
    assert "tflite, litert, onnx, " in error.next_step
    assert "default_runtime_tflite" in error.next_step


def test_the_default_for_a_format_is_a_runtime_that_runs_it(tmp_path: Path) -> None:
    error = error_of(tmp_path, GOOD + '[runtimes]\ndefault_runtime_tflite = "onnx"\n')
    assert "[runtimes] default_runtime_tflite = 'onnx': is not one we know" in error.message
    assert error.next_step == "use one of: tflite, litert"


def test_a_profile_may_name_every_runtime_that_is_registered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    npy = Format(name="npy", title="NumPy", suffixes=(".npy",))
    matrix = Runtime(name="matrix", distribution="numpy", imports="numpy", formats=(npy,))
    monkeypatch.setitem(RUNTIMES.__dict__, "outside", Outside(runtimes={"matrix": matrix}))
    more = '[runtimes]\nmatrix = "numpy==1.26.4"\ndefault_runtime_npy = "matrix"\n'
    write(tmp_path, "board", GOOD + more + '[sources]\n"runtimes.matrix" = "a package index"\n')
    profile = default_registry([tmp_path]).get("board")
    assert profile.runtime_requirement(matrix) == "numpy==1.26.4"
    assert profile.default_runtime(npy) == "matrix"
    error = error_of(tmp_path, GOOD + '[runtimes]\nmatrix = "torch==2"\n', "other")
    assert error.next_step == "write it as 'numpy==VERSION', or '' if the device has none"


@pytest.mark.parametrize(
    ("brought", "distribution", "good", "example"),
    [
        ("debian", "python3-yaml", "python3-yaml=6.0-3", "python3-yaml=VERSION"),
        ("library", "libown.so.1", "/opt/own/libown.so.1", "/PATH/libown.so.1"),
    ],
)
def test_a_profile_pins_a_runtime_as_it_is_brought(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    brought: Brought,
    distribution: str,
    good: str,
    example: str,
) -> None:
    own = Runtime(
        name="own",
        distribution=distribution,
        imports="",
        formats=(Format(name="own", title="Own", suffixes=(".own",)),),
        brought=brought,
    )
    monkeypatch.setitem(RUNTIMES.__dict__, "outside", Outside(runtimes={"own": own}))
    source = '[sources]\n"runtimes.own" = "seen"\n'
    write(tmp_path, "board", GOOD + f'[runtimes]\nown = "{good}"\n' + source)
    assert default_registry([tmp_path]).get("board").runtime_requirement(own) == good
    error = error_of(tmp_path, GOOD + f'[runtimes]\nown = "{distribution}==1"\n', "other")
    assert error.next_step == f"write it as {example!r}, or '' if the device has none"


def test_a_runtime_may_bring_its_own_requirement_or_need_none(tmp_path: Path) -> None:
    npy = Format(name="npy", title="NumPy", suffixes=(".npy",))
    text = GOOD + '[runtimes]\nonnx = ""\n'
    write(tmp_path, "board", text)
    profile = default_registry([tmp_path]).get("board")
    own = Runtime(
        name="matrix", distribution="numpy", imports="numpy", formats=(npy,), requirement="numpy<2"
    )
    assert profile.runtime_requirement(own) == "numpy<2"
    bare = Runtime(name="bare", distribution="", imports="", formats=(npy,))
    assert profile.runtime_requirement(bare) == ""
    with pytest.raises(UnsupportedModel, match="names no distribution"):
        profile.runtime_requirement(RUNTIMES["onnx"])


@pytest.mark.parametrize("text", ["torch==2.0", "tflite-runtime ==", "!!"])
def test_a_runtime_that_is_another_distribution_is_refused(tmp_path: Path, text: str) -> None:
    error = error_of(tmp_path, GOOD + f'[runtimes]\ntflite = "{text}"\n')
    assert f"[runtimes] tflite = {text!r}" in error.message
    assert "tflite-runtime==VERSION" in error.next_step


def test_a_source_for_an_unknown_fact_is_refused(tmp_path: Path) -> None:
    error = error_of(tmp_path, GOOD + '[sources]\n"cpu.mzh" = "guess"\n')
    assert "'cpu.mzh'" in error.message
    assert "'cpu.mhz'" in error.message


def test_an_empty_source_is_refused(tmp_path: Path) -> None:
    error = error_of(tmp_path, GOOD + "[sources]\ncpu.mhz = 3\n")
    assert "must be a text" in error.message


def test_extends_of_an_unknown_profile_names_the_nearest(tmp_path: Path) -> None:
    error = error_of(tmp_path, 'extends = "rpi44"\n')
    assert "line 1: extends = 'rpi44': there is no profile of that name" in error.message
    assert "did you mean 'rpi4'" in error.message


def test_extends_must_be_one_name(tmp_path: Path) -> None:
    assert "extends = ['rpi4']" in error_of(tmp_path, 'extends = ["rpi4"]\n').message


def test_extends_in_a_circle_is_shown(tmp_path: Path) -> None:
    write(tmp_path, "one", 'extends = "two"\n')
    write(tmp_path, "two", 'extends = "three"\n')
    error = error_of(tmp_path, 'extends = "one"\n', name="three")
    assert "three -> one -> two -> three" in error.message


def test_extending_its_own_name_with_nothing_below_is_refused(tmp_path: Path) -> None:
    assert "cannot extend itself" in error_of(tmp_path, 'extends = "board"\n').message


def test_an_inherited_mistake_names_the_file_it_is_in(tmp_path: Path) -> None:
    base = write(tmp_path, "base", GOOD.replace("cores = 4", "cores = 0"))
    write(tmp_path, "child", 'extends = "base"\n[cpu]\nmhz = 5\n')
    with pytest.raises(ProfileError, match=r"cores = 0") as caught:
        default_registry([tmp_path]).get("child")
    assert str(base) in caught.value.message


def test_an_alias_of_a_built_in_profile_hurts_only_the_newcomer(tmp_path: Path) -> None:
    error = error_of(tmp_path, GOOD.replace("\n[cpu]", 'aliases = ["pi4"]\n[cpu]', 1))
    assert "alias 'pi4' is also an alias of 'rpi4'" in error.message
    registry = default_registry([tmp_path])
    assert registry.get("rpi4").name == "rpi4"
    with pytest.raises(ProfileError, match="alias 'pi4'"):
        registry.get("pi4")


def test_an_alias_that_is_a_profiles_name_is_refused(tmp_path: Path) -> None:
    error = error_of(tmp_path, GOOD.replace("\n[cpu]", 'aliases = ["rpi5"]\n[cpu]', 1))
    assert "alias 'rpi5' is the name of a profile" in error.message
    assert default_registry([tmp_path]).get("rpi5").source_file.startswith(str(builtin_dir()))


def test_one_broken_profile_hurts_only_who_asks_for_it(tmp_path: Path) -> None:
    broken = write(tmp_path, "broken", "title = \n")
    registry = default_registry([tmp_path])
    assert registry.get("rpi4").name == "rpi4"
    assert registry.get("pi5").name == "rpi5"
    assert [p.name for p in registry.select(["rpi4,rpi5"])] == ["rpi4", "rpi5"]
    assert "broken" in registry.names()
    good, bad = registry.working()
    assert len(good) == len(registry.names()) - 1
    assert [str(broken) in error.message for error in bad] == [True]
    for ask in (["broken"], ["all"], ["bro*"]):
        with pytest.raises(ProfileError, match="is not valid TOML"):
            registry.select(ask)
    with pytest.raises(ProfileError):
        registry.all()


def test_an_unknown_device_mentions_files_whose_aliases_could_not_be_read(tmp_path: Path) -> None:
    broken = write(tmp_path, "broken", "title = \n")
    with pytest.raises(UnknownDevice) as caught:
        default_registry([tmp_path]).get("nothing-like-it")
    assert str(broken) in caught.value.message


def test_an_unknown_device_names_the_nearest_and_lists_all() -> None:
    with pytest.raises(UnknownDevice) as caught:
        default_registry().get("raspberrypi44")
    assert "did you mean 'raspberrypi4'" in caught.value.message
    assert "rpi4" in caught.value.next_step


@pytest.mark.parametrize("folder", ["missing", "file"])
def test_a_profiles_folder_that_is_none_is_an_option_error(tmp_path: Path, folder: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OptionError, match=folder) as caught:
        ProfileRegistry([tmp_path / folder])
    assert "--edge-profiles" in caught.value.next_step
