"""Whether what a started device shows of its CPU is what its profile says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from edge_harness.profiles.shape import Profile

#: Names in ``/proc/cpuinfo`` that say nothing about which instructions run, and why.
IGNORED_FEATURES: Mapping[str, str] = {
    "evtstrm": "the kernel's timer event stream; user-mode emulation has no kernel to show it",
    "cpuid": "the kernel emulates reads of ID registers; older kernels do not list it",
    "lpae": "physical addresses above 4 GiB, seen by the kernel only",
    "java": "Jazelle; nothing but a Java virtual machine of its time used it",
    "26bit": "an addressing mode of processors before ARMv4",
}
#: At most so many names in a message.
_SHOWN = 12
#: QEMU's own spelling, and the kernel's.
_SPELLING = {"fast_mult": "fastmult", "pni": "sse3", "lzcnt": "abm"}
#: x86 flags that stand for instructions a compiler or a kernel library may choose. The rest of
#: the line (``pae``, ``hypervisor``, ``constant_tsc`` …) describes the machine.
_X86_INSTRUCTIONS = """
    abm adx aes amx_bf16 amx_fp16 amx_int8 amx_tile avx avx2 avx512_4fmaps avx512_4vnniw
    avx512_bf16 avx512_bitalg avx512_fp16 avx512_vbmi2 avx512_vnni avx512_vp2intersect
    avx512_vpopcntdq avx512bw avx512cd avx512dq avx512er avx512f avx512ifma avx512pf
    avx512vbmi avx512vl avx_ifma avx_ne_convert avx_vnni avx_vnni_int8 bmi1 bmi2 cx16 f16c fma
    fma4 gfni lahf_lm mmx movbe pclmulqdq popcnt rdrand rdseed sha_ni sse sse2 sse3 sse4_1
    sse4_2 sse4a ssse3 tbm vaes vpclmulqdq xop
"""


@dataclass(frozen=True, kw_only=True)
class HwcapVerdict:
    """Whether what a started device shows of its CPU is what the profile says."""

    ok: bool
    missing: tuple[str, ...]
    """The board has them, the device does not, and the profile does not say so."""
    unexpected: tuple[str, ...]
    """The device has them, the board does not, and the profile does not say so."""
    tolerated: tuple[str, ...]
    """Differences that the profile declares."""
    checked: bool
    """False where the list says nothing about the emulated core; then ``ok`` is True."""
    message: str
    """One sentence, fit for an error or a header."""


def hwcap_verdict(
    profile: Profile, seen_features: Sequence[str], *, trust_cpuinfo: bool | None = None
) -> HwcapVerdict:
    """Compare the CPU features that the agent read inside a device with the profile's.

    ``seen_features`` is the ``Features`` or ``flags`` line of ``/proc/cpuinfo``. Where the
    profile says that emulation shows the host's (``cpuinfo = "this-machine"``: x86), nothing can
    be concluded from it, unless ``trust_cpuinfo`` is True because no emulator is involved.
    """
    if trust_cpuinfo is None:
        trust_cpuinfo = profile.emulation.cpuinfo == "core"
    core = profile.emulation.qemu_cpu
    if not trust_cpuinfo:
        return HwcapVerdict(
            ok=True,
            missing=(),
            unexpected=(),
            tolerated=(),
            checked=False,
            message=f"the instruction set of {profile.name} was not checked: /proc/cpuinfo shows "
            f"the host's processor, not the emulated {core}",
        )
    board, seen = _names(profile, profile.cpu.features), _names(profile, seen_features)
    extra = _names(profile, profile.emulation.extra_features)
    lacking = _names(profile, profile.emulation.missing_features)
    missing = tuple(name for name in board if name not in seen and name not in lacking)
    unexpected = tuple(name for name in seen if name not in board and name not in extra)
    tolerated = tuple(name for name in seen if name in extra)
    tolerated += tuple(name for name in lacking if name not in seen)
    problems = []
    if not seen:
        problems.append("it shows no CPU features at all")
    elif missing:
        problems.append(f"it lacks {_listed(missing)}, which the board has")
    if unexpected:
        problems.append(
            f"it has {_listed(unexpected)}, which the board lacks, so that code needing them "
            "would pass here and crash there"
        )
    if problems:
        message = (
            f"the started device is not a {profile.name} ({profile.cpu.core}, {profile.cpu.isa}): "
            f"{'; '.join(problems)}; its QEMU CPU should be {core!r}"
        )
    else:
        message = f"{profile.name} shows the instruction set of {profile.cpu.core}"
        if tolerated:
            message += f" (known differences: {_listed(tolerated)})"
    return HwcapVerdict(
        ok=not problems,
        missing=missing,
        unexpected=unexpected,
        tolerated=tolerated,
        checked=True,
        message=message,
    )


def _names(profile: Profile, features: Sequence[str]) -> tuple[str, ...]:
    """In the kernel's spelling, without what says nothing about instructions."""
    names = dict.fromkeys(_SPELLING.get(name, name) for name in features)
    if profile.os.arch == "amd64":
        known = frozenset(_X86_INSTRUCTIONS.split())
        return tuple(name for name in names if name in known)
    return tuple(name for name in names if name not in IGNORED_FEATURES)


def _listed(names: Sequence[str]) -> str:
    shown = list(names[:_SHOWN])
    if len(names) > _SHOWN:
        shown.append(f"and {len(names) - _SHOWN} more")
    return ", ".join(shown)
