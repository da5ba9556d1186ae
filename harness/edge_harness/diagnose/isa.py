"""Which instruction needs which extension of the Arm architecture.

Decided from the encoding, by masks from the Arm Architecture Reference Manual (DDI 0487, section
C4.1 "A64 instruction set encoding"), because disassemblers print an instruction without saying
which extension brought it. Names after the comma are those of ``/proc/cpuinfo`` (Linux,
Documentation/arch/arm64/elf_hwcaps.rst).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Feature:
    """One architecture extension."""

    name: str
    """Arm's name, e.g. ``FEAT_LSE``; for x86 the CPUID name."""
    hwcaps: tuple[str, ...]
    """Names in ``/proc/cpuinfo`` of which a processor that has it shows all; none where
    ``since`` alone decides."""
    since: str
    """Where it is mandatory, or optional from."""
    text: str


def _feature(name: str, hwcaps: str, since: str, text: str) -> Feature:
    return Feature(name=name, hwcaps=tuple(hwcaps.split()), since=since, text=text)


_FEATURES = (
    _feature("FEAT_FP16", "fphp asimdhp", "Armv8.2-A", "half-precision floating-point arithmetic"),
    _feature("FEAT_LSE", "atomics", "Armv8.1-A", "atomic instructions"),
    _feature("FEAT_LRCPC", "lrcpc", "Armv8.3-A", "load-acquire RCpc instructions"),
    _feature("FEAT_LRCPC2", "ilrcpc", "Armv8.4-A", "load-acquire RCpc with an offset"),
    _feature("FEAT_DotProd", "asimddp", "Armv8.2-A", "8-bit dot products"),
    _feature("FEAT_I8MM", "i8mm", "Armv8.2-A", "8-bit integer matrix multiplication"),
    _feature("FEAT_BF16", "bf16", "Armv8.2-A", "BFloat16 instructions"),
    _feature("FEAT_RDM", "asimdrdm", "Armv8.1-A", "rounding doubling multiply accumulate"),
    _feature("FEAT_FCMA", "fcma", "Armv8.3-A", "floating-point complex numbers"),
    _feature("FEAT_FHM", "asimdfhm", "Armv8.2-A", "half to single precision multiply-add"),
    _feature("FEAT_SHA3", "sha3", "Armv8.2-A", "SHA3 instructions"),
    _feature("FEAT_SHA512", "sha512", "Armv8.2-A", "SHA512 instructions"),
    _feature("FEAT_SM3", "sm3", "Armv8.2-A", "SM3 instructions"),
    _feature("FEAT_SM4", "sm4", "Armv8.2-A", "SM4 instructions"),
    _feature("FEAT_AES", "aes", "Armv8.0-A, optional", "AES instructions"),
    _feature("FEAT_PMULL", "pmull", "Armv8.0-A, optional", "64-bit polynomial multiplication"),
    _feature("FEAT_SHA1", "sha1", "Armv8.0-A, optional", "SHA1 instructions"),
    _feature("FEAT_SHA256", "sha2", "Armv8.0-A, optional", "SHA256 instructions"),
    _feature("FEAT_CRC32", "crc32", "Armv8.1-A", "CRC32 instructions"),
    _feature("FEAT_JSCVT", "jscvt", "Armv8.3-A", "JavaScript conversion"),
    _feature("FEAT_PAuth", "paca", "Armv8.3-A", "pointer authentication"),
    _feature("FEAT_DPB", "dcpop", "Armv8.2-A", "DC CVAP"),
    _feature("FEAT_DPB2", "dcpodp", "Armv8.5-A", "DC CVADP"),
    _feature("FEAT_FlagM", "flagm", "Armv8.4-A", "flag manipulation"),
    _feature("FEAT_FlagM2", "flagm2", "Armv8.5-A", "more flag manipulation"),
    _feature("FEAT_FRINTTS", "frint", "Armv8.5-A", "rounding to 32- and 64-bit integers"),
    _feature("FEAT_SB", "sb", "Armv8.5-A", "speculation barrier"),
    _feature("FEAT_MTE", "mte", "Armv8.5-A", "memory tagging"),
    _feature("FEAT_MOPS", "mops", "Armv8.8-A", "memory copy and set instructions"),
    _feature("FEAT_CSSC", "cssc", "Armv8.9-A", "common short sequence compression"),
    _feature("FEAT_SVE", "sve", "Armv8.2-A", "scalable vectors"),
    _feature("FEAT_SME", "sme", "Armv9.2-A", "scalable matrices"),
)
FEATURES = {feature.name: feature for feature in _FEATURES}

