"""What reports say about devices: sections, properties, errors of the machinery, the summary."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

from harness.errors import EdgeError, InfrastructureError, InternalError

if TYPE_CHECKING:
    from harness.device import Device
    from harness.pytest_support.pool import Pool

LOG_LINES = 100
_FINDING = "edge_finding"
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


def printable(text: str) -> str:
    """``text`` with control characters as escapes: XML cannot hold them."""
    return _CONTROL.sub(lambda match: f"\\x{ord(match[0]):02x}", text)


class Reporting:
    """Registered only when devices are selected."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._log_start: dict[int, int] = {}
        self._seen: dict[int, int] = {}
        self._findings: dict[str, list[str]] = {}
        self._commands: dict[str, str] = {}

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Iterator[None]:
        device = self._device_of(item)
        if device is not None:
            for name, value in device.describe().items():
                item.user_properties.append((f"edge_{name}", printable(value)))
            if device.engine != "docker":  # whose log costs a request
                self._log_start[id(device)] = len(device.log())
        yield

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[Any]
    ) -> Iterator[None]:
        device = self._device_of(item)
        error = call.excinfo.value if call.excinfo is not None else None
        if isinstance(error, EdgeError) and not isinstance(error, InternalError):
            _cut_traceback(error)
        if device is not None:
            self._collect_findings(item, device)
        outcome: Any = yield
        report: pytest.TestReport = outcome.get_result()
        if not report.failed:
            return
        if isinstance(error, EdgeError) and report.when != "call":
            report.longrepr = f"{type(error).__name__}: {error}"
        if isinstance(error, InfrastructureError) and report.when == "call":
            # Trouble with the machinery is an error (E), never a failed test (F).
            report.when = "setup"
        if device is not None:
            start = self._log_start.get(id(device), 0)
            lines = device.log()[start:].splitlines()[-LOG_LINES:]
            if lines:
                report.sections.append((f"device log {device.name}", "\n".join(lines)))

    def _device_of(self, item: pytest.Item) -> Device | None:
        values = getattr(item, "funcargs", {})
        for name in ("fresh_device", "device"):
            found = values.get(name)
            if found is not None and found in self._pool.running():
                device: Device = found
                return device
        return None

    def _collect_findings(self, item: pytest.Item, device: Device) -> None:
        """Findings travel with reports, so that xdist's workers need no channel of their own."""
        seen = self._seen.get(id(device), 0)
        for finding in device.findings[seen:]:
            text = {"device": device.name, "kind": finding.kind, "text": finding.text}
            if finding.command:
                text["command"] = finding.command
            item.user_properties.append((_FINDING, printable(json.dumps(text))))
        self._seen[id(device)] = len(device.findings)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" or report.failed or report.when == "setup":
            for name, value in report.user_properties:
                if name == _FINDING:
                    self._note(report.nodeid, json.loads(str(value)))

    def _note(self, nodeid: str, finding: dict[str, str]) -> None:
        headline = finding["text"].strip()
        where = self._findings.setdefault(f"{finding['kind']}: {headline}", [])
        if nodeid not in where:
            where.append(nodeid)
        if finding["kind"] == "crash":
            self._commands.setdefault(nodeid, f"pytest --device={finding['device']} '{nodeid}' -v")

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        if not self._findings:
            return
        terminalreporter.section("edge devices")
        for text, nodeids in self._findings.items():
            terminalreporter.write_line(text)
            shown = ", ".join(nodeids[:3]) + (", …" if len(nodeids) > 3 else "")
            terminalreporter.write_line(f"  seen in {len(nodeids)} test(s): {shown}")
        if self._commands:
            terminalreporter.write_line("again: " + next(iter(self._commands.values())))


def _cut_traceback(error: EdgeError) -> None:
    """Drop the frames below the user's own: our insides do not help to mend a model."""
    trace = error.__traceback__
    last_user = None
    while trace is not None:
        module = str(trace.tb_frame.f_globals.get("__name__", ""))
        if module == "harness" or module.startswith("harness."):
            break
        last_user = trace
        trace = trace.tb_next
    if last_user is not None and trace is not None:
        last_user.tb_next = None
