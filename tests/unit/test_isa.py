import re
from pathlib import Path

import capstone
import pytest
from edge_harness.diagnose import isa
from edge_harness.diagnose.isa import FEATURES, a64_feature, is_udf

from tests.isa_changes import ChangedTables

DATA = Path(__file__).parent / "data" / "isa"
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


def assembled():
    """{word: (extension or "", text)}, as LLVM has them (data/isa/make_words.py)."""
    lines = (DATA / "a64.txt").read_text().splitlines()
    words = {}
    for line in lines:
        if not line.startswith("#"):
            word, name, _, text = line.split("\t")
            words[int(word, 16)] = ("" if name == "-" else name, text)
    return words


def changed_tables():
    right = {word: name for word, (name, _) in assembled().items()}
    return ChangedTables(isa._A64, isa._SPACES, right)


def test_each_assembled_word_is_given_to_the_extension_that_the_assembler_says_it_needs():
    words = assembled()
    answers = {word: getattr(a64_feature(word), "name", "") for word in words}
    assert {f"{w:#010x} {words[w]}": answers[w] for w in words if answers[w] != words[w][0]} == {}
    assert {name for name, _ in words.values()} == {"", *FEATURES}


def test_each_change_of_a_row_or_a_mask_is_noticed_by_an_assembled_word():
    tables = changed_tables()
    assert tables.wrong() == []
    unnoticed = [change for change in tables.all() if not tables.noticing(change)]
    # What is left changes no answer on any of all 2**32 words: two rows of one extension overlap.
    assert [str(change) for change in unnoticed if not tables.alike(change)] == []
    assert not [change for change in unnoticed if "deleted" in str(change)]
    assert not [change for change in unnoticed if "free" in str(change)]


def test_what_two_extensions_claim_is_given_to_neither(monkeypatch):
    word = 0x0F01FC01
    assert a64_feature(word).name == "FEAT_FP16"
    monkeypatch.setattr(isa, "_A64", (*isa._A64, ("FEAT_LSE", 0xFFFFFFFF, word)))
    assert a64_feature(word) is None


def test_udf_is_told_from_a_missing_extension():
    assert is_udf(0x00000000)
    assert is_udf(0x00001234)
    assert not is_udf(0x0F01FC01)


#: Linux, Documentation/arch/arm64/elf_hwcaps.rst and arch/arm64/kernel/cpufeature.c; the version
#: from the Arm ARM's list of features (DDI 0487, A2.2).
KERNEL_NAMES = """
    FEAT_FP16     Armv8.2-A            fphp asimdhp
    FEAT_LSE      Armv8.1-A            atomics
    FEAT_LRCPC    Armv8.3-A            lrcpc
    FEAT_LRCPC2   Armv8.4-A            ilrcpc
    FEAT_DotProd  Armv8.2-A            asimddp
    FEAT_I8MM     Armv8.2-A            i8mm
    FEAT_BF16     Armv8.2-A            bf16
    FEAT_RDM      Armv8.1-A            asimdrdm
    FEAT_FCMA     Armv8.3-A            fcma
    FEAT_FHM      Armv8.2-A            asimdfhm
    FEAT_SHA3     Armv8.2-A            sha3
    FEAT_SHA512   Armv8.2-A            sha512
    FEAT_SM3      Armv8.2-A            sm3
    FEAT_SM4      Armv8.2-A            sm4
    FEAT_AES      Armv8.0-A, optional  aes
    FEAT_PMULL    Armv8.0-A, optional  pmull
    FEAT_SHA1     Armv8.0-A, optional  sha1
    FEAT_SHA256   Armv8.0-A, optional  sha2
    FEAT_CRC32    Armv8.1-A            crc32
    FEAT_JSCVT    Armv8.3-A            jscvt
    FEAT_PAuth    Armv8.3-A            paca
    FEAT_DPB      Armv8.2-A            dcpop
    FEAT_DPB2     Armv8.5-A            dcpodp
    FEAT_FlagM    Armv8.4-A            flagm
    FEAT_FlagM2   Armv8.5-A            flagm2
    FEAT_FRINTTS  Armv8.5-A            frint
    FEAT_SB       Armv8.5-A            sb
    FEAT_MTE      Armv8.5-A            mte
    FEAT_MOPS     Armv8.8-A            mops
    FEAT_CSSC     Armv8.9-A            cssc
    FEAT_SVE      Armv8.2-A            sve
    FEAT_SME      Armv9.2-A            sme
"""


