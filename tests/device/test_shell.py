"""A shell on a device, as a person or a script uses it."""

import subprocess
import sys

import pytest
from edge_harness.engines.choose import choose_engine
from edge_harness.errors import EdgeError
from edge_harness.profiles import default_registry


@pytest.fixture(scope="module", autouse=True)
def _a_board_can_be_emulated():
    try:
        choose_engine(default_registry().get("rpi4"), "vm")
    except EdgeError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize(("last", "status"), [("exit 7", 7), ("kill -9 $$", 137), ("true", 0)])
def test_a_shell_on_a_board_ends_with_its_own_status(last, status):
    argv = [sys.executable, "-m", "edge_harness.cli", "shell", "--device", "rpi4"]
    result = subprocess.run(
        [*argv, "--engine", "vm"],
        input=f"uname -m\n{last}\n",
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert "aarch64" in result.stdout, result.stderr
    assert result.returncode == status, result.stdout + result.stderr
