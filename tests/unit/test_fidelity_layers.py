"""Walks through real graphs, run on this machine: which layer, how much, why."""

import json
from pathlib import Path

import numpy as np
import pytest
from edge_harness import fidelity
from edge_harness.errors import InputError, OptionError, RuntimeFailed, UnsupportedModel
from edge_harness.fidelity.layer_rows import Layer
from edge_harness.models.file import read_model

onnx = pytest.importorskip("onnx")
from fixtures import small_onnx  # noqa: E402
from tests import planted  # noqa: E402
from tests.native_sessions import LiteSession, OnnxSession  # noqa: E402
from tests.onnx_twin import twin  # noqa: E402

MODELS = Path(__file__).parents[2] / "fixtures" / "models"
GOLDEN = Path(__file__).parents[2] / "fixtures" / "golden"


@pytest.fixture
def write(tmp_path):
    def written(content, name):
        path = tmp_path / name
        path.write_bytes(content)
        return path

    return written


@pytest.fixture
def image():
    with np.load(GOLDEN / "digits_int8.npz") as data:
        return data["inputs"][:1]


@pytest.fixture
def real_image():
    with np.load(GOLDEN / "digits_float.npz") as data:
        return data["inputs"][:1]


def lite(path):
    return LiteSession(path)


# -- TFLite ----------------------------------------------------------------------------------


def test_a_port_that_is_equal_says_so(image):
    path = MODELS / "digits_int8.tflite"
    session, other = lite(path), lite(path)
    report = fidelity.layers(session, other, image)
    assert report.passed
    assert [layer.error for layer in report.layers] == [0.0] * 8
    assert [layer.introduced for layer in report.layers] == [0.0] * 8
    assert "all layers are equal" in str(report)
    assert report.verdict.word == "passed"
    # Watched once each; nothing differs, so nothing is run by itself.
    assert (len(session.others), len(other.others)) == (1, 1)


@pytest.mark.parametrize("operator", [0, 2, 4, 6])
def test_scales_off_by_one_percent_are_found(image, write, operator):
    sound = MODELS / "digits_int8.tflite"
    bad = planted.lite_weight_scales(sound.read_bytes(), operator, 1.01)
    report = fidelity.layers(lite(write(bad, "bad.tflite")), lite(sound), image)
    assert report.first.position == operator
    assert "the scale of its weights is ×1.0100" in report.first.cause
    assert [layer.position for layer in report.layers if layer.over] == [operator]


@pytest.mark.parametrize("operator", [1, 4, 6])
def test_a_channel_off_by_one_step_is_found_and_told_from_what_comes_after(image, write, operator):
    sound = MODELS / "digits_int8.tflite"
    bad = planted.lite_weights_shifted(sound.read_bytes(), operator, 5)
    session = lite(write(bad, "bad.tflite"))
    report = fidelity.layers(session, lite(sound), image)
    assert report.first.position == operator
    assert "only channel 5 is off" in report.first.cause
    assert [layer.position for layer in report.layers if layer.over] == [operator]
    after = [layer for layer in report.layers if layer.position > operator and layer.error]
    assert all(layer.introduced is not None and layer.introduced <= 1 for layer in after)
    assert report.layers[operator].introduced == report.layers[operator].error > 1
    assert [layer.introduced for layer in report.layers[:operator]] == [0.0] * operator


def test_without_isolation_errors_are_not_told_apart(image, write):
    sound = MODELS / "digits_int8.tflite"
    bad = planted.lite_weights_shifted(sound.read_bytes(), 1, 5)
    session = lite(write(bad, "bad.tflite"))
    report = fidelity.layers(session, lite(sound), image, isolate=False)
    assert len(session.others) == 1
    assert report.layers[1].introduced == report.layers[1].error  # its inputs are equal
    assert {layer.introduced for layer in report.layers[2:]} == {None}
    assert report.not_isolated == ""


