"""Make arm_x86.txt, beside this file: instructions of extensions of 32-bit Arm and x86.

    python tests/unit/data/isa/make_arm_x86.py /usr/lib/llvm-19/bin/llvm-mc

The text and what it needs are written here, from the Arm Architecture Reference Manual (DDI 0406,
DDI 0487) and Intel's Software Developer's Manual; LLVM assembles it.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ARM = {
    "": "add r0, r1, r2 / ldr r0, [r1] / mul r0, r1, r2",
    "NEON": "vadd.i32 q0, q1, q2 / vadd.f32 q0, q1, q2 / vfma.f32 q0, q1, q2",
    "VFPv2": "vadd.f32 s0, s1, s2 / vadd.f64 d0, d1, d2",
    "VFPv3": "vmov.f32 s0, #1.0",
    "VFPv4": "vfma.f32 s0, s1, s2",
    "FP-ARMv8": "vmaxnm.f32 s0, s1, s2 / vrinta.f32 s0, s1 / vseleq.f32 s0, s1, s2",
    "Armv8 Cryptography": "aese.8 q0, q1 / sha1h.32 q0, q1",
    "Armv8 CRC32": "crc32b r0, r1, r2",
    "Armv8 AArch32": "lda r0, [r1] / stlex r0, r1, [r2]",
    "IDIV": "sdiv r0, r1, r2 / udiv r0, r1, r2",
    "Armv6T2": "movw r0, #1 / rbit r0, r1 / bfi r0, r1, #1, #2 / mls r0, r1, r2, r3",
}
THUMB = {
    "": "adds r0, r1, r2",
    "IDIV": "sdiv r0, r1, r2 / udiv r0, r1, r2",
    "Thumb-2": "movw r0, #1 / ldr.w r0, [r1, #4]",
    "NEON": "vadd.i32 q0, q1, q2",
    "VFPv2": "vadd.f32 s0, s1, s2",
}
X86 = {
    "": "addl %eax, %ebx / movaps %xmm0, %xmm1 / addpd %xmm0, %xmm1",
    "AVX": "vaddps %ymm0, %ymm1, %ymm2 / vaddps %xmm0, %xmm1, %xmm2",
    "AVX2": "vpaddd %ymm0, %ymm1, %ymm2 / vpermd %ymm0, %ymm1, %ymm2",
    "FMA": "vfmadd213ps %ymm0, %ymm1, %ymm2 / vfmsub132sd %xmm0, %xmm1, %xmm2 / "
    "vfnmadd231ps %ymm0, %ymm1, %ymm2 / vfnmsub213pd %ymm0, %ymm1, %ymm2",
    "F16C": "vcvtph2ps %xmm0, %ymm1 / vcvtps2ph $0, %ymm0, %xmm1",
    "BMI1": "andn %eax, %ebx, %ecx / tzcnt %eax, %ebx",
    "BMI2": "pdep %eax, %ebx, %ecx / mulx %eax, %ebx, %ecx",
    "AVX512F": "vaddps %zmm0, %zmm1, %zmm2",
    "AVX512BW": "vpaddb %zmm0, %zmm1, %zmm2",
    "AVX512DQ": "vpmullq %zmm0, %zmm1, %zmm2",
    "AVX512-VNNI": "vpdpbusd %zmm0, %zmm1, %zmm2 / vpdpwssd %zmm0, %zmm1, %zmm2",
    "SSE4.1": "pminud %xmm0, %xmm1 / roundps $1, %xmm0, %xmm1",
    "SSE4.2": "pcmpgtq %xmm0, %xmm1 / crc32b %al, %ebx",
    "SSSE3": "pshufb %xmm0, %xmm1",
    "SSE3": "haddps %xmm0, %xmm1",
    "AES-NI": "aesenc %xmm0, %xmm1",
    "PCLMULQDQ": "pclmulqdq $0, %xmm0, %xmm1",
    "SHA": "sha1msg1 %xmm0, %xmm1",
    "ADX": "adcx %eax, %ebx",
    "POPCNT": "popcnt %eax, %ebx",
    "LZCNT": "lzcnt %eax, %ebx",
    "MOVBE": "movbe (%rax), %ebx",
}
ARM_FEATURES = "+v8.6a,+crypto,+crc,+neon,+fp-armv8,+hwdiv,+hwdiv-arm"
X86_FEATURES = (
    "+avx2,+fma,+f16c,+bmi,+bmi2,+avx512f,+avx512bw,+avx512dq,+avx512vnni,+sse4.2,+aes,+pclmul,"
    "+sha,+adx,+popcnt,+lzcnt,+movbe,+crc32"
)
KINDS = (("arm", ARM, ARM_FEATURES), ("thumb", THUMB, ARM_FEATURES), ("x86_64", X86, X86_FEATURES))


def main(program: str) -> None:
    version = subprocess.run([program, "--version"], capture_output=True, text=True, check=True)
    lines = [f"# By LLVM {re.search(r'version (.*)', version.stdout)[1]}; see make_arm_x86.py."]
    for kind, table, features in KINDS:
        for feature, texts in table.items():
            for text in texts.split(" / "):
                done = subprocess.run(
                    [program, f"--triple={kind}", f"--mattr={features}", "--show-encoding"],
                    input=text + "\n",
                    capture_output=True,
                    text=True,
                    check=True,
                )
                encoding = re.search(r"encoding: \[(.*?)\]", done.stdout)[1]
                try:
                    code = bytes(int(byte, 16) for byte in encoding.split(",")).hex()
                except ValueError:
                    raise SystemExit(f"{text}: {encoding}") from None
                lines.append(f"{kind}\t{code}\t{feature or '-'}\t{text}")
    path = Path(__file__).parent / "arm_x86.txt"
    path.write_text("\n".join(lines) + "\n")
    print(f"{len(lines) - 1} instructions in {path}")


if __name__ == "__main__":
    main(sys.argv[1])
