"""Wheels for the device, chosen by pip for the device's platform; nothing is compiled."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from edge_harness.cache import refuse_full, remove_tree
from edge_harness.errors import ImageBuildFailed, OptionError
from edge_harness.image.apt import DOWNLOAD_TIMEOUT_S
from edge_harness.image.environment import Environment
from edge_harness.processes import completed
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
    chosen: dict[str, Requirement] = {}
    for text in requirements:
        try:
            requirement = Requirement(text)
        except InvalidRequirement as error:
            raise OptionError(
                f"{text!r} is not a package requirement: {error}",
                next_step="write it as pip takes it, e.g. 'onnxruntime==1.20.1'",
            ) from error
        chosen[canonicalize_name(requirement.name)] = requirement
    for name, requirement in list(chosen.items()):
        for companion in _companions(name, requirement.specifier):
            chosen.setdefault(canonicalize_name(companion.name), companion)
    return [str(chosen[name]) for name in sorted(chosen)]


def _companions(distribution: str, versions: SpecifierSet) -> list[Requirement]:
    """What goes with ``distribution`` where it is a runtime, asked for as ``versions``."""
    rows = RUNTIMES.of_distribution(distribution)
    texts = dict.fromkeys(text for row in rows for text in row.companions_for(versions))
    return [Requirement(text) for text in texts]


def _forgotten(installed: Sequence[Wheel], requirements: Sequence[str]) -> list[str]:
    """Companions that are called for by the versions that were installed, which a range of
    versions does not tell beforehand, and that nothing here has seen to."""
    versions = {canonicalize_name(wheel["name"]): wheel["version"] for wheel in installed}
    named = {canonicalize_name(Requirement(text).name) for text in requirements}
    return [
        str(companion)
        for name, version in versions.items()
        for companion in _companions(name, SpecifierSet(f"=={version}"))
        if (other := canonicalize_name(companion.name)) not in named
        and not companion.specifier.contains(versions.get(other, "0"), prereleases=True)
    ]


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
        requirements = _fetched(requirements, environment)
    return [*argv, *requirements]


def _fetched(requirements: Sequence[str], environment: Environment) -> list[str]:
    """Those of ``requirements`` that are no part of the device's image already."""
    if environment.suite and environment.arch in ("armhf", "armel"):
        return [text for text in requirements if Requirement(text).name != "numpy"]
    return list(requirements)


def install(requirements: Sequence[str], environment: Environment, target: Path) -> list[Wheel]:
    """Install ``requirements`` into ``target``; what was installed.

    Raises:
        ImageBuildFailed: there is no wheel for the device, or the index cannot be reached.
    """
    report = target.parent / "report.json"
    target.mkdir(parents=True, exist_ok=True)
    if not _fetched(requirements, environment):
        return []
    argv = pip_argv(requirements, environment, target)
    result = completed(
        [*argv, "--report", str(report)],
        what=f"fetch {', '.join(requirements)}",
        timeout_s=DOWNLOAD_TIMEOUT_S,
        error=ImageBuildFailed,
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
    installed = read_report(report)
    report.unlink()
    if forgotten := _forgotten(installed, requirements):
        remove_tree(target)
        return install([*requirements, *forgotten], environment, target)
    return installed


def read_report(report: Path) -> list[Wheel]:
    """What pip's ``--report`` says it installed, by name."""
    return sorted(
        (
            {
                "name": entry["metadata"]["name"],
                "version": entry["metadata"]["version"],
                "sha256": entry["download_info"]["archive_info"]["hashes"]["sha256"],
            }
            for entry in json.loads(report.read_text())["install"]
        ),
        key=lambda wheel: wheel["name"],
    )
