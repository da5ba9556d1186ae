from pathlib import Path

import capstone
import pytest
from edge_harness.diagnose.isa import FEATURES, a64_feature, is_udf

DATA = Path(__file__).parent / "data"
DISASSEMBLER = capstone.Cs(capstone.CS_ARCH_ARM64, capstone.CS_MODE_ARM)

#: Assembled by hand from the Arm ARM; the text is what a disassembler must say of the word.
CASES = [
    (0x0F01FC01, "fmov v1.4h", "FEAT_FP16"),
    (0x1EE12820, "fadd h0, h1, h1", "FEAT_FP16"),
    (0x1EE60000, "fmov w0, h0", "FEAT_FP16"),
    (0x0E411420, "fadd v0.4h, v1.4h, v1.4h", "FEAT_FP16"),
    (0x4E79D820, "scvtf v0.8h", "FEAT_FP16"),
    (0x0F019020, "fmul v0.4h", "FEAT_FP16"),
    (0x1EE24020, "fcvt s0, h1", ""),
    (0x1E23C020, "fcvt h0, s1", ""),
    (0xB8E00041, "ldaddal w0, w1, [x2]", "FEAT_LSE"),
    (0xF8208041, "swp x0, x1, [x2]", "FEAT_LSE"),
    (0x88E0FC41, "casal w0, w1, [x2]", "FEAT_LSE"),
    (0x48207C82, "casp x0, x1, x2, x3, [x4]", "FEAT_LSE"),
    (0xB8BFC020, "ldapr w0, [x1]", "FEAT_LRCPC"),
    (0x99400020, "ldapur w0, [x1]", "FEAT_LRCPC2"),
    (0x4E829420, "sdot v0.4s, v1.16b, v2.16b", "FEAT_DotProd"),
    (0x6FA2E020, "udot v0.4s, v1.16b, v2.4b[1]", "FEAT_DotProd"),
    (0x4E82A420, "smmla v0.4s", "FEAT_I8MM"),
    (0x4E829C20, "usdot v0.4s", "FEAT_I8MM"),
    (0x6E42FC20, "bfdot v0.4s", "FEAT_BF16"),
    (0x6E42EC20, "bfmmla v0.4s", "FEAT_BF16"),
    (0x1E634020, "bfcvt h0, s1", "FEAT_BF16"),
    (0x6E828420, "sqrdmlah v0.4s", "FEAT_RDM"),
    (0x6E82C420, "fcmla v0.4s", "FEAT_FCMA"),
    (0x0E22EC20, "fmlal v0.2s", "FEAT_FHM"),
    (0xCE020C20, "eor3 v0.16b", "FEAT_SHA3"),
    (0xCE628020, "sha512h q0, q1, v2.2d", "FEAT_SHA512"),
    (0x4E284820, "aese v0.16b, v1.16b", "FEAT_AES"),
    (0x4EE2E020, "pmull2 v0.1q", "FEAT_PMULL"),
    (0x5E020020, "sha1c q0, s1, v2.4s", "FEAT_SHA1"),
    (0x5E024020, "sha256h q0, q1, v2.4s", "FEAT_SHA256"),
    (0x1AC24820, "crc32w w0, w1, w2", "FEAT_CRC32"),
    (0x1E7E0020, "fjcvtzs w0, d1", "FEAT_JSCVT"),
    (0xD65F0BFF, "retaa", "FEAT_PAuth"),
    (0xD50B7C20, "dc cvap, x0", "FEAT_DPB"),
    (0x1E284020, "frint32z s0, s1", "FEAT_FRINTTS"),
    (0x04A10020, "add z0.s, z1.s, z1.s", "FEAT_SVE"),
    (0xD503233F, "paciasp", ""),  # in the hint space: a no-op on Armv8.0-A
]


@pytest.mark.parametrize(("word", "text", "feature"), CASES, ids=[c[1].split()[0] for c in CASES])
def test_an_instruction_is_given_to_the_extension_that_brought_it(word, text, feature):
    (found,) = DISASSEMBLER.disasm(word.to_bytes(4, "little"), 0)
    assert f"{found.mnemonic} {found.op_str}".startswith(text)
    needed = a64_feature(word)
    assert (needed.name if needed else "") == feature


def test_no_instruction_of_armv8_0_programs_is_said_to_need_more():
    words = [
        line for line in (DATA / "armv8_0_words.txt").read_text().split("\n") if line[:1] != "#"
    ]
    words = [int(word, 16) for word in words if word]
    assert len(words) == 400
    assert [hex(word) for word in words if a64_feature(word)] == []


def test_udf_is_told_from_a_missing_extension():
    assert is_udf(0x00000000)
    assert is_udf(0x00001234)
    assert not is_udf(0x0F01FC01)


def test_every_feature_has_a_name_in_cpuinfo():
    for feature in FEATURES.values():
        assert feature.hwcaps
        assert feature.text
