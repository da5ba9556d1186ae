"""Profiles for people (``edge-harness devices``) and for programs (``--json``)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table

from edge_harness.commands import common
from edge_harness.profiles import Profile, ProfileRegistry, builtin_dir
from edge_harness.runtimes import RUNTIMES

#: Columns of a terminal that all of the table's columns fit into.
_WIDE = 120


def as_dict(profile: Profile) -> dict[str, Any]:
    """``profile`` as plain JSON values; keys as in its file, ``sources`` as ``{fact: text}``."""
    plain: dict[str, Any] = msgspec.to_builtins(profile)
    plain["sources"] = dict(profile.sources)
    runtimes = profile.runtimes
    plain["runtimes"] = {
        **dict(runtimes.requirements),
        **{f"default_runtime_{name}": runtime for name, runtime in runtimes.preferred},
        "notes": runtimes.notes,
    }
    return plain


def print_table(registry: ProfileRegistry, console: Console) -> None:
    """All profiles, one a line; files that cannot be read are listed below with the reason.

    A narrow terminal gets fewer columns rather than cut words; a pipe gets them all.
    """
    profiles, broken = registry.working()
    wide = not console.is_terminal or console.width >= _WIDE
    own = any(not _is_builtin(profile) for profile in profiles)
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("device", no_wrap=True, style="cyan")
    table.add_column("board")
    table.add_column("cores", no_wrap=True)
    table.add_column("MHz", justify="right", no_wrap=True)
    table.add_column("RAM", justify="right", no_wrap=True)
    if wide:
        table.add_column("ISA", no_wrap=True)
        table.add_column("OS", no_wrap=True)
        table.add_column("runs as", no_wrap=True)
    if wide and own:
        table.add_column("from", overflow="fold")
    for profile in profiles:
        cells = [
            profile.name,
            profile.title,
            _cores(profile),
            f"{profile.cpu.mhz:g}",
            _memory(profile.memory.ram_mib),
        ]
        if wide:
            cells += [
                profile.cpu.isa,
                f"{profile.os.suite} {profile.os.arch}",
                f"qemu {profile.emulation.qemu_cpu}",
            ]
        if wide and own:
            cells.append("built in" if _is_builtin(profile) else profile.source_file)
        table.add_row(*(escape(cell) for cell in cells))
    common.print_table(table, console)
    for error in broken:
        console.print(
            f"[red]not usable:[/red] {escape(error.message)}", soft_wrap=True, highlight=False
        )
        console.print(f"  next: {escape(error.next_step)}", soft_wrap=True, highlight=False)
    console.print("one in full: edge-harness devices --device NAME", style="dim")


def print_one(profile: Profile, console: Console) -> None:
    """Everything a profile says, each fact with its source."""
    cpu, memory, os_, emulation = profile.cpu, profile.memory, profile.os, profile.emulation
    console.print(
        f"[bold cyan]{escape(profile.name)}[/bold cyan]  {escape(profile.title)}", highlight=False
    )
    if profile.notes:
        console.print(escape(profile.notes), highlight=False)
    based = f", extends {profile.extends}" if profile.extends else ""
    _line(console, "file", profile.source_file + based)
    _line(console, "aliases", ", ".join(profile.aliases) or "none")

    facts = _Facts(profile)
    facts.add("cpu.soc", "chip", cpu.soc)
    facts.add("cpu.core", "cores", _cores(profile))
    facts.add("cpu.isa", "instruction set", cpu.isa)
    facts.add("cpu.mhz", "clock", f"{cpu.mhz:g} MHz")
    facts.add("cpu.l1d_kib", "L1 data", _cache(cpu.l1d_kib))
    facts.add("cpu.l1i_kib", "L1 instructions", _cache(cpu.l1i_kib))
    facts.add("cpu.l2_kib", "L2", _cache(cpu.l2_kib))
    if cpu.l3_kib:
        facts.add("cpu.l3_kib", "L3", _cache(cpu.l3_kib))
    facts.add("cpu.features", "features", " ".join(cpu.features))
    if cpu.clusters:
        kinds = ", ".join(f"{c.count}× {c.core} at {c.mhz:g} MHz" for c in cpu.clusters)
        facts.add("cpu.clusters", "whole chip", kinds)
    if cpu.pinned_because:
        facts.add("cpu.pinned_because", "kept on", f"{cpu.core}: {cpu.pinned_because}")
    facts.show(console, "processor")

    facts = _Facts(profile)
    facts.add("memory.ram_mib", "RAM", _memory(memory.ram_mib))
    facts.add("memory.usable_mib", "Linux has", f"{memory.usable_mib} MiB")
    if memory.technology:
        facts.add("memory.technology", "DRAM", memory.technology)
    if memory.bandwidth_gb_s:
        facts.add("memory.bandwidth_gb_s", "bandwidth", f"{memory.bandwidth_gb_s:g} GB/s at most")
    facts.add("os.suite", "userland", f"Debian {os_.suite}, {os_.arch}")
    facts.add("os.page_size_kib", "page size", f"{os_.page_size_kib} KiB")
    facts.show(console, "memory and system")

    facts = _Facts(profile)
    facts.add("emulation.qemu_cpu", "QEMU CPU", emulation.qemu_cpu)
    extra = " ".join(emulation.extra_features) or "nothing known"
    facts.add("emulation.extra_features", "board lacks", extra)
    missing = " ".join(emulation.missing_features) or "nothing known"
    facts.add("emulation.missing_features", "QEMU lacks", missing)
    facts.show(console, "emulation", emulation.notes)

    facts = _Facts(profile)
    for name, requirement in profile.runtimes.defaults().items():
        chosen = [
            each.suffixes[0]
            for each in RUNTIMES[name].formats
            if profile.default_runtime(each) == name
        ]
        text = f"{requirement} (default for {', '.join(chosen)})" if chosen else requirement
        facts.add(f"runtimes.{name}", name, text)
    if not profile.runtimes.defaults():
        facts.add("runtimes", "none", "models cannot be loaded on this device")
    notes = (profile.runtimes.notes,) if profile.runtimes.notes else ()
    facts.show(console, "runtimes", notes)


class _Facts:
    """A table of facts: name, value, source (only where it is not that of the line above)."""

    def __init__(self, profile: Profile) -> None:
        self._profile = profile
        self._above = ""
        self._table = Table(box=None, show_header=False, pad_edge=True)
        self._table.add_column(no_wrap=True)
        self._table.add_column(ratio=2)
        self._table.add_column(ratio=3, style="dim")

    def add(self, fact: str, name: str, text: str) -> None:
        source = self._profile.source_of(fact)
        shown = "″" if source and source == self._above else source
        self._above = source
        self._table.add_row(name, escape(text), escape(shown))

    def show(self, console: Console, title: str, notes: tuple[str, ...] = ()) -> None:
        console.print(f"\n[bold]{title}[/bold]")
        console.print(self._table)
        for note in notes:
            console.print(Padding(f"- {escape(note)}", (0, 0, 0, 1)), highlight=False)


def _line(console: Console, name: str, text: str) -> None:
    console.print(f"{name + ':':<9}{escape(text)}", soft_wrap=True, highlight=False)


def _is_builtin(profile: Profile) -> bool:
    return Path(profile.source_file).parent.resolve() == builtin_dir().resolve()


def _cores(profile: Profile) -> str:
    return f"{profile.cpu.cores}× {profile.cpu.core}"


def _memory(mib: int) -> str:
    return f"{mib / 1024:g} GiB" if mib >= 1024 else f"{mib} MiB"


def _cache(kib: int) -> str:
    return f"{kib} KiB" if kib else "none"
