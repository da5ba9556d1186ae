"""What import-linter cannot say about the package's structure (its contracts are in
pyproject.toml and run by ``lint-imports``): no cycle among modules, and modules of a size that
one can read."""

from __future__ import annotations

import ast
import sys
from pathlib import Path
from typing import Any

import edge_harness
import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(edge_harness.__file__).parent
MODULES = sorted(ROOT.rglob("*.py"))
PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"


def circles(imports: dict[str, set[str]]) -> list[list[str]]:
    """Modules that import one another, however far around (Tarjan's components)."""
    number: dict[str, int] = {}
    lowest: dict[str, int] = {}
    stack: list[str] = []
    found = []

    def visit(module: str) -> None:
        number[module] = lowest[module] = len(number)
        stack.append(module)
        for other in sorted(imports[module]):
            if other not in number:
                visit(other)
                lowest[module] = min(lowest[module], lowest[other])
            elif other in stack:
                lowest[module] = min(lowest[module], number[other])
        if lowest[module] == number[module]:
            circle = stack[stack.index(module) :]
            del stack[stack.index(module) :]
            if len(circle) > 1 or module in imports[module]:
                found.append(sorted(circle))

    for module in sorted(imports):
        if module not in number:
            visit(module)
    return found


def test_circles_are_found() -> None:
    imports = {"a": {"b"}, "b": {"c", "d"}, "c": {"a"}, "d": {"d", "e"}, "e": set()}
    assert circles(imports) == [["d"], ["a", "b", "c"]]


def test_the_package_imports_nothing_else_of_this_repository() -> None:
    """A user's own folder ``fixtures`` would answer, and the wheel has none."""
    repository = PYPROJECT.parent
    ours = {path.name for path in repository.iterdir() if path.is_dir()} | {"conftest"}
    ours -= {"harness"}
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module:
                names = [node.module]
            assert not ours & {name.partition(".")[0] for name in names}, path


def test_no_modules_import_one_another_not_even_in_functions() -> None:
    grimp: Any = pytest.importorskip("grimp", reason="needs the extra 'lint'")
    graph = grimp.build_graph("edge_harness", cache_dir=None)
    found = circles({m: set(graph.find_modules_directly_imported_by(m)) for m in graph.modules})
    assert not found, "\n".join(map(str, found))


def _contracts() -> dict[str, dict[str, Any]]:
    table = tomllib.loads(PYPROJECT.read_text())["tool"]["importlinter"]
    assert set(table) == {"root_package", "contracts"}
    return {contract["name"]: contract for contract in table["contracts"]}


def test_no_contract_ignores_an_import() -> None:
    for contract in _contracts().values():
        assert not {"ignore_imports", "skip_descendants"} & set(contract)


def test_the_agents_contract_knows_every_module_there_is() -> None:
    contract = _contracts()["The agent imports the wire and nothing else of ours"]
    there = {
        f"edge_harness.{path.stem}"
        for path in ROOT.iterdir()
        if (path.suffix == ".py" or (path / "__init__.py").exists()) and path.stem != "__init__"
    }
    assert set(contract["forbidden_modules"]) == there - {"edge_harness.agent", "edge_harness.wire"}


def test_a_module_is_of_a_size_that_one_can_read() -> None:
    sizes = {str(p.relative_to(ROOT)): len(p.read_text().splitlines()) for p in MODULES}
    assert {name: lines for name, lines in sizes.items() if lines > 600} == {}


def _calls(path: Path, *names: str) -> list[str]:
    """Where ``path`` calls or raises one of ``names``."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        called = node.func if isinstance(node, ast.Call) else getattr(node, "exc", None)
        if isinstance(called, ast.Name) and called.id in names:
            found.append(f"{path.relative_to(ROOT)}: {ast.unparse(node)}")
    return found


def test_every_error_has_a_class_of_its_own() -> None:
    assert [hit for path in MODULES for hit in _calls(path, "Exception", "BaseException")] == []


def test_hooks_print_through_pytests_terminal() -> None:
    hooks = [ROOT / "plugin.py", *(ROOT / "pytest_support").rglob("*.py")]
    assert [hit for path in hooks for hit in _calls(path, "print")] == []
