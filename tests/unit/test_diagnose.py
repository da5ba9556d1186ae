import struct
from pathlib import Path

import pytest
from edge_harness.diagnose import explain_death, isa
from edge_harness.diagnose.core import BadCore, fault_in
from edge_harness.profiles import default_registry
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from tests.elf_files import (
    AARCH64,
    CORE,
    EXECUTE,
    LOAD,
    NOTE,
    Elf,
    Segment,
    note,
    registers,
    words,
)

PROFILES = default_registry().all()
RPI4 = default_registry().get("rpi4")
CODE_AT = 0x7F00001000


#: ELF's number of the machine: how many registers, which is the program counter. (All with 64-bit
#: headers; what reads them does not mind, and so one writer serves.)
MACHINES = {183: ("<34Q", 112, 32), 62: ("<27Q", 112, 16), 40: ("<18I", 72, 15)}


def core_dump(code, pc=CODE_AT, machine=183, thumb=False):
    """The smallest core dump: one NT_PRSTATUS note and one page of memory."""
    form, start, index = MACHINES.get(machine, MACHINES[183])
    registers = [0] * int(form[1:-1])
    registers[index] = pc
    if thumb:
        registers[16] = 0x20  # CPSR.T
    status = bytes(start) + struct.pack(form, *registers) + bytes(8)
    note = struct.pack("<III", 5, len(status), 1) + b"CORE\0\0\0\0" + status
    headers = 64 + 2 * 56
    elf = b"\x7fELF\x02\x01\x01" + bytes(9)
    elf += struct.pack("<HHIQQQIHHHHHH", 4, machine, 1, 0, 64, 0, 0, 64, 56, 2, 0, 0, 0)
    elf += struct.pack("<IIQQQQQQ", 4, 0, headers, 0, 0, len(note), 0, 4)
    elf += struct.pack("<IIQQQQQQ", 1, 5, headers + len(note), pc, 0, len(code), len(code), 4)
    return elf + note + code


def explained(path, number=4, profile=RPI4):
    return explain_death(
        signal=number,
        core_file=path,
        find=lambda name: None,
        profile=profile,
        profiles=PROFILES,
    )


def test_a_missing_extension_is_named_with_the_first_board_that_has_it(tmp_path):
    path = tmp_path / "a.core"
    path.write_bytes(core_dump((0x0F01FC01).to_bytes(4, "little")))
    found = explained(path)
    assert found.kind == "illegal_instruction"
    assert found.instruction.startswith("fmov v1.4h")
    assert found.feature == "FEAT_FP16"
    assert found.encoding_hex == "0x0f01fc01"
    board = default_registry().get(found.first_profile)
    assert {"fphp", "asimdhp"} <= set(board.cpu.features)
    assert "in no library" in found.summary
    assert "it lacks FEAT_FP16" in found.text()


@pytest.mark.parametrize(
    ("word", "feature", "board"),
    [
        (0x0F01FC01, "FEAT_FP16", "rpi5"),  # several of Armv8.2-A have it, the best known first
        (0x1AC24820, "FEAT_CRC32", "rpi-zero2w"),  # nearly all have it
        (0x4E284820, "FEAT_AES", "coral-dev-board"),  # Raspberry Pis of Armv8.0-A have not
        (0xBA000400, "FEAT_FlagM", "jetson-agx-orin"),
        (0x4E82A420, "FEAT_I8MM", None),
    ],
)
def test_the_first_board_is_the_oldest_that_has_the_feature(tmp_path, word, feature, board):
    path = tmp_path / "a.core"
    rpi4 = replace(RPI4, cpu=replace(RPI4.cpu, features=("fp", "asimd")))
    for profiles in (PROFILES, PROFILES[::-1]):
        path.write_bytes(core_dump(word.to_bytes(4, "little")))
        found = explain_death(
            signal=4, core_file=path, find=lambda name: None, profile=rpi4, profiles=profiles
        )
        assert (found.feature, found.first_profile) == (feature, board)
    assert f"first board: {board or 'none of the known profiles has it'}" in found.text()


