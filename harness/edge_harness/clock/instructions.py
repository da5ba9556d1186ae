"""Machine code to what a pipeline sees of it: a class of work, registers read and written."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, get_args

Kind = Literal[
    "alu",
    "shift",
    "mul",
    "div",
    "branch",
    "load",
    "load_pair",
    "store",
    "vload_d",
    "vload_q",
    "vstore_d",
    "vstore_q",
    "prefetch",
    "fp_add",
    "fp_mul",
    "fp_fma",
    "fp_div",
    "fp_convert",
    "fp_compare",
    "simd_alu",
    "simd_shift",
    "simd_mul",
    "simd_mla",
    "simd_dot",
    "simd_permute",
    "simd_reduce",
    "transfer",
    "nop",
]
"""Classes of work, in the terms of Arm's Software Optimization Guides. A core file gives each a
pipe, a number of slots there and a latency."""
CLASSES: tuple[Kind, ...] = get_args(Kind)


@dataclass(frozen=True, slots=True)
class Insn:
    """One instruction."""

    kind: Kind
    quad: bool
    """Works on 128-bit registers."""
    units: int
    """How many registers' worth of work: 2 for a pair, 4 for ``ld1 {v0.16b-v3.16b}``."""
    reads: tuple[str, ...]
    writes: tuple[str, ...]


_A64_BRANCH = re.compile(r"^(b|b\..*|bl|br|blr|ret|cbn?z|tbn?z)$")
_A64_LOAD = re.compile(r"^(ld|ldu|ldx|ldax|lda|ldap|ldar|ldnp)")
_FP: dict[str, Kind] = {
    "fadd": "fp_add",
    "fsub": "fp_add",
    "fabd": "fp_add",
    "faddp": "fp_add",
    "fneg": "fp_add",
    "fabs": "fp_add",
    "fmul": "fp_mul",
    "fmulx": "fp_mul",
    "fnmul": "fp_mul",
    "fmla": "fp_fma",
    "fmls": "fp_fma",
    "fmadd": "fp_fma",
    "fmsub": "fp_fma",
    "fnmadd": "fp_fma",
    "fnmsub": "fp_fma",
    "fdiv": "fp_div",
    "fsqrt": "fp_div",
    "frecpe": "fp_mul",
    "frecps": "fp_fma",
    "frsqrte": "fp_mul",
    "frsqrts": "fp_fma",
    "fmax": "fp_compare",
    "fmin": "fp_compare",
    "fmaxnm": "fp_compare",
    "fminnm": "fp_compare",
    "fcmp": "fp_compare",
    "fcmpe": "fp_compare",
    "fccmp": "fp_compare",
    "fcsel": "fp_compare",
}
_WIDENING = re.compile(r"^(sqd)?[su]?(mull|mlal|mlsl)2?$|^sqdm[lu]")
_SIMD: tuple[tuple[re.Pattern[str], Kind], ...] = (
    (re.compile(r"^(sdot|udot|usdot|sudot|smmla|ummla|usmmla|bfdot|bfmmla)"), "simd_dot"),
    (
        re.compile(r"^(s|u|sq|sqd|sqrd)?(ml[as]l?2?|mlal|mlsl|mlal2|dmlal2?|rdmlah|rdmlsh)$"),
        "simd_mla",
    ),
    (re.compile(r"^[su]ml[as]l2?$|^ml[as]$|^sqdml"), "simd_mla"),
    (re.compile(r"^(mul|[su]mull2?|pmull?2?|sqr?dmulh|sqdmull2?)$"), "simd_mul"),
    (re.compile(r"^(zip|uzp|trn|ext|tbl|tbx|rev|dup|ins|mov|smov|umov)"), "simd_permute"),
    (
        re.compile(
            r"^([su]addlv|addv|[su]maxv|[su]minv|fmaxv|fminv|fmaxnmv|addp|[su]adalp|[su]addlp)"
        ),
        "simd_reduce",
    ),
    (re.compile(r"^([su]?q?r?sh|sh|sqx?tu?n|uqxtn|xtn|[su]xtl|sli|sri|[su]r?sra)"), "simd_shift"),
    (re.compile(r"^fcvt|^[su]cvtf|^frint"), "fp_convert"),
)


@lru_cache(maxsize=1)
def _a64() -> Any:
    import capstone

    machine = capstone.Cs(capstone.CS_ARCH_ARM64, capstone.CS_MODE_LITTLE_ENDIAN)
    machine.detail = True
    return machine


