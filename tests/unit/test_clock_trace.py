"""What the plugin wrote, read back; the cut; the plugin's command lines."""

from pathlib import Path

import pytest
from edge_harness.clock.counting.count import cut_block, plugin_argument
from edge_harness.clock.counting.plugin_build import (
    check_plugins,
    compile_argv,
    ensure_plugin,
    interface_of,
)
from edge_harness.clock.operators import Operator, tflite_operators
from edge_harness.clock.pipeline import core_named
from edge_harness.clock.steps import steps_of
from edge_harness.clock.trace import read_trace
from edge_harness.errors import InternalError, MissingTool
from edge_harness.profiles import default_registry

RPI4 = default_registry().get("rpi4")
MODELS = Path(__file__).parents[2] / "fixtures" / "models"
MAPS = [
    [0x400000, 0x500000, 0, "/usr/bin/python3.11"],
    [0x7F0000, 0x7F8000, 0x1000, "/opt/site/runtime.so"],
    [0x7FA000, 0x7FB000, 0, "/usr/lib/libc.so.6"],
]
ADD, BLR = "2000028b", "20003fd6"
HEAD = "edge-clock 4 overflowed 0\n"
FILE = (
    HEAD
    + f"b 1 400010 1 9 0 0 0 0 0 0 {ADD}\n"
    + f"b 2 7f0010 1 100 0 12 4 0 3 5 {ADD}\n"
    + f"b 3 7f0020 1 2 1 0 0 0 0 0 {BLR}\n"
    + f"b 4 7fa010 1 40 0 6 0 0 0 6 {ADD}\n"
    + "segment 0\ns 2 10 2 1 0 0 1\n"
    + "segment 1\ns 2 60 6 2 0 2 2\ns 3 1 0 0 0 0 0\ns 4 40 6 0 0 0 6\n"
    + "segment 2\ns 2 30 4 1 0 1 2\ns 3 1 0 0 0 0 0\n"
    + "end\n"
)


def test_blocks_are_named_by_library_and_offset_and_python_is_left_out():
    trace = read_trace(FILE, MAPS)
    assert {b.library for b in trace.blocks.values()} == {"runtime.so", "libc.so.6"}
    assert trace.instructions == 100 + 2 + 40
    assert trace.blocks[2].misses.total == (12, 4, 0)
    assert trace.blocks[2].misses.written_back == 3
    assert [sum(s.runs.values()) for s in trace.segments] == [10, 101, 31]


@pytest.mark.parametrize("text", ["", FILE[:-4], "edge-clock 9\nend\n", FILE.replace(HEAD, "")])
def test_a_damaged_file_is_no_measurement(text):
    with pytest.raises(InternalError, match="damaged"):
        read_trace(text, MAPS)


def test_code_that_did_not_fit_is_no_measurement():
    with pytest.raises(InternalError, match="more code"):
        read_trace(FILE.replace("overflowed 0", "overflowed 7"), MAPS)


def test_the_cut_is_the_call_that_runs_once_for_each_operator():
    trace = read_trace(FILE, MAPS)
    assert cut_block(trace, 2) == 0x7F0020
    assert cut_block(trace, 50) is None
    assert cut_block(trace, 1) is None


def operator(kind, name):
    return Operator(name=name, kind=kind, macs=100, activation_bytes=10, integer=True)


def test_steps_are_the_operators_and_copies_do_not_share_their_work():
    trace = read_trace(FILE, MAPS)
    operators = [operator("CONV_2D", "conv"), operator("SOFTMAX", "soft")]
    prelude, conv, soft = steps_of(RPI4, trace, operators, delegated=False)
    assert (conv.name, conv.kind, soft.kind) == ("conv", "CONV_2D", "SOFTMAX")
    assert 0 < conv.serial_cycles < conv.cycles  # libc's copies
    assert soft.serial_cycles == soft.cycles  # one thread's work
    assert prelude.serial_cycles == prelude.cycles
    assert conv.l1_misses == 12
    assert conv.dram_lines == 2 + 2  # misses of L2, and lines written back
    assert sum(s.instructions for s in (prelude, conv, soft)) == trace.instructions


def test_all_steps_of_a_delegate_share_their_work():
    trace = read_trace(FILE, MAPS)
    steps = steps_of(RPI4, trace, [], delegated=True)
    assert [s.kind for s in steps] == ["", "", ""]
    assert all(s.serial_cycles == 0 for s in steps[1:])


def test_operators_of_a_file_with_their_multiply_accumulates():
    content = (MODELS / "digits_int8.tflite").read_bytes()
    operators = tflite_operators(content)
    assert [o.kind for o in operators][:2] == ["CONV_2D", "DEPTHWISE_CONV_2D"]
    assert operators[0].macs == 9216
    assert all(o.integer for o in operators if o.kind == "CONV_2D")


@pytest.mark.parametrize(
    ("version", "interface"),
    [
        ("1:11.1.3+ds-1", 7),
        ("1:10.0.13+ds-0+deb13u1", 3),
        ("9.1.0", 3),
        ("9.0.4", 2),
        ("1:8.2.1+ds-1", 1),
        ("7.2.9", 1),
    ],
)
def test_the_plugin_is_built_for_the_interface_of_that_qemu(version, interface):
    assert interface_of(version) == interface


def test_a_platform_wheels_plugin_is_taken_as_it_is(tmp_path, monkeypatch):
    prebuilt = tmp_path / "plugin" / "prebuilt" / "edge_clock-3.so"
    prebuilt.parent.mkdir(parents=True)
    prebuilt.write_bytes(b"compiled elsewhere")
    monkeypatch.setattr(
        "edge_harness.clock.counting.plugin_build.resources.files", lambda _: tmp_path
    )
    assert ensure_plugin("1:10.0.13+ds") == prebuilt


def test_a_qemu_without_plugins_is_refused():
    with pytest.raises(MissingTool, match=r"QEMU 3\.1 has no plugin interface"):
        interface_of("3.1")


def test_a_qemu_that_was_built_without_plugins_is_told_by_its_help(tmp_path):
    fake = tmp_path / "qemu"
    fake.write_text("#!/bin/sh\necho '-plugin [file=]<file>'\n")
    fake.chmod(0o755)
    check_plugins([str(fake)])
    fake.write_text("#!/bin/sh\necho '-icount [shift=N]'\n")
    with pytest.raises(MissingTool, match="built without plugins"):
        check_plugins([str(fake)])


def test_the_compilers_command_line(monkeypatch):
    monkeypatch.setattr("sys.platform", "linux")
    argv = compile_argv(["zig", "cc"], Path("a.c"), Path("a.so"), 3)
    assert argv == [
        *("zig", "cc", "-shared", "-fPIC", "-O2", "-fvisibility=hidden"),
        *("-DEDGE_PLUGIN_API=3", "a.c", "-o", "a.so"),
    ]
    monkeypatch.setattr("sys.platform", "darwin")
    assert compile_argv(["cc"], Path("a.c"), Path("a.so"), 3)[-2:] == [
        "-undefined",
        "dynamic_lookup",
    ]


def test_the_plugin_is_told_the_boards_caches():
    rpi4 = default_registry().get("rpi4")
    text = plugin_argument(Path("/c/edge.so"), "clock", rpi4, core_named("Cortex-A72"))
    assert text == "/c/edge.so,out=clock,mem=1,line=64,low=100000000,l1=32:2,l2=1024:16"
    rpi5 = default_registry().get("rpi5")
    assert "l3=2048:16" in plugin_argument(Path("e.so"), "clock", rpi5, core_named(rpi5.cpu.core))
