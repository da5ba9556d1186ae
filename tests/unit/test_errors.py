import ast
import pickle
import re
from pathlib import Path

import pytest
from edge_harness import errors


def every_error():
    found, todo = [], [errors.EdgeError]
    while todo:
        cls = todo.pop()
        found.append(cls)
        todo += cls.__subclasses__()
    return found


@pytest.mark.parametrize("cls", every_error())
def test_errors_survive_pickling_whole(cls):
    error = pickle.loads(pickle.dumps(cls("what", next_step="do this", details={"n": 1})))
    assert type(error) is cls
    assert (error.message, error.next_step, error.details) == ("what", "do this", {"n": 1})
    assert str(error) == "what\n  next: do this"


def test_the_tree_in_the_docstring_is_the_tree():
    drawn = re.findall(r"^    (?:[│ ]*[├└]── )?(\w+)", errors.__doc__.split("::")[1], re.MULTILINE)
    assert sorted(drawn) == sorted(cls.__name__ for cls in every_error())


def test_an_error_is_changed_by_making_another():
    error = errors.OutOfMemory("what", next_step="do this", details={"n": 1})
    other = error.but(message="what, and where", details={"m": 2})
    assert type(other) is errors.OutOfMemory
    assert (other.message, other.next_step) == ("what, and where", "do this")
    assert other.args == ("what, and where",)
    assert other.details == {"n": 1, "m": 2}
    assert (error.message, error.details) == ("what", {"n": 1})


def test_an_error_made_from_another_keeps_its_traceback_and_cause():
    def fails():
        try:
            raise errors.EdgeError("what") from ValueError("why")
        except errors.EdgeError as error:
            raise error.but(message="what, and where") from error.__cause__

    with pytest.raises(errors.EdgeError, match="what, and where") as caught:
        fails()
    assert isinstance(caught.value.__cause__, ValueError)
    assert "raise errors.EdgeError" in str(caught.traceback[-1].statement)


FIELDS = ("message", "next_step", "details", "args")


def changed_in_place(tree):
    """Lines that change the fields of an object other than ``self``."""
    for node in ast.walk(tree):
        targets = []
        if isinstance(node, ast.Assign):
            targets = node.targets
        elif isinstance(node, ast.AugAssign | ast.AnnAssign):
            targets = [node.target]
        elif isinstance(node, ast.Delete):
            targets = node.targets
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            if node.func.attr == "add_note":
                yield node.lineno
            if node.func.attr in ("update", "setdefault", "pop", "clear"):
                targets = [node.func.value]
        for target in targets:
            if isinstance(target, ast.Subscript):
                target = target.value
            if (
                isinstance(node, ast.stmt | ast.expr)
                and isinstance(target, ast.Attribute)
                and target.attr in FIELDS
                and not (isinstance(target.value, ast.Name) and target.value.id == "self")
            ):
                yield node.lineno


@pytest.mark.parametrize(
    "line",
    [
        "error.message = 'x'",
        "error.message += 'x'",
        "error.args = ('x',)",
        "error.details['x'] = 1",
        "del error.details['x']",
        "error.details.setdefault('x', 1)",
        "self.error.message = 'x'",
        "error.add_note('x')",
    ],
)
def test_changes_in_place_are_recognised(line):
    assert list(changed_in_place(ast.parse(line))) == [1]


def test_no_error_is_changed_in_place():
    package = Path(errors.__file__).parent
    found = {
        f"{path.relative_to(package)}:{line}"
        for path in package.rglob("*.py")
        for line in changed_in_place(ast.parse(path.read_text()))
    }
    assert not found
