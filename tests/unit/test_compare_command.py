"""What ``edge-harness compare`` refuses before a device starts."""

import pytest
from click.testing import CliRunner
from edge_harness.cli import main
from edge_harness.errors import OptionError
from edge_harness.fidelity.tolerances import parse_tolerances


def test_tolerances_are_words_with_numbers():
    assert parse_tolerances(["max_steps=2", "kl = 0.5"]) == {"max_steps": 2.0, "kl": 0.5}
    with pytest.raises(OptionError, match="'max_steps'"):
        parse_tolerances(["max_steps"])


def test_a_wrong_request_is_told_before_a_device_starts(tmp_path):
    result = CliRunner().invoke(main, ["compare", "m.tflite", "--samples", str(tmp_path / "no")])
    assert result.exit_code == 2
    assert "starting" not in result.output
    result = CliRunner().invoke(main, ["compare", "m.tflite", "--tolerance", "steps=1"])
    assert "there is no tolerance 'steps'" in result.output
