"""Wheels for the device, chosen by pip for the device's platform; nothing is compiled."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from edge_harness.cache import refuse_full
from edge_harness.errors import ImageBuildFailed, OptionError
from edge_harness.image.environment import Environment
from edge_harness.runtimes import RUNTIMES

VERSION = 1
_MACHINE = {"arm64": "aarch64", "armhf": "armv7l", "armel": "armv6l", "amd64": "x86_64"}


class Wheel(TypedDict):
    """One line of a lock."""

    name: str
    version: str
    sha256: str


def normalised(requirements: Sequence[str]) -> list[str]:
    """Sorted requirement strings; adds what a package's own metadata forgets to say.

    Raises:
        OptionError: one is not a valid requirement specifier (PEP 508).
    """
    chosen: dict[str, str] = {}
    for text in requirements:
        try:
            requirement = Requirement(text)
        except InvalidRequirement as error:
            raise OptionError(
                f"{text!r} is not a package requirement: {error}",
                next_step="write it as pip takes it, e.g. 'onnxruntime==1.20.1'",
            ) from error
        chosen[canonicalize_name(requirement.name)] = str(requirement)
    for text in list(chosen.values()):
        requirement = Requirement(text)
        runtime = RUNTIMES.of_distribution(requirement.name)
        for companion in runtime.companions_for(requirement.specifier) if runtime else ():
            chosen.setdefault(canonicalize_name(Requirement(companion).name), companion)
    return [chosen[name] for name in sorted(chosen)]


def pip_argv(requirements: Sequence[str], environment: Environment, target: Path) -> list[str]:
    """The pip call that installs ``requirements`` for the device into ``target``."""
    argv = [sys.executable, "-m", "pip"]
    if environment.interpreter and environment.interpreter != sys.executable:
        argv += ["--python", environment.interpreter]
    argv += ["install", "--quiet", "--disable-pip-version-check"]
    argv += ["--no-input", "--no-compile", "--only-binary=:all:", "--target", str(target)]
    if environment.interpreter:
        # All of it, whatever that Python has installed: a layer has to stand alone.
        return [*argv, "--ignore-installed", *requirements]
    machine = _MACHINE[environment.arch]
    abi = "cp" + environment.python.replace(".", "")
    platforms = [f"manylinux_2_{minor}_{machine}" for minor in range(environment.glibc, 16, -1)]
    platforms += [f"manylinux2014_{machine}", f"linux_{machine}"]
    argv += ["--implementation", "cp", "--python-version", environment.python]
    for name in (abi, "abi3", "none"):
        argv += ["--abi", name]
    for name in platforms:
        argv += ["--platform", name]
    if environment.suite and environment.arch in ("armhf", "armel"):
        # numpy is Debian's there (see recipe.packages).
        argv.append("--no-deps")
        requirements = [r for r in requirements if Requirement(r).name != "numpy"]
    return [*argv, *requirements]


def install(requirements: Sequence[str], environment: Environment, target: Path) -> list[Wheel]:
    """Install ``requirements`` into ``target``; what was installed.

    Raises:
        ImageBuildFailed: there is no wheel for the device, or the index cannot be reached.
    """
    report = target.parent / "report.json"
    target.mkdir(parents=True, exist_ok=True)
    argv = pip_argv(requirements, environment, target)
    result = subprocess.run(
        [*argv, "--report", str(report)],
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    if result.returncode:
        words = [line for line in result.stderr.splitlines() if line.startswith("ERROR")]
        refuse_full(result.stderr, target)
        raise ImageBuildFailed(
            f"no wheels for {', '.join(requirements)} on {environment}: "
            + "; ".join(words[:2] or result.stderr.splitlines()[-2:]),
            next_step="check the name and version, and that the project publishes wheels for "
            f"{_MACHINE[environment.arch]} and Python {environment.python}; or name another "
            "runtime (runtime='…==VERSION', --edge-runtime)",
        )
    installed = json.loads(report.read_text())["install"]
    report.unlink()
    return sorted(
        (
            {
                "name": entry["metadata"]["name"],
                "version": entry["metadata"]["version"],
                "sha256": entry["download_info"]["archive_info"]["hashes"]["sha256"],
            }
            for entry in installed
        ),
        key=lambda wheel: wheel["name"],
    )
