"""Planted defects are found at their layer, by what runs on an emulated Raspberry Pi 4."""

import numpy as np
import pytest
from edge_harness import fidelity
from edge_harness.errors import InputError, OptionError

pytest.importorskip("onnx")
from fixtures import small_onnx
from tests import planted


@pytest.fixture
def planted_in(tmp_path):
    def write(content, suffix):
        path = tmp_path / f"planted{suffix}"
        path.write_bytes(content)
        return path

    return write


@pytest.fixture
def image(golden):
    return golden("digits_int8")["inputs"][:1]


# -- TFLite --------------------------------------------------------------------------------------


def test_a_port_that_is_equal_says_so(board, models, image):
    with board.load(models / "digits_int8.tflite", kernels="reference") as session:
        report = fidelity.layers(session, None, image)
    assert report.passed
    assert [layer.error for layer in report.layers] == [0.0] * 8
    assert "all layers are equal" in str(report)


@pytest.mark.parametrize("operator", [0, 2, 4, 6])
def test_scales_off_by_one_percent_are_found_in_tflite(board, models, image, planted_in, operator):
    sound = models / "digits_int8.tflite"
    path = planted_in(planted.lite_weight_scales(sound.read_bytes(), operator, 1.01), ".tflite")
    with board.load(path) as session:
        report = fidelity.layers(session, sound, image)
    assert report.first.position == operator
    assert "the scale of its weights is ×1.0100" in report.first.cause
    assert [layer.position for layer in report.layers if layer.over] == [operator]


@pytest.mark.parametrize("operator", [1, 4, 6])
def test_a_channel_off_by_one_step_is_found_in_tflite(board, models, image, planted_in, operator):
    sound = models / "digits_int8.tflite"
    path = planted_in(planted.lite_weights_shifted(sound.read_bytes(), operator, 5), ".tflite")
    with board.load(path) as session:
        report = fidelity.layers(session, sound, image)
    assert report.first.position == operator
    assert "only channel 5 is off" in report.first.cause
    assert [layer.position for layer in report.layers if layer.over] == [operator]


def test_what_comes_after_a_defect_is_told_apart(board, models, image, planted_in):
    sound = models / "digits_int8.tflite"
    path = planted_in(planted.lite_weights_shifted(sound.read_bytes(), 1, 5), ".tflite")
    with board.load(path) as session:
        report = fidelity.layers(session, sound, image)
    after = [layer for layer in report.layers if layer.position > 1 and layer.error]
    assert after
    assert all(layer.introduced <= 1 for layer in after if layer.introduced is not None)
    assert any(layer.propagated for layer in after)


def test_saturation_is_found_in_tflite(board, models, image, planted_in):
    sound = models / "digits_int8.tflite"
    path = planted_in(planted.lite_output_scale(sound.read_bytes(), 4, 0.4), ".tflite")
    with board.load(path) as session:
        report = fidelity.layers(session, sound, image)
    assert report.first.position == 4
    assert report.first.cause.startswith("saturation at 127, the end of int8")


def test_an_int8_model_walks_beside_its_float_parent(board, models, image):
    with board.load(models / "digits_int8.tflite") as session:
        report = fidelity.layers(session, models / "digits_float.tflite", image)
    assert report.passed
    assert len(report.layers) == 8
    assert all(layer.in_steps and layer.sqnr_db > 30 for layer in report.layers)


def test_a_float_model_under_xnnpack_differs_in_the_last_places_only(board, models, golden):
    with board.load(models / "digits_float.tflite") as session:
        report = fidelity.layers(session, None, golden("digits_float")["inputs"][:1])
    assert report.passed
    assert report.disturbed is False
    assert 0 < max(layer.error for layer in report.layers) < 1e-5


