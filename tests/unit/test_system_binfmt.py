from pathlib import Path

import pytest
from edge_harness.system import binfmt

# As Debian's qemu-user-static registers it on a running system.
DEBIAN = """\
enabled
interpreter /usr/libexec/qemu-binfmt/aarch64-binfmt-P
flags: POF
offset 0
magic 7f454c460201010000000000000000000200b700
mask ffffffffffffff00fffffffffffffffffeffffff
"""
PYTHON = """\
enabled
interpreter /usr/bin/python3.11
flags:\x20
offset 0
magic a70d0d0a
"""


def test_the_whole_line_that_registers_aarch64():
    assert binfmt.register_line("arm64", "/cache/qemu-aarch64", kernel="6.1.0-18-amd64") == (
        r":edge-harness-aarch64:M:"
        r":\x7f\x45\x4c\x46\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00"
        r":\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff"
        r":/cache/qemu-aarch64:OPF"
    )


def test_the_whole_line_that_registers_32_bit_arm():
    assert binfmt.register_line("armhf", "/cache/qemu-arm", kernel="6.1.0") == (
        r":edge-harness-arm:M:"
        r":\x7f\x45\x4c\x46\x01\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\x28\x00"
        r":\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff"
        r":/cache/qemu-arm:OPF"
    )


def test_a_path_with_a_colon_takes_another_separator():
    line = binfmt.register_line("arm64", "/my:cache/qemu", kernel="6.1.0")
    assert line.startswith("|edge-harness-aarch64|M||")
    assert line.endswith("|/my:cache/qemu|OPF")


@pytest.mark.parametrize(
    ("kernel", "flags"),
    [("5.11.0-generic", "OF"), ("5.12.0", "OPF"), ("4.19.0-26-amd64", "OF"), ("6.18.44", "OPF")],
)
def test_argv0_is_kept_where_the_kernel_tells_qemu_of_it(kernel, flags):
    assert binfmt.flags(kernel) == flags


def test_an_entry_of_debians_is_read():
    handler = binfmt.parse("qemu-aarch64", DEBIAN)
    assert handler.interpreter == "/usr/libexec/qemu-binfmt/aarch64-binfmt-P"
    assert handler.works_in_containers
    assert handler.matches(binfmt.elf_header("arm64"))
    assert not handler.matches(binfmt.elf_header("armhf"))
    assert not handler.matches(binfmt.elf_header("amd64"))


def test_position_independent_programs_and_other_abis_match_too():
    handler = binfmt.parse("qemu-aarch64", DEBIAN)
    header = bytearray(binfmt.elf_header("arm64"))
    header[16] = 3
    header[7] = 3
    assert handler.matches(bytes(header))
    header[16] = 1  # an object file
    assert not handler.matches(bytes(header))


def test_an_entry_without_mask_or_by_file_name():
    assert binfmt.parse("python", PYTHON).mask == b""
    assert not binfmt.parse("python", PYTHON).matches(binfmt.elf_header("arm64"))
    assert binfmt.parse("wine", "enabled\ninterpreter /usr/bin/wine\nextension .exe\n") is None


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "status").write_text("enabled\n")
    (tmp_path / "register").write_text("")
    (tmp_path / "python3.11").write_text(PYTHON)
    return tmp_path


def test_disabled_entries_do_not_count(folder):
    (folder / "qemu-aarch64").write_text(DEBIAN.replace("enabled", "disabled", 1))
    assert [handler.name for handler in binfmt.handlers(folder)] == ["python3.11"]
    assert binfmt.handler_for("arm64", binfmt.handlers(folder)) is None


def test_ours_goes_before_others_and_those_with_f_before_those_without(folder):
    (folder / "a-first").write_text(DEBIAN.replace("POF", "PO"))
    (folder / "qemu-aarch64").write_text(DEBIAN)
    assert binfmt.handler_for("arm64", binfmt.handlers(folder)).name == "qemu-aarch64"
    (folder / "edge-harness-aarch64").write_text(DEBIAN)
    assert binfmt.handler_for("arm64", binfmt.handlers(folder)).name == "edge-harness-aarch64"


def test_an_unmounted_binfmt_misc_has_no_entries(tmp_path):
    assert not binfmt.mounted(tmp_path)
    assert binfmt.handlers(Path("/nonexistent")) == []


def test_what_a_host_emulates():
    assert binfmt.foreign_archs("amd64") == ("arm64", "armhf")
    assert binfmt.foreign_archs("arm64") == ("amd64",)
    assert binfmt.foreign_archs("riscv64") == ()
