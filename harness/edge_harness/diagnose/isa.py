"""Which instruction needs which extension of the Arm architecture.

Decided from the encoding, by masks from the Arm Architecture Reference Manual (DDI 0487, section
C4.1 "A64 instruction set encoding"), because disassemblers print an instruction without saying
which extension brought it. Names after the comma are those of ``/proc/cpuinfo`` (Linux,
Documentation/arch/arm64/elf_hwcaps.rst).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Feature:
    """One architecture extension."""

    name: str
    """Arm's name, e.g. ``FEAT_LSE``; for x86 the CPUID name."""
    hwcaps: tuple[str, ...]
    """Names in ``/proc/cpuinfo`` of which a processor that has it shows all."""
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

#: (feature, mask, value); the first that fits decides. ``""`` is Armv8.0-A itself.
_A64: tuple[tuple[str, int, int], ...] = (
    # Conversions between half and other precisions are Armv8.0-A.
    ("", 0xFFFFFC00, 0x1EE24000),
    ("", 0xFFFFFC00, 0x1EE2C000),
    ("FEAT_JSCVT", 0xFFFFFC00, 0x1E7E0000),
    ("FEAT_BF16", 0xFFFFFC00, 0x1E634000),
    ("FEAT_FRINTTS", 0xFFBE7C00, 0x1E284000),
    ("FEAT_FRINTTS", 0x9FBFEC00, 0x0E21E800),
    # Half precision: scalar with ftype = 11, then vector and by-element forms.
    ("FEAT_FP16", 0x7FE00000, 0x1EE00000),
    ("FEAT_FP16", 0x7FE00000, 0x1EC00000),
    ("FEAT_FP16", 0xFFC00000, 0x1FC00000),
    ("FEAT_FP16", 0x9F60C400, 0x0E400400),
    ("FEAT_FP16", 0xDF60C400, 0x5E400400),
    ("FEAT_FP16", 0x9F7E0C00, 0x0E780800),
    ("FEAT_FP16", 0xDF7E0C00, 0x5E780800),
    ("FEAT_FP16", 0xBFF8FC00, 0x0F00FC00),
    ("FEAT_FP16", 0xBF7FCC00, 0x0E30C800),
    ("FEAT_FP16", 0xFF7FCC00, 0x5E30C800),
    ("FEAT_FP16", 0xBFC0F400, 0x0F001000),
    ("FEAT_FP16", 0xBFC0F400, 0x0F005000),
    ("FEAT_FP16", 0x9FC0F400, 0x0F009000),
    ("FEAT_FP16", 0xFFC0F400, 0x5F001000),
    ("FEAT_FP16", 0xFFC0F400, 0x5F005000),
    ("FEAT_FP16", 0xDFC0F400, 0x5F009000),
    ("FEAT_FP16", 0x9FF0FC00, 0x0F10E400),
    ("FEAT_FP16", 0x9FF0FC00, 0x0F10FC00),
    ("FEAT_FP16", 0xDFF0FC00, 0x5F10E400),
    ("FEAT_FP16", 0xDFF0FC00, 0x5F10FC00),
    # Atomics; LDAPR lies inside their space.
    ("FEAT_LRCPC", 0x3FFFFC00, 0x38BFC000),
    ("FEAT_LRCPC2", 0x3F200C00, 0x19000000),
    ("FEAT_LSE", 0x3F200C00, 0x38200000),
    ("FEAT_LSE", 0x3FA07C00, 0x08A07C00),
    ("FEAT_LSE", 0xBFA07C00, 0x08207C00),
    ("FEAT_DotProd", 0x9FE0FC00, 0x0E809400),
    ("FEAT_DotProd", 0x9FC0F400, 0x0F80E000),
    ("FEAT_I8MM", 0xBFE0FC00, 0x0E809C00),
    ("FEAT_I8MM", 0xDFE0FC00, 0x4E80A400),
    ("FEAT_I8MM", 0xFFE0FC00, 0x4E80AC00),
    ("FEAT_I8MM", 0xBFC0F400, 0x0F80F000),
    ("FEAT_I8MM", 0xBFC0F400, 0x0F00F000),
    ("FEAT_BF16", 0xBFE0FC00, 0x2E40FC00),
    ("FEAT_BF16", 0xBFC0F400, 0x0F40F000),
    ("FEAT_BF16", 0xFFE0FC00, 0x6E40EC00),
    ("FEAT_BF16", 0xBFE0FC00, 0x2EC0FC00),
    ("FEAT_BF16", 0xBFC0F400, 0x0FC0F000),
    ("FEAT_BF16", 0xBFFFFC00, 0x0EA16800),
    ("FEAT_RDM", 0xBF20F400, 0x2E008400),
    ("FEAT_RDM", 0xFF20F400, 0x7E008400),
    ("FEAT_RDM", 0xBF00D400, 0x2F00D000),
    ("FEAT_RDM", 0xFF00D400, 0x7F00D000),
    ("FEAT_FCMA", 0xBF20E400, 0x2E00C400),
    ("FEAT_FCMA", 0xBF20EC00, 0x2E00E400),
    ("FEAT_FCMA", 0xBF009400, 0x2F001000),
    ("FEAT_FHM", 0xBFA0FC00, 0x0E20EC00),
    ("FEAT_FHM", 0xBFA0FC00, 0x2E20CC00),
    ("FEAT_FHM", 0xBFC0B400, 0x0F800000),
    ("FEAT_FHM", 0xBFC0B400, 0x2F808000),
    ("FEAT_SM3", 0xFFE00000, 0xCE400000),
    ("FEAT_SM3", 0xFFE0FC00, 0xCE60C000),
    ("FEAT_SM3", 0xFFE0FC00, 0xCE60C400),
    ("FEAT_SM4", 0xFFE0FC00, 0xCE60C800),
    ("FEAT_SM4", 0xFFFFFC00, 0xCEC08400),
    ("FEAT_SHA512", 0xFFFFFC00, 0xCEC08000),
    ("FEAT_SHA3", 0xFFE0FC00, 0xCE608C00),
    ("FEAT_SHA512", 0xFFE0F000, 0xCE608000),
    ("FEAT_SHA3", 0xFFC08000, 0xCE000000),
    ("FEAT_SHA3", 0xFFE00000, 0xCE800000),
    ("FEAT_AES", 0xFFFFCC00, 0x4E284800),
    ("FEAT_PMULL", 0xBFE0FC00, 0x0EE0E000),
    ("FEAT_SHA256", 0xFFE0CC00, 0x5E004000),
    ("FEAT_SHA1", 0xFFE0CC00, 0x5E000000),
    ("FEAT_SHA256", 0xFFFFFC00, 0x5E282800),
    ("FEAT_SHA1", 0xFFFFEC00, 0x5E280800),
    ("FEAT_CRC32", 0x7FE0E000, 0x1AC04000),
    ("FEAT_PAuth", 0xFFFF0000, 0xDAC10000),
    ("FEAT_PAuth", 0xFFE0FC00, 0x9AC03000),
    ("FEAT_PAuth", 0xFF200400, 0xF8200400),
    ("FEAT_PAuth", 0xFE9FF800, 0xD61F0800),
    ("FEAT_DPB", 0xFFFFFFE0, 0xD50B7C20),
    ("FEAT_DPB2", 0xFFFFFFE0, 0xD50B7D20),
    ("FEAT_FlagM", 0xFFFFFFFF, 0xD500401F),
    ("FEAT_FlagM", 0xFFE07C10, 0xBA000400),
    ("FEAT_FlagM", 0xFFFFBC1F, 0x3A00080D),
    ("FEAT_FlagM2", 0xFFFFFFDF, 0xD500401F),
    ("FEAT_SB", 0xFFFFFFFF, 0xD50330FF),
    ("FEAT_MTE", 0xFFE0FC00, 0x9AC01000),
    ("FEAT_MOPS", 0x3B200C00, 0x19000400),
    ("FEAT_CSSC", 0x7FFFFC00, 0x5AC02000),
    ("FEAT_CSSC", 0x7FFFF800, 0x5AC01800),
    ("FEAT_CSSC", 0x7FF00000, 0x11C00000),
    ("FEAT_SVE", 0x1E000000, 0x04000000),
    ("FEAT_SME", 0x9E000000, 0x80000000),
)


