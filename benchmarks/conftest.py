"""How benchmarks say what they found."""

import pytest


@pytest.fixture
def report(record_property, capsys):
    """``report(what, value, goal, unit)``: the figure beside the goal the project set itself."""

    def show(what: str, value: float, goal: float, unit: str = "×") -> None:
        record_property(what, value)
        with capsys.disabled():
            verdict = "within" if value <= goal else "MISSES"
            print(f"\n  {what}: {value:.2f} {unit} ({verdict} the goal of {goal:g} {unit})")

    return show
