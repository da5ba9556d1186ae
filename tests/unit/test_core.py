"""Core dumps of processes with libraries, as QEMU and Linux write them."""

import struct

import pytest
from edge_harness.diagnose.core import BadCore, Core, fault_in, symbol_at

from tests.elf_files import (
    AARCH64,
    ARM,
    CORE,
    DYNAMIC,
    EXECUTE,
    LOAD,
    NOTE,
    X86_64,
    Elf,
    Segment,
    note,
    registers,
    words,
)

AT_PHDR, AT_EXECFN, DT_DEBUG = 3, 31, 21
#: Code of each object; no two places of it alike.
CODE = bytes(range(200))
#: Where an object's code lies in its own counting, and in its file.
CODE_AT, CODE_OFFSET = 0x12000, 0x2000


def library(machine, *, first=0, symbols=(), dynamic=b""):
    """An object whose code lies elsewhere in the file than in memory; ``first`` is the address of
    its beginning (not 0 in fixed programs)."""
    segments = [Segment(LOAD, first, bytes(0x200))]
    if dynamic:
        segments.append(Segment(DYNAMIC, first + 0x3000, dynamic, offset=0x1000))
    segments.append(Segment(LOAD, first + CODE_AT, CODE, EXECUTE, offset=CODE_OFFSET))
    # The first segment of a real object begins with the file's own headers.
    elf = Elf(machine=machine, segments=segments, symbols=list(symbols))
    whole = bytearray(elf.build())
    start = 64 if elf.wide else 52
    if elf.wide:
        struct.pack_into("<Q", whole, start + 8, 0)
    else:
        struct.pack_into("<I", whole, start + 4, 0)
    return bytes(whole)


@pytest.fixture
def process(tmp_path):
    """A process with a program and two libraries, known by the dynamic linker's list."""

    def made(counter, *, machine=AARCH64, thumb=False, fixed=0, bases=(0x40000, 0x80000), extra=()):
        word = 4 if machine == ARM else 8
        program_base = 0 if fixed else 0x10000000
        names = ["/usr/bin/app", "/usr/lib/liba.so", "/usr/lib/libb.so"]
        for name in names:
            path = tmp_path / name[1:]
            path.parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / names[0][1:]).write_bytes(library(machine, first=fixed, dynamic=bytes(64)))
        symbols = [("helper", CODE_AT, 0x10), ("kernel", CODE_AT + 0x10, 0x20)]
        for name in names[1:]:
            (tmp_path / name[1:]).write_bytes(library(machine, symbols=symbols))
        strings, debug, links = 0x7000, 0x6000, 0x5000
        texts = b"".join(name.encode().ljust(64, b"\0") for name in names)
        dynamic = words(machine, 1, 0, DT_DEBUG, debug, 0, 0)
        chain = b""
        for index, base in enumerate((program_base, *bases)):
            following = links + (index + 1) * 4 * word if index < len(bases) else 0
            # The program itself has an empty name in the list.
            name_at = strings + 64 * index if index else strings + 60
            chain += words(machine, base, name_at, 0, following)
        vector = words(
            machine,
            AT_PHDR,
            program_base + fixed + (52 if machine == ARM else 64),
            AT_EXECFN,
            strings,
            0,
            0,
        )
        notes = note(1, registers(machine, counter, thumb=thumb)) + note(6, vector)
        core = Elf(
            machine=machine,
            kind=CORE,
            segments=[
                Segment(NOTE, 0, notes),
                Segment(LOAD, program_base + fixed + 0x3000, dynamic),
                Segment(LOAD, links, chain),
                Segment(LOAD, debug, words(machine, 1, links)),
                Segment(LOAD, strings, texts),
                *extra,
            ],
        )
        path = tmp_path / "a.core"
        path.write_bytes(core.build())

        def find(name):
            file = tmp_path / name[1:]
            return file if file.is_file() else None

        return path, find

    return made


@pytest.mark.parametrize("machine", [AARCH64, ARM, X86_64])
@pytest.mark.parametrize(("base", "name"), [(0x40000, "liba.so"), (0x80000, "libb.so")])
def test_the_library_that_the_counter_is_in_is_named_with_the_place_in_it(
    process, machine, base, name
):
    path, find = process(base + CODE_AT + 0x18, machine=machine)
    fault = fault_in(path, find)
    assert fault.library.path == f"/usr/lib/{name}"
    assert (fault.library.base, fault.offset) == (base, CODE_AT + 0x18)
    assert fault.address == base + CODE_AT + 0x18
    assert fault.code == CODE[0x18:0x28]
    assert symbol_at(fault.library.file, fault.offset) == "kernel+0x8"


@pytest.mark.parametrize("machine", [AARCH64, ARM, X86_64])
@pytest.mark.parametrize("fixed", [0, 0x400000])
def test_the_program_itself_is_found_also_where_it_has_a_fixed_place(process, machine, fixed):
    base = 0 if fixed else 0x10000000
    path, find = process(base + fixed + CODE_AT + 4, machine=machine, fixed=fixed)
    fault = fault_in(path, find)
    assert fault.library.path == "/usr/bin/app"
    assert (fault.library.base, fault.offset) == (base, fixed + CODE_AT + 4)
    assert fault.code == CODE[4:20]


