"""What the plugin counted between two markers, read from its file."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from edge_harness.errors import InternalError

#: What carries the measurement out, not part of it: the interpreter that calls the runtime, the
#: foreign function interface that executes the markers, and NumPy around them.
_OURS = re.compile(r"/(python3[\d.]*$|_ctypes\.|libffi\.|numpy/|numpy\.libs/)")


@dataclass(frozen=True, kw_only=True)
class Misses:
    """Accesses that a level of the cache model did not have, of one block or many."""

    total: tuple[int, ...]
    """Missing lines for each level, L1 first."""
    written_back: int
    """Changed lines that had to go back to DRAM."""
    fresh: int
    """Different lines that were touched, each counted once in its segment."""


@dataclass(frozen=True, kw_only=True)
class Block:
    """A translated block of instructions that ran."""

    vaddr: int
    library: str
    """File it was mapped from, its last path component."""
    insns: int
    code: bytes
    runs: int
    first_seen: int
    """Order of its first run among blocks that end in an indirect call; 0 for the others."""
    misses: Misses


@dataclass(frozen=True, kw_only=True)
class Segment:
    """What ran between two cuts: usually one operator."""

    runs: dict[int, int]
    """How often each block ran, by the block's number."""
    misses: dict[int, Misses]


@dataclass(frozen=True, kw_only=True)
class Trace:
    """One inference."""

    blocks: dict[int, Block]
    segments: tuple[Segment, ...]
    """Empty where no cut was asked for."""

    @property
    def instructions(self) -> int:
        return sum(block.runs * block.insns for block in self.blocks.values())

    def calls(self) -> list[Block]:
        """Blocks that end in an indirect call, in the order they first ran."""
        return sorted((b for b in self.blocks.values() if b.first_seen), key=lambda b: b.first_seen)


@dataclass(frozen=True, kw_only=True)
class Counted:
    """The counts of one inference on one board, and which code it was that ran."""

    steady: Trace
    """An inference after others: caches hold what the one before left."""
    cold: Trace
    """The first one, with empty caches."""
    runtime: str
    """Distribution and version, as ``tflite-runtime 2.14.0``."""
    kernels: str
    """As the runtime's part of the agent calls them."""
    delegates: tuple[str, ...]
    """What executed several operators at once; ONNX Runtime names its providers."""

    @property
    def delegated(self) -> bool:
        """Whether the runtime's steps are other than the file's operators."""
        return bool(self.delegates)


def read_trace(source: Path | str, maps: Sequence[Sequence[object]]) -> Trace:
    """Read one measurement.

    Args:
        source: the plugin's file, or what it holds.
        maps: ``[start, end, file offset, path]`` of what the worker has mapped executable.

    Raises:
        InternalError: the file is not one of the plugin's, or not whole.
    """
    lines = (source if isinstance(source, str) else source.read_text()).splitlines()
    if not lines or not lines[0].startswith("edge-clock 4 ") or lines[-1] != "end":
        raise InternalError("what the clock counted is damaged", next_step="run it again")
    if lines[0].split()[3] != "0":
        raise InternalError("more code ran than the clock's plugin has room for", next_step="")
    places = [(int(str(m[0])), int(str(m[1])), str(m[3])) for m in maps]
    blocks: dict[int, Block] = {}
    segments: list[tuple[dict[int, int], dict[int, Misses]]] = []
    for line in lines[1:-1]:
        kind, *fields = line.split()
        if kind == "b":
            block = _block(fields, places)
            if block is not None:
                blocks[int(fields[0])] = block
        elif kind == "segment":
            segments.append(({}, {}))
        elif int(fields[0]) in blocks:
            number, runs = int(fields[0]), int(fields[1])
            segments[-1][0][number] = runs
            segments[-1][1][number] = _misses(fields[2:])
    return Trace(
        blocks=blocks,
        segments=tuple(Segment(runs=runs, misses=misses) for runs, misses in segments if runs),
    )


def _misses(fields: Iterable[str]) -> Misses:
    *levels, written_back, fresh = (int(text) for text in fields)
    return Misses(total=tuple(levels), written_back=written_back, fresh=fresh)


def _block(fields: list[str], places: list[tuple[int, int, str]]) -> Block | None:
    vaddr = int(fields[1], 16)
    for start, end, path in places:
        if start <= vaddr < end:
            if _OURS.search(path):
                return None
            *misses, code = fields[5:]
            return Block(
                vaddr=vaddr,
                library=path.rpartition("/")[2],
                insns=int(fields[2]),
                runs=int(fields[3]),
                first_seen=int(fields[4]),
                misses=_misses(misses),
                code=bytes.fromhex(code),
            )
    return None
