"""What unit tests share: no device, no network, nothing of the user's."""

import pytest
from click.testing import CliRunner


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
