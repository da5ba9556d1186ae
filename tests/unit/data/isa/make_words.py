"""Make a64.txt, beside this file: instruction words, and what LLVM's assembler says they need.

    python tests/unit/data/isa/make_words.py /usr/lib/llvm-19/bin/llvm-mc

(Debian's package llvm-19.) Words are drawn with a seed around each row of the table in
``edge_harness.diagnose.isa``: inside it, and one bit beside it. LLVM disassembles them, and
assembles the text again for a bare Armv8.0-A, where it names the extension that the instruction
lacks. So the table only says where to look; what is right is LLVM's answer alone. Kept are as many
words as it takes to notice each change of each row (:func:`changes`), and where the table and LLVM
disagree, this stops and shows it.
"""

from __future__ import annotations

import random
import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from edge_harness.diagnose.isa import _A64, _SPACES, FEATURES, a64_feature

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent.parent.parent.parent))
from tests.isa_changes import ChangedTables  # noqa: E402

SEED = 13
INSIDE, BESIDE, ANYWHERE = 500, 60, 60_000

#: LLVM's name of an extension, and Arm's.
NAMES = {
    "altnzcv": "FEAT_FlagM2",
    "bf16": "FEAT_BF16",
    "ccdp": "FEAT_DPB2",
    "ccpp": "FEAT_DPB",
    "complxnum": "FEAT_FCMA",
    "crc": "FEAT_CRC32",
    "cssc": "FEAT_CSSC",
    "dotprod": "FEAT_DotProd",
    "flagm": "FEAT_FlagM",
    "fp16fml": "FEAT_FHM",
    "frint3264": "FEAT_FRINTTS",
    "fullfp16": "FEAT_FP16",
    "i8mm": "FEAT_I8MM",
    "jsconv": "FEAT_JSCVT",
    "lse": "FEAT_LSE",
    "mops": "FEAT_MOPS",
    "mte": "FEAT_MTE",
    "pauth": "FEAT_PAuth",
    "rcpc": "FEAT_LRCPC",
    "rcpc-immo": "FEAT_LRCPC2",
    "rdm": "FEAT_RDM",
    "sb": "FEAT_SB",
}
#: Where LLVM has one name for two extensions: (its name, first letters of the second's mnemonics).
SPLIT = {
    "aes": ("FEAT_AES", "pmull", "FEAT_PMULL"),
    "sha2": ("FEAT_SHA256", "sha1", "FEAT_SHA1"),
    "sha3": ("FEAT_SHA3", "sha512", "FEAT_SHA512"),
    "sm4": ("FEAT_SM4", "sm3", "FEAT_SM3"),
}


def arm_name(word: int, text: str, needs: str) -> str:
    """What ``needs``, LLVM's words, is in the table's terms; "" where the table has no such
    extension."""
    names = [name for name in re.findall(r"[\w-]+", needs) if name not in ("or", "and")]
    scalable = any(name.startswith("sve") for name in names)
    if scalable or any(name.startswith("sme") for name in names):
        # Several versions, or either of two; the table knows their spaces of encodings.
        if scalable and (word & 0x1E000000 == 0x04000000 or not any("sme" in n for n in names)):
            return "FEAT_SVE"
        return "FEAT_SME"
    if names[:1] and names[0] in SPLIT:
        first, letters, second = SPLIT[names[0]]
        return second if text.startswith(letters) else first
    if names == ["complxnum", "fullfp16"] or names == ["mops", "mte"]:
        return NAMES[names[0]]  # the later of the two
    if names == ["mte", "memtag"]:
        return "FEAT_MTE"
    return NAMES.get(names[0], "") if len(names) == 1 else ""


