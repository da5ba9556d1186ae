"""Profiles found by name, inherited, overridden and compared with a CPU."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from edge_harness.commands.devices_table import as_dict, print_one, print_table
from edge_harness.errors import OptionError, UnknownDevice
from edge_harness.profiles import IGNORED_FEATURES, default_registry, hwcap_verdict
from rich.console import Console

RPI4_IN_QEMU = ["fp", "asimd", "aes", "pmull", "sha1", "sha2", "crc32", "cpuid"]
RPI5_EXTRA = ["atomics", "fphp", "asimdhp", "asimdrdm", "lrcpc", "dcpop", "asimddp"]


def names(*patterns: str) -> list[str]:
    return [profile.name for profile in default_registry().select(patterns)]


def write(folder: Path, name: str, text: str) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}.toml"
    path.write_text(text)
    return path


def test_select_keeps_the_order_asked_for() -> None:
    assert names("rpi5,rpi2", "rpi4") == ["rpi5", "rpi2", "rpi4"]


def test_select_gives_each_device_once() -> None:
    assert names("rpi5", "pi5,rpi5", "rpi*")[0] == "rpi5"
    assert names("rpi5", "pi5", "RPI5") == ["rpi5"]


def test_all_is_every_name_in_order() -> None:
    assert names("all") == default_registry().names()
    assert names("rpi5", "all")[0] == "rpi5"


@pytest.mark.parametrize(
    ("glob", "expected"),
    [
        ("rpi3*", ["rpi3b", "rpi3b-plus"]),
        ("rpi[45]", ["rpi4", "rpi5"]),
        ("pixel-?", ["pixel", "pixel-2", "pixel-3", "pixel-4"]),
        ("PIXEL*", ["pixel", "pixel-2", "pixel-3", "pixel-3a", "pixel-4"]),
        ("snapdragon-*", ["pixel", "pixel-2", "pixel-3", "pixel-3a", "pixel-4"]),
    ],
)
def test_globs_match_names_and_aliases(glob: str, expected: list[str]) -> None:
    assert names(glob) == expected


def test_spaces_and_empty_parts_of_a_list_do_not_matter() -> None:
    assert names(" rpi4 , ,rpi5,") == ["rpi4", "rpi5"]


@pytest.mark.parametrize("text", ["", " , "])
def test_a_list_that_names_nothing_is_an_option_error(text: str) -> None:
    with pytest.raises(OptionError, match="names no device"):
        names(text)


@pytest.mark.parametrize("pattern", ["beagle*", "rpi4,nonesuch"])
def test_a_pattern_that_matches_nothing_is_unknown(pattern: str) -> None:
    with pytest.raises(UnknownDevice, match=r"beagle\*|nonesuch"):
        names(pattern)


def test_extends_merges_tables_and_replaces_lists(tmp_path: Path) -> None:
    write(
        tmp_path,
        "kiosk",
        'extends = "rpi4"\n[cpu]\nmhz = 1800\n[emulation]\nnotes = ["mine"]\n'
        '[sources]\ncpu.mhz = "config.txt"\n',
    )
    registry = default_registry([tmp_path])
    kiosk, rpi4 = registry.get("kiosk"), registry.get("rpi4")
    assert kiosk.cpu.mhz == 1800
    assert kiosk.cpu.core == rpi4.cpu.core
    assert kiosk.memory == rpi4.memory
    assert kiosk.emulation.notes == ("mine",)
    assert kiosk.emulation.extra_features == rpi4.emulation.extra_features
    assert kiosk.aliases == ()
    assert kiosk.extends == "rpi4"
    assert kiosk.title == f"kiosk (based on {rpi4.title})"
    assert kiosk.source_of("cpu.mhz") == "config.txt"
    assert kiosk.source_of("cpu.soc") == rpi4.source_of("cpu.soc")


def test_a_fact_given_anew_does_not_keep_its_old_source(tmp_path: Path) -> None:
    write(tmp_path, "kiosk", 'extends = "rpi4"\n[memory]\nram_mib = 8192\n[cpu]\nmhz = 1800\n')
    kiosk = default_registry([tmp_path]).get("kiosk")
    assert kiosk.source_of("memory.ram_mib") == ""
    assert kiosk.source_of("cpu.mhz") == ""
    assert kiosk.source_of("memory.usable_mib") != ""


def test_extends_follows_aliases_and_several_steps(tmp_path: Path) -> None:
    write(tmp_path, "one", 'extends = "pi4"\n[cpu]\nmhz = 1600\n')
    write(tmp_path, "two", 'extends = "one"\n[cpu]\ncores = 2\n')
    two = default_registry([tmp_path]).get("two")
    assert (two.cpu.mhz, two.cpu.cores, two.cpu.core) == (1600, 2, "Cortex-A72")


def test_a_new_profile_may_take_the_name_of_an_alias(tmp_path: Path) -> None:
    write(tmp_path, "pi4", 'extends = "rpi4"\n[cpu]\nmhz = 1800\n')
    registry = default_registry([tmp_path])
    assert registry.get("pi4").cpu.mhz == 1800
    assert registry.get("rpi4").cpu.mhz == 1500


def test_a_projects_profile_overrides_the_built_in_one(tmp_path: Path) -> None:
    path = write(tmp_path / "device_profiles", "rpi4", 'extends = "rpi4"\n[cpu]\nmhz = 1800\n')
    registry = default_registry(rootdir=tmp_path)
    rpi4 = registry.get("pi4")
    assert rpi4.cpu.mhz == 1800
    assert rpi4.source_file == str(path)
    # It is still the same board: title and aliases stay.
    assert rpi4.title == default_registry().get("rpi4").title
    assert rpi4.aliases == default_registry().get("rpi4").aliases
    assert registry.names() == default_registry().names()


def test_the_last_folder_wins(tmp_path: Path) -> None:
    for number, folder in enumerate(("device_profiles", "first", "second"), start=1):
        write(tmp_path / folder, "x", f'extends = "rpi4"\n[cpu]\nmhz = {number}\n')
    registry = default_registry([tmp_path / "first", tmp_path / "second"], rootdir=tmp_path)
    assert registry.get("x").cpu.mhz == 3


def test_a_project_without_profiles_changes_nothing(tmp_path: Path) -> None:
    assert default_registry(rootdir=tmp_path).names() == default_registry().names()


def test_declared_differences_are_tolerated_and_told() -> None:
    verdict = hwcap_verdict(default_registry().get("rpi4"), RPI4_IN_QEMU)
    assert verdict.ok
    assert verdict.tolerated == ("aes", "pmull", "sha1", "sha2")
    assert "aes" in verdict.message


def test_a_missing_feature_is_refused_by_name() -> None:
    verdict = hwcap_verdict(default_registry().get("rpi5"), RPI4_IN_QEMU)
    assert not verdict.ok
    assert verdict.missing == tuple(RPI5_EXTRA)
    assert hwcap_verdict(default_registry().get("rpi5"), [*RPI4_IN_QEMU, *RPI5_EXTRA]).ok
    assert "lacks" in verdict.message
    assert "cortex-a76" in verdict.message


def test_an_unexpected_feature_is_refused_by_name() -> None:
    verdict = hwcap_verdict(default_registry().get("rpi4"), [*RPI4_IN_QEMU, "atomics"])
    assert not verdict.ok
    assert verdict.unexpected == ("atomics",)
    assert "crash there" in verdict.message


def test_no_features_at_all_are_refused() -> None:
    verdict = hwcap_verdict(default_registry().get("rpi4"), [])
    assert not verdict.ok
    assert "no CPU features" in verdict.message


@pytest.mark.parametrize("name", sorted(IGNORED_FEATURES))
def test_names_without_instructions_never_refuse(name: str) -> None:
    rpi4 = default_registry().get("rpi4")
    without = [feature for feature in RPI4_IN_QEMU if feature != name]
    assert hwcap_verdict(rpi4, without).ok
    assert hwcap_verdict(rpi4, [*without, name]).ok


def test_a_real_board_is_its_own_profile() -> None:
    for profile in default_registry().all():
        assert hwcap_verdict(profile, profile.cpu.features).ok


def test_the_hosts_cpuinfo_is_not_taken_for_the_emulated_core() -> None:
    edge = default_registry().get("edge-server")
    verdict = hwcap_verdict(edge, ["fpu", "avx512f"])
    assert verdict.ok
    assert not verdict.checked
    assert "not checked" in verdict.message
    trusted = hwcap_verdict(edge, [*edge.cpu.features, "fpu", "avx512f"], trust_cpuinfo=True)
    assert trusted.unexpected == ("avx512f",)


def console() -> Console:
    return Console(file=io.StringIO(), width=160, color_system=None)


def shown(where: Console) -> str:
    assert isinstance(where.file, io.StringIO)
    return where.file.getvalue()


def test_the_table_has_one_line_for_each_device() -> None:
    where = console()
    print_table(default_registry(), where)
    lines = shown(where).splitlines()
    row = next(line for line in lines if line.startswith("rpi4 "))
    for word in ("Raspberry Pi 4", "4× Cortex-A72", "1500", "armv8.0-a", "4 GiB", "bookworm"):
        assert word in row
    first_words = [line.split()[0] for line in lines[1:-1]]
    assert first_words == default_registry().names()


@pytest.mark.parametrize("width", [80, 100, 120, 200])
def test_the_table_never_cuts_a_word_on_a_terminal(width: int) -> None:
    where = Console(file=io.StringIO(), width=width, color_system=None, force_terminal=True)
    print_table(default_registry(), where)
    text = shown(where)
    assert "…" not in text
    assert max(len(line.rstrip()) for line in text.splitlines()) <= width
    for profile in default_registry().all():
        assert f"{profile.cpu.mhz:g}" in text


def test_the_table_is_whole_in_a_pipe() -> None:
    where = Console(file=io.StringIO(), width=80, color_system=None)
    print_table(default_registry(), where)
    assert "qemu Haswell-noTSX" in shown(where)
    assert "Raspberry Pi 4 Model B (4 GB)" in shown(where)


def test_the_table_shows_broken_files_and_where_profiles_are_from(tmp_path: Path) -> None:
    write(tmp_path, "mine", 'extends = "rpi4"\n')
    broken = write(tmp_path, "broken", "[cpu]\nmzh = 1\n")
    where = Console(file=io.StringIO(), width=400, color_system=None)
    print_table(default_registry([tmp_path]), where)
    text = shown(where)
    assert str(tmp_path / "mine.toml") in text
    assert f"not usable: {broken}, line 2: [cpu] mzh" in text


@pytest.mark.parametrize("name", default_registry().names())
def test_one_device_in_full_shows_facts_and_sources(name: str) -> None:
    profile = default_registry().get(name)
    where = Console(file=io.StringIO(), width=2000, color_system=None)
    print_one(profile, where)
    text = shown(where)
    for fact in (profile.title, profile.cpu.soc, profile.emulation.qemu_cpu, profile.source_file):
        assert fact in text
    for alias in profile.aliases:
        assert alias in text
    for note in profile.emulation.notes:
        assert note in text
    assert profile.source_of("cpu.features") in text


def test_a_profile_as_json_has_the_keys_of_its_file() -> None:
    profile = default_registry().get("rpi4")
    plain = json.loads(json.dumps(as_dict(profile)))
    assert plain["cpu"]["mhz"] == 1500
    assert plain["aliases"] == list(profile.aliases)
    assert plain["sources"]["cpu"].startswith("Raspberry Pi documentation")
    assert plain["runtimes"]["tflite"] == "tflite-runtime==2.14.0"


@pytest.mark.parametrize("threads", [1, 2, 6, np.int64(6)])
def test_threads_may_take_every_core_of_a_chip_with_two_kinds(threads):
    assert default_registry().get("rock-3399").checked_threads(threads) == threads


@pytest.mark.parametrize("threads", [0, -1, 7, 1.5, "2", None, True])
def test_threads_without_a_core_are_refused(threads):
    with pytest.raises(OptionError, match=r"threads=.*, but rock-3399 has 6 core\(s\)"):
        default_registry().get("rock-3399").checked_threads(threads)
