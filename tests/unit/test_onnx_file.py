import numpy as np
import pytest
from edge_harness.errors import MissingTool, ModelError
from edge_harness.models import onnx as onnx_file

onnx = pytest.importorskip("onnx")
from fixtures import small_onnx  # noqa: E402


def read(content):
    return onnx_file.quantization(onnx_file.parse(content))


def test_outputs_of_quantizelinear_carry_its_scale_and_zero_point():
    found = read(small_onnx.classifier_qdq(integer_output=True))
    assert found["image_q"].scales == pytest.approx((2 / 255,))
    assert found["scores"].zero_points[0] > 0


def test_outputs_of_qlinear_operators_carry_theirs():
    found = read(small_onnx.classifier_qoperator())
    model = onnx_file.parse(small_onnx.classifier_qoperator())
    constants = {i.name: onnx.numpy_helper.to_array(i) for i in model.graph.initializer}
    assert found["scores"].scales == (float(constants["head_scale"]),)
    assert found["conv1_q"].zero_points == (int(constants["conv1_zero"]),)


def test_weights_per_channel_have_an_axis_and_as_many_zero_points():
    weights = read(small_onnx.classifier_qdq())["head_w"]
    assert (len(weights.scales), len(weights.zero_points), weights.axis) == (10, 10, 1)
    filters = read(small_onnx.classifier_qoperator())["conv2_w"]
    assert (len(filters.scales), filters.axis) == (12, 0)


def test_reshapes_pass_the_scale_on():
    helper, kind = onnx.helper, onnx.TensorProto
    graph = helper.make_graph(
        [
            helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
            helper.make_node("Flatten", ["q"], ["y"]),
        ],
        "g",
        [helper.make_tensor_value_info("x", kind.FLOAT, (1, 2, 2))],
        [helper.make_tensor_value_info("y", kind.INT8, (1, 4))],
        [
            onnx.numpy_helper.from_array(np.asarray(np.float32(0.5)), "s"),
            onnx.numpy_helper.from_array(np.asarray(np.int8(3)), "z"),
        ],
    )
    found = onnx_file.quantization(helper.make_model(graph), ["y"])
    assert found == {"y": onnx_file.Quantization(scales=(0.5,), zero_points=(3,))}


def test_scales_that_are_computed_while_running_are_left_out():
    helper, kind = onnx.helper, onnx.TensorProto
    graph = helper.make_graph(
        [helper.make_node("DynamicQuantizeLinear", ["x"], ["y", "s", "z"])],
        "g",
        [helper.make_tensor_value_info("x", kind.FLOAT, (4,))],
        [helper.make_tensor_value_info("y", kind.UINT8, (4,))],
    )
    assert onnx_file.quantization(helper.make_model(graph)) == {}


def test_integer_models_are_recognised_without_parsing():
    assert onnx_file.uses_integers(small_onnx.classifier_qdq())
    assert onnx_file.uses_integers(small_onnx.classifier_qoperator())
    assert not onnx_file.uses_integers(small_onnx.classifier_float())


def test_a_damaged_file_is_named():
    with pytest.raises(ModelError, match=r"broken\.onnx"):
        onnx_file.parse(small_onnx.classifier_float()[:-100] + b"\xff" * 50, "broken.onnx")


def test_without_the_package_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "onnx", None)
    with pytest.raises(MissingTool) as error:
        onnx_file.package("looking into 'model.onnx'")
    assert "pytest-edge-harness[onnx]" in error.value.next_step


def test_real_outputs_that_were_integers_have_a_step():
    model = onnx_file.parse(small_onnx.classifier_qdq(integer_output=True))
    assert onnx_file.dequantized(model) == {}
    names = [i.name for i in model.graph.initializer if i.name.startswith("scores_")]
    model.graph.node.append(
        onnx.helper.make_node("DequantizeLinear", ["scores", *sorted(names)], ["real"])
    )
    model.graph.output[0].name = "real"
    scale = read(small_onnx.classifier_qdq(integer_output=True))["scores"].scales[0]
    assert onnx_file.dequantized(model) == {"real": scale}
