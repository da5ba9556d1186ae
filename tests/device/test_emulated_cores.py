"""QEMU's cores show what the built-in profiles say, asked of the emulator itself."""

from __future__ import annotations

import os
import re
import subprocess

import pytest
from edge_harness.image import ensure_image
from edge_harness.image.tools import ensure_tools
from edge_harness.profiles import Profile, default_registry, hwcap_verdict

PROFILES = {profile.name: profile for profile in default_registry().all()}


def features(text: str) -> list[str]:
    """The first ``Features`` line of a cpuinfo."""
    match = re.search(r"^Features\s*: (.*)$", text, re.MULTILINE)
    assert match is not None
    return match[1].split()


def emulated(profile: Profile) -> str:
    """``/proc/cpuinfo`` inside the real emulator; what is not in the cache is fetched."""
    tools = ensure_tools()
    image = ensure_image(profile.os.arch, profile.os.suite)
    return subprocess.run(
        [
            str(tools.qemu_user(profile.os.arch)),
            "-cpu",
            profile.emulation.qemu_cpu,
            "-L",
            str(image.root),
            f"{image.root}{image.python}",
            "-S",
            "-c",
            "print(open('/proc/cpuinfo').read())",
        ],
        env={"PYTHONHOME": str(image.root / "usr"), "PATH": os.defpath},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    ).stdout


@pytest.mark.parametrize(
    "name", [name for name, each in PROFILES.items() if each.os.arch != "amd64"]
)
def test_the_emulator_here_shows_the_profile(name: str) -> None:
    profile = PROFILES[name]
    verdict = hwcap_verdict(profile, features(emulated(profile)))
    assert verdict.ok, verdict.message


def test_code_for_armv7_does_not_run_on_the_armv6_core() -> None:
    """Why rpi-zero is armel: armhf programs end with SIGILL there."""
    tools = ensure_tools()
    image = ensure_image("armhf", "bookworm")
    result = subprocess.run(
        [
            str(tools.qemu_user("armhf")),
            "-cpu",
            PROFILES["rpi-zero"].emulation.qemu_cpu,
            "-L",
            str(image.root),
            f"{image.root}{image.python}",
            "-S",
            "-c",
            "pass",
        ],
        env={"PYTHONHOME": str(image.root / "usr")},
        cwd="/tmp",
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == -4
