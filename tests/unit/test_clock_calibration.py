"""Measurements from a file, and a fit into a profile."""

from pathlib import Path

import pytest
from click.testing import CliRunner
from edge_harness.cli import main
from edge_harness.clock.calibrate.measurements import read_csv
from edge_harness.clock.calibrate.run import own_code
from edge_harness.clock.calibrate.write import write_profile
from edge_harness.clock.trust import trust_for
from edge_harness.errors import UserError
from edge_harness.profiles import default_registry
from edge_harness.profiles.clock import Clock

from tests.makers import PARAMETERS

MODELS = Path(__file__).parents[2] / "fixtures" / "models"
CLOCK = Clock(
    **{**PARAMETERS, "compute": 1.05},
    rows=12,
    measured="a board on the desk",
    error=0.08,
)


def test_the_published_table_is_read_whole():
    wanted, left = read_csv(None, default_registry())
    assert len(wanted) + len(left) == 368
    assert {row.board for row in wanted} >= {"rpi4", "firefly-rk3588s", "jetson-agx-orin"}
    assert all("armel" in row.reason or "Arm" in row.reason for row in left)


def test_other_code_is_used_only_where_there_is_none_of_the_boards_own():
    wanted, _ = read_csv(None, default_registry())
    kept, left = own_code(wanted)
    assert all(row.same_code for row in kept if row.board == "rpi4")
    assert any(not row.same_code for row in kept if row.board == "rpi3b-plus")
    assert left
    assert "32-bit code" in left[0].reason


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "no column 'model', 'device', 'threads', 'latency_ms'"),
        ("model,device,threads\n", "no column 'latency_ms'"),
        (b"\xff\xfe\x00", "cannot be read"),
    ],
)
def test_a_file_that_is_no_table_is_refused(tmp_path, content, message):
    path = tmp_path / "mine.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError, match=message):
        read_csv(path, default_registry())


def test_ones_own_measurements_name_files_beside_the_csv(tmp_path):
    (tmp_path / "digits.tflite").write_bytes((MODELS / "digits_int8.tflite").read_bytes())
    path = tmp_path / "mine.csv"
    path.write_text(
        "model,device,threads,latency_ms,kernels\n"
        "digits.tflite,rpi4,4,0.5,builtin\n"
        "digits.tflite,rpi4,four,0.5,builtin\n"
        "digits.tflite,nothing,4,0.5,builtin\n"
        "gone.tflite,rpi4,4,0.5,builtin\n"
        "digits.tflite,rpi4,4,-1,builtin\n"
    )
    wanted, left = read_csv(path, default_registry())
    assert [(row.board, row.threads, row.kernels) for row in wanted] == [("rpi4", 4, "builtin")]
    assert [row.id for row in left] == ["line 3", "line 4", "line 5", "line 6"]
    assert "nothing" in left[1].reason
    assert "not positive" in left[3].reason


def test_a_fit_goes_into_a_profile_and_leaves_the_rest(tmp_path):
    folder = tmp_path / "profiles"
    folder.mkdir()
    path = folder / "mine.toml"
    path.write_text('# my board\nextends = "rpi4"\n\n[cpu]\nmhz = 1800 # boosted\n')
    for _ in range(2):  # a second fit replaces the first
        write_profile(path, CLOCK)
    text = path.read_text()
    assert "# my board" in text
    assert "# boosted" in text
    profile = default_registry(extra_dirs=[folder]).get("mine")
    assert profile.clock == CLOCK
    trust = trust_for(profile)
    assert trust.error == 0.08
    assert "±8%, calibrated on 12 measurements" in trust.source
    assert "a board on the desk" in trust.source


def test_other_hardware_does_not_inherit_a_calibration(tmp_path):
    (tmp_path / "faster.toml").write_text('extends = "rpi4"\n[cpu]\nmhz = 1800\n')
    (tmp_path / "newer.toml").write_text('extends = "rpi4"\n[os]\nsuite = "trixie"\n')
    registry = default_registry(extra_dirs=[tmp_path])
    assert registry.get("faster").clock is None
    assert "never calibrated" in trust_for(registry.get("faster")).source
    assert registry.get("newer").clock == registry.get("rpi4").clock is not None


def test_a_profile_that_is_not_there_cannot_be_written(tmp_path):
    with pytest.raises(UserError, match=r"gone\.toml"):
        write_profile(tmp_path / "gone.toml", CLOCK)


def test_a_profile_that_is_not_there_is_made_from_the_device_that_was_named(tmp_path):
    path = tmp_path / "profiles" / "rpi4.toml"
    write_profile(path, CLOCK, "rpi4")
    profile = default_registry(extra_dirs=[path.parent]).get("rpi4")
    assert profile.clock == CLOCK
    assert profile.cpu.mhz == default_registry().get("rpi4").cpu.mhz


