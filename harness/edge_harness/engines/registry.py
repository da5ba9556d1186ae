"""All engines by name: the built-in ones, and those of other distributions by entry point.

Names are listed without importing any engine. A distribution adds one with::

    [project.entry-points."edge_harness.engines"]
    local = "local_engine:LocalEngine"

The object is called without arguments and gives an :class:`edge_harness.engines.Engine` of that
name. One that cannot be had is named with its distribution where somebody asks for it, and in
``edge-harness doctor``; other engines are not touched by it.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar, cast

from edge_harness.errors import BrokenExtension, EdgeError, OptionError
from edge_harness.extensions import Extension, extensions

if TYPE_CHECKING:
    from edge_harness.engines import Engine

_P = TypeVar("_P")
GROUP = "edge_harness.engines"
AUTO = "auto"
_BUILT_IN: Mapping[str, str] = {
    "user": "edge_harness.engines.user:UserEngine",
    "docker": "edge_harness.engines.docker.engine:DockerEngine",
    "vm": "edge_harness.engines.vm.engine:VmEngine",
    "host": "edge_harness.engines.host:HostEngine",
}
#: What an engine has; looked at when one of another distribution is loaded.
_PARTS = ("name", "auto_rank", "machine_type", "requirements", "probe", "checks", "start", "attach")


def _added() -> tuple[Extension, ...]:
    return extensions(GROUP, (AUTO, *_BUILT_IN))


def engine_names() -> tuple[str, ...]:
    """Names of all engines, built-in ones first; cheap, imports none."""
    return (*_BUILT_IN, *(each.name for each in _added() if each.name not in _BUILT_IN))


def engine_choices() -> tuple[str, ...]:
    """All that ``--engine`` takes, ``auto`` first; cheap, imports no engine."""
    return (AUTO, *(name for name in engine_names() if name != AUTO))


def engine_named(name: str) -> Engine:
    """The engine called ``name``.

    Raises:
        OptionError: there is none.
        BrokenExtension: a distribution promises one, and it cannot be had.
    """
    if name in _BUILT_IN:
        return _built_in(name)
    for extension in _added():
        if extension.name == name:
            return _loaded(extension)
    raise OptionError(
        f"there is no engine called {name!r}",
        next_step=f"use one of: {', '.join(engine_names())}",
    )


@functools.lru_cache(maxsize=8)
def _built_in(name: str) -> Engine:
    module, _, attribute = _BUILT_IN[name].partition(":")
    return cast("Engine", getattr(importlib.import_module(module), attribute)())


@functools.lru_cache(maxsize=64)
def _loaded(extension: Extension) -> Engine:
    made = extension.load()
    try:
        engine = made() if callable(made) else made
    except (Exception, SystemExit) as error:
        raise extension.broken(
            f"{extension.target}() fails: {type(error).__name__}: {error}"
        ) from error
    try:
        lacking = [part for part in _PARTS if not hasattr(engine, part)]
    except Exception as error:  # a property's
        raise extension.broken(f"{type(error).__name__}: {error}") from error
    if lacking:
        raise extension.broken(f"{extension.target} has no {', '.join(lacking)}")
    name = cast("Engine", engine).name
    if name != extension.name:
        raise extension.broken(f"it calls itself {name!r}")
    rank = cast("Engine", engine).auto_rank
    if rank is not None and not isinstance(rank, int):
        raise extension.broken(f"its auto_rank is {rank!r}, neither a whole number nor None")
    if not isinstance(cast("Engine", engine).machine_type, type):
        raise extension.broken("its machine_type is no class")
    return cast("Engine", engine)


def is_built_in(name: str) -> bool:
    """Whether the engine is ours: whatever goes wrong in it is a bug of ours then."""
    return name in _BUILT_IN


def in_words(name: str) -> str:
    """The engine in a message, with whose it is: ``the engine 'local' of local-engine 1.0``."""
    owners = [each.distribution for each in _added() if each.name == name]
    of = f" of {owners[0]}" if owners and name not in _BUILT_IN else ""
    return f"the engine {name!r}{of}"


def broken(name: str, trouble: str, *, next_step: str) -> BrokenExtension:
    """The error for an engine that is not what it claims: ``trouble`` goes on from its name."""
    owners = [each.distribution for each in _added() if each.name == name]
    return BrokenExtension(
        f"{in_words(name)} {trouble}",
        next_step=next_step,
        details={"engine": name, **({"distribution": owners[0]} if owners else {})},
    )


@contextmanager
def blaming(
    name: str, method: str, trouble: str = "", *, passes: tuple[type[Exception], ...] = ()
) -> Iterator[None]:
    """What an engine of another distribution raises in the block, where it is no error of this
    package, becomes one that says whose fault it is; what a built-in one raises goes on.

    Args:
        name: of the engine.
        method: of the engine or its machines, which the block calls.
        trouble: what that means, as half a sentence; default: that the method fails.
        passes: what the method may well raise, besides errors of this package.

    Raises:
        BrokenExtension: the engine is another distribution's, and fails.
    """
    try:
        yield
    except (Exception, SystemExit) as error:
        if name in _BUILT_IN or isinstance(error, (EdgeError, *passes)):
            raise
        raise broken(
            name,
            f"{trouble or f'is broken: {method}() fails'}: {type(error).__name__}: {error}",
            next_step=f"mend its {method}(), or use another engine; nothing else is touched by it",
        ) from error


def working_engines() -> tuple[list[Engine], list[BrokenExtension]]:
    """All engines that can be had, those that ``auto`` tries first in their order, and what is
    wrong with the others."""
    found: list[Engine] = []
    broken: list[BrokenExtension] = []
    for name in engine_names():
        try:
            found.append(engine_named(name))
        except BrokenExtension as error:
            broken.append(error)
    broken += [
        each.broken(each.trouble) for each in _added() if each.trouble and each.name in _BUILT_IN
    ]
    # Sorted is stable: engines of one rank stay in the order of their names' list.
    found.sort(key=lambda each: (each.auto_rank is None, each.auto_rank or 0))
    return found, broken


def engines_with(protocol: type[_P]) -> list[_P]:
    """The engines that implement ``protocol``, one of those in
    :mod:`edge_harness.engines.abilities` that are about engines."""
    from edge_harness.engines.abilities import bound

    seen = (bound(engine, protocol) for engine in working_engines()[0])
    return [engine for engine in seen if engine is not None]


def native_engine() -> str:
    """Name of the engine for reference runs on this machine's own processor."""
    from edge_harness.engines.abilities import RunsNatively

    return engines_with(RunsNatively)[0].name