# -- ONNX ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["qdq", "qoperator"])
def test_an_onnx_port_is_equal_to_exact_integers(board, planted_in, form):
    path = planted_in(getattr(small_onnx, f"classifier_{form}")(), ".onnx")
    with board.load(path) as session:
        report = fidelity.layers(session, None, small_onnx.images(1, seed=3)[0])
    assert report.passed
    assert report.disturbed is False
    convolutions = [layer for layer in report.layers if "Conv" in layer.op]
    assert [layer.error for layer in convolutions] == [0.0, 0.0, 0.0]


@pytest.mark.parametrize(
    ("form", "layer"),
    [("qdq", "conv2"), ("qdq", "head"), ("qoperator", "conv3"), ("qoperator", "head")],
)
def test_scales_off_by_one_percent_are_found_in_onnx(board, planted_in, tmp_path, form, layer):
    content = getattr(small_onnx, f"classifier_{form}")()
    sound = tmp_path / "sound.onnx"
    sound.write_bytes(content)
    bad = planted.onnx_constant(content, f"{layer}_w_scale", lambda scale: scale * 1.01)
    path = planted_in(bad, ".onnx")
    with board.load(path) as session:
        report = fidelity.layers(session, sound, small_onnx.images(1, seed=3)[0])
    output = {"qdq": "product_q", "qoperator": "scores"}[form] if layer == "head" else f"{layer}_q"
    assert report.first.name == output
    assert "the scale of its weights is ×1.0100" in report.first.cause


def test_a_channels_zero_point_off_by_one_is_found_in_onnx(board, planted_in, tmp_path):
    content = small_onnx.classifier_qdq()
    sound = tmp_path / "sound.onnx"
    sound.write_bytes(content)
    bad = planted.onnx_constant(content, "head_w_zero", lambda z: z + (np.arange(10) == 3))
    with board.load(planted_in(bad, ".onnx")) as session:
        report = fidelity.layers(session, sound, small_onnx.images(1, seed=3)[0])
    assert (report.first.name, report.first.op) == ("product_q", "MatMul")
    assert "only channel 3 is off" in report.first.cause
    assert "the zero point of its weights, channel 3, is +1" in report.first.cause


def test_a_saturating_accumulation_is_found_in_onnx(board, planted_in, tmp_path):
    content = small_onnx.classifier_qdq()
    sound = tmp_path / "sound.onnx"
    sound.write_bytes(content)
    path = planted_in(planted.onnx_saturating(content, "conv3_sum", 0.7), ".onnx")
    with board.load(path) as session:
        report = fidelity.layers(session, sound, small_onnx.images(1, seed=3)[0])
    assert report.first.name == "conv3_q"
    assert report.first.cause.startswith("saturation: the device does not pass 0.70")


def test_names_map_what_names_do_not(board, planted_in, tmp_path):
    content = small_onnx.classifier_float()
    other = tmp_path / "other.onnx"
    other.write_bytes(content)
    with board.load(planted_in(content, ".onnx")) as session:
        image = small_onnx.images(1)[0]
        report = fidelity.layers(session, other, image, names={"conv1": "conv1"})
        assert [layer.name for layer in report.layers] == ["conv1"]
        with pytest.raises(InputError, match="does not name a tensor"):
            fidelity.layers(session, other, image, names={"conv1": "nope"})
        with pytest.raises(InputError, match="no tensor"):
            fidelity.layers(session, other, image, names=lambda name: None)


# -- the report ----------------------------------------------------------------------------------


def test_the_report_is_a_table_a_picture_and_json(board, models, image, planted_in, tmp_path):
    pytest.importorskip("matplotlib")
    sound = models / "digits_int8.tflite"
    path = planted_in(planted.lite_weights_shifted(sound.read_bytes(), 1, 5), ".tflite")
    with board.load(path) as session:
        report = fidelity.layers(session, sound, image)
    lines = str(report).splitlines()
    assert any(line.startswith("→  1  DEPTHWISE_CONV_2D") for line in lines)
    assert report.as_dict()["first"] == 1
    assert report.plot(tmp_path / "layers.svg").read_text().startswith("<?xml")
    assert report.svg().rstrip().endswith("</svg>")
    with pytest.raises(OptionError, match=r"layers\.gif"):
        report.plot(tmp_path / "layers.gif")
    assert report.plot(tmp_path / "layers.png").read_bytes()[:4] == b"\x89PNG"