def test_code_ends_where_its_segment_does(process):
    path, find = process(0x40000 + CODE_AT + len(CODE) - 4)
    assert fault_in(path, find).code == CODE[-4:]
    path, find = process(0x40000 + CODE_AT + len(CODE))
    fault = fault_in(path, find)
    assert (fault.library, fault.offset, fault.code) == (None, None, b"")
    path, find = process(0x40000 + CODE_AT)
    assert fault_in(path, find).code == CODE[:16]
    path, find = process(0x40000 + CODE_AT - 1)
    assert fault_in(path, find).library is None


def test_data_is_not_taken_for_code(process):
    path, find = process(0x40000 + 0x10)
    assert fault_in(path, find).library is None


def test_memory_of_the_dump_counts_before_the_librarys_file(process):
    counter = 0x40000 + CODE_AT + 8
    path, find = process(counter, extra=[Segment(LOAD, counter - 4, b"abcdEFGHijkl", EXECUTE)])
    fault = fault_in(path, find)
    assert fault.code == b"EFGHijkl"
    assert fault.library.path == "/usr/lib/liba.so"


def test_a_place_in_no_library_has_the_dumps_bytes(process):
    path, find = process(0x99000, extra=[Segment(LOAD, 0x99000, bytes(range(32)), EXECUTE)])
    fault = fault_in(path, find)
    assert (fault.library, fault.offset, fault.code) == (None, None, bytes(range(16)))


def test_thumb_is_told_from_arm(process):
    for thumb in (True, False):
        path, find = process(0x40000 + CODE_AT, machine=ARM, thumb=thumb)
        assert fault_in(path, find).thumb is thumb
    path, find = process(0x40000 + CODE_AT, machine=AARCH64)
    assert fault_in(path, find).thumb is False


def test_of_two_libraries_that_claim_the_place_the_linkers_first_counts(process):
    path, find = process(0x40000 + CODE_AT, bases=(0x40000, 0x40000))
    assert fault_in(path, find).library.path == "/usr/lib/liba.so"


def test_a_library_whose_file_is_gone_does_not_hide_the_others(process, tmp_path):
    path, find = process(0x80000 + CODE_AT)
    (tmp_path / "usr/lib/liba.so").unlink()
    assert fault_in(path, find).library.path == "/usr/lib/libb.so"


def test_a_damaged_library_is_passed_over(process, tmp_path):
    path, find = process(0x80000 + CODE_AT)
    (tmp_path / "usr/lib/liba.so").write_bytes(b"\x7fELF\x02\x01\x01" + bytes(9))
    assert fault_in(path, find).library.path == "/usr/lib/libb.so"


def test_a_program_that_is_not_known_leaves_the_place_open(process, tmp_path):
    path, find = process(0x40000 + CODE_AT)
    (tmp_path / "usr/bin/app").write_bytes(b"no ELF")
    assert fault_in(path, find).library is None
    (tmp_path / "usr/bin/app").unlink()
    assert fault_in(path, find).library is None


def test_a_list_of_libraries_that_bites_its_tail_ends(process, tmp_path):
    path, find = process(0x99000, bases=())
    data = path.read_bytes()
    # The program's entry follows itself, and has the program's name.
    entry = words(AARCH64, 0x10000000, 0x7000 + 60, 0, 0)
    assert data.count(entry) == 1
    path.write_bytes(data.replace(entry, words(AARCH64, 0x10000000, 0x7000, 0, 0x5000)))
    with path.open("rb") as file:
        assert len(Core(file).libraries(find)) == 4096


def test_a_list_of_libraries_that_leads_out_of_the_dump_ends(process):
    path, find = process(0x40000 + CODE_AT)
    data = path.read_bytes()
    entry = words(AARCH64, 0x80000, 0x7000 + 128, 0, 0)
    assert data.count(entry) == 1
    path.write_bytes(data.replace(entry, words(AARCH64, 0x80000, 0x7000 + 128, 0, 0xDEAD000)))
    with path.open("rb") as file:
        names = [library.path for library in Core(file).libraries(find)]
    assert names == ["/usr/bin/app", "/usr/lib/liba.so", "/usr/lib/libb.so"]