@lru_cache(maxsize=2)
def _a32(thumb: bool) -> Any:
    import capstone

    mode = capstone.CS_MODE_THUMB if thumb else capstone.CS_MODE_ARM
    machine = capstone.Cs(capstone.CS_ARCH_ARM, mode | capstone.CS_MODE_V8)
    machine.detail = True
    return machine


def _register(name: str) -> str:
    """The whole register that ``name`` is a part of: ``w3`` is ``x3``, ``q7`` and ``s7`` are
    ``v7``."""
    if name[0] == "w" and name not in ("wzr", "wsp"):
        return "x" + name[1:]
    if name[0] in "bhsdqv" and name[1:].isdigit():
        return "v" + name[1:]
    return name


@lru_cache(maxsize=65536)
def decode_a64(word: bytes) -> Insn:
    """The A64 instruction of four bytes ``word``; data and the unknown count as ``nop``."""
    found = list(_a64().disasm(word, 0))
    if not found:
        return Insn("nop", False, 1, (), ())
    insn = found[0]
    name, text = insn.mnemonic, insn.op_str
    read, written = insn.regs_access()
    names = insn.reg_name
    reads = tuple(_register(names(r)) for r in read if names(r) not in ("xzr", "wzr"))
    writes = tuple(_register(names(r)) for r in written if names(r) not in ("xzr", "wzr"))
    operands = re.findall(r"\b([bhsdqv])(\d+)(?:\.(\w+))?", text)
    vector = bool(operands)
    quad = any(kind == "q" or shape in ("16b", "8h", "4s", "2d") for kind, _, shape in operands)
    if _A64_BRANCH.match(name):
        return Insn("branch", False, 1, reads, writes)
    if name.startswith(("prfm", "prfum")):
        return Insn("prefetch", False, 1, reads, ())
    if name in ("nop", "hint", "isb", "dmb", "dsb", "bti", "paciasp", "autiasp", "yield"):
        return Insn("nop", False, 1, (), ())
    if name.startswith(("ld", "st")) and "[" in text:
        return _a64_memory(name, text, vector, quad, reads, writes)
    if name.startswith("f") and name in _FP:
        return Insn(_FP[name], quad, 1, reads, writes)
    if vector:
        general = re.search(r"\b[wx](\d+|zr)\b", text)
        if (
            general and name in ("fmov", "mov", "umov", "smov", "dup", "ins", "scvtf", "ucvtf")
        ) or (general and name.startswith("fcvt")):
            return Insn("transfer", quad, 1, reads, writes)
        for pattern, kind in _SIMD:
            if pattern.match(name):
                # Widening forms (8 to 16 bits, 16 to 32) multiply 64 bits of either source.
                wide = quad and not (kind in ("simd_mul", "simd_mla") and _WIDENING.match(name))
                return Insn(kind, wide, 1, reads, writes)
        return Insn("simd_alu", quad, 1, reads, writes)
    if name in (
        "mul",
        "madd",
        "msub",
        "mneg",
        "smull",
        "umull",
        "smaddl",
        "umaddl",
        "smulh",
        "umulh",
    ):
        return Insn("mul", False, 1, reads, writes)
    if name in ("sdiv", "udiv"):
        return Insn("div", False, 1, reads, writes)
    if re.search(r"(lsl|lsr|asr|ror|[su]xt[bhwx])", text) or name in ("extr", "bfi", "bfxil"):
        return Insn("shift", False, 1, reads, writes)
    return Insn("alu", False, 1, reads, writes)


def _a64_memory(
    name: str, text: str, vector: bool, quad: bool, reads: tuple[str, ...], writes: tuple[str, ...]
) -> Insn:
    inside = text.partition("[")[0]
    units = len(re.findall(r"\b[bhsdqv]\d+", inside)) if vector else 1
    if vector and "-" in inside:  # a range of registers, as {v0.16b-v3.16b}
        first, last = re.findall(r"v(\d+)", inside)[:2]
        units = (int(last) - int(first)) % 32 + 1
    load = bool(_A64_LOAD.match(name))
    if vector:
        return Insn(_vector_access(load, quad), quad, max(units, 1), reads, writes)
    if name.startswith(("ldp", "ldnp", "ldpsw")):
        return Insn("load_pair", False, 1, reads, writes)
    if load:
        return Insn("load", False, 1, reads, writes)
    return Insn("store", False, 2 if name.startswith("stp") else 1, reads, writes)


