"""pytest inside pytest. ``edge`` runs it with the plugin; ``fake_devices`` puts a stand-in behind
``start_device`` where a test is about the plugin and not about what an emulator does."""

import importlib.metadata

# Loaded here, they are not loaded again by each pytest inside pytest.
import edge_harness.commands.compare
import edge_harness.device.starting
import edge_harness.fidelity  # noqa: F401
import pytest

_INSTALLED = any(
    entry.value == "edge_harness.plugin"
    for entry in importlib.metadata.entry_points(group="pytest11", name="edge-harness")
)

FAKE = """
import os
from pathlib import Path

import edge_harness.device.starting
from edge_harness.errors import BootFailed
from edge_harness.device.results import Finding

RECORD = Path(__file__).parent / "record.txt"


def record(text):
    with RECORD.open("a") as file:
        file.write(text + "\\n")


class FakeDevice:
    def __init__(self, profile, engine):
        self.profile, self.name, self.engine = profile, profile.name, engine
        self.findings = []
        self.text = "booted\\n"

    def log(self):
        return self.text

    def describe(self):
        return {"device": self.name, "engine": self.engine, "odd": "a\\x07b"}

    def crash(self, text):
        self.findings.append(Finding(kind="crash", device=self.name, text=text))

    def close(self):
        record(f"close {self.name}")


def start_device(request):
    profile, engine, share = request.profile, request.choice.engine.name, request.share
    shared = share and "shared"
    record(f"open {profile.name} {engine} {shared} {request.limits.memory_mib}")
    record(f"runtimes {','.join(request.runtimes)}")
    if share:
        record(f"key {share}")
    if profile.name in os.environ.get("FAKE_BROKEN", ""):
        raise BootFailed(f"{profile.name} did not come up", next_step="look at its log")
    return FakeDevice(profile, engine)


edge_harness.device.starting.start_device = start_device
"""


@pytest.fixture(autouse=True)
def _the_real_devices_come_back(monkeypatch):
    """The stand-in is put in place by a conftest of the pytest inside, in this process."""
    import edge_harness.device.starting

    monkeypatch.setattr(
        edge_harness.device.starting, "start_device", edge_harness.device.starting.start_device
    )


@pytest.fixture(autouse=True)
def _no_settings_of_the_person_who_runs_this(monkeypatch):
    for name in ("EDGE_DEVICE", "EDGE_ENGINE", "EDGE_STRICT", "EDGE_RUNTIME", "PYTEST_ADDOPTS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "200")  # or pytest cuts the messages of its short summary


@pytest.fixture
def edge(pytester):
    """``edge("--device=rpi4", …)`` runs pytest with the plugin, strictly."""
    strictly = ["--strict-markers", "--strict-config", "-Werror"]
    # Hypothesis' own plugin imports all of Hypothesis at the end of each run: 0.7 s.
    strictly += ["-p", "no:hypothesispytest"]
    plugin = [] if _INSTALLED else ["-p", "edge_harness.plugin"]

    def run(*words, subprocess=False):
        start = pytester.runpytest_subprocess if subprocess else pytester.runpytest_inprocess
        return start(*plugin, *strictly, *words)

    return run


@pytest.fixture
def fake_devices(edge, pytester):
    """As ``edge``, on the host engine, with devices that only keep a record."""
    pytester.makeconftest(FAKE)

    def run(*words, **options):
        return edge("--engine=host", *words, **options)

    return run


@pytest.fixture
def record(pytester):
    """What happened to the stand-ins: ``record("open")`` are the lines that begin so."""

    def read(kind):
        path = pytester.path / "record.txt"
        lines = path.read_text().splitlines() if path.exists() else []
        return [line for line in lines if line.startswith(kind)]

    return read


@pytest.fixture
def listed(edge):
    """The ids that ``pytest --collect-only -q`` lists."""

    def run(*words):
        result = edge("--co", "-q", *words)
        assert result.ret == 0, result.stderr.str()
        return [line.partition("::")[2] for line in result.outlines if "::" in line]

    return run