def test_what_cannot_be_run_by_itself_is_told(image, write, monkeypatch):
    sound = MODELS / "digits_int8.tflite"
    bad = planted.lite_weights_shifted(sound.read_bytes(), 1, 5)
    session = lite(write(bad, "bad.tflite"))
    make = session.other

    def other(model):
        if "isolated" in model.path.name:
            raise RuntimeFailed("no room for it")
        return make(model)

    monkeypatch.setattr(session, "other", other)
    report = fidelity.layers(session, lite(sound), image)
    assert report.not_isolated == "no room for it"
    assert "operators could not be run by themselves: no room for it" in str(report)


def test_saturation_is_found(image, write):
    sound = MODELS / "digits_int8.tflite"
    bad = planted.lite_output_scale(sound.read_bytes(), 4, 0.4)
    report = fidelity.layers(lite(write(bad, "bad.tflite")), lite(sound), image)
    assert report.first.position == 4
    assert report.first.cause.startswith("saturation at 127, the end of int8")
    assert "the scale of its output is ×0.4000" in report.first.cause


def test_an_int8_model_walks_beside_its_float_parent(image):
    report = fidelity.layers(
        lite(MODELS / "digits_int8.tflite"), lite(MODELS / "digits_float.tflite"), image
    )
    assert report.passed
    assert len(report.layers) == 8
    assert all(layer.in_steps and layer.sqnr_db > 30 for layer in report.layers)
    # Files of different arithmetic differ in every parameter; that is not told.
    assert {layer.cause for layer in report.layers} == {""}


# -- ONNX ------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["qdq", "qoperator"])
def test_an_onnx_port_is_equal_to_exact_integers(write, form):
    path = write(getattr(small_onnx, f"classifier_{form}")(), "port.onnx")
    report = fidelity.layers(OnnxSession(path), None, small_onnx.images(1, seed=3)[0])
    assert report.passed
    convolutions = [layer for layer in report.layers if "Conv" in layer.op]
    assert [layer.error for layer in convolutions] == [0.0, 0.0, 0.0]
    assert report.reference.startswith("port.onnx on this machine, onnx.reference")
    assert report.device.startswith("port.onnx on rpi4 (user), onnxruntime 1.20.1, kernels")
    assert report.figure_kind == "emulated"


@pytest.mark.parametrize(
    ("form", "layer"),
    [("qdq", "conv2"), ("qdq", "head"), ("qoperator", "conv3"), ("qoperator", "head")],
)
def test_scales_off_by_one_percent_are_found_in_onnx(write, form, layer):
    content = getattr(small_onnx, f"classifier_{form}")()
    sound = write(content, "sound.onnx")
    bad = planted.onnx_constant(content, f"{layer}_w_scale", lambda scale: scale * 1.01)
    session = OnnxSession(write(bad, "bad.onnx"))
    report = fidelity.layers(session, sound, small_onnx.images(1, seed=3)[0])
    output = {"qdq": "product_q", "qoperator": "scores"}[form] if layer == "head" else f"{layer}_q"
    assert report.first.name == output
    assert "the scale of its weights is ×1.0100" in report.first.cause


def test_a_channels_zero_point_off_by_one_is_found_in_onnx(write):
    content = small_onnx.classifier_qdq()
    bad = planted.onnx_constant(content, "head_w_zero", lambda z: z + (np.arange(10) == 3))
    report = fidelity.layers(
        OnnxSession(write(bad, "bad.onnx")),
        write(content, "sound.onnx"),
        small_onnx.images(1, seed=3)[0],
    )
    assert (report.first.name, report.first.op) == ("product_q", "MatMul")
    assert "only channel 3 is off" in report.first.cause
    assert "the zero point of its weights, channel 3, is +1" in report.first.cause


def test_a_saturating_accumulation_is_found_in_onnx(write):
    content = small_onnx.classifier_qdq()
    bad = planted.onnx_saturating(content, "conv3_sum", 0.7)
    report = fidelity.layers(
        OnnxSession(write(bad, "bad.onnx")),
        write(content, "sound.onnx"),
        small_onnx.images(1, seed=3)[0],
    )
    assert report.first.name == "conv3_q"
    assert report.first.cause.startswith("saturation: the device does not pass 0.70")