def a64_feature(word: int) -> Feature | None:
    """The extension that the A64 instruction ``word`` needs; None for Armv8.0-A itself (or an
    encoding this table does not know)."""
    for name, mask, value in _A64:
        if word & mask == value:
            return FEATURES[name] if name else None
    return None


def is_udf(word: int) -> bool:
    """Whether ``word`` is UDF, which is illegal on every processor: compilers put it where a
    program must not come (``__builtin_trap``)."""
    return word & 0xFFFF0000 == 0


#: Capstone's instruction groups and what stands behind them, for 32-bit Arm and x86, where
#: extensions have groups of their own. (group name, feature)
GROUPS: dict[str, Feature] = {
    "neon": _feature("NEON", "neon", "Armv7-A, optional", "Advanced SIMD"),
    "vfp2": _feature("VFPv2", "vfp", "Armv5TE, optional", "floating point"),
    "vfp3": _feature("VFPv3", "vfpv3", "Armv7-A, optional", "floating point"),
    "vfp4": _feature("VFPv4", "vfpv4", "Armv7-A, optional", "fused multiply-add"),
    "fparmv8": _feature("FP-ARMv8", "asimd", "Armv8.0-A", "floating point of Armv8"),
    "crypto": _feature("ARMv8 Cryptography", "aes", "Armv8.0-A, optional", "AES and SHA"),
    "crc": _feature("FEAT_CRC32", "crc32", "Armv8.0-A, optional", "CRC32 instructions"),
    "divide": _feature("IDIV", "idiva", "Armv7-A, optional", "integer division"),
    "dividearm": _feature("IDIV", "idiva", "Armv7-A, optional", "integer division"),
    "v8": _feature("Armv8 AArch32", "asimd", "Armv8.0-A", "instructions of Armv8"),
    "thumb2": _feature("Thumb-2", "thumb", "Armv6T2", "32-bit Thumb instructions"),
    "avx": _feature("AVX", "avx", "x86-64-v3", "256-bit vectors"),
    "avx2": _feature("AVX2", "avx2", "x86-64-v3", "256-bit integer vectors"),
    "fma": _feature("FMA", "fma", "x86-64-v3", "fused multiply-add"),
    "f16c": _feature("F16C", "f16c", "x86-64-v3", "half-precision conversion"),
    "bmi": _feature("BMI1", "bmi1", "x86-64-v3", "bit manipulation"),
    "bmi2": _feature("BMI2", "bmi2", "x86-64-v3", "bit manipulation"),
    "avx512": _feature("AVX-512F", "avx512f", "x86-64-v4", "512-bit vectors"),
    "vnni": _feature("AVX512-VNNI", "avx512_vnni", "after x86-64-v4", "8-bit dot products"),
    "sse41": _feature("SSE4.1", "sse4_1", "x86-64-v2", "SSE4.1"),
    "sse42": _feature("SSE4.2", "sse4_2", "x86-64-v2", "SSE4.2"),
    "ssse3": _feature("SSSE3", "ssse3", "x86-64-v2", "SSSE3"),
}
