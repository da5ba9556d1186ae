"""Tests against what others published, which take minutes: a sample of them, drawn by a seed.

``EDGE_PUBLISHED_SHARE`` (0 to 1, default all) is the share of each file's tests that runs, and
``EDGE_PUBLISHED_SEED`` which; the header and the summary print both and how to repeat them.
"""

from __future__ import annotations

import math
import os
import random
import time

import pytest

SHARE, SEED = "EDGE_PUBLISHED_SHARE", "EDGE_PUBLISHED_SEED"
# Before pytest-xdist starts its workers, which inherit it and must draw the same.
os.environ.setdefault(SEED, str(int(time.time())))


def share() -> float:
    text = os.environ.get(SHARE, "1")
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value <= 1:
        raise pytest.UsageError(f"{SHARE} is {text!r}; give a number above 0 and up to 1")
    return value


def pytest_report_header() -> str:
    return f"published: {share():.0%} of the tests, {SEED}={os.environ[SEED]}"


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    here = [item for item in items if "published" in item.path.parts]
    chosen = drawn([item.nodeid for item in here], share(), os.environ[SEED])
    dropped = [item for item in here if item.nodeid not in chosen]
    config.hook.pytest_deselected(items=dropped)
    items[:] = [item for item in items if item not in dropped]


def drawn(nodes: list[str], part: float, seed: str) -> set[str]:
    """``part`` of each file's ``nodes``, one at least; more of them with a larger part."""
    chosen: set[str] = set()
    for file in sorted({node.partition("::")[0] for node in nodes}):
        own = sorted(node for node in nodes if node.partition("::")[0] == file)
        random.Random(f"{seed} {file}").shuffle(own)
        chosen.update(own[: math.ceil(part * len(own))])
    return chosen


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if share() < 1:
        terminalreporter.write_line(
            f"{share():.0%} of the tests against published figures ran; the same ones again: "
            f"{SHARE}={share():g} {SEED}={os.environ[SEED]} pytest tests/published; "
            "all: make published"
        )
