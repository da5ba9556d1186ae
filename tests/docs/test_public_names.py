"""What the docs show is public, and what is public is in the docs."""

import ast
import re
from importlib import import_module

import edge_harness
import pytest
from edge_harness import errors

from tests.docs.blocks import PAGES, REPOSITORY, blocks

MODULES = ("errors", "fidelity", "golden", "properties", "strategies")
#: The page for those who add engines, runtimes and commands may also import what they add to.
EXTENDING = "docs/extending.md"


def public_names(module):
    if module == "errors":
        return [
            name
            for name, value in vars(errors).items()
            if isinstance(value, type) and issubclass(value, errors.EdgeError)
        ]
    return import_module(f"edge_harness.{module}").__all__


def imported(tree):
    """``(module, name)`` of each import from our package."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "edge_harness":
            yield from ((node.module, alias.name) for alias in node.names)
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] == "edge_harness":
                    yield alias.name, ""


def used_of_modules(tree):
    """``(module, name)`` of each ``fidelity.compare`` in the code."""
    names = {"edge": "strategies", **{module: module for module in MODULES}}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            module = names.get(node.value.id)
            if module is not None:
                yield module, node.attr


def shown_code():
    """Python that the docs and the examples show, with where it is."""
    for page in PAGES:
        for block in blocks(page):
            if block.language == "python":
                yield block.where, block.text
    for file in sorted((REPOSITORY / "examples").glob("*.py")):
        yield f"examples/{file.name}", file.read_text()


@pytest.mark.parametrize(
    ("where", "code"),
    [pytest.param(where, code, id=where) for where, code in shown_code() if EXTENDING not in where],
)
def test_what_is_shown_is_public(where, code):
    tree = ast.parse(code)
    for module, name in imported(tree):
        if module == "edge_harness":
            assert name in edge_harness.__all__, f"{where} imports {name}"
        else:
            top = module.removeprefix("edge_harness.")
            # What the clock is calibrated with is a tool of its own, which one page shows.
            if top != "clock.calibrate.architectures":
                assert top in MODULES, f"{where} imports {module}"
                assert name in public_names(top), f"{where} imports {module}.{name}"
    for module, name in used_of_modules(tree):
        assert name in public_names(module), f"{where} uses {module}.{name}"


@pytest.mark.parametrize("module", ["", *MODULES])
def test_what_is_public_is_in_the_docs(module):
    text = "\n".join((REPOSITORY / page).read_text() for page in PAGES)
    names = public_names(module) if module else edge_harness.__all__
    lost = [name for name in names if not re.search(rf"(?<!\w){re.escape(name)}\b", text)]
    assert not lost, f"no page names {', '.join(lost)}"


def test_what_methods_give_is_importable_from_the_top():
    """A type that a public method of a device or a session takes or returns."""
    known = {*edge_harness.__all__, *(name for module in MODULES for name in public_names(module))}
    # Aliases of types and of words, and objects that users only hand on.
    known |= {"Array", "Moment", "FigureKind", "Kernels", "GraphOptimization"}
    known |= {"Availability", "LoadRequest", "ModelFile"}
    for name in ("Device", "Session"):
        for attribute, value in vars(getattr(edge_harness, name)).items():
            function = value.fget if isinstance(value, property) else value
            if attribute.startswith("_") or not hasattr(function, "__annotations__"):
                continue
            for annotation in function.__annotations__.values():
                for word in re.findall(r"(?<![.\w\"'])[A-Z]\w+", str(annotation)):
                    if word in vars(import_module("typing")) or word in PLAIN:
                        continue
                    assert word in known, f"{name}.{attribute}: {annotation}"


PLAIN = {"Path", "Mapping", "Sequence", "Iterable", "Iterator", "None", "TracebackType"}
