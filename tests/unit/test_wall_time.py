"""What the wall time of an answer is said to be worth."""

from types import SimpleNamespace

import pytest
from edge_harness import Session


@pytest.mark.parametrize(
    ("kind", "source"),
    [
        ("emulated", "emulated: not a latency"),
        ("native", "native on this machine, not the board"),
        ("measured", "measured on the board, the way there and back included"),
    ],
)
def test_its_kind_and_source_are_those_of_the_device(kind, source):
    session = Session.__new__(Session)  # without a worker: nothing is run
    session.device = SimpleNamespace(figure_kind=kind)
    session._wall_ms = 1.5
    found = session.wall_time
    assert (found.wall_ms, found.kind, found.source) == (1.5, kind, source)
    assert str(found) == f"1.5 ms ({source})"