#: (feature, mask, value): a word that fits is an instruction that needs the feature, and no word
#: fits rows of two features. Both by the answers of LLVM's assembler (tests/unit/data/isa), which
#: gave the names of some instructions behind each row, too.
_A64: tuple[tuple[str, int, int], ...] = (
    ("FEAT_FP16", 0xBF7FFC00, 0x0E30C800),  # fmaxnmv, fminnmv
    ("FEAT_FP16", 0xBF7FFC00, 0x0E30F800),  # fmaxv, fminv
    ("FEAT_FP16", 0x9F60EC00, 0x0E400400),  # fabd, fadd, faddp, fmaxnm …
    ("FEAT_FP16", 0x9FE0CC00, 0x0E400400),  # fadd, faddp, fcmeq, fcmge …
    ("FEAT_FP16", 0xBF60F400, 0x0E400400),  # fmaxnm, fminnm, fmla, fmls
    ("FEAT_FP16", 0x9F60DC00, 0x0E401400),  # fabd, fadd, faddp, fmax …
    ("FEAT_FP16", 0x9FE0D400, 0x0E401400),  # fadd, faddp, fdiv, fmax …
    ("FEAT_FP16", 0xBF60F400, 0x0E403400),  # fmax, fmin, frecps, frsqrts
    ("FEAT_FP16", 0x9FFFAC00, 0x0E798800),  # fcvtas, fcvtau, frinta, frintm …
    ("FEAT_FP16", 0xBF7FCC00, 0x0E798800),  # fcvtms, fcvtns, fcvtps, fcvtzs …
    ("FEAT_FP16", 0x9F7FBC00, 0x0E799800),  # frecpe, frinti, frintm, frintx …
    ("FEAT_FP16", 0x9F7FEC00, 0x0E79A800),  # fcvtms, fcvtmu, fcvtns, fcvtnu …
    ("FEAT_FP16", 0x9FFFEC00, 0x0EF8C800),  # fcmeq, fcmge, fcmgt, fcmle
    ("FEAT_FP16", 0xBFFFCC00, 0x0EF8C800),  # fabs, fcmeq, fcmgt, fcmlt
    ("FEAT_FP16", 0x9FFFDC00, 0x0EF8D800),  # fabs, fcmeq, fcmle, fneg
    ("FEAT_FP16", 0xBFC0B400, 0x0F001000),  # fmla, fmls
    ("FEAT_FP16", 0x9FC0F400, 0x0F009000),  # fmul, fmulx
    ("FEAT_FP16", 0xBFE8FC00, 0x0F00FC00),  # fcvtzs, fmov
    ("FEAT_FP16", 0x9FF0FC00, 0x0F10E400),  # scvtf, ucvtf
    ("FEAT_FP16", 0x9FF0FC00, 0x0F10FC00),  # fcvtzs, fcvtzu
    ("FEAT_FP16", 0x7FFE8000, 0x1EC28000),  # scvtf, ucvtf
    ("FEAT_FP16", 0x7FFE8000, 0x1ED88000),  # fcvtzs, fcvtzu
    ("FEAT_FP16", 0x7FE6FC00, 0x1EE00000),  # fcvtms, fcvtmu, fcvtns, fcvtnu …
    ("FEAT_FP16", 0x7FF8FC00, 0x1EE00000),  # fcvtas, fcvtau, fcvtns, fcvtnu …
    ("FEAT_FP16", 0xFEFFD007, 0x1EE00000),  # fadd, fccmp, fccmpe, fcmp …
    ("FEAT_FP16", 0xFEE00400, 0x1EE00400),  # fccmp, fccmpe, fcsel, fnmadd …
    ("FEAT_FP16", 0xFEE07800, 0x1EE00800),  # fcsel, fmul, fnmadd, fnmsub …
    ("FEAT_FP16", 0xFEE08800, 0x1EE00800),  # fadd, fcsel, fdiv, fmax …
    ("FEAT_FP16", 0xFEE01BE0, 0x1EE01000),  # fccmp, fccmpe, fmov, fnmadd …
    ("FEAT_FP16", 0xFEE0F00F, 0x1EE02000),  # fadd, fccmp, fccmpe, fcmp …
    ("FEAT_FP16", 0xFEFA7800, 0x1EE04000),  # fabs, fccmp, fccmpe, fmov …
    ("FEAT_FP16", 0xFEFCB000, 0x1EE40000),  # fccmp, fccmpe, fcsel, fcvtas …
    ("FEAT_FP16", 0xFEFD7800, 0x1EE54000),  # fccmp, fccmpe, fnmadd, fnmsub …
    ("FEAT_FP16", 0xFFC00000, 0x1FC00000),  # fmadd, fmsub, fnmadd, fnmsub
    ("FEAT_FP16", 0xBF60F400, 0x2E402400),  # facge, facgt, fcmge, fcmgt
    ("FEAT_FP16", 0xBFFF9C00, 0x2EF99800),  # fcvtzu, frinti, frsqrte, fsqrt
    ("FEAT_FP16", 0xEF7FFC00, 0x4E30C800),  # fmaxnmp, fmaxnmv, fminnmp, fminnmv
    ("FEAT_FP16", 0xEF7FFC00, 0x4E30F800),  # fmaxp, fmaxv, fminp, fminv
    ("FEAT_FP16", 0xEFE0DC00, 0x4E401C00),  # fmulx, frecps
    ("FEAT_FP16", 0xCFE0FC00, 0x4E402400),  # fcmeq, fcmge
    ("FEAT_FP16", 0xEF60FC00, 0x4E403C00),  # frecps, frsqrts
    ("FEAT_FP16", 0xCF7FEC00, 0x4E79A800),  # fcvtms, fcvtmu, fcvtns, fcvtnu …
    ("FEAT_FP16", 0xCFFFEC00, 0x4E79C800),  # fcvtas, fcvtau, scvtf, ucvtf
    ("FEAT_FP16", 0xCFFFEC00, 0x4EF8C800),  # fcmeq, fcmge, fcmgt, fcmle
    ("FEAT_FP16", 0xEFFFDC00, 0x4EF8C800),  # fcmgt, fcmlt
    ("FEAT_FP16", 0xCFFEFC00, 0x4EF8D800),  # fcmeq, fcmle, frecpe, frsqrte
    ("FEAT_FP16", 0xEFC0B400, 0x4F001000),  # fmla, fmls
    ("FEAT_FP16", 0xCFC0F400, 0x4F009000),  # fmul, fmulx
    ("FEAT_FP16", 0xCFF0FC00, 0x4F10E400),  # scvtf, ucvtf
    ("FEAT_FP16", 0xCFF0FC00, 0x4F10FC00),  # fcvtzs, fcvtzu
    ("FEAT_FP16", 0xFFFFEC00, 0x5E30C800),  # faddp, fmaxnmp
    ("FEAT_FP16", 0xFFFFDC00, 0x5EF9D800),  # frecpe, frecpx
    ("FEAT_FP16", 0xEF60F400, 0x6E402400),  # facge, facgt, fcmge, fcmgt
    ("FEAT_FP16", 0xEFE0FC00, 0x6EC01400),  # fabd
    ("FEAT_FP16", 0xFFFE0000, 0x9EC20000),  # scvtf, ucvtf
    ("FEAT_FP16", 0xFFFE0000, 0x9ED80000),  # fcvtzs, fcvtzu
    ("FEAT_LSE", 0xBF217C01, 0x08207C00),  # casab, casah, casalb, casalh …
    ("FEAT_LSE", 0x3FA07C00, 0x08A07C00),  # cas, casa, casab, casah …
    ("FEAT_LSE", 0x3F207C00, 0x38200000),  # ldadd, ldadda, ldaddab, ldaddah …
    ("FEAT_LSE", 0x3F208C00, 0x38200000),  # ldadd, ldadda, ldaddah, ldaddal …
    ("FEAT_LRCPC", 0x3FFFFC00, 0x38BFC000),  # ldapr, ldaprb, ldaprh
    ("FEAT_LRCPC2", 0x3FA00C00, 0x19000000),  # ldapur, ldapurb, ldapurh, stlur …
    ("FEAT_LRCPC2", 0x7F600C00, 0x19000000),  # ldapursb, ldapursw, stlur, stlurb
    ("FEAT_LRCPC2", 0xBF200C00, 0x19000000),  # ldapurb, ldapurh, ldapursb, ldapursh …
    ("FEAT_DotProd", 0x9FE0FC00, 0x0E809400),  # sdot, udot
    ("FEAT_DotProd", 0x9FC0F400, 0x0F80E000),  # sdot, udot
    ("FEAT_I8MM", 0xBFE0FC00, 0x0E809C00),  # usdot
    ("FEAT_I8MM", 0xBF40F400, 0x0F00F000),  # sudot, usdot
    ("FEAT_I8MM", 0xDFE0FC00, 0x4E80A400),  # smmla, ummla
    ("FEAT_I8MM", 0xFFE0F400, 0x4E80A400),  # smmla, usmmla
    ("FEAT_BF16", 0xBFFFFC00, 0x0EA16800),  # bfcvtn, bfcvtn2
    ("FEAT_BF16", 0xBF40F400, 0x0F40F000),  # bfdot, bfmlalb, bfmlalt
    ("FEAT_BF16", 0xFFFFFC00, 0x1E634000),  # bfcvt
    ("FEAT_BF16", 0xBF60FC00, 0x2E40FC00),  # bfdot, bfmlalb, bfmlalt
    ("FEAT_BF16", 0xFFE0EC00, 0x6E40EC00),  # bfdot, bfmmla
    ("FEAT_RDM", 0xBFE0F400, 0x2E408400),  # sqrdmlah, sqrdmlsh
    ("FEAT_RDM", 0xBFE0F400, 0x2E808400),  # sqrdmlah, sqrdmlsh
    ("FEAT_RDM", 0xBFC0D400, 0x2F40D000),  # sqrdmlah, sqrdmlsh
    ("FEAT_RDM", 0xBFC0D400, 0x2F80D000),  # sqrdmlah, sqrdmlsh
    ("FEAT_RDM", 0xEFE0F400, 0x6E408400),  # sqrdmlah, sqrdmlsh
    ("FEAT_RDM", 0xEFE0F400, 0x6E808400),  # sqrdmlah, sqrdmlsh
    ("FEAT_RDM", 0xEFC0D400, 0x6F40D000),  # sqrdmlah, sqrdmlsh
    ("FEAT_RDM", 0xEFC0D400, 0x6F80D000),  # sqrdmlah, sqrdmlsh
    ("FEAT_FCMA", 0xBFE0CC00, 0x2E40C400),  # fcadd, fcmla
    ("FEAT_FCMA", 0xBFE0E400, 0x2E40C400),  # fcmla
    ("FEAT_FCMA", 0xBFE0CC00, 0x2E80C400),  # fcadd, fcmla
    ("FEAT_FCMA", 0xBFE0E400, 0x2E80C400),  # fcmla
    ("FEAT_FCMA", 0xBFC09C00, 0x2F401000),  # fcmla
    ("FEAT_FCMA", 0xFF60CC00, 0x6E40C400),  # fcadd, fcmla
    ("FEAT_FCMA", 0xFF60E400, 0x6E40C400),  # fcmla
    ("FEAT_FCMA", 0xFFC09400, 0x6F401000),  # fcmla
    ("FEAT_FCMA", 0xFFE09400, 0x6F801000),  # fcmla
    ("FEAT_FHM", 0xBF60FC00, 0x0E20EC00),  # fmlal, fmlsl
    ("FEAT_FHM", 0xBFC0B400, 0x0F800000),  # fmlal, fmlsl
    ("FEAT_FHM", 0xBF60FC00, 0x2E20CC00),  # fmlal2, fmlsl2
    ("FEAT_FHM", 0xBFC0B400, 0x2F808000),  # fmlal2, fmlsl2
    ("FEAT_SHA3", 0xFFC08000, 0xCE000000),  # bcax, eor3
    ("FEAT_SHA3", 0xFFE0FC00, 0xCE608C00),  # rax1
    ("FEAT_SHA3", 0xFFE00000, 0xCE800000),  # xar
    ("FEAT_SHA512", 0xFFE0F400, 0xCE608000),  # sha512h, sha512su1
    ("FEAT_SHA512", 0xFFE0F800, 0xCE608000),  # sha512h, sha512h2
    ("FEAT_SHA512", 0xFFFFFC00, 0xCEC08000),  # sha512su0
    ("FEAT_SM3", 0xFFE04000, 0xCE400000),  # sm3ss1, sm3tt1a, sm3tt1b, sm3tt2a …
    ("FEAT_SM3", 0xFFE08000, 0xCE400000),  # sm3ss1
    ("FEAT_SM3", 0xFFE0F800, 0xCE60C000),  # sm3partw1, sm3partw2
    ("FEAT_SM4", 0xFFE0FC00, 0xCE60C800),  # sm4ekey
    ("FEAT_SM4", 0xFFFFFC00, 0xCEC08400),  # sm4e
    ("FEAT_AES", 0xFFFFCC00, 0x4E284800),  # aesd, aese, aesimc, aesmc
    ("FEAT_PMULL", 0xBFE0FC00, 0x0EE0E000),  # pmull, pmull2
    ("FEAT_SHA1", 0xFFE0CC00, 0x5E000000),  # sha1c, sha1m, sha1p, sha1su0
    ("FEAT_SHA1", 0xFFFFEC00, 0x5E280800),  # sha1h, sha1su1
    ("FEAT_SHA256", 0xFFE0DC00, 0x5E004000),  # sha256h, sha256su1
    ("FEAT_SHA256", 0xFFE0EC00, 0x5E004000),  # sha256h, sha256h2
    ("FEAT_SHA256", 0xFFFFFC00, 0x5E282800),  # sha256su0
    ("FEAT_CRC32", 0xFFE0E400, 0x1AC04000),  # crc32b, crc32cb, crc32cw, crc32w
    ("FEAT_CRC32", 0xFFE0E800, 0x1AC04000),  # crc32b, crc32cb, crc32ch, crc32h
    ("FEAT_CRC32", 0xFFE0EC00, 0x9AC04C00),  # crc32cx, crc32x
    ("FEAT_JSCVT", 0xFFFFFC00, 0x1E7E0000),  # fjcvtzs
    ("FEAT_PAuth", 0xFFE0FC00, 0x9AC03000),  # pacga
    ("FEAT_PAuth", 0xFEDFF81F, 0xD61F081F),  # blraa, blraaz, blrab, blrabz …
    ("FEAT_PAuth", 0xFF7FFBFF, 0xD61F0BFF),  # braaz, brabz, eretaa, eretab
    ("FEAT_PAuth", 0xFFBFFBFF, 0xD61F0BFF),  # braaz, brabz, retaa, retab
    ("FEAT_PAuth", 0xFFDFF800, 0xD71F0800),  # blraa, blrab, braa, brab
    ("FEAT_PAuth", 0xFFFFE000, 0xDAC10000),  # autda, autdb, autia, autib …
    ("FEAT_PAuth", 0xFFFFBBE0, 0xDAC103E0),  # pacia, pacib, xpacd, xpaci
    ("FEAT_PAuth", 0xFFFFC3E0, 0xDAC103E0),  # autda, autdb, autdza, autdzb …
    ("FEAT_PAuth", 0xFF200400, 0xF8200400),  # ldraa, ldrab
    ("FEAT_DPB", 0xFFFFFFE0, 0xD50B7C20),  # dc cvap
    ("FEAT_DPB2", 0xFFFFFFE0, 0xD50B7D20),  # dc cvadp
    ("FEAT_FlagM", 0xFFFFBC1F, 0x3A00080D),  # setf16, setf8
    ("FEAT_FlagM", 0xFFE07C10, 0xBA000400),  # rmif
    ("FEAT_FlagM", 0xFFFFFFFF, 0xD500401F),  # cfinv
    ("FEAT_FlagM2", 0xFFFFFFFF, 0xD500403F),  # xaflag
    ("FEAT_FlagM2", 0xFFFFFFFF, 0xD500405F),  # axflag
    ("FEAT_FRINTTS", 0x9FFFEC00, 0x0E21E800),  # frint32x, frint32z, frint64x, frint64z
    ("FEAT_FRINTTS", 0xFFBE7C00, 0x1E284000),  # frint32x, frint32z, frint64x, frint64z
    ("FEAT_FRINTTS", 0xDFBFEC00, 0x4E21E800),  # frint32x, frint32z, frint64x, frint64z
    ("FEAT_SB", 0xFFFFFFFF, 0xD50330FF),  # sb
    ("FEAT_MTE", 0xFEC00000, 0x68800000),  # stgp
    ("FEAT_MTE", 0xFF400000, 0x69000000),  # stgp
    ("FEAT_MTE", 0xBFC0C000, 0x91800000),  # addg, subg
    ("FEAT_MTE", 0xDFE0FC00, 0x9AC00000),  # subp, subps
    ("FEAT_MTE", 0xFFE0F800, 0x9AC01000),  # gmi, irg
    ("FEAT_MTE", 0xFFFFF7E0, 0xD50B7460),  # dc cgvap, dc gva
    ("FEAT_MTE", 0xFFFFFFE0, 0xD50B7480),  # dc gzva
    ("FEAT_MTE", 0xFFFFFBE0, 0xD50B7A60),  # dc cgvac, dc cigvac
    ("FEAT_MTE", 0xFFFFFBE0, 0xD50B7AA0),  # dc cgdvac, dc cigdvac
    ("FEAT_MTE", 0xFFFFFEE0, 0xD50B7C60),  # dc cgvadp, dc cgvap
    ("FEAT_MTE", 0xFFFFFEE0, 0xD50B7CA0),  # dc cgdvadp, dc cgdvap
    ("FEAT_MTE", 0xFF3FF000, 0xD9200000),  # ldg, ldgm, st2g, stg …
    ("FEAT_MTE", 0xFF200400, 0xD9200400),  # st2g, stg, stz2g, stzg
    ("FEAT_MTE", 0xFF200800, 0xD9200800),  # st2g, stg, stz2g, stzg
    ("FEAT_MTE", 0xFFE00000, 0xD9600000),  # ldg, stzg
    ("FEAT_MOPS", 0xFB200C00, 0x19000400),  # cpye, cpyen, cpyern, cpyertn …
    ("FEAT_CSSC", 0x7FF00000, 0x11C00000),  # smax, smin, umax, umin
    ("FEAT_CSSC", 0x7FE0F000, 0x1AC06000),  # smax, smin, umax, umin
    ("FEAT_CSSC", 0x7FFFF800, 0x5AC01800),  # cnt, ctz
    ("FEAT_CSSC", 0x7FFFFC00, 0x5AC02000),  # abs
    ("FEAT_SME", 0xFFA0F800, 0x04205800),  # addspl, addsvl
    ("FEAT_SME", 0xFF7FF800, 0x043F5800),  # addsvl, rdsvl
)
#: The same for whole spaces of encodings, asked where no row above fits.
_SPACES: tuple[tuple[str, int, int], ...] = (
    ("FEAT_SVE", 0x1E000000, 0x04000000),
    ("FEAT_SME", 0x9E000000, 0x80000000),
)


