"""What is wrong with a row that another distribution registered: nothing of it is taken on trust,
as what it says first matters deep inside a run."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import fields
from typing import get_args

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet

from edge_harness.errors import OptionError
from edge_harness.runtime_parts import Part
from edge_harness.runtime_rows import Format, Option, OptionKind, Runtime

#: What a worker is told beside the options, under the names that it has there.
_TAKEN = ("op", "threads")
#: Of a distribution: PEP 508.
_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?")
#: Kinds whose defaults are written as a caller would give them.
_PLAIN = ("flag", "number", "text", "choice", "words")


def troubles(row: Runtime, others: Iterable[Runtime]) -> Iterator[str]:
    """All that is wrong with ``row`` beside ``others``, which are sound."""
    for model_format in row.formats:
        yield from _of_format(model_format)
    known = [each for other in others for each in other.formats]
    for index, mine in enumerate(row.formats):
        for theirs in (*known, *row.formats[:index]):
            yield from _of_suffixes(mine, theirs)
    given: tuple[object, ...] = row.options
    names = [option.name for option in given if isinstance(option, Option)]
    for option in given:
        if not isinstance(option, Option):
            yield f"its option {option!r} is no edge_harness.runtimes.Option"
        elif names.count(option.name) > 1:
            yield f"it has two options {option.name!r}"
        else:
            yield from _of_option(option)
    yield from _of_reference(row)
    if row.brought == "wheel" and row.distribution and not _NAME.fullmatch(row.distribution):
        yield f"its distribution {row.distribution!r} is no name of one"
    for companion in row.companions:
        try:
            Requirement(companion.requirement)
            SpecifierSet(companion.versions)
        except (InvalidRequirement, InvalidSpecifier) as error:
            yield f"its companion {companion.requirement!r} is no requirement: {error}"


def _of_format(row: Format) -> Iterator[str]:
    if not row.name or not row.title:
        yield f"its format {row.name!r} has no name or no title"
    for suffix in row.suffixes:
        if not re.fullmatch(r"\.[^A-Z/]+", suffix):
            yield f"its format {row.name!r} has the suffix {suffix!r}: write it like '.npy'"
    for at, mark in row.signatures:
        if type(at) is not int or at < 0 or not isinstance(mark, bytes) or not mark:
            yield f"its format {row.name!r} has the signature {(at, mark)!r}: write (0, b'NPY')"
    for each in fields(row):
        part = getattr(row, each.name)
        if isinstance(part, Part) and part and not re.fullmatch(r"[\w.]+:\w+", part.path):
            yield f"its part {each.name} is {part.path!r}: write it as 'module:function'"


def _of_suffixes(mine: Format, theirs: Format) -> Iterator[str]:
    if mine.name == theirs.name or (_by_bytes(mine) and _by_bytes(theirs)):
        return
    for suffix in mine.suffixes:
        if suffix in theirs.suffixes:
            whose = f" of {theirs.origin}" if theirs.origin else ""
            yield (
                f"files {suffix!r} are of its format {mine.name!r} and of {theirs.name!r}{whose}"
                ", and nothing tells them apart: give both certain signatures, or another suffix"
            )


def _by_bytes(row: Format) -> bool:
    return row.certain and bool(row.signatures)


def _of_option(option: Option) -> Iterator[str]:
    if not isinstance(option.name, str) or not option.name.isidentifier():
        yield f"its option {option.name!r} is not a Python identifier"
    if option.name in _TAKEN:
        yield f"its option {option.name!r} has a name that means something else to each session"
    if option.kind not in get_args(OptionKind):
        yield (
            f"its option {option.name!r} is of kind {option.kind!r}, which is none of "
            f"{', '.join(get_args(OptionKind))}"
        )
        return
    if option.kind == "choice" and not option.allowed:
        yield f"its option {option.name!r} is a choice of nothing: give allowed=(…)"
        return
    if option.kind in _PLAIN:
        try:
            option.checked(option.default)
        except OptionError as error:
            yield f"the default of its option is none: {error.message}"
    elif not isinstance(option.default, tuple):
        yield f"the default of its option {option.name!r} is {option.default!r}: write ()"


def _of_reference(row: Runtime) -> Iterator[str]:
    for name, value in row.reference_options:
        option = row.option(name)
        if option is None:
            yield f"its reference_options have {name!r}, which is none of its options"
        elif option.kind in _PLAIN:
            try:
                option.checked(value)
            except OptionError as error:
                yield f"its reference_options are none: {error.message}"
