"""Command-line options, environment variables and ini values, and what they come to.

The command line goes before the environment, the environment before the ini file.
"""

from __future__ import annotations

import argparse
import itertools
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest


class _Engines(Collection[str]):
    """What ``--engine`` takes. Looked up when somebody asks: entry points are read for it, which
    no run without a device pays for."""

    def _names(self) -> tuple[str, ...]:
        from edge_harness.engines.registry import engine_choices

        return engine_choices()

    def __contains__(self, name: object) -> bool:
        return name in self._names()

    def __iter__(self) -> Iterator[str]:
        return iter(self._names())

    def __len__(self) -> int:
        return len(self._names())


ENGINES = _Engines()
_FALSE = frozenset({"", "0", "false", "no", "off"})
_TRUE = frozenset({"1", "true", "yes", "on"})
_ALIASES: pytest.StashKey[frozenset[str]] = pytest.StashKey()


class Settings(NamedTuple):
    """What the person asked for. No dataclass: making one is a third of this module's import,
    which every pytest run pays for."""

    devices: tuple[str, ...]
    """Names, aliases, globs or ``all``; empty where no device was selected."""
    engine: str
    strict: bool
    profile_dirs: tuple[Path, ...]
    memory_mib: int | None
    runtimes: tuple[str, ...] = ()
    """Runtimes to take where a test names no version, such as ``onnxruntime==1.21.0``."""
    refresh: bool = False
    """Whether latencies are counted again although they are known."""


def add(parser: pytest.Parser) -> None:
    """Register the options under names that are ours alone."""
    group = parser.getgroup("edge-harness", "edge-harness: tests on emulated devices")
    group.addoption("--edge-device", **_ALIASED["--device"])
    group.addoption("--edge-engine", **_ALIASED["--engine"])
    group.addoption(
        "--edge-strict",
        dest="edge_strict",
        action="store_true",
        default=None,
        help="a test that cannot run for want of a device or ability is an error, not a skip "
        "(for CI)",
    )
    group.addoption(
        "--no-edge-strict",
        dest="edge_strict",
        action="store_false",
        default=None,
        help="overrides EDGE_STRICT and the ini value edge_strict",
    )
    group.addoption(
        "--edge-profiles",
        dest="edge_profiles",
        action="append",
        metavar="DIR",
        help="folder with device profiles of your own; may be repeated",
    )
    group.addoption(
        "--edge-runtime",
        dest="edge_runtime",
        action="append",
        metavar="RUNTIME",
        help="runtime for models whose test names no version, as onnxruntime==1.21.0; may be "
        "repeated, one for each format",
    )
    group.addoption(
        "--edge-update-goldens",
        dest="edge_update_goldens",
        action="store_true",
        default=False,
        help="write the golden outputs that assert_golden compares with, instead of failing",
    )
    group.addoption(
        "--edge-refresh",
        dest="edge_refresh",
        action="store_true",
        help="count latencies again although model, inputs, runtime and board are unchanged",
    )
    group.addoption(
        "--edge-memory-mib",
        dest="edge_memory_mib",
        type=_mebibytes,
        metavar="N",
        help="memory of the devices in MiB instead of the profile's (needs an engine that can "
        "limit memory)",
    )
    parser.addini("edge_devices", "devices to test on, as --device", type="args", default=[])
    parser.addini("edge_engine", "what runs them, as --engine", default="")
    parser.addini("edge_strict", "true or false, as --edge-strict", type="bool", default=False)
    parser.addini(
        "edge_runtime", "runtimes of this project, as --edge-runtime", type="args", default=[]
    )
    parser.addini(
        "edge_fidelity",
        "tolerances of output fidelity, one a line, as max_steps = 2",
        type="linelist",
        default=[],
    )
    parser.addini(
        "edge_profiles",
        "folders with device profiles, one a line, relative to the ini file",
        type="linelist",
        default=[],
    )


