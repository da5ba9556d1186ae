"""All single-token changes of a module that could be a slip of its author's."""

from __future__ import annotations

import ast
import io
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass

_OTHER = {
    "<": "<=",
    "<=": "<",
    ">": ">=",
    ">=": ">",
    "==": "!=",
    "!=": "==",
    "in": "not in",
    "is": "is not",
    "+": "-",
    "-": "+",
    "*": "/",
    "/": "*",
    "//": "*",
    "%": "*",
    "**": "*",
    "<<": ">>",
    ">>": "<<",
    "&": "|",
    "|": "&",
    "^": "|",
    "and": "or",
    "or": "and",
    "min": "max",
    "max": "min",
    "True": "False",
    "False": "True",
    "any": "all",
    "all": "any",
    "break": "continue",
    "continue": "break",
}


@dataclass(frozen=True, kw_only=True)
class Mutant:
    """One change of one file."""

    path: str
    """Below the repository."""
    line: int
    old: str
    """The whole line, or lines."""
    new: str
    name: str = ""

    def apply(self, source: str) -> str:
        """``source`` with the change.

        Raises:
            ValueError: the code to change is not there, or there twice.
        """
        if self.line:
            lines = source.splitlines(keepends=True)
            if lines[self.line - 1].rstrip("\n") != self.old:
                raise ValueError(f"{self.path}:{self.line} is not {self.old!r}")
            lines[self.line - 1] = self.new + "\n"
            return "".join(lines)
        if source.count(self.old) != 1:
            raise ValueError(f"{self.path} has {source.count(self.old)} times {self.old!r}")
        return source.replace(self.old, self.new)

    def __str__(self) -> str:
        place = f"{self.path}:{self.line}" if self.line else f"{self.path} ({self.name})"
        return f"{place}\n  - {self.old.strip()}\n  + {self.new.strip()}"


def mutants_of(path: str, source: str) -> list[Mutant]:
    """Each change of one operator, comparison, number, truth value or ``not`` of ``source``.

    Left out: annotations, decorators, imports and texts, which types and style checks hold, or
    nobody could call wrong.
    """
    tree = ast.parse(source)
    lines = source.splitlines()
    found = []
    for (row, start), (end_row, end), new in _changes(tree, source):
        if row != end_row:
            continue
        # Columns of the syntax tree count bytes.
        line = lines[row - 1].encode()
        old, changed = line.decode(), (line[:start] + new.encode() + line[end:]).decode()
        found.append(Mutant(path=path, line=row, old=old, new=changed))
    return found


Place = tuple[int, int]


def _changes(tree: ast.Module, source: str) -> Iterator[tuple[Place, Place, str]]:
    tokens = [
        (_bytes(token.line, token.start), _bytes(token.line, token.end), token.string)
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
    ]
    for node in _code(tree):
        if isinstance(node, ast.BinOp):
            yield from _between(tokens, _end(node.left), _start(node.right))
        elif isinstance(node, ast.BoolOp):
            for left, right in zip(node.values, node.values[1:], strict=False):
                yield from _between(tokens, _end(left), _start(right))
        elif isinstance(node, ast.Compare):
            operands = [node.left, *node.comparators]
            for left, right, op in zip(operands, operands[1:], node.ops, strict=False):
                if isinstance(op, (ast.NotIn, ast.IsNot)):
                    yield from _without_not(tokens, _end(left), _start(right))
                else:
                    yield from _between(tokens, _end(left), _start(right))
        elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            row, column = _start(node)
            yield (row, column), (row, column + len("not ")), ""
        elif isinstance(node, ast.Constant) and type(node.value) in (bool, int, float):
            value = node.value
            if isinstance(value, bool):
                new = str(not value)
            elif isinstance(value, int):
                text = next(text for start, _, text in tokens if start == _start(node))
                new = f"0x{value ^ 1:0{len(text) - 2}X}" if text[:2] == "0x" else str(value + 1)
            else:
                new = repr(value * 1.5 or 1.0)
            yield _start(node), _end(node), new
        elif isinstance(node, ast.Name) and node.id in ("min", "max", "any", "all"):
            yield _start(node), _end(node), _OTHER[node.id]
        elif isinstance(node, (ast.Break, ast.Continue)):
            word = "break" if isinstance(node, ast.Break) else "continue"
            yield _start(node), _end(node), _OTHER[word]


def _code(tree: ast.AST) -> Iterator[ast.AST]:
    """All nodes but those of annotations, decorators, imports and f-strings."""
    skipped: list[object] = []
    if isinstance(tree, (ast.Import, ast.ImportFrom, ast.JoinedStr)):
        return
    if isinstance(tree, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        skipped += tree.decorator_list
    skipped.append(getattr(tree, "returns", None))
    skipped.append(getattr(tree, "annotation", None))
    yield tree
    for child in ast.iter_child_nodes(tree):
        if not any(child is other for other in skipped):
            yield from _code(child)


def _between(
    tokens: list[tuple[Place, Place, str]], after: Place, before: Place
) -> Iterator[tuple[Place, Place, str]]:
    for start, end, text in tokens:
        if after <= start and end <= before and text in _OTHER:
            yield start, end, _OTHER[text]
            return


def _without_not(
    tokens: list[tuple[Place, Place, str]], after: Place, before: Place
) -> Iterator[tuple[Place, Place, str]]:
    inside = [t for t in tokens if after <= t[0] and t[1] <= before and t[2] in ("in", "is", "not")]
    if len(inside) == 2:
        yield inside[0][0], inside[1][1], next(t[2] for t in inside if t[2] != "not")


def _bytes(line: str, place: Place) -> Place:
    return place[0], len(line[: place[1]].encode())


def _start(node: ast.expr | ast.stmt) -> Place:
    return node.lineno, node.col_offset


def _end(node: ast.expr | ast.stmt) -> Place:
    assert node.end_lineno is not None
    assert node.end_col_offset is not None
    return node.end_lineno, node.end_col_offset
