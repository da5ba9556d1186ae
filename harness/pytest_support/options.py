"""Command-line options, ini values and environment variables, and what they come to.

The command line goes before the environment, the environment before the ini file.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ENGINES = ("auto", "user", "docker", "host")
_FALSE = {"", "0", "false", "no", "off"}
_TRUE = {"1", "true", "yes", "on"}


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What the person asked for."""

    devices: tuple[str, ...]
    engine: str
    strict: bool
    profile_dirs: tuple[Path, ...]
    memory_mib: int | None


def add(parser: pytest.Parser) -> None:
    """Register the options under names that are ours alone."""
    group = parser.getgroup("edge-harness", "edge-harness: tests on emulated devices")
    group.addoption("--edge-device", **_device_option())
    group.addoption("--edge-engine", **_engine_option())
    group.addoption(
        "--edge-strict",
        dest="edge_strict",
        action="store_true",
        default=None,
        help="a test that cannot run is an error, not a skip (for CI)",
    )
    group.addoption(
        "--edge-profiles",
        dest="edge_profiles",
        action="append",
        metavar="DIR",
        help="folder with device profiles of your own; may be repeated",
    )
    group.addoption(
        "--edge-memory-mib",
        dest="edge_memory_mib",
        type=_positive,
        metavar="N",
        help="memory limit instead of the profile's (needs an engine with memory_limit)",
    )
    parser.addini("edge_devices", "devices to test on, as --device", type="args", default=[])
    parser.addini("edge_engine", "engine, as --engine", default="")
    parser.addini("edge_strict", "as --edge-strict", type="bool", default=False)
    parser.addini("edge_profiles", "folders with profiles", type="linelist", default=[])


def _device_option() -> dict[str, Any]:
    return {
        "dest": "edge_device",
        "action": "append",
        "metavar": "NAME",
        "help": "emulated device to test on: a name, a comma list, a glob or 'all'; may be "
        "repeated ('edge-harness devices' lists the names)",
    }


def _engine_option() -> dict[str, Any]:
    return {
        "dest": "edge_engine",
        "choices": ENGINES,
        "help": "what brings devices to life (default: auto, the cheapest that proves enough)",
    }


def _positive(text: str) -> int:
    number = int(text)
    if number <= 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive number of MiB")
    return number


def add_aliases(parser: pytest.Parser) -> None:
    """Add ``--device`` and ``--engine`` where nobody else owns them.

    pytest-playwright has a ``--device`` of its own, and two owners crash pytest at start.
    """
    group = parser.getgroup("edge-harness")
    taken = {
        name
        for other in getattr(parser, "_groups", [])
        for option in other.options
        for name in option.names()
    }
    for name, attributes in (("--device", _device_option()), ("--engine", _engine_option())):
        if name in taken:
            continue
        try:
            group.addoption(name, **attributes)
        except (ValueError, argparse.ArgumentError):
            continue


def settings_of(config: pytest.Config) -> Settings:
    """The settings of this run.

    Raises:
        pytest.UsageError: an environment variable or ini value is wrong.
    """
    option = config.option
    devices = _words(option.edge_device) or _words([os.environ.get("EDGE_DEVICE", "")])
    engine = option.edge_engine or os.environ.get("EDGE_ENGINE") or config.getini("edge_engine")
    if engine and engine not in ENGINES:
        raise pytest.UsageError(
            f"there is no engine {engine!r} (EDGE_ENGINE or edge_engine); use one of: "
            + ", ".join(ENGINES)
        )
    strict = option.edge_strict
    if strict is None:
        strict = _boolean("EDGE_STRICT", config.getini("edge_strict"))
    folders = option.edge_profiles or config.getini("edge_profiles")
    base = config.rootpath if not option.edge_profiles else config.invocation_params.dir
    return Settings(
        devices=devices or _words(config.getini("edge_devices")),
        engine=engine or "auto",
        strict=strict,
        profile_dirs=tuple(base / folder for folder in folders),
        memory_mib=option.edge_memory_mib,
    )


def _words(values: Sequence[str] | None) -> tuple[str, ...]:
    return tuple(
        word.strip() for value in values or () for word in value.split(",") if word.strip()
    )


def _boolean(variable: str, default: bool) -> bool:
    text = os.environ.get(variable)
    if text is None:
        return default
    if text.lower() in _TRUE | _FALSE:
        return text.lower() in _TRUE
    raise pytest.UsageError(f"{variable}={text!r} is neither true nor false; use 1 or 0")
