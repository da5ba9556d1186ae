"""Runtimes that other distributions register, in the entry-point group ``edge_harness.runtimes``.

An entry point names a function without arguments that returns a
:class:`~edge_harness.runtimes.Runtime`; the file it stands in is also the agent's file of that
runtime and is carried into devices. docs/extending.md shows one. Whatever is wrong with one of
them is said when it is asked for, and harms no other.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import get_args

from edge_harness.agent.runtimes import DEFINES
from edge_harness.errors import BrokenExtension
from edge_harness.extensions import Extension, extensions
from edge_harness.runtime_requirements import Brought
from edge_harness.runtime_rows import Format, Runtime
from edge_harness.runtime_trouble import troubles

GROUP = "edge_harness.runtimes"
#: Characters told of one that is broken.
_LINE = 300


@dataclass(frozen=True, kw_only=True)
class Outside:
    """What other distributions registered."""

    runtimes: Mapping[str, Runtime] = field(default_factory=dict)
    broken: Mapping[str, BrokenExtension] = field(default_factory=dict)
    """Why a registered name cannot be used; to be raised when it is asked for."""

    @property
    def troubles(self) -> str:
        """Why, a line for each: to be told where one of them may have been meant."""
        lines = (error.message.splitlines()[0] for error in self.broken.values())
        return "\n".join(line if len(line) <= _LINE else f"{line[:_LINE]}…" for line in lines)


class _Unfit(Exception):
    """What was registered is no runtime; the message says why."""


def registered(built_in: Sequence[Runtime], added: Iterable[Extension] | None = None) -> Outside:
    """The runtimes of other distributions.

    Args:
        built_in: this package's own, whose names are taken.
        added: instead of what is installed here.
    """
    if added is None:
        added = extensions(GROUP, tuple(row.name for row in built_in))
    runtimes: dict[str, Runtime] = {}
    broken: dict[str, BrokenExtension] = {}
    for extension in added:
        try:
            row = _loaded(extension)
            row = replace(row, formats=_owned(row, built_in))
            others = [*built_in, *runtimes.values()]
            _refuse_taken(row, others)
            for trouble in troubles(row, others):
                raise _Unfit(trouble)
        except BrokenExtension as error:
            broken[extension.name] = error
        except _Unfit as unfit:
            broken[extension.name] = extension.broken(str(unfit))
        except Exception as error:  # of a row whose fields have other types, anything
            broken[extension.name] = extension.broken(
                f"its row cannot be read: {type(error).__name__}: {error}"
            )
        else:
            runtimes[row.name] = row
    return Outside(runtimes=runtimes, broken=broken)


def _loaded(extension: Extension) -> Runtime:
    make = extension.load()
    try:
        row = make() if callable(make) else make
    except Exception as error:  # whatever somebody else's function raises
        raise _Unfit(f"{extension.target}() raises {type(error).__name__}: {error}") from error
    if not isinstance(row, Runtime):
        raise _Unfit(
            f"{extension.target} gives a {type(row).__name__}, not an "
            "edge_harness.runtimes.Runtime: name a function that returns one"
        )
    if row.name != extension.name:
        raise _Unfit(f"its name is {row.name!r}, not that of its entry point, {extension.name!r}")
    if not row.name.isidentifier():
        raise _Unfit(f"its name {row.name!r} is not a Python identifier")
    if not row.formats or not all(isinstance(each, Format) for each in row.formats):
        raise _Unfit("it runs no format: give formats=(Format(…),)")
    if row.brought not in (ways := get_args(Brought)):
        raise _Unfit(f"it is brought as {row.brought!r}, which is none of {', '.join(ways)}")
    if row.requirement and row.pinned(row.requirement) is None:
        raise _Unfit(
            f"its requirement {row.requirement!r} is none for {row.distribution!r}: write it as "
            f"{row.example!r}"
        )
    if not row.agent_source:
        source = inspect.getsourcefile(inspect.unwrap(make)) if callable(make) else None
        if source is None:
            raise _Unfit("its file is not found: name a function that stands in the agent's file")
        row = replace(row, agent_source=Path(source).read_bytes())
    _refuse_incomplete(row)
    return replace(row, origin=extension.distribution)


def _owned(row: Runtime, built_in: Sequence[Runtime]) -> tuple[Format, ...]:
    """The formats of ``row``; those that come with it name whose they are."""
    ours = [each for other in built_in for each in other.formats]
    return tuple(
        each if each.origin or each in ours else replace(each, origin=row.origin)
        for each in row.formats
    )


def _refuse_incomplete(row: Runtime) -> None:
    import ast

    try:
        tree = ast.parse(row.agent_source)
    except SyntaxError as error:
        raise _Unfit(f"its file is not Python: {error}") from None
    names = {each.name for each in tree.body if isinstance(each, ast.FunctionDef | ast.ClassDef)}
    missing = [name for name in DEFINES if name not in names]
    if missing:
        raise _Unfit(
            f"its file, which is carried into the device, defines no {' and no '.join(missing)}"
        )


def _refuse_taken(row: Runtime, others: Iterable[Runtime]) -> None:
    for other in others:
        whose = other.origin or "this package"
        if other.name == row.name:
            raise _Unfit(f"{whose} has a runtime of that name")
        for mine in row.formats:
            for theirs in other.formats:
                if mine.name == theirs.name and mine != theirs:
                    raise _Unfit(
                        f"{whose} has a format {mine.name!r} that is another one: take its row "
                        f"from edge_harness.runtimes.FORMATS[{mine.name!r}]"
                    )