def _vector_access(load: bool, quad: bool) -> Kind:
    if load:
        return "vload_q" if quad else "vload_d"
    return "vstore_q" if quad else "vstore_d"


_A32_VECTOR: tuple[tuple[re.Pattern[str], Kind], ...] = (
    (re.compile(r"^v(n?ml[as]|fn?m[as])\.f|^vf"), "fp_fma"),
    (re.compile(r"^vn?mul\.f"), "fp_mul"),
    (re.compile(r"^v(add|sub|neg|abs|abd|padd)\.f"), "fp_add"),
    (re.compile(r"^v(div|sqrt)"), "fp_div"),
    (re.compile(r"^vcvt|^vrint"), "fp_convert"),
    (re.compile(r"^v(max|min|cmpe?|ceq|cge|cgt)\w*\.f"), "fp_compare"),
    (re.compile(r"^vs?u?dot|^v[us]dot"), "simd_dot"),
    (re.compile(r"^v(ml[as]l?|qdml[as]l)\."), "simd_mla"),
    (re.compile(r"^v(mull?|qr?dmulh|qdmull)\."), "simd_mul"),
    (re.compile(r"^v(zip|uzp|trn|ext|tb[lx]|rev|dup|swp)"), "simd_permute"),
    (re.compile(r"^v(padd|padal|pmax|pmin)"), "simd_reduce"),
    (re.compile(r"^v(q?r?sh|sli|sri|r?sra|q?movn|qmovun|movl)"), "simd_shift"),
    (re.compile(r"^vmov|^vmrs|^vmsr"), "transfer"),
    (re.compile(r"^v"), "simd_alu"),
)


def decode_a32(insn: Any) -> Insn:
    """The A32 or T32 instruction that capstone decoded as ``insn``."""
    name, text = insn.mnemonic, insn.op_str
    read, written = insn.regs_access()
    reads = tuple(insn.reg_name(r) for r in read)
    writes = tuple(insn.reg_name(r) for r in written)
    quad = bool(re.search(r"\bq\d+", text))
    if name.startswith("v"):
        if name.startswith(("vld", "vst", "vpop", "vpush")):
            units = max(1, len(re.findall(r"\b[sdq]\d+", text.partition("[")[0])))
            kind = _vector_access(name.startswith(("vld", "vpop")), quad)
            return Insn(kind, quad, units, reads, writes)
        if name.startswith("vmov") and not re.search(r"\b(r\d+|lr|ip|sp)\b", text):
            return Insn("simd_permute", quad, 1, reads, writes)
        for pattern, kind in _A32_VECTOR:
            if pattern.match(name):
                return Insn(kind, quad, 1, reads, writes)
    if name.startswith(("pld", "pli")):
        return Insn("prefetch", False, 1, reads, ())
    if name.startswith(("nop", "hint", "dmb", "isb", "it", "yield")):
        return Insn("nop", False, 1, (), ())
    if name.startswith(("ldm", "pop", "ldrd")):
        return Insn("load_pair", False, max(1, len(writes) // 2), reads, writes)
    if name.startswith("ldr"):
        return Insn("load", False, 1, reads, writes)
    if name.startswith(("str", "stm", "push")):
        return Insn("store", False, max(1, len(reads) // 2), reads, writes)
    if name.startswith(("b", "cb", "tb")) and not name.startswith(("bic", "bfi", "bfc")):
        return Insn("branch", False, 1, reads, writes)
    if re.match(r"^(mul|mla|mls|[su]mul|[su]mla|smm)", name):
        return Insn("mul", False, 1, reads, writes)
    if name.startswith(("sdiv", "udiv")):
        return Insn("div", False, 1, reads, writes)
    return Insn(
        "shift" if re.search(r"(lsl|lsr|asr|ror)", text) else "alu", False, 1, reads, writes
    )


def decode(code: bytes, insns: int, *, bits: int) -> list[Insn]:
    """The instructions of a block.

    Args:
        code: its bytes, in memory order.
        insns: how many instructions QEMU counted in it.
        bits: 64 for A64, 32 for A32 and T32 (which of the two, the lengths tell).
    """
    if bits == 64:
        return [decode_a64(code[i : i + 4]) for i in range(0, len(code), 4)]
    if len(code) == 4 * insns:
        found = list(_a32(False).disasm(code, 0))
        if len(found) == insns:
            return [decode_a32(insn) for insn in found]
    return [decode_a32(insn) for insn in _a32(True).disasm(code, 0)]
