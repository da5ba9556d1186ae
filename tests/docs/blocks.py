"""The fenced blocks of README.md and docs/: what each is, and how it is held to what it says.

A block is run unless it cannot be. Its language says how:

``python``
    Files with tests are run by pytest; other code is the body of a test. ``device``, ``session``,
    ``image``, ``images``, ``labels``, ``expected``, ``outputs`` are there, and the models
    ``classifier_int8.tflite``, ``classifier_float.tflite`` and ``model.tflite``. A first line
    ``# some/file.py`` makes it a file of the page's project instead.
``console``
    Commands after ``$ ``, and under each what it prints, compared loosely: numbers, hashes and
    spacing may differ, ``…`` stands for anything.
``sh``
    Commands, one a line.
``toml``, ``ini``, ``json``, ``yaml``
    Read by what reads them: the profile reader, pytest, a parser.
``text``
    With ``<!-- output of: COMMAND -->`` above, or ``output of the block above``, what that prints;
    with ``<!-- in: FILE -->`` lines of a file; or a listing of folders that are there.

A comment ``<!-- not run: REASON -->`` above a block leaves it out, and ``<!-- run as: COMMAND -->``
runs something shorter in its place.
"""

from __future__ import annotations

import ast
import builtins
import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

REPOSITORY = Path(__file__).parent.parent.parent
PAGES = ("README.md", *sorted(f"docs/{p.name}" for p in (REPOSITORY / "docs").glob("*.md")))
LANGUAGES = ("python", "console", "sh", "toml", "ini", "json", "yaml", "text")

#: What a page's project gives to Python blocks. Those with a device behind them make the block
#: one that needs a device.
GIVEN = frozenset({"image", "images", "labels", "expected"})
OF_A_DEVICE = frozenset(
    {
        *("device", "fresh_device", "device_profile", "session", "outputs"),
        *("edge_device", "fresh_edge_device", "edge_device_profile"),
    }
)
#: Which documentation does not import.
USUAL = frozenset({"np", "pytest"})

#: Commands whose arguments are checked and which are not run, and why.
CHECKED_ONLY = {
    ("edge-harness", "setup"): "changes this machine",
    ("edge-harness", "shell"): "waits for a person",
    ("edge-harness", "image", "build"): "fetches and builds for minutes",
    ("edge-harness", "image", "rm"): "deletes from the cache",
    ("edge-harness", "image", "gc"): "deletes from the cache",
    ("edge-harness", "calibrate"): "counts for half an hour",
    ("make",): "sets up everything and runs all tests, these too",
}
_ON_A_DEVICE = {"run", "compare", "latency"}

Kind = Literal["python", "file", "commands", "data", "output", "excerpt", "listing", "not run"]


@dataclass(frozen=True, kw_only=True)
class Block:
    """One fenced block."""

    page: str
    line: int
    language: str
    text: str
    comment: str = ""
    """What the HTML comment above it says."""

    @property
    def where(self) -> str:
        return f"{self.page}:{self.line}"

    def told(self, what: str) -> str | None:
        """The rest of a comment that begins with ``what``."""
        return self.comment.removeprefix(what).strip() if self.comment.startswith(what) else None

    @property
    def kind(self) -> Kind:
        """How it is held to what it says.

        Raises:
            ValueError: nothing says how.
        """
        if self.comment.startswith("not run"):
            return "not run"
        if self.language not in LANGUAGES:
            raise ValueError(
                f"{self.where}: a block of {self.language or 'no language'!r}; write one of "
                f"{', '.join(LANGUAGES)} after the fence"
            )
        if self.language == "python":
            return "file" if self.file else "python"
        if self.language in ("console", "sh"):
            return "commands"
        if self.language in ("toml", "ini", "json", "yaml"):
            return "data"
        if self.comment.startswith("output of"):
            return "output"
        if self.told("in:"):
            return "excerpt"
        firsts = [line.split()[0] for line in self.text.splitlines() if line[:1].strip()]
        if firsts and all("/" in first or first.endswith(".py") for first in firsts):
            return "listing"
        raise ValueError(
            f"{self.where}: nothing says where this text comes from; put "
            "<!-- output of: COMMAND -->, <!-- output of the block above -->, <!-- in: FILE --> or "
            "<!-- not run: REASON --> above it"
        )

    @property
    def file(self) -> str:
        """The file that it is, if its first line says so."""
        found = re.match(r"# ([\w./-]+\.(?:py|toml|ini|cfg|json|ya?ml))\s*\n", self.text)
        return found[1] if found else ""

    @property
    def needs_device(self) -> bool:
        if self.kind == "python":
            return bool(_names(self.text) & OF_A_DEVICE)
        return any(command.needs_device for command in commands(self))


@dataclass(kw_only=True)
class Command:
    """A command of a block, and the lines that it shows."""

    line: str
    shown: list[str] = field(default_factory=list)

    @property
    def words(self) -> list[str]:
        return shlex.split(self.line, comments=True)

    @property
    def checked_only(self) -> str:
        """Why it is not run; empty where it is."""
        for words, reason in CHECKED_ONLY.items():
            if tuple(self.words[: len(words)]) == words:
                return reason
        return ""

    @property
    def needs_device(self) -> bool:
        if self.checked_only or "--help" in self.words:
            return False
        words = set(self.words)
        if words & {"edge-harness"} and words & _ON_A_DEVICE:
            return True
        if "python" in words or "python3" in words:
            return "--device" in words
        return "pytest" in words and bool(self.shown) and "--co" not in words


