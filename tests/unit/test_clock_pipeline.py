"""Machine code to classes of work, and those to cycles."""

import struct
from importlib import resources

import msgspec
import pytest
from edge_harness.clock.instructions import CLASSES, Insn, decode, decode_a64
from edge_harness.clock.pipeline import Core, Work, block_cycles, core_named, simulate
from edge_harness.errors import MissingAbility

CORES = sorted(
    path.name.removesuffix(".toml")
    for path in (resources.files("edge_harness.clock") / "cores").iterdir()
    if path.name.endswith(".toml")
)


def fmla(destination, left=16, right=17):
    """fmla vD.4s, vL.4s, vR.4s"""
    return struct.pack("<I", 0x4E20CC00 | right << 16 | left << 5 | destination)


@pytest.mark.parametrize(
    ("word", "kind", "quad", "units"),
    [
        (0x4E26CCA4, "fp_fma", True, 1),  # fmla v4.4s, v5.4s, v6.4s
        (0x0E26CCA4, "fp_fma", False, 1),  # fmla v4.2s, v5.2s, v6.2s
        (0x1F020C20, "fp_fma", False, 1),  # fmadd s0, s1, s2, s3
        (0x4E829420, "simd_dot", True, 1),  # sdot v0.4s, v1.16b, v2.16b
        (0x0E228020, "simd_mla", False, 1),  # smlal v0.8h, v1.8b, v2.8b
        (0x4EA29420, "simd_mla", True, 1),  # mla v0.4s, v1.4s, v2.4s
        (0xAD400400, "vload_q", True, 2),  # ldp q0, q1, [x0]
        (0x3DC00000, "vload_q", True, 1),  # ldr q0, [x0]
        (0xFD400000, "vload_d", False, 1),  # ldr d0, [x0]
        (0x4C402000, "vload_q", True, 4),  # ld1 {v0.16b-v3.16b}, [x0]
        (0x3D800000, "vstore_q", True, 1),  # str q0, [x0]
        (0xA9400400, "load_pair", False, 1),  # ldp x0, x1, [x0]
        (0xF9400000, "load", False, 1),  # ldr x0, [x0]
        (0x8B020020, "alu", False, 1),  # add x0, x1, x2
        (0x9B020C20, "mul", False, 1),  # madd x0, x1, x2, x3
        (0x9AC20820, "div", False, 1),  # udiv x0, x1, x2
        (0x54000040, "branch", False, 1),  # b.eq
        (0xD63F0020, "branch", False, 1),  # blr x1
        (0x9E670000, "transfer", False, 1),  # fmov d0, x0
        (0xF9800000, "prefetch", False, 1),  # prfm pldl1keep, [x0]
        (0x4E813800, "simd_permute", True, 1),  # zip1 v0.4s, v0.4s, v1.4s
        (0xD503201F, "nop", False, 1),
        (0xFFFFFFFF, "nop", False, 1),  # no instruction at all
    ],
)
def test_instructions_are_sorted_into_classes(word, kind, quad, units):
    insn = decode_a64(struct.pack("<I", word))
    assert (insn.kind, insn.units) == (kind, units)
    if kind.startswith(("fp", "simd", "vload", "vstore")):
        assert insn.quad is quad


def test_parts_of_a_register_depend_on_each_other():
    load = decode_a64(struct.pack("<I", 0x3DC00000))  # ldr q0, [x0]
    use = decode_a64(fmla(1, left=0))
    assert "v0" in load.writes
    assert "v0" in use.reads


def test_32_bit_code_is_told_from_thumb_by_its_lengths():
    arm = decode(struct.pack("<I", 0xE0810002), 1, bits=32)  # add r0, r1, r2
    thumb = decode(struct.pack("<H", 0x1888), 1, bits=32)  # adds r0, r1, r2
    neon = decode(struct.pack("<I", 0xF2420D54), 1, bits=32)  # vmla.f32 q8, q1, q2
    assert [insn.kind for insn in (*arm, *thumb, *neon)] == ["alu", "alu", "fp_fma"]
    assert neon[0].quad


@pytest.mark.parametrize("name", CORES)
def test_every_core_knows_every_class_and_names_its_source(name):
    core = core_named(name)
    assert set(CLASSES) - {"nop"} <= set(core.work)
    assert all(work.pipe in core.pipes for work in core.work.values())
    assert core.sources


def test_a_core_without_a_model_is_an_error_that_lists_the_others():
    with pytest.raises(MissingAbility, match=r"no model of the core 'Z80'") as caught:
        core_named("Z80")
    assert "cortex-a72" in str(caught.value)
    assert caught.value.details == {"core": "Z80", "known": CORES}
    with pytest.raises(MissingAbility, match="ARM1176"):  # a Raspberry Pi Zero's
        core_named("ARM1176JZF-S")


