"""Fits to recorded measurements come to what they came to, and go where they are used."""

import io
import json

import msgspec
import pytest
from edge_harness.clock.calibrate import write
from edge_harness.clock.calibrate.report import make_report
from edge_harness.clock.calibrate.write import write_general
from edge_harness.clock.instruction_rate import InstructionRate
from edge_harness.clock.trust import General
from edge_harness.commands.calibration_tables import print_report
from rich.console import Console

from tests import clock_regression

pytest.importorskip("scipy")


def alike(now, then, where=""):
    """Equal to about three digits: versions of SciPy end their searches at slightly different
    points, and a written parameter has four."""
    if isinstance(then, dict):
        assert list(now) == list(then), where
        for key in then:
            alike(now[key], then[key], f"{where}.{key}")
    elif isinstance(then, list):
        assert len(now) == len(then), where
        for number, (one, other) in enumerate(zip(now, then, strict=True)):
            alike(one, other, f"{where}[{number}]")
    elif isinstance(then, float):
        assert now == pytest.approx(then, rel=2e-3, abs=2e-4), where
    else:
        assert now == then, where


@pytest.fixture(scope="module")
def report():
    return clock_regression.report()


def test_a_calibration_comes_to_what_it_came_to(report):
    alike(report, json.loads((clock_regression.DATA / "calibration.json").read_text()))


def test_a_report_is_json_without_nan(report):
    json.dumps(report, allow_nan=False)


def test_fits_for_boards_in_general_go_into_the_packages_files(tmp_path, monkeypatch, report):
    pytest.importorskip("tomlkit")
    monkeypatch.setattr(write, "GENERAL_FILE", tmp_path / "general.toml")
    monkeypatch.setattr(write, "RATE_FILE", tmp_path / "rate.toml")
    rows = clock_regression.measurements(clock_regression.FITTED)
    found = write_general(rows)
    assert found.values.tolist() == pytest.approx(report["general"]["errors"], abs=2e-3)
    general = msgspec.toml.decode((tmp_path / "general.toml").read_bytes(), type=General)
    assert (general.rows, general.boards) == (len(rows), 3)
    alike(msgspec.to_builtins(general.parameters), report["general"]["parameters"])
    alike(general.cores, report["general"]["cores"])
    assert general.dram_share == pytest.approx(report["general"]["dram_share"], rel=2e-3)
    one_left_out = report["overall"][-1]
    assert one_left_out["what"] == "one board left out"
    assert general.error > one_left_out["p90"] / (1 + one_left_out["p90"])
    assert general.little_share == 0.3  # nothing here says anything else
    rate = msgspec.toml.decode((tmp_path / "rate.toml").read_bytes(), type=InstructionRate)
    alike(msgspec.to_builtins(rate), report["instruction_rate"])


def test_one_board_alone_starts_from_what_ships_with_the_package():
    rows = clock_regression.measurements(("imx93-evk",))
    found = make_report(rows, {"imx93-evk": "a test"}, every_board=False)
    assert list(found.boards) == ["imx93-evk"]
    assert [each.what for each in found.overall] == [
        "in sample",
        "one model of a board left out",
        "one family of a board left out",
    ]
    clock = found.boards["imx93-evk"].clock
    assert clock.compute == pytest.approx(0.7143, rel=2e-3)
    assert (clock.rows, clock.measured) == (4, "a test")


def shown(report, write_to=None):
    out = io.StringIO()
    print_report(report, write_to, Console(file=out, width=80))
    return out.getvalue()


def test_the_tables_of_a_calibration(tmp_path):
    rows = clock_regression.measurements(("imx93-evk",))
    text = shown(make_report(rows, {"imx93-evk": "a test"}, every_board=False), tmp_path / "x.toml")
    lines = text.splitlines()
    assert lines[0] == "imx93-evk: 4 measurements"
    assert lines[1].split() == [
        "errors",
        "rows",
        "mean",
        "median",
        "p90",
        "rank",
        "bounds",
        "covered",
    ]
    assert lines[2].startswith("in sample ")
    assert lines[2].endswith("100%")
    assert "one model left out" in lines[3]
    assert any(line.startswith("  compute 0.71") and "input_cycles" in line for line in lines)
    assert text.endswith(f"written to {tmp_path / 'x.toml'}\n")
    assert "all boards" not in text  # there is one