# -- across runtimes -----------------------------------------------------------------------------


def test_a_tflite_model_walks_beside_its_twin_in_onnx(board, models, golden, tmp_path):
    from tests.onnx_twin import twin

    path = tmp_path / "twin.onnx"
    path.write_bytes(twin(models / "digits_float.tflite"))
    image = golden("digits_float")["inputs"][:1]
    with board.load(models / "digits_float.tflite") as session, board.load(path) as other:
        compared = fidelity.compare(session, other, [image], kind="student")
        report = fidelity.layers(session, other, image)
        assert compared.max_abs < 1e-6
        assert report.passed, str(report)
        assert len(report.layers) == 8
        assert report.unmatched == ()
        back = fidelity.layers(other, session, np.moveaxis(image, -1, 1))
    assert back.passed, str(back)
    assert len(back.layers) == 8


def test_a_defect_is_found_beside_the_twin_in_the_other_format(
    board, models, golden, tmp_path, planted_in
):
    from tests.onnx_twin import twin

    sound = tmp_path / "twin.onnx"
    sound.write_bytes(twin(models / "digits_float.tflite"))
    bad = planted.onnx_constant(sound.read_bytes(), "w2", lambda w: w * 1.01)
    image = np.moveaxis(golden("digits_float")["inputs"][:1], -1, 1)
    with board.load(planted_in(bad, ".onnx")) as session:
        report = fidelity.layers(session, models / "digits_float.tflite", image)
    assert report.first.name == "sequential/conv2d_1/Relu6"
    assert "values are off by a factor of 1.0" in report.first.cause


def test_two_runtimes_of_one_format_walk_side_by_side(board, models, image):
    path = models / "digits_int8.tflite"
    with board.load(path, runtime="litert") as litert, board.load(path) as tflite:
        report = fidelity.layers(litert, tflite, image)
    assert report.passed, str(report)
    assert "ai-edge-litert" in report.device
    assert "XNNPACK" in report.device.upper()
    assert report.disturbed is False


def test_an_addition_in_place_is_no_difference(board, tmp_path):
    # With preserve_all_tensors the input of such an ADD reads as its output.
    from edge_harness.clock.calibrate.architectures import build

    path = tmp_path / "v2.tflite"
    path.write_bytes(build("mobilenet_v2_0.35_96", "int8"))
    with board.load(path, kernels="reference") as session:
        image = np.random.default_rng(0).integers(-128, 127, session.inputs[0].shape, np.int8)
        report = fidelity.layers(session, None, image)
    assert sum(layer.op == "ADD" for layer in report.layers) == 10
    assert [layer.error for layer in report.layers if layer.error] == []


# -- branches, splits and normalization ----------------------------------------------------------


def test_branches_and_splits_are_walked_through(board, planted_in, tmp_path):
    sound = tmp_path / "sound.onnx"
    sound.write_bytes(planted.branching())
    image = np.random.default_rng(2).normal(0, 1, (1, 3, 8, 8)).astype(np.float32)
    with board.load(sound) as session:
        assert fidelity.layers(session, None, image).passed
    bad = planted.onnx_constant(planted.branching(), "gain", lambda gain: gain * 1.01)
    with board.load(planted_in(bad, ".onnx")) as session:
        report = fidelity.layers(session, sound, image)
    assert (report.first.name, report.first.op) == ("normal", "BatchNormalization")
    assert "a scale (8 of 8 values" in report.first.cause
    rows = {layer.name: layer for layer in report.layers}
    assert set(rows) == {"sum", "normal", "left", "right", "joined", "total", "positive", "y"}
    assert not rows["left"].over
    assert rows["y"].introduced is None  # a branch cannot be run by itself