def a64_feature(word: int) -> Feature | None:
    """The extension that the A64 instruction ``word`` needs; None for Armv8.0-A itself (or an
    encoding this table does not know)."""
    for table in (_A64, _SPACES):
        names = {name for name, mask, value in table if word & mask == value}
        if names:
            # Two would be a mistake of the table, and a cause that may be wrong is not stated.
            return FEATURES[names.pop()] if len(names) == 1 else None
    return None


def is_udf(word: int) -> bool:
    """Whether ``word`` is UDF, which is illegal on every processor: compilers put it where a
    program must not come (``__builtin_trap``)."""
    return word & 0xFFFF0000 == 0


#: Extensions of 32-bit Arm and of x86, whose instructions the disassembler puts into groups of
#: their own: {Capstone's group: feature}, what says most first.
GROUPS: dict[str, Feature] = {
    "crypto": _feature("Armv8 Cryptography", "aes", "Armv8.0-A, optional", "AES and SHA"),
    "crc": _feature("Armv8 CRC32", "crc32", "Armv8.0-A, optional", "CRC32 instructions"),
    "neon": _feature("NEON", "neon", "Armv7-A, optional", "Advanced SIMD"),
    "vfp2": _feature("VFPv2", "vfp", "Armv5TE, optional", "floating point"),
    "vfp3": _feature("VFPv3", "vfpv3", "Armv7-A, optional", "floating point"),
    "vfp4": _feature("VFPv4", "vfpv4", "Armv7-A, optional", "fused multiply-add"),
    "divide": _feature("IDIV", "idivt", "Armv7-A, optional", "integer division"),
    "v6t2": _feature("Armv6T2", "", "armv7", "instructions of Armv6T2"),
    "thumb2": _feature("Thumb-2", "", "armv7", "32-bit Thumb instructions"),
    "v8": _feature("Armv8 AArch32", "", "armv8", "instructions of Armv8"),
    "fparmv8": _feature("FP-ARMv8", "", "armv8", "floating point of Armv8"),
    "avx": _feature("AVX", "avx", "x86-64-v3", "256-bit vectors"),
    "avx2": _feature("AVX2", "avx2", "x86-64-v3", "256-bit integer vectors"),
    "fc16": _feature("F16C", "f16c", "x86-64-v3", "half-precision conversion"),
    "bmi": _feature("BMI1", "bmi1", "x86-64-v3", "bit manipulation"),
    "bmi2": _feature("BMI2", "bmi2", "x86-64-v3", "bit manipulation"),
    "avx512": _feature("AVX512F", "avx512f", "x86-64-v4", "512-bit vectors"),
    "bwi": _feature("AVX512BW", "avx512bw", "x86-64-v4", "512-bit vectors of bytes and words"),
    "dqi": _feature("AVX512DQ", "avx512dq", "x86-64-v4", "512-bit vectors of quadwords"),
    "sse41": _feature("SSE4.1", "sse4_1", "x86-64-v2", "SSE4.1"),
    "sse42": _feature("SSE4.2", "sse4_2", "x86-64-v2", "SSE4.2"),
    "ssse3": _feature("SSSE3", "ssse3", "x86-64-v2", "SSSE3"),
    "sse3": _feature("SSE3", "sse3", "x86-64-v2", "SSE3"),
    "aes": _feature("AES-NI", "aes", "x86-64, optional", "AES instructions"),
    "pclmul": _feature("PCLMULQDQ", "pclmulqdq", "x86-64, optional", "carry-less multiplication"),
    "sha": _feature("SHA", "sha_ni", "x86-64, optional", "SHA instructions"),
    "adx": _feature("ADX", "adx", "x86-64, optional", "additions with two carries"),
}
#: Those that have no group: (how the mnemonic begins, feature).
MNEMONICS: tuple[tuple[str, Feature], ...] = (
    ("sdiv", _feature("IDIV", "idiva", "Armv7-A, optional", "integer division")),
    ("udiv", _feature("IDIV", "idiva", "Armv7-A, optional", "integer division")),
    ("vfmadd", _feature("FMA", "fma", "x86-64-v3", "fused multiply-add")),
    ("vfmsub", _feature("FMA", "fma", "x86-64-v3", "fused multiply-add")),
    ("vfnmadd", _feature("FMA", "fma", "x86-64-v3", "fused multiply-add")),
    ("vfnmsub", _feature("FMA", "fma", "x86-64-v3", "fused multiply-add")),
    ("vpdp", _feature("AVX512-VNNI", "avx512_vnni", "after x86-64-v4", "8-bit dot products")),
    ("popcnt", _feature("POPCNT", "popcnt", "x86-64-v2", "counting of bits")),
    ("lzcnt", _feature("LZCNT", "abm", "x86-64-v3", "counting of leading zeros")),
    ("movbe", _feature("MOVBE", "movbe", "x86-64-v3", "big-endian moves")),
)


def grouped_features(mnemonic: str, groups: Collection[str]) -> list[Feature]:
    """The extensions that an instruction of 32-bit Arm or x86 may need, by what the disassembler
    says of it."""
    found = [feature for group, feature in GROUPS.items() if group in groups]
    if not found:
        found = [feature for start, feature in MNEMONICS if mnemonic.startswith(start)]
    return found


def has_feature(names: Iterable[str], isa: str, feature: Feature) -> bool:
    """Whether a processor that shows ``names`` in ``/proc/cpuinfo`` and is of the architecture
    ``isa`` (``armv7-a``) has ``feature``."""
    if not feature.hwcaps:
        return isa >= feature.since
    return set(feature.hwcaps) <= set(names)
