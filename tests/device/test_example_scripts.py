"""The scripts in examples/, on an emulated Raspberry Pi 4."""

import pytest
from edge_harness.engines.user import UserEngine
from edge_harness.profiles import default_registry

pytest.importorskip("onnx", reason="onnx is not installed: pip install -e .[onnx]")

from examples import onnx_backend, u8s8_saturation


@pytest.fixture(autouse=True)
def _user_engine():
    for name in ("rpi4", "edge-server"):
        can = UserEngine().probe(default_registry().get(name))
        if not can.available:
            pytest.skip(can.reason)


def test_x86_without_vnni_saturates_and_the_device_is_exact(capsys):
    assert u8s8_saturation.main(["--device", "rpi4"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].startswith("native (")
    assert "WRONG by up to" in lines[2]
    assert lines[2].endswith("equals saturating 16-bit pairs to the last bit")
    assert lines[3:] == ["rpi4 (emulated): exact", "x86 is wrong, the device is right"]


def test_a_sample_of_onnx_own_node_tests_ends_on_the_device_as_natively(capsys):
    assert onnx_backend.main(["--device", "rpi4", "--every", "60"]) == 0
    out = capsys.readouterr().out
    counts = {
        words[0]: [int(word) for word in words[1:4]]
        for words in map(str.split, out.splitlines())
        if words[0] in ("native", "rpi4")
    }
    assert counts["rpi4"] == counts["native"]
    assert counts["rpi4"][0] >= 5
    assert sum(counts["rpi4"]) == len(onnx_backend.node_tests(every=60))


def test_a_difference_nobody_explains_is_told():
    def side(name, **results):
        return onnx_backend.Side(name=name, results=results, seconds=0)

    good, bad = (
        onnx_backend.Result(outcome="passed"),
        onnx_backend.Result(outcome="failed", reason="x"),
    )
    native, other = side("native", a=good, b=good), side("rpi4", a=good, b=bad)
    assert onnx_backend.differences(native, other) == [("b", "failed (x), natively passed ()", "")]
    assert "    NOT EXPLAINED" in list(onnx_backend.report([native, other], native))


def test_half_precision_arithmetic_explains_small_differences_where_the_board_has_it():
    def side(name, result, features=()):
        return onnx_backend.Side(
            name=name, results={"test_a_fp16": result}, seconds=0, features=features
        )

    def failed(distance):
        text = f"other values: Mismatched elements: 1 / 9 Max absolute difference: {distance} Max"
        return onnx_backend.Result(outcome="failed", reason=text)

    native = side("native", onnx_backend.Result(outcome="passed"))
    explained = [
        bool(onnx_backend.differences(native, other)[0][2])
        for other in (
            side("rpi5", failed("0.0004883"), ("fp", "asimdhp")),
            side("rpi4", failed("0.0004883"), ("fp",)),
            side("rpi5", failed("0.4883"), ("fp", "asimdhp")),
        )
    ]
    assert explained == [True, False, False]
