"""Blocks of instructions to cycles of a core.

A core is a file in ``cores/``: how many instructions it issues a cycle, in order or not, which
pipes it has, and for each class of work the pipe, how long the pipe is taken and when the result
is there. A block is run through that again and again, as the loops that matter are, until each
round takes the same time. Caches are not part of it: loads hit L1 (see ``cost.py``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from importlib import resources
from typing import Annotated

import msgspec
from msgspec import Meta

from edge_harness.clock.instructions import CLASSES, Insn, decode
from edge_harness.errors import MissingAbility

_Positive = Annotated[float, Meta(gt=0)]
#: Rounds through a block before its steady state is taken, and over which.
_WARM_ROUNDS, _ROUNDS = 6, 12


class Work(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one class of work takes."""

    pipe: str
    cycles: _Positive = 1.0
    """The pipe is taken for so long by 64 bits of work (the whole of what is not SIMD)."""
    quad_cycles: float = 0.0
    """The same for 128 bits; 0 for as much as ``cycles``."""
    latency: float = 1.0
    """Cycles from issue until the result can be used."""


class Core(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One core, as its Software Optimization Guide describes it."""

    name: str
    width: Annotated[int, Meta(ge=1, le=16)]
    """Instructions issued (in order) or dispatched (out of order) a cycle."""
    in_order: bool
    window: Annotated[int, Meta(ge=1)] = 1
    """Instructions in flight, out of order."""
    pipes: dict[str, tuple[str, ...]]
    """For each name that ``work`` uses, the units that can do it; a unit may be in several."""
    work: dict[str, Work]
    sources: dict[str, str]
    l1_ways: Annotated[int, Meta(ge=1)] = 4
    l2_ways: Annotated[int, Meta(ge=1)] = 16
    """Of its caches; their sizes are the board's."""


@lru_cache(maxsize=32)
def core_named(name: str) -> Core:
    """The core model for ``Cortex-A72`` and the like.

    Raises:
        MissingAbility: there is none.
    """
    folder = resources.files("edge_harness.clock") / "cores"
    known = sorted(
        p.name.removesuffix(".toml") for p in folder.iterdir() if p.name.endswith(".toml")
    )
    key = name.lower().removeprefix("arm ").replace(" ", "-")
    key = _SAME.get(key, key)
    if key not in known:
        raise MissingAbility(
            f"the device clock has no model of the core {name!r}",
            next_step=f"cores with a model: {', '.join(known)}; docs/clock.md says how to add one",
            details={"core": name, "known": known},
        )
    content = _read(key)
    while base := content.pop("extends", None):
        content = _merged(_read(str(base)), content)
    core = msgspec.convert(content, Core)
    missing = [kind for kind in CLASSES if kind not in core.work and kind != "nop"]
    assert not missing, f"{key}.toml says nothing about {missing}"
    return core


#: Cores that are another one in all that matters here, and why.
_SAME: Mapping[str, str] = {
    # A78 with lock-step for safety.
    "cortex-a78ae": "cortex-a78",
    # Arm's cores under Qualcomm's names: "semi-custom" of the Armv8.2 generation and before.
    "kryo-260-gold": "cortex-a73",
    "kryo-280-gold": "cortex-a73",
    "kryo-280-silver": "cortex-a53",
    "kryo-360-gold": "cortex-a75",
    "kryo-360-silver": "cortex-a55",
    "kryo-385-gold": "cortex-a75",
    "kryo-385-silver": "cortex-a55",
    "kryo-485-gold": "cortex-a76",
    "kryo-485-silver": "cortex-a55",
}


def _read(key: str) -> dict[str, object]:
    path = resources.files("edge_harness.clock") / "cores" / f"{key}.toml"
    return msgspec.toml.decode(path.read_bytes(), type=dict[str, object])


def _merged(base: dict[str, object], over: dict[str, object]) -> dict[str, object]:
    result = dict(base)
    for key, value in over.items():
        old = result.get(key)
        both = isinstance(value, dict) and isinstance(old, dict)
        result[key] = {**old, **value} if both else value  # type: ignore[dict-item]
    return result


def block_cycles(core: Core, code: bytes, insns: int, *, bits: int = 64) -> float:
    """Cycles that ``core`` takes for one run of a block, when it runs again and again.

    Args:
        core: see :func:`core_named`.
        code: the block's bytes.
        insns: its instructions.
        bits: 64 for A64, 32 for A32 and T32.
    """
    return _cycles(core.name, code, insns, bits)


@lru_cache(maxsize=200_000)
def _cycles(name: str, code: bytes, insns: int, bits: int) -> float:
    return simulate(core_named(name), decode(code, insns, bits=bits))


def simulate(core: Core, listing: Sequence[Insn]) -> float:
    """Steady-state cycles of ``listing`` in a loop."""
    body = [_bound(core, insn) for insn in listing if insn.kind != "nop"]
    if not body:
        return max(len(listing), 1) / core.width
    # Long blocks are in their steady state at once.
    warm, rounds = (_WARM_ROUNDS, _ROUNDS) if len(body) < 100 else (1, 2)
    ready: dict[str, float] = {}
    free = {unit: 0.0 for units in core.pipes.values() for unit in units}
    issue_at, issued_in_cycle = 0.0, 0
    retired: list[float] = []
    last, marks = 0.0, []
    for _ in range(warm + rounds):
        for units, taken, latency, reads, writes in body:
            at = max([ready.get(r, 0.0) for r in reads], default=0.0)
            unit = min(units, key=free.__getitem__) if len(units) > 1 else units[0]
            if issued_in_cycle == core.width:
                issue_at, issued_in_cycle = issue_at + 1.0, 0
            if core.in_order:
                start = max(at, free[unit], issue_at)
                start = issue_at if start <= issue_at else float(-(-start // 1))
                if start > issue_at:
                    issue_at, issued_in_cycle = start, 0
            else:
                if len(retired) >= core.window:  # no room until the oldest has left
                    oldest = retired[-core.window]
                    if oldest > issue_at:
                        issue_at, issued_in_cycle = oldest, 0
                start = max(at, free[unit], issue_at)
            issued_in_cycle += 1
            free[unit] = start + taken
            done = start + latency
            for register in writes:
                ready[register] = done
            last = max(last, start + taken)
            if not core.in_order:
                retired.append(max(done, retired[-1] if retired else 0.0))
        marks.append(max(issue_at, last))
    return max((marks[-1] - marks[warm - 1]) / rounds, len(body) / core.width)


def _bound(
    core: Core, insn: Insn
) -> tuple[tuple[str, ...], float, float, tuple[str, ...], tuple[str, ...]]:
    work = core.work[insn.kind]
    each = work.quad_cycles if insn.quad and work.quad_cycles else work.cycles
    taken = each * insn.units
    return core.pipes[work.pipe], taken, work.latency + taken - each, insn.reads, insn.writes