@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("Cortex-A72", "cortex-a72"),
        ("Arm Cortex-A72", "cortex-a72"),
        ("Cortex-A78AE", "cortex-a78"),
        ("Neoverse N1", "neoverse-n1"),
        ("Carmel", "carmel"),
        ("Kryo", "kryo"),
        ("Kryo 260 Gold", "cortex-a73"),
        ("Kryo 280 Gold", "cortex-a73"),
        ("Kryo 280 Silver", "cortex-a53"),
        ("Kryo 360 Gold", "cortex-a75"),
        ("Kryo 360 Silver", "cortex-a55"),
        ("Kryo 385 Gold", "cortex-a75"),
        ("Kryo 385 Silver", "cortex-a55"),
        ("Kryo 485 Gold", "cortex-a76"),
        ("Kryo 485 Silver", "cortex-a55"),
    ],
)
def test_licensees_names_stand_for_arms_cores(name, model):
    assert core_named(name).name == model


#: Width, instructions in flight (out of order), ways of L1 and L2: from the cores' own manuals.
SHAPES = {
    "carmel": (10, 128, 4, 16),
    "cortex-a35": (2, 0, 4, 8),
    "cortex-a53": (2, 0, 4, 16),
    "cortex-a55": (2, 0, 4, 4),
    "cortex-a57": (3, 128, 2, 16),
    "cortex-a7": (2, 0, 4, 8),
    "cortex-a72": (3, 128, 2, 16),
    "cortex-a73": (2, 64, 4, 16),
    "cortex-a75": (3, 96, 4, 16),
    "cortex-a76": (4, 128, 4, 8),
    "cortex-a77": (6, 160, 4, 8),
    "cortex-a78": (6, 160, 4, 8),
    "kryo": (4, 128, 3, 8),
    "neoverse-n1": (4, 128, 4, 8),
}


@pytest.mark.parametrize("name", CORES)
def test_the_shape_of_every_core(name):
    core = core_named(name)
    window = 0 if core.in_order else core.window
    assert (core.width, window, core.l1_ways, core.l2_ways) == SHAPES[name]


def test_independent_multiply_adds_run_at_the_pipes_rate():
    code = b"".join(fmla(n) for n in range(16))
    # 8 single-precision operations a cycle on A72 and A53, 16 on A76.
    assert block_cycles(core_named("Cortex-A72"), code, 16) == 16
    assert block_cycles(core_named("Cortex-A53"), code, 16) == 16
    assert block_cycles(core_named("Cortex-A76"), code, 16) == 8


def test_dependent_multiply_adds_wait_for_each_other():
    code = b"".join(fmla(0) for _ in range(4))
    for name in ("Cortex-A53", "Cortex-A72", "Cortex-A76"):
        core = core_named(name)
        assert block_cycles(core, code, 4) == 4 * core.work["fp_fma"].latency


def test_order_matters_on_a_core_that_keeps_it():
    load, use = struct.pack("<I", 0x3DC00000), fmla(8, left=0)
    others = b"".join(fmla(n) for n in range(1, 5))
    in_order, out_of_order = core_named("Cortex-A53"), core_named("Cortex-A72")
    assert block_cycles(in_order, load + use + others, 6) > block_cycles(
        in_order, load + others + use, 6
    )
    assert block_cycles(out_of_order, load + use + others, 6) == block_cycles(
        out_of_order, load + others + use, 6
    )


@pytest.mark.parametrize(
    ("name", "cycles"),
    [("Cortex-A53", 6), ("Cortex-A72", 6), ("Cortex-A76", 4), ("Cortex-A78", 4)],
)
def test_adds_take_the_pipes_and_the_issue_width_that_there_are(name, cycles):
    """Two integer pipes on the first two cores, three on the others."""
    adds = b"".join(struct.pack("<I", 0x8B030040 | n) for n in range(10, 22))
    assert block_cycles(core_named(name), adds, 12) == cycles


@pytest.mark.parametrize(
    ("name", "cycles"), [("Cortex-A53", 1 / 2), ("Cortex-A72", 1 / 3), ("Cortex-A76", 1 / 4)]
)
def test_a_block_of_nothing_takes_its_width(name, cycles):
    nop = struct.pack("<I", 0xD503201F)
    assert block_cycles(core_named(name), nop, 1) == cycles
    assert block_cycles(core_named(name), nop * 5, 5) == pytest.approx(5 * cycles)