@pytest.mark.parametrize("machine", [AARCH64, ARM])
def test_the_kernels_own_list_of_mapped_files_is_taken_where_there_is_one(tmp_path, machine):
    (tmp_path / "libk.so").write_bytes(library(machine))
    (tmp_path / "fixed").write_bytes(library(machine, first=0x400000))
    page = 0x1000
    ranges = [
        (0x70002000, 0x70003000, 2, "/libk.so"),  # its code comes first in the list
        (0x70000000, 0x70001000, 0, "/libk.so"),
        (0x400000, 0x401000, 0, "/fixed"),
        (0x500000, 0x501000, 0, "/gone"),
    ]
    listed = words(machine, len(ranges), page)
    listed += b"".join(words(machine, *each[:3]) for each in ranges)
    listed += b"".join(each[3].encode() + b"\0" for each in ranges)

    def find(name):
        file = tmp_path / name[1:]
        return file if file.is_file() else None

    for counter, name, base in (
        (0x70000000 + CODE_AT + 4, "/libk.so", 0x70000000),
        (0x400000 + CODE_AT + 8, "/fixed", 0),
    ):
        notes = note(1, registers(machine, counter)) + note(0x46494C45, listed)
        core = Elf(machine=machine, kind=CORE, segments=[Segment(NOTE, 0, notes)])
        path = tmp_path / "core"
        path.write_bytes(core.build())
        fault = fault_in(path, find)
        assert (fault.library.path, fault.library.base) == (name, base)
        assert fault.offset == counter - base
        assert fault.code == CODE[fault.offset % 0x1000 :][:16]
        with path.open("rb") as file:
            assert [each.path for each in Core(file).libraries(find)] == ["/libk.so", "/fixed"]


def test_notes_are_found_one_after_another_whatever_their_length(tmp_path):
    notes = note(3, b"12345", b"LINUX") + note(1, registers(AARCH64, 0x1234)) + note(6, b"")
    path = tmp_path / "core"
    path.write_bytes(
        Elf(kind=CORE, segments=[Segment(NOTE, 0, notes), Segment(NOTE, 0, note(9, b"x"))]).build()
    )
    with path.open("rb") as file:
        core = Core(file)
        assert core.note(3) == b"12345"
        assert core.note(9) == b"x"
        assert core.note(8) == b""
        assert core.counter() == (0x1234, False)
        assert core.machine == "EM_AARCH64"


def test_memory_is_read_up_to_the_end_of_its_segment(tmp_path):
    path = tmp_path / "core"
    segments = [
        Segment(NOTE, 0, note(1, registers(AARCH64, 0))),
        Segment(LOAD, 0x1000, b"0123456789"),
        Segment(LOAD, 0x2000, words(AARCH64, 7, 8, 9) + b"rest"),
        Segment(LOAD, 0x3000, b"name\0more"),
    ]
    path.write_bytes(Elf(kind=CORE, segments=segments).build())
    with path.open("rb") as file:
        core = Core(file)
        assert core.read(0x1000, 4) == b"0123"
        assert core.read(0x1004, 4) == b"4567"
        assert core.read(0x1008, 4) == b"89"
        assert core.read(0x1009, 4) == b"9"
        assert core.read(0x100A, 4) == b""
        assert core.read(0xFFF, 4) == b""
        assert core.words(0x2000, 2) == (7, 8)
        assert core.words(0x2000, 8) == (7, 8, 9)
        assert core.words(0x9000, 2) == ()
        assert core.text(0x3000) == "name"
        assert core.text(0x9000) == ""


@pytest.mark.parametrize(
    ("elf", "why"),
    [
        (Elf(kind=3, segments=[Segment(NOTE, 0, b"")]), "no core dump"),
        (Elf(kind=CORE, machine=8, segments=[Segment(NOTE, 0, b"")]), "EM_MIPS processor"),
        (Elf(kind=CORE, segments=[Segment(NOTE, 0, note(1, b"short"))]), "no registers"),
        (Elf(kind=CORE, segments=[]), "no registers"),
    ],
)
def test_what_is_no_core_dump_of_a_board_says_why(tmp_path, elf, why):
    path = tmp_path / "core"
    path.write_bytes(elf.build())
    with pytest.raises(BadCore, match=why):
        fault_in(path, lambda name: None)


def test_a_dump_that_is_not_there_is_a_bad_one(tmp_path):
    with pytest.raises(BadCore, match="cannot be read"):
        fault_in(tmp_path / "none", lambda name: None)


@pytest.mark.parametrize("machine", [AARCH64, ARM])
def test_a_symbol_is_the_function_around_the_place(tmp_path, machine):
    path = tmp_path / "lib.so"
    symbols = [
        ("outer", 0x100, 0x100),
        ("inner", 0x140, 0x10),
        ("empty", 0x300, 0),
        ("first", 0, 8),
    ]
    path.write_bytes(library(machine, symbols=symbols))
    assert symbol_at(path, 4) == "first+0x4"
    assert symbol_at(path, 0x100) == "outer+0x0"
    assert symbol_at(path, 0x13C) == "outer+0x3c"
    assert symbol_at(path, 0x14F) == "inner+0xf"
    assert symbol_at(path, 0x150) == "outer+0x50"
    assert symbol_at(path, 0x1FF) == "outer+0xff"
    for nowhere in (0xFF, 0x200, 0x300):
        assert symbol_at(path, nowhere) == ""
    path.write_bytes(library(machine))
    assert symbol_at(path, 0x100) == ""
    path.write_bytes(b"no ELF")
    assert symbol_at(path, 0x100) == ""
