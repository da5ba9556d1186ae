"""Read what is needed from a core dump: registers, memory, and which library lies where.

QEMU's user-mode emulator writes ELF core dumps of the guest (linux-user/elfload.c): registers in
NT_PRSTATUS notes, the auxiliary vector, readable memory in PT_LOAD segments. It leaves out the
code of libraries, which is read from their files, and writes no NT_FILE note, so the dynamic
linker's own list (``r_debug``, SVr4 ABI) tells where each library lies.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

Find = Callable[[str], Path | None]
_AT_PHDR, _AT_EXECFN = 3, 31
_PT_DYNAMIC, _DT_DEBUG = 2, 21
_NT_FILE = 0x46494C45
#: machine: (offset of the registers in elf_prstatus, register size, index of the program counter)
_REGISTERS = {"EM_AARCH64": (112, 8, 32), "EM_ARM": (72, 4, 15), "EM_X86_64": (112, 8, 16)}
_MOST_LIBRARIES = 4096


class BadCore(Exception):
    """Not a core dump that can be read; the message says why."""


@dataclass(frozen=True, kw_only=True)
class Library:
    """A loaded object."""

    path: str
    """As the device names it."""
    base: int
    """What to subtract from an address to get the file's own (``l_addr``)."""
    file: Path | None


@dataclass(frozen=True, kw_only=True)
class Fault:
    """Where a process stood when it died."""

    machine: str
    address: int
    thumb: bool
    code: bytes
    """Up to 16 bytes at the address; empty where neither dump nor file has them."""
    library: Library | None
    offset: int | None
    """The address in the library's own counting (as its symbols and disassembly have it)."""


