"""One profile file: read, merged with what it extends, and checked, with errors that name the
file, the line, the table and the key."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import msgspec

from edge_harness.errors import ProfileError, did_you_mean
from edge_harness.profiles.clock import Clock
from edge_harness.profiles.shape import (
    Arch,
    Cluster,
    Cpu,
    Emulation,
    Isa,
    Memory,
    Os,
    Profile,
    Runtimes,
    Storage,
    Suite,
)
from edge_harness.runtimes import FORMATS, RUNTIMES

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_TABLES: Mapping[str, type[msgspec.Struct]] = {
    "cpu": Cpu,
    "memory": Memory,
    "os": Os,
    "emulation": Emulation,
    "runtimes": Runtimes,
    "storage": Storage,
    "clock": Clock,
}
#: ``name`` is the file's name and ``source_file`` its path: neither is written in the file.
_TOP_KEYS = tuple(name for name in Profile.__struct_fields__ if name not in ("name", "source_file"))
#: A key of [runtimes] that begins like this goes on with the name of a format.
_DEFAULT_FOR = "default_runtime_"
_ARCH_ISA = {"arm64": "armv[89]", "armhf": "armv[789]", "armel": "armv[5-9]", "amd64": "x86-64"}
_CHOICES: Mapping[str, tuple[str, ...]] = {
    "cpu.isa": get_args(Isa),
    "os.arch": get_args(Arch),
    "os.suite": get_args(Suite),
    "emulation.cpuinfo": ("core", "this-machine"),
}
_HINTS = {
    "cpu.features": "write the names as /proc/cpuinfo of the board shows them, like 'asimd'",
    "emulation.extra_features": "write the names as /proc/cpuinfo shows them, like 'aes'",
    "emulation.missing_features": "write the names as /proc/cpuinfo shows them, like 'crc32'",
    "emulation.qemu_cpu": "use a name from 'qemu-aarch64 -cpu help', like 'cortex-a72'; options "
    "follow after commas, like 'max,sve=off'",
    "aliases": "use lower-case letters, digits, '.', '_', '+' and '-'",
    "name": "rename the file: lower-case letters, digits, '.', '_' and '-'",
}
_KINDS = {
    "int": "a whole number",
    "float": "a number",
    "str": "a text in quotes",
    "bool": "true or false",
    "array": "a list in [ ]",
    "object": "a table",
}
_HEADER = re.compile(r"^\s*\[\[?\s*([^\[\]]+?)\s*\]\]?")
_KEY = re.compile(r"^\s*([\w\-.\"']+)\s*=")
_AT = re.compile(r"^(?P<what>.*?)(?: - at `\$?(?P<path>[^`]*)`)?$", re.DOTALL)


@dataclass(frozen=True, kw_only=True)
class ProfileFile:
    """A profile file as written, before anything is inherited."""

    path: Path
    table: Mapping[str, Any]
    lines: Mapping[str, int]

    @property
    def name(self) -> str:
        return self.path.stem

    def where(self, fact: str) -> str:
        """``FILE, line N: [cpu] mhz``."""
        line = self.lines.get(fact) or self.lines.get(fact.rpartition(".")[0])
        table, _, key = fact.rpartition(".")
        place = f"[{table}] {key}" if table else key
        return f"{self.path}{f', line {line}' if line else ''}: {place}"


def read_profile_file(path: Path) -> ProfileFile:
    """Read ``path`` and refuse what is not TOML or has keys that no profile has.

    Raises:
        ProfileError: unreadable, not TOML, or an unknown key (the nearest known one is named).
    """
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ProfileError(
            f"{path}: is not UTF-8 text (byte {error.start})", next_step="save it as UTF-8"
        ) from None
    except OSError as error:
        raise ProfileError(
            f"{path}: cannot be read: {error.strerror}",
            next_step="make it a readable file, or remove it",
        ) from None
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ProfileError(
            f"{path}: is not valid TOML: {error}",
            next_step="correct that line; values that are text need quotes",
        ) from None
    file = ProfileFile(path=path, table=table, lines=_line_numbers(text))
    _refuse_unknown_keys(file)
    return file


def _line_numbers(text: str) -> dict[str, int]:
    """``{"cpu": 7, "cpu.mhz": 9}``; only ever used to point at a line in a message."""
    lines: dict[str, int] = {}
    table = ""
    for number, line in enumerate(text.splitlines(), start=1):
        if header := _HEADER.match(line):
            table = header[1].replace('"', "").replace("'", "").replace(" ", "")
            lines.setdefault(table, number)
        elif key := _KEY.match(line):
            name = key[1].replace('"', "").replace("'", "")
            lines.setdefault(f"{table}.{name}" if table else name, number)
    return lines


def _refuse_unknown_keys(file: ProfileFile) -> None:
    _refuse_unknown(file, "", file.table, _TOP_KEYS)
    for name in _TABLES:
        table = file.table.get(name)
        if isinstance(table, dict) and not all(_is_key(name, key) for key in table):
            _refuse_unknown(file, name, table, _keys(name))
    cpu = file.table.get("cpu")
    clusters = cpu.get("clusters") if isinstance(cpu, dict) else None
    for cluster in clusters if isinstance(clusters, list) else ():
        if isinstance(cluster, dict):
            _refuse_unknown(file, "cpu.clusters", cluster, Cluster.__struct_fields__)
    for fact in _flat(file.table.get("sources")):
        table, _, key = fact.partition(".")
        if fact not in (*_TABLES, "title") and not (key and _is_key(table, key)):
            known = [*_TABLES, "title", *(f"{t}.{k}" for t in _TABLES for k in _keys(t))]
            raise ProfileError(
                f"{file.where(f'sources.{fact}')}: there is no fact {fact!r} to give a source for"
                f"{did_you_mean(fact, known)}",
                next_step='name a fact as "cpu.mhz", or a table as cpu',
            )


def _is_key(table: str, key: str) -> bool:
    """Whether [table] may have ``key``; other distributions are not looked at for runtimes and
    formats that this one has."""
    if _TABLES.get(table) is not Runtimes:
        return table in _TABLES and key in _TABLES[table].__struct_fields__
    named = key.removeprefix(_DEFAULT_FOR)
    return key == "notes" or (key in RUNTIMES if named == key else named in FORMATS)


def _keys(table: str) -> tuple[str, ...]:
    if _TABLES[table] is not Runtimes:
        return _TABLES[table].__struct_fields__
    return (*RUNTIMES, *(_DEFAULT_FOR + name for name in FORMATS), "notes")


def _refuse_unknown(
    file: ProfileFile, table: str, found: Mapping[str, Any], known: tuple[str, ...]
) -> None:
    for key in found:
        if key in known:
            continue
        fact = f"{table}.{key}" if table else key
        inside = f"table [{table}]" if table else "the top of a profile"
        other = [name for name in _TABLES if name != table and key in _keys(name)]
        moved = f"; [{other[0]}] has a key of that name" if other else did_you_mean(key, known)
        if key == "name":
            moved = "; a profile's name is that of its file"
        raise ProfileError(
            f"{file.where(fact)}: unknown key {key!r} in {inside}{moved}",
            next_step=f"use one of: {', '.join(known)}",
            details={"file": str(file.path), "table": table, "key": key},
        )


def _flat(table: object, prefix: str = "") -> dict[str, Any]:
    """``{"cpu": {"mhz": "…"}}`` and ``{"cpu.mhz": "…"}`` are the same source."""
    flat: dict[str, Any] = {}
    if isinstance(table, dict):
        for key, value in table.items():
            if isinstance(value, dict):
                flat.update(_flat(value, f"{prefix}{key}."))
            else:
                flat[prefix + key] = value
    return flat


def build_profile(chain: list[ProfileFile]) -> Profile:
    """The profile of ``chain[-1]``; each file of the chain extends the one before it.

    Tables are merged key by key, lists are replaced. ``[clock]`` is of the hardware it was fitted
    to: a file that changes ``[cpu]`` or ``[memory]`` does not inherit it. Aliases are not
    inherited, nor is the source of a fact that is given anew.

    Raises:
        ProfileError: a value has the wrong type or range, is missing, or contradicts another.
    """
    merged: dict[str, Any] = {}
    origin: dict[str, ProfileFile] = {}
    for file in chain:
        own = {key: value for key, value in file.table.items() if key != "sources"}
        if {"cpu", "memory"} & set(own) and "clock" not in own:
            # Measurements of another processor or memory say nothing certain about this one.
            merged.pop("clock", None)
        old = _spread(merged.get("sources", {}), merged)
        _merge(merged, own, file, origin)
        new = _flat(file.table.get("sources"))
        kept = {fact: text for fact, text in old.items() if origin.get(fact) is not file}
        merged["sources"] = {**kept, **new}
        for fact in new:
            origin[f"sources.{fact}"] = file
    leaf = chain[-1]
    same = len(chain) > 1 and chain[-2].name == leaf.name
    if not same and "aliases" not in leaf.table:
        merged.pop("aliases", None)
    if "title" not in leaf.table and len(chain) > 1 and not same:
        merged["title"] = f"{leaf.name} (based on {merged.get('title', chain[-2].name)})"
    merged["name"] = leaf.name
    merged["source_file"] = str(leaf.path)
    for fact, text in merged["sources"].items():
        if not isinstance(text, str) or not text.strip():
            file = origin.get(f"sources.{fact}", leaf)
            raise ProfileError(
                f"{file.where(f'sources.{fact}')} = {text!r}: must be a text in quotes",
                next_step="name the datasheet, manual or measurement that the fact is from",
            )
    merged["sources"] = tuple(sorted(merged["sources"].items()))
    runtimes = merged.get("runtimes")
    defaults = (
        {
            f"runtimes.{key}": tuple(row.name for row in RUNTIMES.running(FORMATS[named]))
            for key in runtimes
            if (named := key.removeprefix(_DEFAULT_FOR)) != key
        }
        if isinstance(runtimes, dict)
        else {}
    )
    for fact, allowed in {**_CHOICES, **defaults}.items():
        _check_choice(merged, fact, allowed, origin.get(fact, leaf))
    try:
        profile = msgspec.convert({**merged, "runtimes": _runtimes(runtimes)}, Profile)
    except msgspec.ValidationError as error:
        raise _explained(error, merged, origin, leaf) from None
    for fact, value, problem, next_step in _contradictions(profile):
        raise ProfileError(
            f"{origin.get(fact, leaf).where(fact)} = {value!r}: {problem}", next_step=next_step
        )
    return profile


def _runtimes(table: Any) -> Any:
    """The table [runtimes] as :class:`Runtimes` has it.

    Raises:
        msgspec.ValidationError: a value is no text.
    """
    if table is None:
        return {}
    if not isinstance(table, dict):
        return table
    pairs: dict[bool, list[tuple[str, str]]] = {False: [], True: []}
    for key, value in table.items():
        try:
            text = msgspec.convert(value, str)
        except msgspec.ValidationError as error:
            raise msgspec.ValidationError(f"{error} - at `$.runtimes.{key}`") from None
        if key != "notes":
            named = key.removeprefix(_DEFAULT_FOR)
            pairs[named != key].append((named, text))
    return {
        "requirements": pairs[False],
        "preferred": pairs[True],
        "notes": table.get("notes", ""),
    }


def _spread(sources: Mapping[str, Any], merged: Mapping[str, Any]) -> dict[str, Any]:
    """Sources of whole tables given to each of their facts, so that a fact which is overridden
    does not keep the source of the one it replaces."""
    spread: dict[str, Any] = {}
    for fact, text in sources.items():
        table = merged.get(fact)
        if isinstance(table, dict):
            spread.update({f"{fact}.{key}": text for key in table})
    return {**spread, **{fact: text for fact, text in sources.items() if fact not in _TABLES}}


def _merge(
    into: dict[str, Any],
    new: Mapping[str, Any],
    file: ProfileFile,
    origin: dict[str, ProfileFile],
    prefix: str = "",
) -> None:
    for key, value in new.items():
        fact = prefix + key
        origin[fact] = file
        old = into.get(key)
        if isinstance(value, dict):
            target = dict(old) if isinstance(old, dict) else {}
            into[key] = target
            _merge(target, value, file, origin, f"{fact}.")
        else:
            into[key] = value


def _lookup(table: Any, fact: str) -> Any:
    for key in fact.split("."):
        if not isinstance(table, Mapping) or key not in table:
            return None
        table = table[key]
    return table


def _check_choice(
    merged: Mapping[str, Any], fact: str, allowed: tuple[str, ...], file: ProfileFile
) -> None:
    value = _lookup(merged, fact)
    if isinstance(value, str) and value not in allowed:
        raise ProfileError(
            f"{file.where(fact)} = {value!r}: is not one we know{did_you_mean(value, allowed)}",
            next_step=f"use one of: {', '.join(allowed)}",
        )


def _explained(
    error: msgspec.ValidationError,
    merged: Mapping[str, Any],
    origin: Mapping[str, ProfileFile],
    leaf: ProfileFile,
) -> ProfileError:
    """msgspec's message, in the terms of the file."""
    match = _AT.match(str(error))
    what, path = (match["what"], match["path"] or "") if match else (str(error), "")
    fact = re.sub(r"\[[^\]]*\]", "", path).strip(".")
    if missing := re.match(r"Object missing required field `(\w+)`", what):
        table = f"[{fact}]" if fact else "the profile"
        return ProfileError(
            f"{leaf.path}: {table} has no {missing[1]!r}",
            next_step=f'add {missing[1]!r} to {table}, or put extends = "NAME" at the top to '
            "inherit it",
            details={"file": str(leaf.path), "table": fact, "key": missing[1]},
        )
    value = _lookup(merged, fact)
    what = re.sub(r"`(\w+)`", lambda kind: _KINDS.get(kind[1], kind[1]), what)
    what = re.sub(r"^Expected .* matching regex .*$", "has characters that are not allowed", what)
    what = what.replace("Expected", "expected").replace("of length >= 1", "that is not empty")
    if isinstance(value, list) and (index := re.search(r"\[(\d+)\]$", path)):
        value = value[int(index[1])]
    file = origin.get(fact, leaf)
    return ProfileError(
        f"{file.where(fact)} = {value!r}: {what}",
        next_step=_HINTS.get(fact, "correct that value; docs/profiles.md lists every key"),
        details={"file": str(file.path), "fact": fact},
    )