class Assembler:
    """LLVM's, by its command."""

    def __init__(self, program: str) -> None:
        self._program = program
        self.version = re.search(r"LLVM version (\S+)", self._run(["--version"], "")[0])[1]

    def _run(self, options: list[str], text: str) -> tuple[str, str]:
        done = subprocess.run(
            [self._program, *options], input=text, capture_output=True, text=True, check=False
        )
        return done.stdout, done.stderr

    def disassembled(self, words: list[int]) -> dict[int, str]:
        """Text of those words that are instructions."""
        lines = "".join(
            "[" + ",".join(hex(byte) for byte in word.to_bytes(4, "little")) + "]\n"
            for word in words
        )
        out, _ = self._run(
            ["--disassemble", "--triple=aarch64", "--mattr=+all", "--show-encoding"], lines
        )
        found = {}
        for text, encoding in re.findall(r"^\t(.*?)\s*// encoding: \[(.*)\]", out, re.MULTILINE):
            word = int.from_bytes(bytes(int(byte, 16) for byte in encoding.split(",")), "little")
            found[word] = " ".join(text.split())
        return found

    def needs(self, texts: Iterable[str]) -> dict[str, str | None]:
        """What each line lacks on a bare Armv8.0-A: "" nothing, None: LLVM complains of other
        things (registers that must differ)."""
        lines = sorted(set(texts))
        _, errors = self._run(["--triple=aarch64", "--mattr=+v8a"], "\n".join(lines) + "\n")
        found: dict[str, str | None] = dict.fromkeys(lines, "")
        for number, said in re.findall(r"^<stdin>:(\d+):\d+: error: (.*)", errors, re.MULTILINE):
            lacks = re.match(r"(?:instruction|DC \w+) requires: (.*)", said)
            if "expected writable system register or pstate" in said:
                found[lines[int(number) - 1]] = "a later field of PSTATE"
            else:
                found[lines[int(number) - 1]] = lacks[1] if lacks else None
        return found


def answer(word: int) -> str:
    feature = a64_feature(word)
    return feature.name if feature else ""


def drawn(rng: random.Random) -> list[int]:
    words = {rng.getrandbits(32) for _ in range(ANYWHERE)}
    for _, mask, value in (*_A64, *_SPACES):
        near = [value | rng.getrandbits(32) & ~mask for _ in range(INSIDE)]
        words.update(near)
        for bit in (1 << place for place in range(32)):
            if mask & bit:
                words.update((value | rng.getrandbits(32) & ~mask) ^ bit for _ in range(BESIDE))
    return sorted(words)


def main(program: str) -> None:
    rng = random.Random(SEED)
    assembler = Assembler(program)
    words = drawn(rng)
    texts = assembler.disassembled(words)
    needs = assembler.needs(texts.values())
    right: dict[int, str] = {}
    for word in words:
        if word not in texts:
            # In the two whole spaces nobody is promised more than the space.
            spaces = [name for name, mask, value in _SPACES if word & mask == value]
            right[word] = spaces[0] if spaces else ""
            continue
        lacks = needs[texts[word]]
        if lacks is not None:
            right[word] = arm_name(word, texts[word], lacks)
    wrong = [word for word, name in right.items() if answer(word) != name and word in texts]
    for word in wrong[:20]:
        print(f"{word:#010x} {texts[word]}: {right[word]!r}, the table says {answer(word)!r}")
    if wrong:
        raise SystemExit(f"{len(wrong)} of {len(right)} words are wrong in the table")
    # Where registers must differ, a word is none although the row has it.
    right = {word: name for word, name in right.items() if answer(word) == name}
    kept = chosen(right, rng)
    lines = [
        f"# {len(kept)} A64 instruction words, by LLVM {assembler.version}; made by make_words.py.",
        "# word, extension (- for none), what LLVM says it needs on Armv8.0-A, text",
    ]
    for word in kept:
        lacks = needs[texts[word]] if word in texts else ""
        text = texts.get(word, "no instruction")
        lines.append(f"{word:08x}\t{right[word] or '-'}\t{lacks or '-'}\t{text}")
    (HERE / "a64.txt").write_text("\n".join(lines) + "\n")
    print(f"{len(kept)} words; without any: {set(FEATURES) - set(right.values())}")


def chosen(right: dict[int, str], rng: random.Random) -> list[int]:
    """Few words, such that each changed table is wrong about one."""
    order = sorted(right)
    rng.shuffle(order)
    kept: dict[int, None] = {}
    changed = ChangedTables(_A64, _SPACES, {word: right[word] for word in order})
    for change in changed.all():
        notices = changed.noticing(change)
        if not notices:
            print(f"nothing notices {change}" + (" (alike)" if changed.alike(change) else ""))
        elif not any(word in kept for word in notices):
            kept[notices[0]] = None
    return sorted(kept)


if __name__ == "__main__":
    main(sys.argv[1])
