"""Nothing but the engines and the tables of runtimes knows an engine, a runtime or a format by
name: whoever needs to tell them apart asks the object, so that one more is one file."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import edge_harness
import pytest
from edge_harness.engines.registry import engine_names
from edge_harness.runtimes import FORMATS, RUNTIMES

ROOT = Path(edge_harness.__file__).parent
#: Where names are at home.
HOMES = ("engines/", "agent/runtimes/")
TABLES = ("runtimes.py",)
#: Methods of strings that look for one in another, and of tables that look one up.
LOOKS = {
    *("startswith", "endswith", "removeprefix", "removesuffix", "partition", "rpartition"),
    *("split", "rsplit", "find", "rfind", "index", "rindex", "count", "replace"),
    *("get", "pop", "setdefault", "fullmatch", "match", "search"),
}


#: Calls that hold what they are given.
CONTAINERS = {"str", "list", "tuple", "set", "frozenset", "dict", "sorted"}


def names() -> frozenset[str]:
    """Of engines, runtimes, what carries them, what is imported of them, and formats."""
    found = set(engine_names())
    for row in RUNTIMES.values():
        found |= {row.name, row.distribution, row.imports}
    for each in FORMATS.values():
        found |= {each.name, *each.suffixes}
    return frozenset(found - {""})


NAMES = names()


def _parts(node: ast.AST) -> Iterator[ast.AST]:
    """``node`` and what it is made of, without the arguments of functions that make something
    else of them: ``find_spec("onnx") is None`` compares no name."""
    yield node
    if isinstance(node, ast.Call):
        plain = isinstance(node.func, ast.Name) and node.func.id in CONTAINERS
        inner = [*(node.args if plain else ()), node.func]
    else:
        inner = [*ast.iter_child_nodes(node)]
    for each in inner:
        yield from _parts(each)


_NAME = "|".join(re.escape(name) for name in sorted(NAMES, key=len, reverse=True))
#: Two names one after the other: ``user|docker``, ``user, docker``, ``.tflite or .onnx``.
_LIST = re.compile(rf"(?<![\w-])({_NAME})[`'\"]*\s*([,|/;\s]|or|and)\s*[`'\"]*({_NAME})(?![\w-])")


def _listed(text: str) -> bool:
    """Whether ``text`` lists names, as help texts and ``"user vm".split()`` do."""
    return _LIST.search(text) is not None


def _is_name(node: ast.AST | None) -> bool:
    return isinstance(node, ast.Constant) and node.value in NAMES


class Finder(ast.NodeVisitor):
    """Collects ``(line, what)`` of every place that tells by a name."""

    def __init__(self) -> None:
        self.hits: list[tuple[int, str]] = []
        self.constants: set[str] = set()
        """Names of variables that hold nothing but such a name, or a row of a table."""

    def find(self, tree: ast.Module) -> list[tuple[int, str]]:
        for node in ast.walk(tree):
            if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                if _is_name(node.value) or self._row(node.value):
                    self.constants |= {t.id for t in targets if isinstance(t, ast.Name)}
        self.visit(tree)
        return sorted(set(self.hits))

    def _row(self, node: ast.AST) -> bool:
        """``RUNTIMES["…"]``: a row looked up by a name that is written here."""
        return isinstance(node, ast.Subscript) and _is_name(node.slice)

    def _told(self, node: ast.AST) -> list[str]:
        """The names that ``node`` mentions, written out or through a constant."""
        parts = list(_parts(node))
        words = [str(p.value) for p in parts if isinstance(p, ast.Constant) and _is_name(p)]
        inner = [p.id for p in parts if isinstance(p, ast.Name) and p.id in self.constants]
        return [*words, *inner]

    def _hit(self, node: ast.AST, how: str, words: list[str]) -> None:
        self.hits.append((getattr(node, "lineno", 0), f"{how} {', '.join(map(repr, words))}"))

    def visit_Compare(self, node: ast.Compare) -> None:
        if words := self._told(node):
            self._hit(node, "compares", words)
        self.generic_visit(node)

    def visit_MatchValue(self, node: ast.MatchValue) -> None:
        if words := self._told(node):
            self._hit(node, "matches", words)

    def visit_Call(self, node: ast.Call) -> None:
        if isinstance(node.func, ast.Attribute) and node.func.attr in LOOKS:
            for argument in node.args:
                if words := self._told(argument):
                    self._hit(node, f"{node.func.attr}() of", words)
        self.generic_visit(node)

    def _elements(self, node: ast.AST, elements: list[ast.expr]) -> None:
        words = [str(e.value) for e in elements if isinstance(e, ast.Constant) and _is_name(e)]
        if words:
            self._hit(node, "collects", words)
        self.generic_visit(node)

    def visit_List(self, node: ast.List) -> None:
        self._elements(node, node.elts)

    def visit_Tuple(self, node: ast.Tuple) -> None:
        self._elements(node, node.elts)

    def visit_Set(self, node: ast.Set) -> None:
        self._elements(node, node.elts)

    def visit_Dict(self, node: ast.Dict) -> None:
        self._elements(node, [key for key in node.keys if key is not None])

    def visit_Subscript(self, node: ast.Subscript) -> None:
        looked_up = isinstance(node.value, ast.Name) and node.value.id.isupper()
        literal = isinstance(node.value, ast.Name) and node.value.id == "Literal"
        if (looked_up or literal) and _is_name(node.slice):
            self._hit(node, "looks up", self._told(node.slice))
        self.generic_visit(node)

    def visit_Expr(self, node: ast.Expr) -> None:
        if not isinstance(node.value, ast.Constant):  # a docstring tells readers, not programs
            self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> None:
        if isinstance(node.value, str) and _listed(node.value):
            self._hit(node, "lists", [node.value])


def hits(source: str) -> list[str]:
    """What in ``source`` tells by a name, a line each."""
    lines = source.splitlines()
    return [
        f"{line}: {what}: {lines[line - 1].strip()}"
        for line, what in Finder().find(ast.parse(source))
    ]


def modules() -> list[Path]:
    found = []
    for path in sorted(ROOT.rglob("*.py")):
        place = path.relative_to(ROOT).as_posix()
        if not place.startswith(HOMES) and place not in TABLES:
            found.append(path)
    return found


def test_no_code_outside_their_homes_tells_engines_runtimes_or_formats_by_name() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{hit}" for path in modules() for hit in hits(path.read_text())
    ]
    assert not found, "\n" + "\n".join(found)


@pytest.mark.parametrize(
    "source",
    [
        "if engine == 'docker': pass",
        "native = 'host' != device.engine.name",
        "if name in ('auto', 'user'): pass",
        "if 'onnx' in runtime: pass",
        "match model.format:\n    case 'tflite': pass",
        "match model.format:\n    case 'other' | 'onnx': pass",
        "requirement.startswith('tflite-runtime')",
        "path.endswith(('.tflite', '.bin'))",
        "module, _, version = text.partition('onnxruntime')",
        "ENGINES = ['vm']",
        "Engine = Literal['user', 'docker']",
        "Engine = Literal['user']",
        "names = frozenset({'tflite'})",
        "DISTRIBUTION = {'litert': 1}",
        "names = 'user docker vm'.split()",
        "click.option('--engine', metavar='user|docker|vm')",
        "click.option('--engine', help='what runs the device: user, docker or vm')",
        "raise ModelError('neither', next_step='use a .tflite or .onnx file')",
        "raise ModelError(f'neither {what}: use user or docker')",
        "ONNX = 'onnx'\ndef f(model):\n    return model.format == ONNX",
        "ONNX = FORMATS['onnx']\ndef f(model):\n    return model.format is ONNX",
        "if model.format is FORMATS['onnx']: pass",
        "read = READERS['tflite']",
        "if name in frozenset(['user', 'auto']): pass",
        "read = readers.get('ai_edge_litert')",
    ],
)
def test_each_way_of_telling_by_a_name_is_found(source: str) -> None:
    assert hits(source)


@pytest.mark.parametrize(
    "source",
    [
        '"""An engine such as user, docker or vm."""',
        "raise MissingTool('no QEMU', next_step='or use --engine=docker')",
        "device.load(model, runtime='onnx')",
        "Format(name='onnx')",
        "if engine.name == chosen: pass",
        "if model.format.name in known: pass",
        "header = ['connect', 'port']",
        "if find_spec('onnx') is None: pass",
    ],
)
def test_what_tells_nothing_by_a_name_is_let_through(source: str) -> None:
    assert hits(source) == []


def test_the_names_are_those_of_the_registries() -> None:
    assert {"user", "tflite", "ai-edge-litert", "onnxruntime", "tflite_runtime"} <= NAMES