def _contradictions(profile: Profile) -> Iterator[tuple[str, Any, str, str]]:
    """``(fact, value, what is wrong, next step)`` for checks that need more than one field."""
    page = profile.os.page_size_kib
    if page & (page - 1):
        yield "os.page_size_kib", page, "is not a power of two", "use 4, 16 or 64"
    memory = profile.memory
    if memory.usable_mib > memory.ram_mib:
        yield (
            "memory.usable_mib",
            memory.usable_mib,
            f"is more than ram_mib = {memory.ram_mib}",
            "use MemTotal of the board's /proc/meminfo, in MiB",
        )
    if not re.match(_ARCH_ISA[profile.os.arch], profile.cpu.isa):
        yield (
            "os.arch",
            profile.os.arch,
            f"cannot run on a processor of isa = {profile.cpu.isa!r}",
            "correct [os] arch or [cpu] isa",
        )
    cpu = profile.cpu
    if cpu.clusters:
        total = sum(c.count for c in cpu.clusters if c.core == cpu.core)
        if cpu.cores > total:
            yield (
                "cpu.cores",
                cpu.cores,
                f"[[cpu.clusters]] has {total} of {cpu.core!r}",
                "correct [cpu] cores, or the clusters",
            )
    emulation = profile.emulation
    if both := sorted(set(emulation.extra_features) & set(cpu.features)):
        yield (
            "emulation.extra_features",
            both,
            "the board has these too, by [cpu] features",
            "list only what the emulated core has and the board lacks",
        )
    if unknown := sorted(set(emulation.missing_features) - set(cpu.features)):
        yield (
            "emulation.missing_features",
            unknown,
            "the board does not have these, by [cpu] features",
            "list only what the board has and the emulated core lacks",
        )
    for name, text in profile.runtimes.defaults().items():
        runtime = RUNTIMES[name]
        if runtime.pinned(text) is None:
            yield (
                f"runtimes.{name}",
                text,
                f"is not a requirement for {runtime.distribution}",
                f"write it as {runtime.example!r}, or '' if the device has none",
            )