#: Linux, arch/arm/kernel/setup.c (hwcap_str) and arch/x86/include/asm/cpufeatures.h; the levels of
#: the x86-64 psABI.
OTHER_KERNEL_NAMES = """
    Armv8 Cryptography  Armv8.0-A, optional   aes
    Armv8 CRC32         Armv8.0-A, optional   crc32
    NEON                Armv7-A, optional     neon
    VFPv2               Armv5TE, optional     vfp
    VFPv3               Armv7-A, optional     vfpv3
    VFPv4               Armv7-A, optional     vfpv4
    IDIV                Armv7-A, optional     idivt
    Armv6T2             armv7                 -
    Thumb-2             armv7                 -
    Armv8 AArch32       armv8                 -
    FP-ARMv8            armv8                 -
    AVX                 x86-64-v3             avx
    AVX2                x86-64-v3             avx2
    F16C                x86-64-v3             f16c
    BMI1                x86-64-v3             bmi1
    BMI2                x86-64-v3             bmi2
    AVX512F             x86-64-v4             avx512f
    AVX512BW            x86-64-v4             avx512bw
    AVX512DQ            x86-64-v4             avx512dq
    SSE4.1              x86-64-v2             sse4_1
    SSE4.2              x86-64-v2             sse4_2
    SSSE3               x86-64-v2             ssse3
    SSE3                x86-64-v2             sse3
    AES-NI              x86-64, optional      aes
    PCLMULQDQ           x86-64, optional      pclmulqdq
    SHA                 x86-64, optional      sha_ni
    ADX                 x86-64, optional      adx
    IDIV                Armv7-A, optional     idiva
    FMA                 x86-64-v3             fma
    AVX512-VNNI         after x86-64-v4       avx512_vnni
    POPCNT              x86-64-v2             popcnt
    LZCNT               x86-64-v3             abm
    MOVBE               x86-64-v3             movbe
"""


def listed(table):
    """{(name, version, names in /proc/cpuinfo)} of a table above."""
    rows = [re.split("  +", line.strip()) for line in table.strip().splitlines()]
    return {(name, since, tuple(hwcaps.strip("-").split())) for name, since, hwcaps in rows}


def test_every_feature_is_known_by_the_kernels_name_and_its_version():
    assert {(f.name, f.since, f.hwcaps) for f in FEATURES.values()} == listed(KERNEL_NAMES)
    assert all(feature.text and name == feature.name for name, feature in FEATURES.items())
    others = [*isa.GROUPS.values(), *(feature for _, feature in isa.MNEMONICS)]
    assert {(f.name, f.since, f.hwcaps) for f in others} == listed(OTHER_KERNEL_NAMES)
    assert all(feature.text for feature in others)


def test_where_several_groups_fit_the_one_that_says_most_comes_first():
    named = [each.name for each in isa.grouped_features("aese.8 q0, q1", ["v8", "crypto"])]
    assert named == ["Armv8 Cryptography", "Armv8 AArch32"]
    assert [each.name for each in isa.grouped_features("vfmadd213ps", [])] == ["FMA"]
    assert isa.grouped_features("add", ["arm", "v6"]) == []
    # A group that is known counts before the mnemonic.
    assert [each.name for each in isa.grouped_features("sdiv", ["divide"])] == ["IDIV"]


def test_a_processor_has_a_feature_if_it_shows_all_its_names_or_is_new_enough():
    half = FEATURES["FEAT_FP16"]
    assert isa.has_feature(["fp", "fphp", "asimdhp"], "armv8.2-a", half)
    assert not isa.has_feature(["fp", "fphp"], "armv8.2-a", half)
    thumb2 = isa.GROUPS["thumb2"]
    assert [isa.has_feature([], name, thumb2) for name in ("armv6", "armv7-a", "armv8.0-a")] == [
        False,
        True,
        True,
    ]
