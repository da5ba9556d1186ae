"""Which wheels a device can load: said by its image, this machine's Python, or the board."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest
from edge_harness.image import Environment, Image, build, host_environment
from edge_harness.image.wheels import pip_argv

PIP = [sys.executable, "-m", "pip"]
ALWAYS = ["--quiet", "--disable-pip-version-check", "--no-input", "--no-compile"]
ALWAYS += ["--only-binary=:all:", "--target", "/to"]


def test_an_images_wheels_are_chosen_for_its_debian_and_not_for_this_machine():
    image = Image(key="k", arch="arm64", suite="bookworm", path=Path("/i"), lock={})
    argv = pip_argv(["numpy<2"], image.environment, Path("/to"))
    assert argv[:10] == [*PIP, "install", *ALWAYS[:-1]]
    assert argv[11:15] == ["--implementation", "cp", "--python-version", "3.11"]
    assert argv[21:23] == ["--platform", "manylinux_2_36_aarch64"]
    assert argv[-1] == "numpy<2"


def test_a_board_that_brings_its_own_files_says_what_its_wheels_must_fit():
    board = Environment(arch="armhf", python="3.9", glibc=31)
    argv = pip_argv(["numpy<2"], board, Path("/to"))
    assert argv[13:15] == ["--python-version", "3.9"]
    assert "manylinux_2_31_armv7l" in argv
    assert "manylinux_2_32_armv7l" not in argv
    # Debian's numpy is in our images alone.
    assert argv[-1] == "numpy<2"
    assert "--no-deps" not in argv


def test_for_this_machines_own_python_pip_chooses_by_itself():
    environment = host_environment()
    assert environment.python == f"{sys.version_info.major}.{sys.version_info.minor}"
    assert pip_argv(["numpy"], environment, Path("/to")) == [
        *PIP,
        "install",
        *ALWAYS,
        "--ignore-installed",
        "numpy",
    ]


def test_for_another_python_of_this_machine_pip_asks_that_one():
    other = Environment(arch="amd64", python="3.10", interpreter="/usr/bin/python3.10")
    argv = pip_argv(["numpy"], other, Path("/to"))
    assert argv[:6] == [*PIP, "--python", "/usr/bin/python3.10", "install"]


@pytest.mark.parametrize(
    ("environment", "text"),
    [
        (
            Environment(arch="arm64", python="3.11", glibc=36, suite="bookworm"),
            "arm64 with Python 3.11 (bookworm)",
        ),
        (Environment(arch="armhf", python="3.9"), "armhf with Python 3.9 (glibc 2.17)"),
        (
            Environment(arch="amd64", python="3.12", interpreter="/usr/bin/python3"),
            "amd64 with Python 3.12 (this machine)",
        ),
    ],
)
def test_an_environment_says_what_it_is(environment, text):
    assert str(environment) == text


def test_a_layer_is_named_by_all_that_chooses_its_wheels():
    image = Environment(arch="arm64", python="3.11", glibc=36, suite="bookworm")
    board = replace(image, suite="")
    others = [
        replace(image, arch="armhf"),
        replace(image, suite="trixie"),
        board,
        replace(board, arch="armhf"),
        replace(board, python="3.12"),
        replace(board, glibc=31),
        replace(board, interpreter="/usr/bin/python3"),
    ]
    keys = [build._layer_key(each, ["numpy==1.26.4"]) for each in (image, *others)]
    keys.append(build._layer_key(image, ["numpy==1.26.3"]))
    assert len(set(keys)) == len(keys)