@pytest.mark.parametrize(
    ("name", "reason"),
    [("mine.csv", "does not end in .toml"), ("bad.toml", "cannot be changed"), ("", "changed")],
)
def test_what_cannot_take_the_fit_is_refused(tmp_path, name, reason):
    (tmp_path / "bad.toml").write_text("no = = toml")
    with pytest.raises(UserError, match=reason):
        write_profile(tmp_path / name, CLOCK, "rpi4")


def test_a_row_that_makes_no_sense_is_left_out_with_its_reason(tmp_path):
    (tmp_path / "digits.tflite").write_bytes((MODELS / "digits_int8.tflite").read_bytes())
    path = tmp_path / "mine.csv"
    path.write_text(
        "\ufeffmodel,device,threads,latency_ms,kernels,freq_mhz\n"
        "digits.tflite,rpi4,1,0.5,,\n"
        "digits.tflite,rpi4,1\n"
        "\n"
        "digits.tflite\n"
        ",rpi4,1,0.5,,\n"
        "digits.tflite,rpi4,0,0.5,,\n"
        "digits.tflite,rpi4,5,0.5,,\n"
        "digits.tflite,rpi4,1.5,0.5,,\n"
        "digits.tflite,rpi4,1,inf,,\n"
        "digits.tflite,rpi4,1,nan,,\n"
        "digits.tflite,rpi4,1,fast,,\n"
        "digits.tflite,rpi4,1,0.5,quick,\n"
        "digits.tflite,rpi4,1,0.5,,0\n",
        encoding="utf-8",
    )
    wanted, left = read_csv(path, default_registry())
    assert [(row.board, row.mhz) for row in wanted] == [("rpi4", 1500)]
    assert [row.reason for row in left] == [
        "nothing in the column 'latency_ms'",
        "nothing in the column 'device', 'threads', 'latency_ms'",
        "nothing in the column 'model'",
        "threads = '0' is not positive",
        "threads = '5', but rpi4 has 4 core(s)",
        "threads = '1.5', but rpi4 has 4 core(s)",
        "latency_ms = 'inf' is not positive",
        "latency_ms = 'nan' is not positive",
        "latency_ms = 'fast' is not a number",
        "kernels='quick' is none of xnnpack, builtin, reference",
        "freq_mhz = '0' is not positive",
    ]


def test_calibrating_refuses_before_it_counts(tmp_path, monkeypatch):
    monkeypatch.setenv("EDGE_HARNESS_CACHE", str(tmp_path / "cache"))
    (tmp_path / "digits.tflite").write_bytes((MODELS / "digits_int8.tflite").read_bytes())
    csv = tmp_path / "mine.csv"
    csv.write_text("model,device,threads,latency_ms\ndigits.tflite,rpi4,1,0.5\n")

    def refused(*arguments):
        result = CliRunner().invoke(main, ["calibrate", str(csv), *arguments])
        assert "Traceback" not in result.output
        assert result.exit_code in (2, 3)
        assert not (tmp_path / "cache" / "clock").exists()
        return result.output

    assert "no measurement of 'rpi5' can be used; those that can are of rpi4" in refused(
        "--device", "rpi5"
    )
    (tmp_path / "bad.toml").write_text("no = = toml")
    assert "bad.toml' cannot be changed" in refused(
        "--device", "rpi4", "--write", str(tmp_path / "bad.toml")
    )
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert "pip install 'pytest-edge-harness[calibrate]'" in refused("--device", "rpi4")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["gone.tflite", "--device", "rpi4"], "there is no model file 'gone.tflite'"),
        ([str(MODELS / "digits_int8.tflite"), "--device", "rpi99"], "rpi99"),
        (
            [str(MODELS / "digits_int8.tflite"), "--device", "rpi4", "--budget", "soon"],
            "'soon' is not a time",
        ),
        (
            [str(MODELS / "digits_int8.tflite"), "--device", "rpi4", "--threads", "9"],
            "threads=9, but rpi4 has 4 core(s)",
        ),
        (
            [str(MODELS / "digits_int8.tflite"), "--device", "edge-server"],
            "no model of the core 'Haswell'",
        ),
        (
            [str(MODELS / "digits_int8.tflite"), "--device", "rpi4", "--runtime", "onnx"],
            "cannot run a tflite model",
        ),
    ],
)
def test_wrong_words_are_one_clear_error(tmp_path, monkeypatch, arguments, message):
    monkeypatch.setenv("EDGE_HARNESS_CACHE", str(tmp_path))
    result = CliRunner().invoke(main, ["latency", *arguments])
    assert result.exit_code in (2, 3)
    assert message in result.output
    assert "Traceback" not in result.output
