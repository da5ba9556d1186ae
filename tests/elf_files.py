"""Small ELF files: libraries with code and symbols, and core dumps of processes that have them."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

LOAD, DYNAMIC, NOTE = 1, 2, 4
READ, EXECUTE = 4, 5
AARCH64, ARM, X86_64 = 183, 40, 62
LIBRARY, CORE = 3, 4


@dataclass
class Segment:
    kind: int
    address: int
    content: bytes
    flags: int = READ
    offset: int = 0
    """Where it is put in the file; 0: at the next free place."""


@dataclass
class Elf:
    machine: int = AARCH64
    kind: int = LIBRARY
    segments: list[Segment] = field(default_factory=list)
    symbols: list[tuple[str, int, int]] = field(default_factory=list)
    """Functions: name, address, size."""

    @property
    def wide(self) -> bool:
        return self.machine != ARM

    def build(self) -> bytes:
        head_size, entry = (64, 56) if self.wide else (52, 32)
        place = head_size + entry * len(self.segments)
        body, headers = b"", b""
        for segment in self.segments:
            if segment.offset:
                body += bytes(segment.offset - place - len(body))
            at = place + len(body)
            segment.offset = at
            size = len(segment.content)
            fields = (at, segment.address, 0, size, size)
            if self.wide:
                headers += struct.pack("<IIQQQQQQ", segment.kind, segment.flags, *fields, 4)
            else:
                headers += struct.pack("<IIIIIIII", segment.kind, *fields, segment.flags, 4)
            body += segment.content
        tables, count = self._sections(place + len(body))
        sections = place + len(body) + tables[1] if count else 0
        body += tables[0]
        return self._header(head_size, entry, sections, count) + headers + body

    def _header(self, head_size: int, entry: int, sections: int, count: int) -> bytes:
        ident = b"\x7fELF" + bytes([2 if self.wide else 1, 1, 1]) + bytes(9)
        form = "<HHIQQQIHHHHHH" if self.wide else "<HHIIIIIHHHHHH"
        shape = (64 if self.wide else 40, count, count - 1 if count else 0)
        counts = (head_size, entry, len(self.segments), *shape)
        return ident + struct.pack(
            form, self.kind, self.machine, 1, 0, head_size, sections, 0, *counts
        )

    def _sections(self, start: int) -> tuple[tuple[bytes, int], int]:
        """(their contents and headers, where the headers begin among these), their number."""
        if not self.symbols:
            return (b"", 0), 0
        names, table = b"\0", bytes(24 if self.wide else 16)
        for name, value, size in self.symbols:
            info = 0x12  # STB_GLOBAL, STT_FUNC
            if self.wide:
                table += struct.pack("<IBBHQQ", len(names), info, 0, 1, value, size)
            else:
                table += struct.pack("<IIIBBH", len(names), value, size, info, 0, 1)
            names += name.encode() + b"\0"
        titles = b"\0.dynsym\0.dynstr\0.shstrtab\0"
        content = table + names + titles
        at = (start, start + len(table), start + len(table) + len(names))
        rows = [
            (0, 0, 0, 0, 0, 0),
            (1, 11, at[0], len(table), 2, 24 if self.wide else 16),
            (9, 3, at[1], len(names), 0, 0),
            (17, 3, at[2], len(titles), 0, 0),
        ]
        form = "<IIQQQQIIQQ" if self.wide else "<IIIIIIIIII"
        headers = b"".join(
            struct.pack(form, name, kind, 0, 0, where, size, link, 1, 1, entry)
            for name, kind, where, size, link, entry in rows
        )
        return (content + headers, len(content)), len(rows)


def note(kind: int, content: bytes, name: bytes = b"CORE") -> bytes:
    padded = name + b"\0" * (4 - len(name) % 4)
    content_padded = content + b"\0" * (-len(content) % 4)
    return struct.pack("<III", len(name) + 1, len(content), kind) + padded + content_padded


def registers(machine: int, counter: int, *, thumb: bool = False) -> bytes:
    """``elf_prstatus`` with the program counter set."""
    start, form, index = {
        AARCH64: (112, "<34Q", 32),
        X86_64: (112, "<27Q", 16),
        ARM: (72, "<18I", 15),
    }[machine]
    values = [0xDEAD] * int(form[1:-1])
    values[index] = counter
    if machine == ARM:
        values[16] = 0xFFFFFFFF if thumb else 0xFFFFFFDF  # CPSR: T is bit 5
    return bytes(start) + struct.pack(form, *values)


def words(machine: int, *values: int) -> bytes:
    return struct.pack(f"<{len(values)}{'I' if machine == ARM else 'Q'}", *values)