def test_a_core_file_with_numbers_that_mean_nothing_is_refused():
    assert msgspec.convert({"pipe": "p", "cycles": 0.5}, Work).cycles == 0.5
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"pipe": "p", "cycles": 0}, Work)
    with pytest.raises(msgspec.ValidationError, match="unknown field"):
        msgspec.convert({"pipe": "p", "latencey": 3}, Work)
    plain = msgspec.to_builtins(made_up_core())
    for name, values in {
        "width": (0, 17),
        "window": (0,),
        "l1_ways": (0,),
        "l2_ways": (0,),
    }.items():
        for value in values:
            with pytest.raises(msgspec.ValidationError, match=name):
                msgspec.convert({**plain, name: value}, Core)
        msgspec.convert({**plain, name: 1}, Core)
    assert msgspec.convert({**plain, "width": 16}, Core).width == 16


# -- a core made up, so that each rule shows alone -------------------------------------------------


def made_up_core(**changes):
    fields = {
        "name": "made up",
        "width": 2,
        "in_order": True,
        "pipes": {"one": ("u",), "many": ("a", "b", "c", "d"), "other": ("o",)},
        "work": {
            "alu": Work(pipe="many"),
            "mul": Work(pipe="one", cycles=1.5),
            "div": Work(pipe="other", latency=10.0),
            "simd_mul": Work(pipe="one", cycles=1.0, quad_cycles=3.0, latency=4.0),
        },
        "sources": {},
    }
    return Core(**{**fields, **changes})


def insn(kind, *, quad=False, units=1, reads=(), writes=()):
    return Insn(kind, quad, units, tuple(reads), tuple(writes))


def test_issue_in_order_waits_for_whole_cycles():
    assert simulate(made_up_core(), [insn("mul")]) == 2.0
    assert simulate(made_up_core(in_order=False, window=100), [insn("mul")]) == 1.5


def test_what_is_issued_in_order_lets_nothing_behind_it_past():
    listing = [insn("div", writes=["x"]), insn("alu", reads=["x"]), insn("alu"), insn("alu")]
    # Ten cycles until x is there; the division and what waits for x each go with one of the others.
    assert simulate(made_up_core(), listing) == 11.0
    assert simulate(made_up_core(in_order=False, window=100), listing) == 2.0


def test_no_more_instructions_are_in_flight_than_the_window_holds():
    listing = [insn("div"), insn("alu"), insn("alu"), insn("alu")]
    wide = made_up_core(in_order=False, width=4, window=100)
    assert simulate(wide, listing) == 1.0
    # The second after the division waits until it has left, and so does the next division.
    assert simulate(made_up_core(in_order=False, width=4, window=2), listing) == 11.0


@pytest.mark.parametrize("width", [1, 2, 3, 4])
def test_as_many_are_issued_in_a_cycle_as_the_width_allows(width):
    listing = [insn("alu")] * 12
    for in_order in (True, False):
        core = made_up_core(width=width, in_order=in_order, window=100)
        assert simulate(core, listing) == 12 / width


def test_the_unit_that_is_free_first_is_taken():
    core = made_up_core(
        width=4,
        in_order=False,
        window=100,
        pipes={"many": ("a", "b"), "one": ("a",), "other": ("o",)},
    )
    # Three units of work that only "a" can do and three that both can: "b" does all of these.
    assert simulate(core, [insn("mul"), insn("alu")] * 2) == 3.0


def test_128_bits_and_several_registers_take_the_pipe_for_longer():
    core = made_up_core()
    assert simulate(core, [insn("simd_mul")]) == 1.0
    assert simulate(core, [insn("simd_mul", quad=True)]) == 3.0
    assert simulate(core, [insn("simd_mul", quad=True, units=2)]) == 6.0
    assert simulate(core, [insn("simd_mul", units=4)]) == 4.0
    assert simulate(core, [insn("alu", quad=True)] * 4) == 2.0  # no other figure for 128 bits


def test_the_last_of_several_registers_is_there_last():
    core = made_up_core()
    chain = insn("simd_mul", units=3, reads=["v"], writes=["v"])
    assert simulate(core, [chain]) == 4.0 + 2.0


def test_a_long_block_is_in_its_steady_state_at_once():
    core = made_up_core(width=1)
    assert simulate(core, [insn("alu")] * 99) == 99
    assert simulate(core, [insn("alu")] * 100) == 100
    assert simulate(core, [insn("mul")] * 150) == 300


@pytest.mark.parametrize(
    ("code", "kind", "units"),
    [
        ("8f0a20f4", "vload_d", 2),  # vld1.32 {d0, d1}, [r0]
        ("080b90ec", "vload_d", 4),  # vldmia r0, {d0, d1, d2, d3}
        ("000b90ed", "vload_d", 1),  # vldr d0, [r0]
        ("0f0200f4", "vstore_d", 4),  # vst1.8 {d0, d1, d2, d3}, [r0]
    ],
)
def test_a_32_bit_vector_access_takes_as_many_units_as_it_has_registers(code, kind, units):
    (found,) = decode(bytes.fromhex(code), 1, bits=32)
    assert (found.kind, found.units) == (kind, units)