def test_other_parameters_are_over_only_where_they_add_something_however_little(write):
    content = small_onnx.classifier_qdq()
    # A step of a bias is far below a step of the output: it shows here in conv1, not in conv2.
    bad = planted.onnx_constant(content, "conv1_b", lambda b: b + (np.arange(b.size) == 0))
    bad = planted.onnx_constant(bad, "conv2_b", lambda b: b + (np.arange(b.size) == 0))
    report = fidelity.layers(
        OnnxSession(write(bad, "bad.onnx")),
        write(content, "sound.onnx"),
        small_onnx.images(1, seed=3)[0],
    )
    rows = [(row.error, row.introduced, row.over, row.cause) for row in report.layers[:4]]
    assert rows == [
        (0.0, 0.0, False, ""),
        (1.0, 1.0, True, "1 of 8 values of its bias differ"),
        (1.0, 0.0, False, "1 of 12 values of its bias differ"),
        (1.0, 0.0, False, ""),
    ]
    assert [row.propagated for row in report.layers[:4]] == [False, False, True, True]


def test_names_map_what_names_do_not(write):
    content = small_onnx.classifier_float()
    session, other = OnnxSession(write(content, "a.onnx")), write(content, "b.onnx")
    image = small_onnx.images(1)[0]
    report = fidelity.layers(session, other, image, names={"conv1": "conv1"})
    assert [layer.name for layer in report.layers] == ["conv1"]
    assert len(report.unmatched) == 9
    assert "9 tensors have no counterpart and were not compared: conv1_sum, " in str(report)
    assert str(report).splitlines()[-1].endswith(", …")
    with pytest.raises(InputError, match="does not name a tensor"):
        fidelity.layers(session, other, image, names={"conv1": "nope"})
    with pytest.raises(InputError, match=r"no tensor of 'a\.onnx' has a counterpart in 'b\.onnx'"):
        fidelity.layers(session, other, image, names=lambda name: None)


def test_branches_and_splits_are_walked_through(write):
    sound = write(planted.branching(), "sound.onnx")
    image = np.random.default_rng(2).normal(0, 1, (1, 3, 8, 8)).astype(np.float32)
    assert fidelity.layers(OnnxSession(sound), None, image).passed
    bad = planted.onnx_constant(planted.branching(), "gain", lambda gain: gain * 1.01)
    report = fidelity.layers(OnnxSession(write(bad, "bad.onnx")), sound, image)
    assert (report.first.name, report.first.op) == ("normal", "BatchNormalization")
    assert "a scale (8 of 8 values" in report.first.cause
    rows = {layer.name: layer for layer in report.layers}
    assert set(rows) == {"sum", "normal", "left", "right", "joined", "total", "positive", "y"}
    assert not rows["left"].over
    assert rows["left"].propagated
    assert rows["y"].introduced is None  # a branch cannot be run by itself
    # Its input differs, and what comes out of it does not: then nothing needs a second run.
    assert (rows["positive"].error, rows["positive"].introduced) == (0.0, None)


# -- across formats --------------------------------------------------------------------------


def test_a_tflite_model_walks_beside_its_twin_in_onnx(real_image, write):
    path = write(twin(MODELS / "digits_float.tflite"), "twin.onnx")
    session, other = lite(MODELS / "digits_float.tflite"), OnnxSession(path)
    compared = fidelity.compare(session, other, [real_image], kind="student")
    report = fidelity.layers(session, other, real_image)
    assert compared.max_abs < 1e-6
    assert report.passed, str(report)
    assert len(report.layers) == 8
    assert report.unmatched == ()
    back = fidelity.layers(other, session, np.moveaxis(real_image, -1, 1))
    assert back.passed, str(back)
    assert len(back.layers) == 8


def test_a_defect_is_found_beside_the_twin_in_the_other_format(real_image, write):
    sound = twin(MODELS / "digits_float.tflite")
    bad = planted.onnx_constant(sound, "w2", lambda w: w * 1.01)
    image = np.moveaxis(real_image, -1, 1)
    report = fidelity.layers(
        OnnxSession(write(bad, "bad.onnx")), lite(MODELS / "digits_float.tflite"), image
    )
    assert report.first.name == "sequential/conv2d_1/Relu6"
    assert "values are off by a factor of 1.0" in report.first.cause


# -- the report ------------------------------------------------------------------------------


