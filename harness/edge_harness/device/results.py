"""What a device tells about itself and about the programs that ran on it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from edge_harness.errors import EdgeError

if TYPE_CHECKING:
    from edge_harness.diagnose import Diagnosis


@dataclass(frozen=True, kw_only=True)
class Finding:
    """Something a person should see at the end of a run."""

    kind: Literal["crash", "warning", "note"]
    device: str
    text: str
    command: str = ""
    """A command to paste, where one helps."""


@dataclass(frozen=True, kw_only=True)
class DeviceInfo:
    """What the agent saw from inside the device."""

    machine: str
    bits: int
    kernel: str
    os: str
    python: str
    features: tuple[str, ...]
    """CPU features by their names in /proc/cpuinfo."""
    hwcap: int
    hwcap2: int
    page_size_kib: int
    cpu_count: int
    memory_mib: int
    interfaces: tuple[str, ...]
    hostname: str


@dataclass(frozen=True, kw_only=True)
class Said:
    """What was written to a device's log during some time."""

    text: str
    alone: bool
    """Whether nobody else can have written it: if not, no cause may be read from it."""


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """How a program on the device ended."""

    argv: tuple[str, ...]
    returncode: int
    """As :class:`subprocess.CompletedProcess` has it: ``-N`` when signal N ended it."""
    signal: int | None
    stdout: str
    stderr: str
    peak_rss_mib: float
    diagnosis: Diagnosis | None = None
    """Why it crashed, where it did."""
    error: EdgeError | None = field(default=None, repr=False)

    def check(self) -> RunResult:
        """This result, if the program ended with status 0.

        Raises:
            DeviceFailed: of the class that fits how it ended.
        """
        if self.error is not None:
            raise self.error
        return self


def info_from(answer: Mapping[str, Any]) -> DeviceInfo:
    """The agent's answer to ``info``."""
    return DeviceInfo(
        machine=answer["machine"],
        bits=answer["bits"],
        kernel=answer["kernel"],
        os=answer["os"],
        python=answer["python"],
        features=tuple(answer["features"]),
        hwcap=answer["hwcap"],
        hwcap2=answer["hwcap2"],
        page_size_kib=answer["page_size"] // 1024,
        cpu_count=answer["cpu_count"],
        memory_mib=answer["memory_kib"] // 1024,
        interfaces=tuple(answer["interfaces"]),
        hostname=answer["hostname"],
    )
