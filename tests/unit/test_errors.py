import pickle
import re

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