def layer(position, **changes):
    fields = {
        "position": position,
        "op": "CONV_2D",
        "name": f"t{position};more",
        "reference_name": "r",
        "dtype": "int8",
        "in_steps": True,
        "error": 0.0,
        "introduced": 0.0,
        "mean": 0.0,
        "sqnr_db": np.inf,
        "over": False,
        "cause": "",
    }
    return Layer(**{**fields, **changes})


def walk(*layers, **changes):
    fields = {
        "layers": layers,
        "unmatched": (),
        "device": "m on rpi4",
        "reference": "m on this machine",
        "disturbed": None,
    }
    return fidelity.LayerReport(**{**fields, **changes})


BAD = (
    layer(0),
    layer(1, error=7.0, introduced=7.0, sqnr_db=36.14, over=True, cause="its bias"),
    layer(2, error=11.0, introduced=0.5, sqnr_db=33.4),
    layer(3, error=2.0, introduced=None),
    layer(4, op="SOFTMAX", in_steps=False, dtype="float32", error=0.25, introduced=2e-6),
)


def test_the_table_marks_the_first_and_tells_what_each_adds():
    lines = [line.split() for line in str(walk(*BAD)).splitlines()]
    assert lines[0] == ["device:", "m", "on", "rpi4"]
    assert lines[1] == ["reference:", "m", "on", "this", "machine"]
    assert lines[3] == ["0", "CONV_2D", "t0", "0", "0", "steps"]
    assert lines[4] == ["→", "1", "CONV_2D", "t1", "7", "7", "steps", "36.1", "its", "bias"]
    assert lines[5] == ["2", "CONV_2D", "t2", "11", "0.5", "steps", "33.4"]
    assert lines[6] == ["3", "CONV_2D", "t3", "2", "–", "steps"]
    assert lines[7] == ["4", "SOFTMAX", "t4", "2.5e-01", "2.0e-06", "of", "max"]
    assert " ".join(lines[8]) == "first over tolerance: #1 CONV_2D: its bias"
    assert " ".join(lines[9]) == "2 layers after it only pass on what came before"


def test_a_later_layer_over_tolerance_is_marked_otherwise():
    text = str(walk(*BAD, layer(5, error=9.0, introduced=9.0, over=True)))
    assert [line.split()[:2] for line in text.splitlines() if line[:1] in "→!"] == [
        ["→", "1"],
        ["!", "5"],
    ]


def test_layers_that_do_not_differ_may_be_left_out():
    text = walk(*BAD, layer(5, over=True)).explanation(all_layers=False)
    assert [line.split()[:2] for line in text.splitlines()[3:8]] == [
        ["→", "1"],
        ["2", "CONV_2D"],
        ["3", "CONV_2D"],
        ["4", "SOFTMAX"],
        ["!", "5"],
    ]


def test_one_layer_that_passes_on_is_no_plural():
    assert "1 layer after it only passes on" not in str(walk(*BAD[:3]))
    assert "1 layer after it only pass on what came before" in str(walk(*BAD[:3]))


def test_a_walk_has_a_verdict_with_the_figure_it_rests_on():
    failed = walk(*BAD, figure_kind="emulated").verdict
    assert str(failed) == "failed: first over tolerance: #1 CONV_2D: its bias"
    assert (failed.figures[0].value, failed.figures[0].unit) == (7.0, "steps")
    assert failed.figures[0].source == "#1 CONV_2D: m on rpi4; reference: m on this machine"
    unknown = walk(layer(0, error=4.0, introduced=None, over=True)).verdict
    assert (unknown.figures[0].value, unknown.reason) == (4.0, "first over tolerance: #0 CONV_2D")
    passed = walk(BAD[0], BAD[2], BAD[4]).verdict
    assert (passed.word, passed.reason) == ("passed", "")
    assert (passed.figures[0].value, passed.figures[0].source[:2]) == (0.5, "#2")
    floats = walk(BAD[4]).verdict.figures[0]
    assert floats.unit == "of the output's greatest value"
    assert str(walk().verdict) == "vacuous: no layer was compared"
    assert not walk().passed


