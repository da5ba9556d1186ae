"""What the plugin wrote, read back; the cut; the plugin's command lines."""

import dataclasses
import importlib
import inspect
import pkgutil
from pathlib import Path

import edge_harness.clock
import msgspec
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
from edge_harness.clock.steps import cache_levels, code_bits, steps_of
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


def test_code_of_the_interpreter_and_of_nothing_mapped_is_not_counted():
    for path in (
        "/usr/bin/python3.11",
        "/lib/_ctypes.cpython-311.so",
        "/lib/libffi.so.8",
        "/opt/numpy/core/_multiarray.so",
        "/opt/numpy.libs/libopenblas.so",
    ):
        maps = [[0x7F0000, 0x7F8000, 0, path], MAPS[2]]
        assert set(read_trace(FILE, maps).blocks) == {4}
    assert set(read_trace(FILE, [MAPS[1]]).blocks) == {2, 3}
    # The end of what is mapped is not part of it.
    assert set(read_trace(FILE, [[0x7F0010, 0x7F0020, 0, "/opt/runtime.so"]]).blocks) == {2}


def test_a_cut_in_which_nothing_of_the_model_ran_is_no_segment():
    text = FILE.replace("end\n", "segment 3\ns 1 5 0 0 0 0 0\nend\n")
    assert len(read_trace(text, MAPS).segments) == 3


def calls(*runs):
    """A trace of blocks that end in calls, in the order they first ran."""
    blocks = "".join(
        f"b {n} 7f0{n:02x}0 1 {ran} {n} 0 0 0 0 0 {BLR}\n" for n, ran in enumerate(runs, 1)
    )
    return read_trace(HEAD + blocks + "end\n", MAPS)


@pytest.mark.parametrize(
    ("runs", "operators", "found"),
    [
        ((7, 10, 10), 10, 2),  # as often as there are operators, the first of these
        ((13, 12, 3), 10, 2),  # a delegate's own steps: not many more
        ((2, 3, 12), 10, 2),  # nor much fewer
        ((13, 2), 10, None),
        ((1, 1), 1, None),  # one operator needs no cut
        ((2, 9), 2, 1),
    ],
)
def test_the_cut_is_where_the_loop_over_operators_calls_them(runs, operators, found):
    expected = None if found is None else 0x7F0000 + 0x10 * found
    assert cut_block(calls(*runs), operators) == expected


def test_calls_are_in_the_order_they_first_ran():
    text = HEAD + f"b 1 7f0010 1 5 9 0 0 0 0 0 {BLR}\nb 2 7f0020 1 5 3 0 0 0 0 0 {BLR}\n"
    text += f"b 3 7f0030 1 5 0 0 0 0 0 0 {ADD}\nend\n"
    assert [block.first_seen for block in read_trace(text, MAPS).calls()] == [3, 9]


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


@pytest.mark.parametrize(
    ("kind", "shared"),
    [
        ("CONV_2D", True),
        ("DEPTHWISE_CONV_2D", True),
        ("FULLY_CONNECTED", True),
        ("TRANSPOSE_CONV", True),
        ("BATCH_MATMUL", True),
        ("ADD", False),
        ("MEAN", False),
    ],
)
def test_only_some_kernels_of_tflite_split_their_work(kind, shared):
    prelude, step, _ = steps_of(
        RPI4, read_trace(FILE, MAPS), [operator(kind, "x"), operator("ADD", "y")], delegated=False
    )
    assert (step.serial_cycles < step.cycles) is shared
    assert prelude.serial_cycles == prelude.cycles


def test_one_operator_after_the_prelude_is_told_from_it():
    text = HEAD + f"b 2 7f0010 1 100 0 12 4 0 3 5 {ADD}\n"
    text += "segment 0\ns 2 10 2 1 0 0 1\nsegment 1\ns 2 90 10 3 0 3 4\nend\n"
    prelude, conv = steps_of(
        RPI4, read_trace(text, MAPS), [operator("CONV_2D", "conv")], delegated=False
    )
    assert (prelude.name, prelude.kind, conv.name) == ("step 0", "", "conv")
    assert prelude.serial_cycles == prelude.cycles > 0
    assert conv.serial_cycles == 0
    assert (conv.l1_misses, conv.l2_misses) == (10, 0)  # L2 is the last level of this board
    assert (conv.dram_lines, conv.dram_again) == (3 + 3, 0)  # four lines, each fetched once