def test_a_board_of_another_architecture_is_no_first_board(tmp_path):
    path = tmp_path / "a.core"
    path.write_bytes(core_dump((0x4E284820).to_bytes(4, "little")))  # AES, which x86 has too
    bare = replace(RPI4, cpu=replace(RPI4.cpu, features=()))
    others = [p for p in PROFILES if p.os.arch != "arm64"]
    assert {"aes"} <= set(default_registry().get("edge-server").cpu.features)
    found = explain_death(
        signal=4, core_file=path, find=lambda name: None, profile=bare, profiles=others
    )
    assert (found.feature, found.first_profile) == ("FEAT_AES", None)


def test_an_extension_that_the_board_has_is_not_called_missing(tmp_path):
    path = tmp_path / "a.core"
    path.write_bytes(core_dump((0x0F01FC01).to_bytes(4, "little")))
    found = explained(path, profile=default_registry().get("rpi5"))
    assert (found.feature, found.first_profile) == ("", None)
    assert "although its profile lists FEAT_FP16" in found.summary


def grouped():
    """(machine, code, feature, text) of 32-bit Arm and x86; see data/isa/make_arm_x86.py."""
    lines = (Path(__file__).parent / "data" / "isa" / "arm_x86.txt").read_text().splitlines()
    return [line.split("\t") for line in lines if not line.startswith("#")]


@pytest.mark.parametrize(
    ("machine", "code", "feature", "text"), grouped(), ids=[f"{r[0]}-{r[3]}" for r in grouped()]
)
def test_the_extension_of_an_instruction_of_32_bit_arm_or_x86(
    tmp_path, machine, code, feature, text
):
    path = tmp_path / "a.core"
    number, at = (62, CODE_AT) if machine == "x86_64" else (40, 0x10000)
    path.write_bytes(core_dump(bytes.fromhex(code), at, number, thumb=machine == "thumb"))
    board = default_registry().get("edge-server" if machine == "x86_64" else "rpi-zero")
    bare = replace(board, cpu=replace(board.cpu, features=(), isa=""))
    found = explained(path, profile=bare)
    assert found.feature == ("" if feature == "-" else feature)
    assert found.instruction.split()[0].split(".")[0] in text.replace("$", "")
    everything = {name for each in [*isa.GROUPS.values()] for name in each.hwcaps}
    everything |= {name for _, each in isa.MNEMONICS for name in each.hwcaps}
    whole = replace(board, cpu=replace(board.cpu, features=tuple(everything), isa="zzz"))
    # On a board that has it, it is not to blame.
    assert explained(path, profile=whole).feature == ""


def test_every_extension_of_32_bit_arm_and_x86_has_an_assembled_instruction():
    known = {each.name for each in isa.GROUPS.values()} | {each.name for _, each in isa.MNEMONICS}
    assert {feature for _, _, feature, _ in grouped()} == known | {"-"}


def test_a_deliberate_trap_is_not_called_a_missing_extension(tmp_path):
    path = tmp_path / "a.core"
    path.write_bytes(core_dump((0x00000007).to_bytes(4, "little")))
    found = explained(path)
    assert found.feature == ""
    assert "UDF #7" in found.summary
    assert found.first_profile is None


def test_an_unknown_word_is_said_to_be_unknown(tmp_path):
    path = tmp_path / "a.core"
    path.write_bytes(core_dump(b"\xff\xff\xff\xff"))
    assert "no known extension" in explained(path).summary


def test_without_a_core_dump_the_place_is_said_to_be_unknown():
    found = explained(None, number=11)
    assert found.kind == "segfault"
    assert "not known" in found.summary


def test_sigkill_and_exits_are_no_crash():
    assert explained(None, number=9) is None
    assert explained(None, number=None) is None


