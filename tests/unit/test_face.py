"""The public face: what it names, what importing it costs, and that the docs know all of it."""

import subprocess
import sys
from importlib import import_module

import edge_harness
import pytest

FACE = [
    "Device",
    "DeviceInfo",
    "Diagnosis",
    "Egress",
    "Figure",
    "Finding",
    "LatencyEstimate",
    "Limits",
    "MemoryUse",
    "Outputs",
    "Percentiles",
    "Profile",
    "Report",
    "RunResult",
    "Session",
    "Storage",
    "Tensor",
    "Verdict",
    "WallTime",
    "__version__",
    "errors",
    "fidelity",
    "golden",
    "open_device",
    "properties",
    "strategies",
]


def test_the_face_is_these_names():
    """Whoever changes this list changes what users may rely on: say so in CHANGELOG.md."""
    assert edge_harness.__all__ == FACE


def test_every_name_is_there_and_knows_where_it_lives():
    for name in FACE:
        assert getattr(edge_harness, name) is not None
        assert name in dir(edge_harness)
    assert edge_harness.fidelity is import_module("edge_harness.fidelity")


def test_a_name_that_is_not_public_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'edge_harness' has no attribute 'Devise'"):
        _ = edge_harness.Devise


def loaded_after(code):
    done = subprocess.run(
        [sys.executable, "-c", f"import sys, typing\n{code}\nprint(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stdout.split())


def test_importing_it_imports_nothing():
    assert loaded_after("import edge_harness") - loaded_after("") == {"edge_harness"}


def test_a_name_brings_only_what_it_needs():
    heavy = {"numpy", "hypothesis", "docker", "click", "msgspec", "rich", "pytest"}
    assert not heavy & loaded_after("from edge_harness import Figure, errors, golden")
