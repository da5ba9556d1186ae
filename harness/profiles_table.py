"""Profiles for people (``edge-harness devices``) and for programs (``--json``)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from harness.profile import Profile, ProfileRegistry, builtin_dir


def as_dict(profile: Profile) -> dict[str, Any]:
    """``profile`` as plain JSON values; keys as in its file, ``sources`` as ``{fact: text}``."""
    plain: dict[str, Any] = msgspec.to_builtins(profile)
    plain["sources"] = dict(profile.sources)
    return plain


def print_table(registry: ProfileRegistry, console: Console) -> None:
    """All profiles, one a line; files that cannot be read are listed below with the reason."""
    profiles, broken = registry.working()
    own = any(not _is_builtin(profile) for profile in profiles)
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("device", no_wrap=True, style="cyan")
    table.add_column("board")
    table.add_column("cores", no_wrap=True)
    table.add_column("MHz", justify="right", no_wrap=True)
    table.add_column("ISA", no_wrap=True)
    table.add_column("RAM", justify="right", no_wrap=True)
    table.add_column("OS", no_wrap=True)
    table.add_column("runs as", no_wrap=True)
    if own:
        table.add_column("from", overflow="fold")
    for profile in profiles:
        cells = [
            profile.name,
            profile.title,
            _cores(profile),
            f"{profile.cpu.mhz:g}",
            profile.cpu.isa,
            _memory(profile.memory.ram_mib),
            f"{profile.os.suite} {profile.os.arch}",
            f"qemu {profile.emulation.qemu_cpu}",
        ]
        if own:
            cells.append("built in" if _is_builtin(profile) else profile.source_file)
        table.add_row(*(escape(cell) for cell in cells))
    console.print(table)
    for error in broken:
        console.print(f"[red]not usable:[/red] {escape(error.message)}", soft_wrap=True)
        console.print(f"  next: {escape(error.next_step)}", soft_wrap=True)
    console.print("one in full: edge-harness devices NAME", style="dim")


def print_one(profile: Profile, console: Console) -> None:
    """Everything a profile says, each fact with its source."""
    cpu, memory, os_, emulation = profile.cpu, profile.memory, profile.os, profile.emulation
    console.print(f"[bold cyan]{escape(profile.name)}[/bold cyan]  {escape(profile.title)}")
    if profile.notes:
        console.print(escape(profile.notes))
    based = f", extends {profile.extends}" if profile.extends else ""
    _line(console, "file", profile.source_file + based)
    _line(console, "aliases", ", ".join(profile.aliases) or "none")

    facts = _section(console, "processor")
    _fact(facts, profile, "cpu.soc", "chip", cpu.soc)
    _fact(facts, profile, "cpu.core", "cores", _cores(profile))
    _fact(facts, profile, "cpu.isa", "instruction set", cpu.isa)
    _fact(facts, profile, "cpu.mhz", "clock", f"{cpu.mhz:g} MHz")
    _fact(facts, profile, "cpu.l1d_kib", "L1 data", _cache(cpu.l1d_kib))
    _fact(facts, profile, "cpu.l1i_kib", "L1 instructions", _cache(cpu.l1i_kib))
    _fact(facts, profile, "cpu.l2_kib", "L2", _cache(cpu.l2_kib))
    if cpu.l3_kib:
        _fact(facts, profile, "cpu.l3_kib", "L3", _cache(cpu.l3_kib))
    _fact(facts, profile, "cpu.features", "features", " ".join(cpu.features))
    if cpu.clusters:
        kinds = ", ".join(f"{c.count}× {c.core} at {c.mhz:g} MHz" for c in cpu.clusters)
        _fact(facts, profile, "cpu.clusters", "whole chip", kinds)
    if cpu.pinned_because:
        _fact(facts, profile, "cpu.pinned_because", "kept on", f"{cpu.core}: {cpu.pinned_because}")
    console.print(facts)

    facts = _section(console, "memory and system")
    _fact(facts, profile, "memory.ram_mib", "RAM", _memory(memory.ram_mib))
    _fact(facts, profile, "memory.usable_mib", "Linux has", f"{memory.usable_mib} MiB")
    _fact(facts, profile, "os.suite", "userland", f"Debian {os_.suite}, {os_.arch}")
    _fact(facts, profile, "os.page_size_kib", "page size", f"{os_.page_size_kib} KiB")
    console.print(facts)

    facts = _section(console, "emulation")
    _fact(facts, profile, "emulation.qemu_cpu", "QEMU CPU", emulation.qemu_cpu)
    _fact(
        facts,
        profile,
        "emulation.extra_features",
        "passes wrongly",
        " ".join(emulation.extra_features) or "nothing known",
    )
    _fact(
        facts,
        profile,
        "emulation.missing_features",
        "fails wrongly",
        " ".join(emulation.missing_features) or "nothing known",
    )
    console.print(facts)
    for note in emulation.notes:
        console.print(f"  - {escape(note)}")

    facts = _section(console, "runtimes")
    for name, requirement in profile.runtimes.defaults().items():
        default = name == profile.runtimes.default_runtime_tflite
        text = f"{requirement} (default for .tflite)" if default else requirement
        _fact(facts, profile, f"runtimes.{name}", name, text)
    if not profile.runtimes.defaults():
        _fact(facts, profile, "runtimes", "none", "models cannot be loaded on this device")
    console.print(facts)
    if profile.runtimes.notes:
        console.print(f"  - {escape(profile.runtimes.notes)}")


def _line(console: Console, name: str, text: str) -> None:
    console.print(f"{name + ':':<9}{escape(text)}", soft_wrap=True)


def _section(console: Console, title: str) -> Table:
    console.print(f"\n[bold]{title}[/bold]")
    table = Table(box=None, show_header=False, pad_edge=True)
    table.add_column(no_wrap=True)
    table.add_column(ratio=2)
    table.add_column(ratio=3, style="dim")
    return table


def _fact(table: Table, profile: Profile, fact: str, name: str, text: str) -> None:
    table.add_row(name, escape(text), escape(profile.source_of(fact)))


def _is_builtin(profile: Profile) -> bool:
    return Path(profile.source_file).parent.resolve() == builtin_dir().resolve()


def _cores(profile: Profile) -> str:
    return f"{profile.cpu.cores}× {profile.cpu.core}"


def _memory(mib: int) -> str:
    return f"{mib / 1024:g} GiB" if mib >= 1024 else f"{mib} MiB"


def _cache(kib: int) -> str:
    return f"{kib} KiB" if kib else "none"