@pytest.mark.parametrize(
    "content", [b"", b"no core", b"\x7fELF", core_dump(b"1234")[:200], core_dump(b"12", machine=8)]
)
def test_damaged_dumps_weaken_the_diagnosis_and_never_raise(tmp_path, content):
    path = tmp_path / "a.core"
    path.write_bytes(content)
    found = explained(path)
    assert found.kind == "illegal_instruction"
    assert "does not help" in found.evidence


@settings(max_examples=100)
@given(
    st.lists(
        st.tuples(st.integers(0, len(core_dump(b"1234")) - 1), st.integers(0, 255)), max_size=6
    )
)
def test_no_dump_raises_anything_but_its_own_error(tmp_path_factory, changes):
    content = bytearray(core_dump(b"1234"))
    for place, value in changes:
        content[place] = value
    path = tmp_path_factory.mktemp("core") / "a.core"
    path.write_bytes(bytes(content))
    try:
        fault_in(path, lambda name: None)
    except BadCore as error:
        why = str(error)
        assert why


def test_a_crash_in_a_library_says_where_and_in_which_function(tmp_path):
    library = tmp_path / "libk.so"
    code = bytes.fromhex("4100e0b8") + bytes(12)  # ldaddal, which Armv8.0-A lacks
    listed = Elf(
        segments=[Segment(LOAD, 0, bytes(64)), Segment(LOAD, 0x1000, code, EXECUTE, 0x800)],
        symbols=[("kernel", 0x1000, 16)],
    )
    library.write_bytes(listed.build())
    first = listed.segments[0].offset
    ranges = words(AARCH64, 1, 0x1000, 0x70000000 - first, 0x70002000, 0) + b"/opt/libk.so\0"
    notes = note(1, registers(AARCH64, 0x70001000)) + note(0x46494C45, ranges)
    core = Elf(kind=CORE, segments=[Segment(NOTE, 0, notes)])
    path = tmp_path / "a.core"
    path.write_bytes(core.build())
    found = explain_death(
        signal=4, core_file=path, find=lambda name: library, profile=RPI4, profiles=PROFILES
    )
    assert (found.library, found.offset, found.symbol) == ("/opt/libk.so", 0x1000, "kernel+0x0")
    assert found.feature == "FEAT_LSE"
    assert found.summary == (
        "the Cortex-A72 of rpi4 cannot execute 'ldaddal w0, w1, [x2]' in libk.so: it lacks FEAT_LSE"
    )
    assert found.text().splitlines() == [
        f"  {found.summary}",
        "  instruction: ldaddal w0, w1, [x2] (0xb8e00041)",
        "  where:       /opt/libk.so at offset 0x1000, kernel+0x0",
        "  it needs:    FEAT_LSE, atomic instructions (from Armv8.1-A)",
        "  first board: rpi5",
        "  found from:  the process's core dump",
    ]
    assert found.details()["encoding_hex"] == "0xb8e00041"
    segfault = explain_death(
        signal=11, core_file=path, find=lambda name: library, profile=RPI4, profiles=PROFILES
    )
    assert (segfault.kind, segfault.feature, segfault.first_profile) == ("segfault", "", None)
    assert segfault.summary == "SIGSEGV in libk.so"


@pytest.mark.parametrize(
    ("machine", "thumb", "code", "text", "encoding"),
    [
        (62, False, "c5f458d0", "vaddps ymm2, ymm1, ymm0", "c5 f4 58 d0"),
        (40, True, "8818", "adds r0, r1, r2", "0x1888"),
        (40, True, "40f20100", "movw r0, #1", "0xf2400001"),
        (40, False, "020081e0", "add r0, r1, r2", "0xe0810002"),
        (183, False, "4100e0b8", "ldaddal w0, w1, [x2]", "0xb8e00041"),
        (183, False, "ffffffff", "", "0xffffffff"),
        (40, True, "ffff", "", "0x0000ffff"),
    ],
)
def test_an_instruction_is_shown_with_its_encoding_as_manuals_write_it(
    tmp_path, machine, thumb, code, text, encoding
):
    path = tmp_path / "a.core"
    path.write_bytes(core_dump(bytes.fromhex(code), 0x10000, machine, thumb=thumb))
    board = default_registry().get("edge-server" if machine == 62 else "rpi2")
    found = explained(path, profile=board)
    assert (found.instruction, found.encoding_hex) == (text, encoding)


