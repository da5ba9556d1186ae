"""Machine code to classes of work, and those to cycles."""

import struct
from importlib import resources

import pytest
from edge_harness.clock.instructions import CLASSES, decode, decode_a64
from edge_harness.clock.pipeline import block_cycles, core_named
from edge_harness.errors import MissingCapability

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
    with pytest.raises(MissingCapability, match=r"no model of the core 'Z80'") as caught:
        core_named("Z80")
    assert "cortex-a72" in str(caught.value)


def test_licensees_names_stand_for_arms_cores():
    assert core_named("Kryo 280 Gold").name == "cortex-a73"
    assert core_named("Cortex-A78AE").name == "cortex-a78"


def test_independent_multiply_adds_run_at_the_pipes_rate():
    code = b"".join(fmla(n) for n in range(16))
    # 8 single-precision operations a cycle on A72 and A53, 16 on A76.
    assert block_cycles(core_named("Cortex-A72"), code, 16) == pytest.approx(16, rel=0.05)
    assert block_cycles(core_named("Cortex-A53"), code, 16) == pytest.approx(16, rel=0.05)
    assert block_cycles(core_named("Cortex-A76"), code, 16) == pytest.approx(8, rel=0.05)


def test_dependent_multiply_adds_wait_for_each_other():
    code = b"".join(fmla(0) for _ in range(4))
    core = core_named("Cortex-A72")
    assert block_cycles(core, code, 4) >= 4 * core.work["fp_fma"].latency


def test_order_matters_on_a_core_that_keeps_it():
    load, use = struct.pack("<I", 0x3DC00000), fmla(8, left=0)
    others = b"".join(fmla(n) for n in range(1, 5))
    core = core_named("Cortex-A53")
    apart = block_cycles(core, load + others + use, 6)
    together = block_cycles(core, load + use + others, 6)
    assert together > apart


def test_nothing_is_faster_than_the_issue_width():
    adds = b"".join(struct.pack("<I", 0x8B030040 | n) for n in range(10, 22))
    for name in ("Cortex-A53", "Cortex-A72", "Cortex-A76"):
        core = core_named(name)
        assert block_cycles(core, adds, 12) >= 12 / core.width


def test_a_block_of_nothing_takes_its_width():
    assert block_cycles(core_named("Cortex-A72"), struct.pack("<I", 0xD503201F), 1) > 0
