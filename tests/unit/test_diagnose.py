import struct

import pytest
from edge_harness.diagnose import explain_death
from edge_harness.diagnose.core import BadCore, fault_in
from edge_harness.profiles import default_registry
from hypothesis import given, settings
from hypothesis import strategies as st

PROFILES = default_registry().all()
RPI4 = default_registry().get("rpi4")
CODE_AT = 0x7F00001000


def core_dump(code, pc=CODE_AT, machine=183):
    """The smallest AArch64 core dump: one NT_PRSTATUS note and one page of memory."""
    registers = [0] * 34
    registers[32] = pc
    status = bytes(112) + struct.pack("<34Q", *registers) + bytes(8)
    note = struct.pack("<III", 5, len(status), 1) + b"CORE\0\0\0\0" + status
    headers = 64 + 2 * 56
    elf = b"\x7fELF\x02\x01\x01" + bytes(9)
    elf += struct.pack("<HHIQQQIHHHHHH", 4, machine, 1, 0, 64, 0, 0, 64, 56, 2, 0, 0, 0)
    elf += struct.pack("<IIQQQQQQ", 4, 0, headers, 0, 0, len(note), 0, 4)
    elf += struct.pack("<IIQQQQQQ", 1, 5, headers + len(note), CODE_AT, 0, len(code), len(code), 4)
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


@settings(max_examples=200)
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
