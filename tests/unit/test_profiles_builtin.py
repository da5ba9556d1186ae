"""The profiles that ship: they load, each fact has a source, and QEMU cores, as they were recorded,
are what they say (tests/device/test_emulated_cores.py asks the emulator here)."""

from __future__ import annotations

import os
import pickle
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from edge_harness.errors import UnsupportedModel
from edge_harness.profiles import Profile, builtin_dir, default_registry, hwcap_verdict
from edge_harness.runtimes import FORMATS, RUNTIMES

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

CPUINFO = Path(__file__).parent / "data" / "cpuinfo"
NAMES = [
    "coral-dev-board",
    "edge-server",
    "firefly-rk3588s",
    "hikey960",
    "imx8m-plus-evk",
    "imx93-evk",
    "jetson-agx-orin",
    "jetson-nano",
    "jetson-xavier",
    "odroid-n2",
    "pixel",
    "pixel-2",
    "pixel-3",
    "pixel-3a",
    "pixel-4",
    "rock-3399",
    "rpi-zero",
    "rpi-zero2w",
    "rpi2",
    "rpi3b",
    "rpi3b-plus",
    "rpi4",
    "rpi5",
]
#: Bit numbers of CPUID, from the manual: (leaf's index in glibc's list, register, bit).
CPUID_BITS = {
    "pni": (0, 2, 0),
    "pclmulqdq": (0, 2, 1),
    "ssse3": (0, 2, 9),
    "fma": (0, 2, 12),
    "cx16": (0, 2, 13),
    "sse4_1": (0, 2, 19),
    "sse4_2": (0, 2, 20),
    "movbe": (0, 2, 22),
    "popcnt": (0, 2, 23),
    "aes": (0, 2, 25),
    "avx": (0, 2, 28),
    "f16c": (0, 2, 29),
    "rdrand": (0, 2, 30),
    "mmx": (0, 3, 23),
    "sse": (0, 3, 25),
    "sse2": (0, 3, 26),
    "bmi1": (1, 1, 3),
    "avx2": (1, 1, 5),
    "bmi2": (1, 1, 8),
    "avx512f": (1, 1, 16),
    "rdseed": (1, 1, 18),
    "adx": (1, 1, 19),
    "sha_ni": (1, 1, 29),
    "avx512_vnni": (1, 2, 11),
    "lahf_lm": (2, 2, 0),
    "abm": (2, 2, 5),
}


@pytest.fixture(scope="module")
def profiles() -> dict[str, Profile]:
    return {profile.name: profile for profile in default_registry().all()}


def features(text: str) -> list[str]:
    """The first ``Features`` line of a cpuinfo."""
    match = re.search(r"^Features\s*: (.*)$", text, re.MULTILINE)
    assert match is not None
    return match[1].split()


def recorded(qemu: str, core: str) -> list[str]:
    return features((CPUINFO / f"{qemu}-{core}.txt").read_text())


def test_the_built_in_devices_are_these(profiles: dict[str, Profile]) -> None:
    assert default_registry().names() == NAMES
    assert list(profiles) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_every_fact_has_a_source(profiles: dict[str, Profile], name: str) -> None:
    profile = profiles[name]
    facts = [
        f"{table}.{key}"
        for table in ("cpu", "memory", "os")
        for key in getattr(profile, table).__struct_fields__
        if getattr(getattr(profile, table), key)
    ]
    facts += ["emulation.qemu_cpu"]
    facts += [f"runtimes.{runtime}" for runtime in profile.runtimes.defaults()]
    assert [fact for fact in facts if not profile.source_of(fact)] == []


@pytest.mark.parametrize("name", NAMES)
def test_a_profile_can_be_hashed_compared_and_pickled(
    profiles: dict[str, Profile], name: str
) -> None:
    profile = profiles[name]
    again = pickle.loads(pickle.dumps(profile))
    assert again == profile
    assert hash(again) == hash(profile)


@pytest.mark.parametrize("name", [n for n in NAMES if n != "edge-server"])
def test_the_recorded_features_of_its_qemu_core_are_accepted(
    profiles: dict[str, Profile], name: str
) -> None:
    profile = profiles[name]
    qemu = "qemu-aarch64" if profile.os.arch == "arm64" else "qemu-arm"
    seen = recorded(qemu, profile.emulation.qemu_cpu)
    verdict = hwcap_verdict(profile, seen)
    assert verdict.ok, verdict.message
    assert verdict.checked
    # Neither list may claim a difference that is not there.
    assert set(profile.emulation.extra_features) <= set(seen)
    assert not set(profile.emulation.missing_features) & set(seen)