def _mebibytes(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole, positive number of MiB")
    return int(text)


_ALIASED: Mapping[str, Mapping[str, Any]] = {
    "--device": {
        "dest": "edge_device",
        "action": "append",
        "metavar": "NAME",
        "help": "emulated device to test on: a name, a comma list, a glob or 'all'; may be "
        "repeated ('edge-harness devices' lists the names)",
    },
    "--engine": {
        "dest": "edge_engine",
        "choices": ENGINES,
        "help": "what brings devices to life (default: auto, the first to answer that proves "
        "what a test needs)",
    },
}


# -- --device and --engine, which others may own --------------------------------------------------


def _is_free(parser: pytest.Parser, name: str) -> bool:
    """Whether no plugin has an option ``name``. Asks the parser itself, because conflicts
    between option groups only show when it is built, which until pytest 9 was too late."""
    probe = f"{name}=x"
    try:
        _, unknown = parser.parse_known_and_unknown_args([probe])
    except (pytest.UsageError, SystemExit):
        return False  # known, and "x" is not one of its choices
    return probe in unknown


def forget_values_taken_for_paths(
    early_config: pytest.Config, parser: pytest.Parser, args: Sequence[str]
) -> None:
    """In ``--device rpi4`` pytest takes the second word for a test file until the alias is
    known, and then does not look for conftest files in ``testpaths``."""
    known = getattr(early_config, "known_args_namespace", None)
    paths = getattr(known, "file_or_dir", None)
    if not isinstance(paths, list):
        return
    words = list(map(str, args))
    for name in _ALIASED:
        values = [value for word, value in itertools.pairwise(words) if word == name]
        if values and _is_free(parser, name):
            for value in values:
                if value in paths:
                    paths.remove(value)


def add_aliases(early_config: pytest.Config, parser: pytest.Parser) -> None:
    """Add ``--device`` and ``--engine`` where nobody else owns them.

    pytest-playwright has a ``--device`` of its own and so have many conftest files; two owners
    of one name crash pytest at start.
    """
    group = parser.getgroup("edge-harness")
    ours = set()
    for name, attributes in _ALIASED.items():
        if not _is_free(parser, name):
            continue
        try:
            group.addoption(name, **attributes)
        except (ValueError, argparse.ArgumentError):
            continue
        ours.add(name)
    early_config.stash[_ALIASES] = frozenset(ours)


def spelled(config: pytest.Config, name: str) -> str:
    """``--device`` or ``--engine``, or its long name where the short one is not ours."""
    return name if name in config.stash.get(_ALIASES, _ALIASED) else f"--edge-{name[2:]}"


def nothing_selected(config: pytest.Config) -> str:
    """Why a test that wants a device does not run."""
    return (
        f"no device selected: run pytest {spelled(config, '--device')}=rpi4 "
        "(edge-harness devices lists the names)"
    )


# -- what it comes to ------------------------------------------------------------------------------


def settings_of(config: pytest.Config) -> Settings:
    """The settings of this run.

    Raises:
        pytest.UsageError: an option, environment variable or ini value is wrong.
    """
    option = config.option
    devices: Sequence[str] | None = option.edge_device
    if devices and not all(text.strip(", ") for text in devices):
        raise pytest.UsageError(
            f"{spelled(config, '--device')}: '' names no device; edge-harness devices lists the "
            "names"
        )
    devices = devices or [os.environ.get("EDGE_DEVICE", "")]
    return Settings(
        devices=_words(devices) or _words(config.getini("edge_devices")),
        engine=_engine(config),
        strict=_strict(config),
        profile_dirs=_profile_dirs(config),
        memory_mib=option.edge_memory_mib,
        runtimes=_runtimes(config),
        refresh=bool(option.edge_refresh),
    )


def _words(values: Sequence[str]) -> tuple[str, ...]:
    return tuple(word.strip() for value in values for word in value.split(",") if word.strip())


def _runtimes(config: pytest.Config) -> tuple[str, ...]:
    for source, values in (
        ("--edge-runtime", config.option.edge_runtime or ()),
        ("environment variable EDGE_RUNTIME", os.environ.get("EDGE_RUNTIME", "").split()),
        ("ini value edge_runtime", config.getini("edge_runtime")),
    ):
        if not values:
            continue
        from edge_harness.errors import EdgeError
        from edge_harness.runtimes import named

        for value in values:
            try:
                named(value)
            except EdgeError as error:
                raise pytest.UsageError(f"{source}: {error}") from None
        return tuple(values)
    return ()


def _engine(config: pytest.Config) -> str:
    if config.option.edge_engine:
        return str(config.option.edge_engine)
    for source, value in (
        ("environment variable EDGE_ENGINE", os.environ.get("EDGE_ENGINE", "")),
        ("ini value edge_engine", config.getini("edge_engine")),
    ):
        if value and value not in ENGINES:
            raise pytest.UsageError(
                f"{source}: there is no engine {value!r}; use one of: {', '.join(ENGINES)}"
            )
        if value:
            return str(value)
    return "auto"


def _strict(config: pytest.Config) -> bool:
    if config.option.edge_strict is not None:
        return bool(config.option.edge_strict)
    text = os.environ.get("EDGE_STRICT")
    if text is None:
        return bool(config.getini("edge_strict"))
    if text.strip().lower() not in _TRUE | _FALSE:
        raise pytest.UsageError(
            f"environment variable EDGE_STRICT: {text!r} is neither true nor false; use 1 or 0"
        )
    return text.strip().lower() in _TRUE


def _profile_dirs(config: pytest.Config) -> tuple[Path, ...]:
    folders: Sequence[str] = config.option.edge_profiles or ()
    base = config.invocation_params.dir
    if not folders:
        folders = config.getini("edge_profiles")
        base = config.inipath.parent if config.inipath is not None else config.rootpath
    return tuple(base / Path(folder).expanduser() for folder in folders)
