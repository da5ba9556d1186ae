"""What unit tests share: no device, no network, nothing of the user's."""

import hypothesis
import pytest
from click.testing import CliRunner

# Seconds for all of them, on a machine that may be busy; what needs more examples says so.
hypothesis.settings.register_profile("unit", max_examples=50, deadline=None)
hypothesis.settings.load_profile("unit")


@pytest.fixture
def edge(tmp_path, monkeypatch):
    """Runs the command with an empty cache, without Docker and outside any project."""
    monkeypatch.setenv("EDGE_HARNESS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/docker.sock")
    for name in ("EDGE_DEVICE", "EDGE_ENGINE", "EDGE_HARNESS_DEBUG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    from edge_harness.cli import main  # not before a test of the command asks for it

    return lambda *arguments, **options: CliRunner().invoke(main, list(arguments), **options)
