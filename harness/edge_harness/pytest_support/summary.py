"""What a run says about devices: the header's lines, and one section at the end, only where there
is something to say."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from edge_harness.pytest_support.options import spelled

if TYPE_CHECKING:
    import pytest

    from edge_harness.pytest_support.pool import Pool

FINDING = "edge_finding"
_TESTS_SHOWN = 3


def header(pool: Pool) -> list[str]:
    """One line for each selected device; starts nothing."""
    return [
        f"edge: {profile.name}: {profile.title}, {profile.cpu.cores}x {profile.cpu.core}, "
        f"{profile.memory.ram_mib} MiB; {pool.engine_line(profile)}"
        for profile in pool.profiles
    ]


@dataclass
class _Noted:
    kind: str
    device: str
    text: str
    command: str
    tests: list[str] = field(default_factory=list)

    def headline(self) -> str:
        if self.kind == "skip":
            return f"skipped: {self.text}"
        return self.text if self.kind == "crash" else f"{self.kind}: {self.text}"


class Summary:
    """Collects findings of all tests, on the controller where there are xdist workers."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._noted: dict[tuple[str, str, str], _Noted] = {}

    def note(self, report: pytest.TestReport) -> None:
        """Take the findings out of a test's properties."""
        for name, value in report.user_properties:
            if name != FINDING:
                continue
            finding = _Noted(**json.loads(str(value)))
            key = finding.kind, finding.device, finding.text
            tests = self._noted.setdefault(key, finding).tests
            if report.nodeid not in tests:
                tests.append(report.nodeid)

    def write(self, terminal: Any) -> None:
        """Write the section, if there is anything for it."""
        troubles = self._pool.troubles
        if not self._noted and not troubles:
            return
        terminal.ensure_newline()
        terminal.section("edge devices")
        for finding in self._noted.values():
            terminal.write_line(finding.headline())
            shown = ", ".join(finding.tests[:_TESTS_SHOWN])
            more = len(finding.tests) - _TESTS_SHOWN
            count = f"{len(finding.tests)} test{'s' if len(finding.tests) > 1 else ''}"
            terminal.write_line(f"  {count}: {shown}" + (f" and {more} more" if more > 0 else ""))
        for trouble in troubles:
            terminal.write_line(f"warning: {trouble}")
        terminal.write_line(f"next: {self._command()}")

    def _command(self) -> str:
        crashes = [noted for noted in self._noted.values() if noted.kind == "crash"]
        if crashes:
            return self._rerun(crashes)
        for noted in self._noted.values():
            if noted.kind != "skip" and noted.command:
                return noted.command
        return "edge-harness doctor"

    def _rerun(self, crashes: list[_Noted]) -> str:
        """The command that repeats the crashes and nothing else."""
        config, settings = self._pool.config, self._pool.settings
        crashed = {noted.device for noted in crashes}
        names = [profile.name for profile in self._pool.profiles if profile.name in crashed]
        words = ["pytest", f"{spelled(config, '--device')}={','.join(names)}"]
        if settings.engine != "auto":
            words.append(f"{spelled(config, '--engine')}={settings.engine}")
        words += [f"--edge-profiles={folder}" for folder in config.option.edge_profiles or ()]
        if settings.memory_mib is not None:
            words.append(f"--edge-memory-mib={settings.memory_mib}")
        tests = list(dict.fromkeys(test for noted in crashes for test in noted.tests))
        # Node ids are relative to the root folder, and so good for the command line only there.
        here = config.rootpath == config.invocation_params.dir
        words += tests if here and len(tests) <= _TESTS_SHOWN else ["--lf"]
        return shlex.join(words)
