"""Our errors in reports: the test's own line and the message, without our insides; and trouble
with the machinery, or an ability that is missing, as an error (E), never as a failed test (F)."""

from __future__ import annotations

import os
from typing import Any

import pytest

from edge_harness.errors import EdgeError, InfrastructureError, InternalError, MissingAbility

_OURS = ("edge_harness", "_pytest", "pluggy", "hypothesis", "contextlib")


def restate(item: pytest.Item, call: pytest.CallInfo[Any], report: pytest.TestReport) -> None:
    """Change ``report`` where ``call`` ended in an error of ours."""
    excinfo = call.excinfo
    assert excinfo is not None
    error = excinfo.value
    if not isinstance(error, EdgeError):
        if report.failed and _asserted_by_us(excinfo):
            _without_insides(item, excinfo, report)
        return
    expected = hasattr(report, "wasxfail")
    if isinstance(error, InfrastructureError | MissingAbility):
        if expected:
            # An xfail foresees that the model fails; here it never got its chance.
            del report.wasxfail
        report.outcome = "failed"
        if report.when == "call":
            # What reports take from this: E on the terminal, <error> in JUnit XML.
            report.when = "setup"
    elif expected or not report.failed:
        return
    if not isinstance(error, InternalError):
        _without_insides(item, excinfo, report)


def _asserted_by_us(excinfo: pytest.ExceptionInfo[BaseException]) -> bool:
    """Whether it is a finding such as ``PropertyFailed``, raised deep in this package."""
    last = excinfo.traceback[-1]
    return (
        isinstance(excinfo.value, AssertionError)
        and str(last.frame.f_globals.get("__name__", "")).split(".")[0] == "edge_harness"
        and not last.ishidden(excinfo)
        # A failing assert statement is a bug of ours, which its traceback explains.
        and str(last.statement).lstrip().startswith("raise")
    )


def _without_insides(
    item: pytest.Item, excinfo: pytest.ExceptionInfo[Any], report: pytest.TestReport
) -> None:
    if not item.config.getoption("fulltrace", False):
        report.longrepr = _short(item, excinfo)


def _short(item: pytest.Item, excinfo: pytest.ExceptionInfo[BaseException]) -> Any:
    entries = excinfo.traceback.filter(
        lambda entry: not _internal(entry) and not entry.ishidden(excinfo)
    )
    for index, entry in enumerate(entries):
        if str(entry.path) == str(item.path):
            entries = type(entries)(entries[index:])
            break
    style = item.config.getoption("tbstyle", "auto")
    shown: Any = excinfo.getrepr(
        showlocals=item.config.getoption("showlocals", False),
        style="short" if style == "auto" else style,
        tbfilter=lambda _: entries,
        chain=False,
    )
    if not entries and hasattr(shown.reprtraceback, "extraline"):
        # "All traceback entries are hidden": nothing of the person's own was on the way.
        shown.reprtraceback.extraline = None
    crash = getattr(shown, "reprcrash", None)
    if crash is not None:
        path, line, _ = item.reportinfo()
        if entries:
            path, line = entries[-1].path, entries[-1].lineno
        crash.path, crash.lineno = os.fspath(path), (line or 0) + 1
    return shown


def _internal(entry: Any) -> bool:
    module = str(entry.frame.f_globals.get("__name__", ""))
    return module.split(".")[0] in _OURS
