"""Says which goldens a run wrote; registered only with ``--edge-update-goldens``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from edge_harness.pytest_support.running_test import of_item

WRITTEN = "edge_golden_written"
_SHOWN = 20


class Written:
    """Collects on the controller what the tests wrote, also those of xdist's workers."""

    def __init__(self) -> None:
        self._files: dict[str, None] = {}

    @pytest.hookimpl(hookwrapper=True, trylast=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Iterator[None]:
        yield
        for file in of_item(item).written:
            item.user_properties.append((WRITTEN, file))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        for name, value in report.user_properties:
            if name == WRITTEN:
                self._files[str(value)] = None

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        files = list(self._files)
        terminalreporter.ensure_newline()
        terminalreporter.section("edge goldens")
        if not files:
            terminalreporter.write_line("nothing changed")
            return
        for file in files[:_SHOWN]:
            terminalreporter.write_line(f"written: {file}")
        if len(files) > _SHOWN:
            terminalreporter.write_line(f"and {len(files) - _SHOWN} more")
        terminalreporter.write_line("next: git diff, and commit what is right")
