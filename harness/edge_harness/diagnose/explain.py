"""From a dead process's remains to sentences."""

from __future__ import annotations

import signal as signals
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from edge_harness.diagnose.core import BadCore, Fault, fault_in, symbol_at
from edge_harness.diagnose.isa import Feature, a64_feature, grouped_features, has_feature, is_udf
from edge_harness.processes import signal_name

if TYPE_CHECKING:
    from edge_harness.profiles import Profile

CrashKind = Literal[
    "illegal_instruction",
    "segfault",
    "bus_error",
    "abort",
    "arithmetic_error",
    "trap",
    "bad_system_call",
]
#: The signals of a crash, and what each is called.
CRASHES: Mapping[int, CrashKind] = {
    signals.SIGILL: "illegal_instruction",
    signals.SIGSEGV: "segfault",
    signals.SIGBUS: "bus_error",
    signals.SIGABRT: "abort",
    signals.SIGFPE: "arithmetic_error",
    signals.SIGTRAP: "trap",
    signals.SIGSYS: "bad_system_call",
}


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """What is known of a crash; "" and None stand for what is not."""

    kind: CrashKind
    summary: str
    """One sentence."""
    instruction: str = ""
    """Disassembled, e.g. ``fmov v1.4h, #0.5``."""
    encoding_hex: str = ""
    library: str = ""
    """Path in the device."""
    offset: int | None = None
    """Address within the library."""
    symbol: str = ""
    feature: str = ""
    """E.g. ``FEAT_FP16``."""
    feature_text: str = ""
    first_profile: str | None = None
    """The first profile, oldest instruction set first, whose board has the feature."""
    evidence: str = ""
    """How it was found."""

    def details(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)

    def text(self) -> str:
        """Lines for people."""
        lines = [f"  {self.summary}"]
        if self.instruction:
            lines.append(f"  instruction: {self.instruction} ({self.encoding_hex})")
        if self.library:
            place = f"{self.library} at offset {self.offset:#x}" if self.offset is not None else ""
            lines.append(f"  where:       {place}" + (f", {self.symbol}" if self.symbol else ""))
        if self.feature:
            lines.append(f"  it needs:    {self.feature}, {self.feature_text}")
            lines.append(
                f"  first board: {self.first_profile}"
                if self.first_profile
                else "  first board: none of the known profiles has it"
            )
        lines.append(f"  found from:  {self.evidence}")
        return "\n".join(lines)


def explain_death(
    *,
    signal: int | None,
    core_file: Path | None,
    find: Callable[[str], Path | None],
    profile: Profile,
    profiles: Sequence[Profile],
    emulated: bool = True,
    board_cpu: bool = True,
) -> Diagnosis | None:
    """Diagnose a process that ``signal`` ended; None where the signal is no crash.

    Without ``board_cpu`` it ran on this machine's own processor, which the profile says nothing
    about: then only the place is told. Not ``emulated``, a core dump is always the program's.

    Never raises for damaged remains: it says less then, and why.
    """
    kind = CRASHES.get(signal) if signal is not None else None
    if kind is None or signal is None:
        return None
    name = signal_name(signal)
    if core_file is None:
        return Diagnosis(
            kind=kind,
            summary=f"ended by {name}; no core dump was left, so the place is not known",
            evidence="the exit status",
        )
    try:
        fault = fault_in(core_file, find)
    except BadCore as error:
        return Diagnosis(
            kind=kind,
            summary=f"ended by {name}; the place is not known",
            evidence=f"the exit status; the core dump does not help: {error}",
        )
    if (fault.machine == "EM_X86_64") != (profile.os.arch == "amd64"):
        if emulated:
            return Diagnosis(
                kind=kind,
                summary=f"ended by {name}; the place is not known",
                evidence="the exit status; the core dump is the emulator's, not the program's",
            )
        board_cpu = False
    return _diagnosis(kind, name, fault, profile if board_cpu else None, profiles)