@pytest.mark.parametrize(
    ("machine", "thumb", "code", "name"),
    [(62, False, "0f0b", "ud2"), (40, False, "f000f0e7", "udf #0"), (40, True, "01de", "udf #1")],
)
def test_traps_of_compilers_for_other_processors_are_deliberate_too(
    tmp_path, machine, thumb, code, name
):
    path = tmp_path / "a.core"
    path.write_bytes(core_dump(bytes.fromhex(code), 0x10000, machine, thumb=thumb))
    board = default_registry().get("edge-server" if machine == 62 else "rpi2")
    found = explained(path, profile=board)
    assert found.summary.startswith(f"deliberate: the program ran into {name} at 0x10000")
    assert found.feature == ""


def test_a_place_without_bytes_says_so(tmp_path):
    path = tmp_path / "a.core"
    path.write_bytes(core_dump(b""))
    found = explained(path)
    assert (
        found.summary
        == "illegal instruction at 0x7f00001000, in no library; its bytes are not known"
    )
    assert (found.instruction, found.encoding_hex) == ("", "")
    assert "instruction:" not in found.text()
    assert "where:" not in found.text()


@pytest.mark.parametrize(
    ("number", "kind", "name"),
    [
        (4, "illegal_instruction", "SIGILL"),
        (5, "trap", "SIGTRAP"),
        (6, "abort", "SIGABRT"),
        (7, "bus_error", "SIGBUS"),
        (8, "arithmetic_error", "SIGFPE"),
        (11, "segfault", "SIGSEGV"),
        (31, "bad_system_call", "SIGSYS"),
    ],
)
def test_each_crash_has_its_kind(number, kind, name):
    found = explained(None, number=number)
    assert found.kind == kind
    assert found.summary == f"ended by {name}; no core dump was left, so the place is not known"
    assert found.evidence == "the exit status"


def test_the_emulators_own_core_dump_is_not_the_programs(tmp_path):
    path = tmp_path / "core"
    for machine, board, place in ((62, "rpi4", ""), (183, "edge-server", "")):
        path.write_bytes(core_dump(bytes.fromhex("0f0b"), 0x10000, machine))
        found = explained(path, number=7, profile=default_registry().get(board))
        assert found.summary == "ended by SIGBUS; the place is not known"
        assert "the emulator's, not the program's" in found.evidence
        assert found.library == place


def test_a_core_dump_of_a_native_run_is_the_programs(tmp_path):
    path = tmp_path / "core"
    path.write_bytes(core_dump(bytes.fromhex("c5f877"), 0x10000, 62))
    for emulated, board_cpu in ((False, False), (False, True)):
        found = explain_death(
            signal=4,
            core_file=path,
            find=lambda _path: None,
            profile=default_registry().get("rpi4"),
            profiles=default_registry().working()[0],
            emulated=emulated,
            board_cpu=board_cpu,
        )
        assert found.summary.startswith("this machine's own processor cannot execute vzeroupper")
        assert (found.feature, found.first_profile) == ("", None)
        assert found.evidence == "the process's core dump"


def test_this_machines_processor_is_not_taken_for_the_boards(tmp_path):
    path = tmp_path / "core"
    path.write_bytes(core_dump((0x0F03FC01).to_bytes(4, "little"), 0x10000, 183))
    found = explain_death(
        signal=4,
        core_file=path,
        find=lambda _path: None,
        profile=default_registry().get("rpi4"),
        profiles=default_registry().working()[0],
        emulated=False,
        board_cpu=False,
    )
    assert "this machine's own processor cannot execute fmov" in found.summary
    assert "rpi4" not in found.text()