@pytest.mark.parametrize(
    ("name", "unlike"),
    [
        ("rpi4", "max"),
        ("rpi4", "cortex-a76"),
        ("rpi5", "max"),
        ("rpi5", "cortex-a72"),
        ("pixel-2", "cortex-a76"),
        ("jetson-nano", "max"),
    ],
)
def test_another_core_is_refused(profiles: dict[str, Profile], name: str, unlike: str) -> None:
    verdict = hwcap_verdict(profiles[name], recorded("qemu-aarch64", unlike))
    assert not verdict.ok
    assert profiles[name].emulation.qemu_cpu in verdict.message


def test_the_edge_server_core_is_x86_64_v3_and_no_more(profiles: dict[str, Profile]) -> None:
    text = (CPUINFO / "qemu-x86_64-Haswell-noTSX.ld-so.txt").read_text()
    words = {
        (int(leaf, 16), int(register, 16)): int(value, 16)
        for leaf, register, value in re.findall(
            r"features\[(0x\w+)\]\.cpuid\[(0x\w+)\]=(0x\w+)", text
        )
    }
    seen = [n for n, (leaf, reg, bit) in CPUID_BITS.items() if words[leaf, reg] >> bit & 1]
    verdict = hwcap_verdict(profiles["edge-server"], seen, trust_cpuinfo=True)
    assert verdict.ok, verdict.message
    assert verdict.checked
    assert {"avx2", "fma", "bmi2", "movbe", "abm", "f16c"} <= set(seen)


def test_a_board_without_runtimes_says_why(profiles: dict[str, Profile]) -> None:
    with pytest.raises(UnsupportedModel, match=r"rpi-zero .* no runtime 'tflite': .*Armv6"):
        profiles["rpi-zero"].runtime_requirement(RUNTIMES["tflite"])


def test_32_bit_arm_has_tflite_and_offers_it_instead(profiles: dict[str, Profile]) -> None:
    assert profiles["rpi2"].runtime_requirement(RUNTIMES["tflite"]) == "tflite-runtime==2.14.0"
    with pytest.raises(UnsupportedModel) as caught:
        profiles["rpi2"].runtime_requirement(RUNTIMES["onnx"])
    assert "tflite" in caught.value.next_step


def test_phones_run_litert_by_default_and_boards_tflite(profiles: dict[str, Profile]) -> None:
    assert profiles["pixel-4"].default_runtime(FORMATS["tflite"]) == "litert"
    assert profiles["rpi4"].default_runtime(FORMATS["tflite"]) == "tflite"
    assert profiles["pixel-4"].default_runtime(FORMATS["onnx"]) == "onnx"


@pytest.mark.parametrize(
    ("asked", "name"),
    [
        ("raspberrypi4", "rpi4"),
        ("rpi4b", "rpi4"),
        ("pi4", "rpi4"),
        ("Pi4", "rpi4"),
        ("RPI5", "rpi5"),
        ("rpi3b+", "rpi3b-plus"),
        ("rpi3", "rpi3b"),
        ("pixel_4", "pixel-4"),
        ("rk3399", "rock-3399"),
        ("coral", "coral-dev-board"),
        ("zero2w", "rpi-zero2w"),
        ("Firefly-RK3399", "rock-3399"),
        ("i.mx-93", "imx93-evk"),
        ("google-pixel-3a", "pixel-3a"),
        ("rock5b", "firefly-rk3588s"),
    ],
)
def test_aliases_find_their_board(asked: str, name: str) -> None:
    assert default_registry().get(asked).name == name


def test_the_wheel_carries_the_profiles_where_they_are_looked_for(tmp_path: Path) -> None:
    root = builtin_dir().parent
    pyproject = root / "pyproject.toml"
    if not pyproject.exists():
        pytest.skip("runs from an installed wheel")
    wheel = tomllib.loads(pyproject.read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    target = wheel["force-include"]["device_profiles"]
    assert target == "edge_harness/_device_profiles"
    # The tree that the wheel installs, and a fresh interpreter that sees only that.
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(root / "harness" / "edge_harness", tmp_path / "edge_harness", ignore=ignore)
    shutil.copytree(root / "device_profiles", tmp_path / target, ignore=ignore)
    code = (
        "import edge_harness.profiles as p; print(p.builtin_dir(), *p.default_registry().names())"
    )
    result = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path), "PYTHONSAFEPATH": ""},
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout.split() == [str((tmp_path / target).resolve()), *NAMES]