def commands(block: Block) -> list[Command]:
    """The commands that running ``block`` means, in order."""
    if block.kind == "output":
        line = block.told("output of:")
        return [Command(line=line, shown=block.text.splitlines())] if line else []
    if block.kind != "commands":
        return []
    instead = block.told("run as:")
    if instead:
        return [Command(line=instead, shown=[])]
    found: list[Command] = []
    for line in re.sub(r"\\\n\s*", "", block.text).splitlines():
        if block.language == "sh":
            if line.strip() and not line.startswith("#"):
                found.append(Command(line=line))
        elif line.startswith("$ "):
            found.append(Command(line=line[2:]))
        elif found:
            found[-1].shown.append(line)
        else:
            raise ValueError(f"{block.where}: a console block begins with '$ COMMAND'")
    return found


def blocks(page: str) -> list[Block]:
    """All fenced blocks of ``page``, a path below the repository."""
    lines = (REPOSITORY / page).read_text().splitlines()
    found = []
    number = 0
    while number < len(lines):
        fence = re.match(r"( *)(`{3,})\s*(\S*)", lines[number])
        if fence is None:
            number += 1
            continue
        indent, ticks, language = fence.groups()
        end = number + 1
        while lines[end].strip() != ticks:
            end += 1
        text = "\n".join(line.removeprefix(indent) for line in lines[number + 1 : end]) + "\n"
        found.append(
            Block(
                page=page,
                line=number + 1,
                language=language,
                text=text,
                comment=_comment_above(lines, number),
            )
        )
        number = end + 1
    return found


def _comment_above(lines: list[str], number: int) -> str:
    number -= 1
    while number >= 0 and not lines[number].strip():
        number -= 1
    end = number
    if number < 0 or not lines[number].rstrip().endswith("-->"):
        return ""
    while number >= 0 and "<!--" not in lines[number]:
        number -= 1
    text = " ".join(line.strip() for line in lines[number : end + 1])
    return text.partition("<!--")[2].removesuffix("-->").strip()


# -- Python ----------------------------------------------------------------------------------------


def _names(code: str) -> set[str]:
    """Names that ``code`` uses, and arguments of its functions."""
    found = set()
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Name):
            found.add(node.id)
        elif isinstance(node, ast.arg):
            found.add(node.arg)
    return found


def _made(code: str) -> set[str]:
    """Names that ``code`` makes, at whatever level."""
    found = set()
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            found.add(node.id)
        elif isinstance(node, ast.arg):
            found.add(node.arg)
        elif isinstance(node, ast.FunctionDef | ast.ClassDef | ast.ExceptHandler):
            found.add(node.name or "")
        elif isinstance(node, ast.Import | ast.ImportFrom):
            found.update((alias.asname or alias.name).partition(".")[0] for alias in node.names)
    return found


def file_for(block: Block, usual: frozenset[str] = USUAL | {"fidelity"}) -> str:
    """The text of a test file that runs a Python block.

    Raises:
        ValueError: the block uses names that nothing gives it.
    """
    free = _names(block.text) - _made(block.text) - set(dir(builtins))
    known = GIVEN | OF_A_DEVICE | usual
    if unknown := sorted(free - known):
        raise ValueError(
            f"{block.where}: the block uses {', '.join(unknown)}, which it does not import and "
            f"nothing gives it; given are {', '.join(sorted(known))}"
        )
    head = "import numpy as np\nimport pytest\nfrom edge_harness import fidelity\n"
    has_tests = any(
        isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
        for node in ast.parse(block.text).body
    )
    if has_tests:
        given = sorted(free & GIVEN)
        return (
            head + (f"from docs_samples import {', '.join(given)}\n" if given else "") + block.text
        )
    arguments = ", ".join(sorted(free & (GIVEN | OF_A_DEVICE)))
    body = "".join(f"    {line}\n" if line else "\n" for line in block.text.splitlines())
    return f"{head}\n\ndef test_block({arguments}):\n{body}"


# -- what is printed -----------------------------------------------------------------------------

_CHANGING = re.compile(r"\b[0-9a-f]{12,}\b|[\d.]*\d(?:e[+-]?\d+)?|inf\b|nan\b")


def _loose(line: str) -> str:
    line = re.sub(r"\x1b\[[\d;]*m", "", line)
    line = _CHANGING.sub("0", line)
    return " ".join(re.sub(r"[=─━]{3,}", "=", line).split())


def missing_lines(shown: list[str], printed: str) -> list[str]:
    """Lines of ``shown`` that ``printed`` does not have, in this order, loosely compared."""
    there = [_loose(line) for line in printed.splitlines()]
    missing, at = [], 0
    for line in shown:
        wanted = _loose(line)
        if not wanted.strip("… "):
            continue
        pattern = re.compile(".*".join(map(re.escape, wanted.split("…"))))
        found = next((i for i in range(at, len(there)) if pattern.fullmatch(there[i])), None)
        if found is None:
            missing.append(line)
        else:
            at = found + 1
    return missing