def _diagnosis(
    kind: CrashKind, name: str, fault: Fault, profile: Profile | None, profiles: Sequence[Profile]
) -> Diagnosis:
    instruction, encoding, groups = _disassembled(fault)
    library = fault.library
    where = f"in {Path(library.path).name}" if library else f"at {fault.address:#x}, in no library"
    symbol = ""
    if library is not None and library.file is not None and fault.offset is not None:
        symbol = symbol_at(library.file, fault.offset)
    feature: Feature | None = None
    summary = f"{name} {where}"
    if kind == "illegal_instruction":
        feature, summary = _missing(fault, instruction, groups, where, profile)
    first = None
    if feature is not None and profile is not None:
        first = next((p.name for p in _oldest_first(profiles, profile) if _has(p, feature)), None)
    return Diagnosis(
        kind=kind,
        summary=summary,
        instruction=instruction,
        encoding_hex=encoding,
        library=library.path if library else "",
        offset=fault.offset,
        symbol=symbol,
        feature=feature.name if feature else "",
        feature_text=f"{feature.text} (from {feature.since})" if feature else "",
        first_profile=first,
        evidence="the process's core dump",
    )


def _missing(
    fault: Fault, instruction: str, groups: Sequence[str], where: str, profile: Profile | None
) -> tuple[Feature | None, str]:
    if not fault.code:
        return None, f"illegal instruction {where}; its bytes are not known"
    word = int.from_bytes(fault.code[:4], "little")
    shown = instruction or f"the word {word:#010x}"
    feature: Feature | None = None
    if fault.machine == "EM_AARCH64":
        if is_udf(word):
            return None, (
                f"deliberate: the program ran into UDF #{word & 0xFFFF} {where}, which compilers "
                "put where it must not come (__builtin_trap), and which no processor executes"
            )
        feature = a64_feature(word)
    elif instruction.startswith(("ud2", "udf")):
        return None, f"deliberate: the program ran into {instruction} {where} (__builtin_trap)"
    if profile is None:
        return None, f"this machine's own processor cannot execute {shown} {where}"
    board = f"{profile.cpu.core} of {profile.name}"
    if fault.machine != "EM_AARCH64":
        candidates = grouped_features(instruction, groups)
        feature = next((each for each in candidates if not _has(profile, each)), None)
    if feature is None:
        return None, f"the {board} cannot execute {shown} {where}; no known extension has it"
    if _has(profile, feature):
        return None, (
            f"the {board} cannot execute {shown} {where}, although its profile lists "
            f"{feature.name}: a later version of that may have it"
        )
    return feature, f"the {board} cannot execute '{shown}' {where}: it lacks {feature.name}"


def _disassembled(fault: Fault) -> tuple[str, str, tuple[str, ...]]:
    """Text, encoding and group names of the instruction at fault."""
    if len(fault.code) < 2:
        return "", "", ()
    import capstone

    arch, mode = {
        "EM_AARCH64": (capstone.CS_ARCH_ARM64, capstone.CS_MODE_ARM),
        "EM_ARM": (
            capstone.CS_ARCH_ARM,
            (capstone.CS_MODE_THUMB if fault.thumb else capstone.CS_MODE_ARM) | capstone.CS_MODE_V8,
        ),
        "EM_X86_64": (capstone.CS_ARCH_X86, capstone.CS_MODE_64),
    }[fault.machine]
    engine = capstone.Cs(arch, mode)
    engine.detail = True
    for found in engine.disasm(fault.code, fault.address, 1):
        encoding = _encoding(bytes(found.bytes), fault)
        groups = tuple(str(found.group_name(group)) for group in found.groups)
        return f"{found.mnemonic} {found.op_str}".strip(), encoding, groups
    return "", f"{int.from_bytes(fault.code[:4], 'little'):#010x}", ()


def _encoding(code: bytes, fault: Fault) -> str:
    """As the manuals write it: x86 by bytes, Arm by words, long Thumb instructions by halfwords."""
    if fault.machine == "EM_X86_64":
        return code.hex(" ")
    if fault.thumb and len(code) == 4:
        code = code[2:] + code[:2]
    return f"0x{int.from_bytes(code, 'little'):0{2 * len(code)}x}"


def _has(profile: Profile, feature: Feature) -> bool:
    return has_feature(profile.cpu.features, profile.cpu.isa, feature)


def _oldest_first(profiles: Sequence[Profile], mine: Profile) -> list[Profile]:
    """Boards of the same architecture, oldest instruction set first, well-known names first."""
    family = mine.os.arch == "amd64"
    same = [p for p in profiles if (p.os.arch == "amd64") == family]
    wide = mine.os.arch in ("arm64", "amd64")
    alike = [p for p in same if not wide or p.os.arch == mine.os.arch]
    return sorted(alike, key=lambda p: (p.cpu.isa, not p.name.startswith("rpi"), p.name))