def test_all_is_one_step_where_nothing_was_cut():
    trace = read_trace(FILE.partition("segment")[0] + "end\n", MAPS)
    (step,) = steps_of(RPI4, trace, [operator("SOFTMAX", "soft")], delegated=False)
    assert (step.name, step.kind) == ("step 0", "")
    assert step.instructions == trace.instructions
    assert 0 < step.serial_cycles < step.cycles  # libc's copies alone
    assert (step.l1_misses, step.dram_lines, step.dram_again) == (18, 4 + 3, 0)


def test_a_third_level_shields_memory():
    text = FILE.replace("b 2 7f0010 1 100 0 12 4 0 3 5", "b 2 7f0010 1 100 0 12 4 2 3 1")
    trace = read_trace(text.partition("segment")[0] + "end\n", MAPS)
    rpi5 = default_registry().get("rpi5")
    (step,) = steps_of(rpi5, trace, [], delegated=False)
    assert (step.l1_misses, step.l2_misses, step.dram_lines) == (18, 4, 2 + 3)
    cpu = msgspec.structs.replace(RPI4.cpu, l2_kib=0)
    (step,) = steps_of(msgspec.structs.replace(RPI4, cpu=cpu), trace, [], delegated=False)
    assert (step.l2_misses, step.dram_lines, step.dram_again) == (0, 18 + 3, 18 - 7)


def test_another_number_of_cuts_than_operators_names_nothing():
    trace = read_trace(FILE, MAPS)
    steps = steps_of(RPI4, trace, [operator("CONV_2D", "conv")], delegated=False)
    assert [(s.name, s.kind) for s in steps] == [("step 0", ""), ("step 1", ""), ("step 2", "")]
    assert steps[0].serial_cycles == steps[0].cycles
    assert 0 < steps[1].serial_cycles < steps[1].cycles
    assert steps[2].serial_cycles == 0


def test_what_hardly_runs_takes_what_the_rest_takes():
    """A division in a block of its own, but too rare to be looked at."""
    often = f"b 1 7f0010 1 100000 0 0 0 0 0 0 {ADD}\n"
    for runs, each in ((1, 0.5), (3, 12.0)):
        rare = f"b 2 7f0020 1 {runs} 0 0 0 0 0 0 410cc29a\n"  # sdiv x1, x2, x2
        trace = read_trace(HEAD + often + rare + "end\n", MAPS)
        (step,) = steps_of(RPI4, trace, [], delegated=True)
        assert step.cycles == pytest.approx(50_000 + runs * each)


def test_all_steps_of_a_delegate_share_their_work():
    trace = read_trace(FILE, MAPS)
    for operators in ([], [operator("ADD", "a"), operator("ADD", "b")]):
        steps = steps_of(RPI4, trace, operators, delegated=True)
        assert [s.kind for s in steps] == ["", "", ""]
        assert all(s.serial_cycles == 0 for s in steps[1:])
        assert steps[0].serial_cycles == steps[0].cycles


@pytest.mark.parametrize(
    ("board", "bits", "levels"), [("rpi4", 64, 2), ("rpi5", 64, 3), ("rpi2", 32, 2)]
)
def test_what_a_board_runs_and_how_many_caches_it_has(board, bits, levels):
    profile = default_registry().get(board)
    assert (code_bits(profile), cache_levels(profile)) == (bits, levels)


def test_everything_the_clock_hands_on_is_frozen_and_has_names():
    """One of them changed on the way would be a wrong figure in the cache."""
    seen = 0
    for info in pkgutil.walk_packages(edge_harness.clock.__path__, "edge_harness.clock."):
        if "architectures" in info.name:
            continue
        for found in vars(importlib.import_module(info.name)).values():
            if dataclasses.is_dataclass(found) and found.__module__ == info.name:
                seen += 1
                assert found.__dataclass_params__.frozen, found
                kinds = {p.kind.name for p in inspect.signature(found).parameters.values()}
                assert kinds == {"KEYWORD_ONLY"} or found.__name__ == "Insn", found
    assert seen > 15


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
        ("4.2.0", 1),
        ("9.0", 2),
        ("11.0.9", 3),
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
    for version in ("3.1", "4.1.9"):
        with pytest.raises(MissingTool, match=rf"QEMU {version} has no plugin interface"):
            interface_of(version)


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
