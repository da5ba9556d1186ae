"""What ``tests/published`` runs of its tests in ``make test``."""

import pytest

from tests.published.conftest import SHARE, drawn, share

NODES = [f"tests/published/test_{file}.py::test_{n}" for file in "ab" for n in range(20)]
ONE = "tests/published/test_c.py::test_alone"


def test_the_same_seed_draws_the_same_tests_and_another_others():
    first = drawn([*NODES, ONE], 0.25, "7")
    assert first == drawn([ONE, *NODES[::-1]], 0.25, "7")
    assert len({frozenset(drawn(NODES, 0.25, str(seed))) for seed in range(5)}) == 5


def test_each_file_has_its_share_and_one_test_at_least():
    chosen = drawn([*NODES, ONE], 0.25, "7")
    assert ONE in chosen
    for file in "ab":
        assert len([node for node in chosen if f"test_{file}.py" in node]) == 5
    assert len(drawn(NODES, 0.26, "7")) == 12
    assert drawn([*NODES, ONE], 1, "7") == {*NODES, ONE}
    assert drawn([], 0.5, "7") == set()


def test_a_larger_share_holds_the_smaller_one():
    assert drawn(NODES, 0.1, "7") < drawn(NODES, 0.5, "7")


@pytest.mark.parametrize("text", ["0", "-1", "1.1", "nan", "many", ""])
def test_a_share_that_means_nothing_is_refused(monkeypatch, text):
    monkeypatch.setenv(SHARE, text)
    with pytest.raises(pytest.UsageError, match=SHARE):
        share()


def test_all_are_run_where_no_share_is_asked_for(monkeypatch):
    monkeypatch.delenv(SHARE, raising=False)
    assert share() == 1
    monkeypatch.setenv(SHARE, "0.2")
    assert share() == 0.2
