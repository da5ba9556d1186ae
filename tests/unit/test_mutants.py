"""What ``make mutants`` changes; whether tests notice is for itself to say."""

import ast
from pathlib import Path

import pytest

from tests.mutants.named import NAMED
from tests.mutants.tokens import Mutant, mutants_of

REPOSITORY = Path(__file__).parents[2]

SOURCE = '''
"""1 + 1 in a text."""
from a import b as c

LIMIT: int | None = 0x10

@frozen(kw_only=True)
def f(x: int | str = 1) -> bool | None:
    if not (x < 2 and x is not None):
        return x not in (True, 2.0)  # 3 + 3
    return max(x - 1, -x) or "1 < 2"
'''


def test_each_operator_number_and_truth_value_of_the_code_is_changed_alone():
    changes = {(m.old.strip(), m.new.strip()) for m in mutants_of("a.py", SOURCE)}
    first, then, last = (line.strip() for line in SOURCE.splitlines()[-3:])
    header = "def f(x: int | str = 1) -> bool | None:"
    assert changes == {
        ("LIMIT: int | None = 0x10", "LIMIT: int | None = 0x11"),
        (header, header.replace("= 1", "= 2")),
        (first, first.replace("not (", "(")),
        (first, first.replace("<", "<=")),
        (first, first.replace("2", "3")),
        (first, first.replace("and", "or")),
        (first, first.replace("is not", "is")),
        (then, then.replace("not in", "in")),
        (then, then.replace("True", "False")),
        (then, then.replace("2.0", "3.0")),
        (last, last.replace("max", "min")),
        (last, last.replace("x - 1", "x + 1")),
        (last, last.replace("- 1", "- 2")),
        (last, last.replace(" or ", " and ")),
    }


def test_columns_are_counted_in_bytes_where_a_line_is_not_ascii():
    (mutant,) = mutants_of("a.py", 'x = "µµ" if y < z else ""\n')
    assert mutant.new == 'x = "µµ" if y <= z else ""'


@pytest.mark.parametrize("name", ["diagnose/explain.py", "device/lease.py", "clock/pipeline.py"])
def test_a_changed_module_is_a_program_still(name):
    path = REPOSITORY / "harness" / "edge_harness" / name
    source = path.read_text()
    made = mutants_of(name, source)
    assert len(made) > 20
    for mutant in made:
        changed = mutant.apply(source)
        ast.parse(changed)
        assert changed != source


def test_a_mutant_of_a_line_that_is_another_by_now_is_refused():
    mutant = Mutant(path="a.py", line=1, old="x = 1", new="x = 2")
    assert mutant.apply("x = 1\ny = 1\n") == "x = 2\ny = 1\n"
    with pytest.raises(ValueError, match=r"a\.py:1 is not 'x = 1'"):
        mutant.apply("x = 3\n")


@pytest.mark.parametrize("mutant", NAMED, ids=lambda mutant: mutant.name)
def test_each_named_change_fits_the_code(mutant):
    source = (REPOSITORY / mutant.path).read_text()
    changed = mutant.apply(source)
    ast.parse(changed)
    assert changed != source


def test_the_named_changes_have_names_of_their_own():
    assert len({mutant.name for mutant in NAMED}) == len(NAMED) >= 23
