"""What reports carry of devices: sections, properties, findings. Registered only when devices are
selected."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

from edge_harness.errors import DeviceFailed, EdgeError, MissingAbility
from edge_harness.pytest_support.pool import AbilitySkip, Pool
from edge_harness.pytest_support.summary import FINDING, Summary

if TYPE_CHECKING:
    from edge_harness.device.device import Device

LOG_LINES = 100
_NO_DEADLINE = (
    "The wall clock of an emulator is no deadline: decorate the test with "
    "edge_harness.strategies.settings(), or pass deadline=None to hypothesis.settings."
)
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff\ufffe\uffff]")


def printable(text: str) -> str:
    """``text`` with characters that XML cannot hold as escapes."""
    return _CONTROL.sub(lambda match: repr(match[0])[1:-1], text)


class Reporting:
    """Hooks around each test, and the summary of all."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._summary = Summary(pool)
        self._log_start = 0
        #: How many findings of a device belong to earlier tests.
        self._seen: dict[int, int] = {}

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        self._pool.expect(items)

    @pytest.hookimpl(hookwrapper=True, tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> Iterator[None]:
        device = self._pool.device_of(item)  # not a fresh one: that starts in this set-up
        self._log_start = 0
        if device is not None:
            self._log_start = len(_log(device))
            self._seen[id(device)] = len(device.findings)
        yield

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_teardown(self, item: pytest.Item) -> None:
        self._pool.test_done(item)

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Iterator[None]:
        outcome: Any = yield
        error = outcome.excinfo[1] if outcome.excinfo else None
        if isinstance(error, MissingAbility) and not self._pool.settings.strict:
            outcome.force_exception(AbilitySkip(error))

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[Any]
    ) -> Iterator[None]:
        device = self._pool.device_of(item)
        if device is not None and call.when == "call":
            # Only now: the versions of runtimes are known once a model was loaded.
            for name, value in device.describe().items():
                item.user_properties.append((f"edge_{name}", printable(value)))
        outcome: Any = yield
        report: pytest.TestReport = outcome.get_result()
        error = call.excinfo.value if call.excinfo is not None else None
        if isinstance(error, AbilitySkip) and report.skipped:
            path, line, _ = item.reportinfo()
            report.longrepr = (os.fspath(path), (line or 0) + 1, f"Skipped: {error.msg}")
            self._attach(item, "skip", "", error.error.message, error.error.next_step)
        if device is not None:
            self._attach_findings(item, device, error, failed=report.failed)
            if report.failed and _missed_deadline(error):
                report.sections.append(("edge", _NO_DEADLINE))
            if report.failed:
                log = _log(device)[self._log_start :].splitlines()[-LOG_LINES:]
                if log:
                    report.sections.append((f"device log {device.name}", "\n".join(log)))

    def _attach_findings(
        self, item: pytest.Item, device: Device, error: BaseException | None, *, failed: bool
    ) -> None:
        start = self._seen.get(id(device), 0)
        new = device.findings[start:]
        self._seen[id(device)] = start + len(new)
        for finding in new:
            if finding.kind != "crash":
                self._attach(item, finding.kind, device.name, finding.text, finding.command)
        # A crash that a test foresaw is no finding. Hypothesis makes many on its way to the
        # smallest input: the last is the one.
        crashes = [finding for finding in new if finding.kind == "crash"]
        if failed and isinstance(error, DeviceFailed):
            cause = str(error.details.get("summary", ""))
            self._attach(item, "crash", device.name, _headline(error.message, cause))
        elif failed and crashes:
            self._attach(item, "crash", device.name, _headline(crashes[-1].text))

    def _attach(
        self, item: pytest.Item, kind: str, device: str, text: str, command: str = ""
    ) -> None:
        """Findings travel with the test's properties, which xdist brings to the controller."""
        finding = {"kind": kind, "device": device, "text": text, "command": command}
        item.user_properties.append((FINDING, json.dumps(finding)))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "teardown":  # which has the properties of all phases
            self._summary.note(report)

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        self._summary.write(terminalreporter)


def _missed_deadline(error: BaseException | None) -> bool:
    """Whether Hypothesis' deadline ended the test; by name, so as not to import Hypothesis."""
    errors = [error, *getattr(error, "exceptions", ())]
    return any(type(each).__name__ == "DeadlineExceeded" for each in errors)


def _log(device: Device) -> str:
    try:
        return device.log()
    except (OSError, EdgeError):  # its engine is gone; the test's own error says more
        return ""


def _headline(message: str, cause: str = "") -> str:
    """What crashed while doing what, and the diagnosis in one line."""
    lines = message.splitlines()
    if cause and cause not in lines[0]:
        return f"{lines[0]}: {cause}"
    if len(lines) > 1 and not lines[0].endswith(":") and not lines[1].startswith("---"):
        return f"{lines[0]}: {lines[1]}"
    return lines[0].removesuffix(":")