class Core:
    """An open core dump. Raises :class:`BadCore`."""

    def __init__(self, file: BinaryIO) -> None:
        try:
            self._elf = ELFFile(file)
            if self._elf["e_type"] != "ET_CORE":
                raise BadCore("it is an ELF file, but no core dump")
            self.machine = str(self._elf["e_machine"])
            self._loads = [
                (s["p_vaddr"], s["p_offset"], s["p_filesz"])
                for s in self._elf.iter_segments("PT_LOAD")
                if s["p_filesz"]
            ]
            self._notes = [
                note
                for s in self._elf.iter_segments("PT_NOTE")
                for note in self._raw_notes(file, s)
            ]
        except (ELFError, struct.error, OSError, ValueError, OverflowError, MemoryError) as error:
            raise BadCore(f"it cannot be read: {error}") from None
        if self.machine not in _REGISTERS:
            raise BadCore(f"it is of a {self.machine} processor")
        self._file = file
        self._word = _REGISTERS[self.machine][1]

    @staticmethod
    def _raw_notes(file: BinaryIO, segment: Any) -> Iterator[tuple[int, bytes]]:
        file.seek(segment["p_offset"])
        data = file.read(min(segment["p_filesz"], 1 << 24))
        place = 0
        while place + 12 <= len(data):
            name_size, size, kind = struct.unpack_from("<III", data, place)
            start = place + 12 + (name_size + 3) // 4 * 4
            yield kind, data[start : start + size]
            place = start + (size + 3) // 4 * 4

    def note(self, kind: int) -> bytes:
        return next((data for number, data in self._notes if number == kind), b"")

    def read(self, address: int, size: int) -> bytes:
        """Memory at ``address``; shorter, or empty, where the dump has none."""
        for start, offset, length in self._loads:
            if start <= address < start + length:
                self._file.seek(offset + address - start)
                return self._file.read(min(size, start + length - address))
        return b""

    def words(self, address: int, count: int) -> tuple[int, ...]:
        data = self.read(address, count * self._word)
        whole = len(data) // self._word
        return struct.unpack(
            f"<{whole}{'Q' if self._word == 8 else 'I'}", data[: whole * self._word]
        )

    def text(self, address: int) -> str:
        return self.read(address, 4096).split(b"\0")[0].decode(errors="replace")

    def counter(self) -> tuple[int, bool]:
        """Program counter of the thread that died, and whether it ran Thumb code."""
        start, size, index = _REGISTERS[self.machine]
        status = self.note(1)
        form = "<Q" if size == 8 else "<I"
        try:
            (counter,) = struct.unpack_from(form, status, start + index * size)
            thumb = False
            if self.machine == "EM_ARM":
                thumb = bool(struct.unpack_from("<I", status, start + 16 * 4)[0] & 0x20)
        except struct.error:
            raise BadCore("it has no registers") from None
        return counter, thumb

    def _auxiliary(self) -> dict[int, int]:
        data = self.note(6)
        form = "<QQ" if self._word == 8 else "<II"
        size = struct.calcsize(form)
        return dict(struct.iter_unpack(form, data[: len(data) // size * size]))

    def _mapped_files(self, find: Find) -> list[Library]:
        """From the kernel's own list of mapped files (NT_FILE, fs/binfmt_elf.c); the emulator's
        dumps have none."""
        data, word = self.note(_NT_FILE), self._word
        form = "Q" if word == 8 else "I"
        try:
            count, page = struct.unpack_from(f"<2{form}", data)
            ranges = list(struct.iter_unpack(f"<3{form}", data[2 * word : (2 + 3 * count) * word]))
        except struct.error:
            return []
        names = data[(2 + 3 * count) * word :].split(b"\0")
        first: dict[str, int] = {}
        for (start, _, offset), name in zip(ranges, names, strict=False):
            path = name.decode(errors="replace")
            first[path] = min(first.get(path, start), start - offset * page)
        found = []
        for path, start in first.items():
            file = find(path)
            if file is not None:
                found.append(Library(path=path, base=start - _lowest_address(file), file=file))
        return found

    def libraries(self, find: Find) -> list[Library]:
        """All loaded objects, the program itself first; best effort, never fails."""
        mapped = self._mapped_files(find)
        if mapped:
            return mapped
        vector = self._auxiliary()
        program = self.text(vector.get(_AT_EXECFN, 0))
        file = find(program) if program else None
        if file is None:
            return []
        try:
            with file.open("rb") as stream:
                elf = ELFFile(stream)
                headers = list(elf.iter_segments())
                first = elf["e_phoff"]
                # Where the headers are in memory, less where the file says: the load base.
                loads = [s for s in headers if s["p_type"] == "PT_LOAD"]
                holder = next(
                    s for s in loads if s["p_offset"] <= first < s["p_offset"] + s["p_filesz"]
                )
                base = vector[_AT_PHDR] - (holder["p_vaddr"] + first - holder["p_offset"])
                dynamic = next((s for s in headers if s["p_type"] == "PT_DYNAMIC"), None)
        except (ELFError, OSError, StopIteration, KeyError, ValueError):
            return []
        found = [Library(path=program, base=base, file=file)]
        if dynamic is None:
            return found
        entries = self.words(base + dynamic["p_vaddr"], 512)
        pairs = dict(zip(entries[::2], entries[1::2], strict=False))
        debug = self.words(pairs.get(_DT_DEBUG, 0), 2)
        link = debug[1] if len(debug) == 2 else 0
        while link and len(found) < _MOST_LIBRARIES:
            fields = self.words(link, 4)
            if len(fields) < 4:
                break
            name = self.text(fields[1])
            if name:
                found.append(Library(path=name, base=fields[0], file=find(name)))
            link = fields[3]
        return found


def _lowest_address(file: Path) -> int:
    """Where the first loaded byte of ``file`` says it is: 0 but for fixed programs."""
    try:
        with file.open("rb") as stream:
            loads = list(ELFFile(stream).iter_segments("PT_LOAD"))
            return min((int(s["p_vaddr"] - s["p_offset"]) for s in loads[:1]), default=0)
    except (ELFError, OSError, ValueError):
        return 0


def fault_in(path: Path, find: Find) -> Fault:
    """Where the process of the core dump ``path`` died.

    Raises:
        BadCore: it is damaged, or of a processor this does not know.
    """
    try:
        with path.open("rb") as file:
            core = Core(file)
            address, thumb = core.counter()
            library, offset, code = None, None, b""
            for candidate in core.libraries(find):
                found = _code_in(candidate, address - candidate.base)
                if found is not None:
                    library, offset, code = candidate, address - candidate.base, found
                    break
            return Fault(
                machine=core.machine,
                address=address,
                thumb=thumb,
                code=core.read(address, 16) or code,
                library=library,
                offset=offset,
            )
    except (OSError, struct.error, ELFError, ValueError, OverflowError, MemoryError) as error:
        raise BadCore(f"it cannot be read: {error}") from None


def _code_in(library: Library, offset: int) -> bytes | None:
    """The bytes at ``offset`` of a library that is loaded there; None if it has no code there."""
    if library.file is None or offset < 0:
        return None
    try:
        with library.file.open("rb") as file:
            for segment in ELFFile(file).iter_segments("PT_LOAD"):
                inside = offset - segment["p_vaddr"]
                if segment["p_flags"] & 1 and 0 <= inside < segment["p_filesz"]:
                    file.seek(segment["p_offset"] + inside)
                    return file.read(min(16, segment["p_filesz"] - inside))
    except (ELFError, OSError, ValueError, OverflowError):
        return None
    return None


def symbol_at(file: Path, offset: int) -> str:
    """The function that contains ``offset``, as ``name+0x10``; "" where no symbol tells."""
    best: tuple[int, str] | None = None
    try:
        with file.open("rb") as stream:
            elf = ELFFile(stream)
            for name in (".symtab", ".dynsym"):
                section = elf.get_section_by_name(name)
                if not isinstance(section, SymbolTableSection):
                    continue
                for symbol in section.iter_symbols():
                    start, size = symbol["st_value"], symbol["st_size"]
                    if symbol["st_info"]["type"] == "STT_FUNC" and start <= offset < start + size:
                        best = max(best or (0, ""), (start, symbol.name))
    except (ELFError, OSError, UnicodeDecodeError):
        return ""
    return f"{best[1]}+{offset - best[0]:#x}" if best else ""
