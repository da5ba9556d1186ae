"""Tolerances of output fidelity from the ini file and ``@pytest.mark.edge_fidelity(…)``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from edge_harness.errors import OptionError


class Fidelity:
    """A plugin of its own, registered where a device is selected.

    Raises (from the constructor):
        pytest.UsageError: the ini value is wrong.
    """

    def __init__(self, config: pytest.Config, *, is_worker: bool) -> None:
        self._is_worker = is_worker
        self._ini: dict[str, float] = {}
        words = config.getini("edge_fidelity")
        if words:
            from edge_harness.fidelity.tolerances import DEFAULTS, parse_tolerances

            try:
                self._ini = parse_tolerances(words)
                DEFAULTS.but(self._ini)
            except OptionError as error:
                raise pytest.UsageError(f"ini value edge_fidelity: {error}") from None

    def changes(self, item: pytest.Item) -> dict[str, float]:
        """What ini file and marks say for ``item``; the closest mark counts.

        Raises:
            OptionError: a mark is wrong.
        """
        found = dict(self._ini)
        for mark in reversed(list(item.iter_markers("edge_fidelity"))):  # the farthest first
            if mark.args:
                raise OptionError(
                    f"{', '.join(map(repr, mark.args))} was given without a name",
                    next_step="write it as edge_fidelity(max_steps=2)",
                )
            found.update(mark.kwargs)
        if found != self._ini:
            from edge_harness.fidelity.tolerances import DEFAULTS

            DEFAULTS.but(found)
        return found

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        if self._is_worker:
            return  # a usage error there could not reach the person; the test's set-up tells it
        bad = []
        for item in items:
            try:
                self.changes(item)
            except OptionError as error:
                bad.append(f"@pytest.mark.edge_fidelity on {item.nodeid}: {error}")
        if bad:
            raise pytest.UsageError("\n".join(bad))

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        __tracebackhide__ = True
        self.changes(item)

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Iterator[Any]:
        changes = self.changes(item)
        if not changes:
            yield
            return
        from edge_harness.fidelity.tolerances import tolerances

        with tolerances(changes):
            yield