def test_notes_say_what_a_walk_could_not_see():
    near = walk(layer(0, error=1.0, cause="its scale"), disturbed=True, warnings=("careful",))
    text = str(near)
    assert "no layer is over tolerance\nthe files differ, first at #0: its scale" in text
    assert "warning: careful" in text
    assert "watching changed the result" in text
    assert "no counterpart" not in text
    few = walk(layer(0), unmatched=("a", "b"))
    assert str(few).endswith("2 tensors have no counterpart and were not compared: a, b")
    assert "all layers are equal" in str(few)


def test_its_short_form_names_the_first():
    assert repr(walk(*BAD)) == "<LayerReport, first over tolerance #1 CONV_2D: its bias>"
    assert repr(walk(BAD[0])) == "<LayerReport of 1 layers, none over tolerance>"


def test_its_json_has_plain_values_only():
    found = json.loads(json.dumps(walk(*BAD, unmatched=("u",)).as_dict(), allow_nan=False))
    assert (found["passed"], found["first"], found["unmatched"]) == (False, 1, ["u"])
    assert found["verdict"]["word"] == "failed"
    assert (found["layers"][0]["sqnr_db"], found["layers"][1]["sqnr_db"]) == (None, 36.14)
    assert found["layers"][3]["introduced"] is None
    assert walk(BAD[0]).as_dict()["first"] is None


def test_it_is_drawn_as_a_picture(tmp_path):
    pytest.importorskip("matplotlib")
    report = walk(BAD[1])
    text = report.svg()
    assert text.startswith("<?xml")
    assert text.rstrip().endswith("</svg>")
    with pytest.raises(OptionError, match=r"layers\.gif"):
        report.plot(tmp_path / "layers.gif")


def test_the_picture_shows_steps_and_shares_apart(tmp_path, monkeypatch):
    figures = pytest.importorskip("matplotlib.figure")
    drawn = []
    monkeypatch.setattr(figures.Figure, "savefig", lambda self, path: drawn.append(self))
    assert walk(*BAD).plot(tmp_path / "both.PNG") == tmp_path / "both.PNG"
    walk(BAD[4]).plot(tmp_path / "floats.svg")
    walk(layer(0, introduced=None)).plot(tmp_path / "steps.svg")
    both, floats, steps = (figure.axes for figure in drawn)
    assert [axis.get_ylabel() for axis in both] == ["quantization steps", "share of greatest value"]
    assert [axis.get_yscale() for axis in both] == ["linear", "symlog"]
    assert both[0].get_title() == "first over tolerance: #1 CONV_2D"
    assert [line.get_label() for line in both[0].lines] == ["error", "first over tolerance"]
    assert both[0].lines[0].get_xydata().tolist() == [[0, 0], [1, 7], [2, 11], [3, 2]]
    assert both[0].lines[1].get_xdata() == [1, 1]
    stems = both[0].collections[0].get_segments()
    assert [stem.tolist() for stem in stems] == [
        [[0, 0], [0, 0]],
        [[1, 0], [1, 7]],
        [[2, 0], [2, 0.5]],
    ]
    assert (len(floats), floats[0].get_title()) == (1, "")
    assert (len(steps), len(steps[0].collections)) == (1, 0)
    assert steps[0].get_xlabel() == "operator"


def test_without_matplotlib_it_says_what_to_install(tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    from edge_harness.errors import MissingTool

    with pytest.raises(MissingTool, match="needs the package matplotlib"):
        walk(*BAD).plot(tmp_path / "layers.svg")


def test_a_walk_beside_a_whole_file_of_another_kind_is_refused(real_image, write):
    path = write(small_onnx.classifier_float(), "other.onnx")
    with pytest.raises(InputError):
        fidelity.layers(lite(MODELS / "digits_float.tflite"), OnnxSession(path), real_image)
    assert read_model(path).path == path


def test_a_reference_that_tells_its_outputs_alone_is_refused(image):
    class OutputsAlone:
        def __init__(self, session):
            self.model, self.inputs, self.outputs = session.model, session.inputs, session.outputs
            self.runtime, self.kernels = "another evaluator", "its own"
            self.run, self.run_many = session.run, session.run_many

    session = lite(MODELS / "digits_int8.tflite")
    with pytest.raises(UnsupportedModel, match="another evaluator, kernels its own tells no tens"):
        fidelity.layers(session, OutputsAlone(session), image)
