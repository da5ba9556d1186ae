"""The running test, as goldens want it; for functions that take no fixture."""

from __future__ import annotations

import shlex

import pytest

from edge_harness.golden.running_test import RunningTest
from edge_harness.pytest_support.marks import wanted_by
from edge_harness.pytest_support.options import spelled

_TEST: pytest.StashKey[RunningTest] = pytest.StashKey()


def of_item(item: pytest.Item) -> RunningTest:
    """The same object for each call with one ``item``."""
    if _TEST not in item.stash:
        item.stash[_TEST] = _made(item)
    return item.stash[_TEST]


def _made(item: pytest.Item) -> RunningTest:
    wanted = wanted_by(item)
    device = wanted.name if wanted is not None else ""
    # Classes are part of the id, and files of one name in two folders are two files.
    _, _, inside = item.nodeid.partition("::")
    again = ["pytest", "--edge-update-goldens"]
    if device:
        again.append(f"{spelled(item.config, '--device')}={device}")
    # Outputs of another engine or runtime may be others. What the environment and the ini file
    # say holds for the next run too.
    given = item.config.option
    if given.edge_engine:
        again.append(f"{spelled(item.config, '--engine')}={given.edge_engine}")
    again += [f"--edge-profiles={folder}" for folder in given.edge_profiles or ()]
    again += [f"--edge-runtime={runtime}" for runtime in given.edge_runtime or ()]
    return RunningTest(
        path=item.path,
        name=inside or item.name,
        device=device,
        update=bool(item.config.option.edge_update_goldens),
        again=shlex.join([*again, item.nodeid]),
        asked={},
        written=[],
    )
