"""Options of the runtimes, on an emulated device."""

import numpy as np
import pytest
from edge_harness.errors import OptionError, RuntimeFailed, UnsupportedModel

pytest.importorskip("onnx")
import onnx

from fixtures import small_onnx


@pytest.fixture
def qdq(tmp_path):
    path = tmp_path / "qdq.onnx"
    path.write_bytes(small_onnx.classifier_qdq(integer_output=True))
    return path


def test_onnx_outputs_carry_the_quantization_of_the_file(board, qdq):
    with board.load(qdq) as session:
        (scores,) = session.outputs
    assert (scores.dtype, scores.quantized) == (np.uint8, True)
    assert scores.scale == pytest.approx(0.00997, rel=1e-3)


def test_graph_optimization_is_applied_and_named(board, qdq):
    image = small_onnx.images(1)[0]
    with board.load(qdq, graph_optimization="disabled") as plain, board.load(qdq) as optimized:
        assert "graph optimization disabled" in plain.kernels
        assert optimized.facts["graph_optimization"] == "all"
        assert np.array_equal(plain.run(image)[0], optimized.run(image)[0])


def test_a_missing_provider_is_an_error_and_no_silent_fallback(board, qdq):
    with pytest.raises(RuntimeFailed, match="no execution provider 'CUDAExecutionProvider'"):
        board.load(qdq, providers=["CUDAExecutionProvider", "CPUExecutionProvider"])


def test_a_missing_delegate_is_named(board, models):
    with pytest.raises(RuntimeFailed, match=r"/nope\.so"):
        board.load(models / "digits_float.tflite", delegates={"/nope.so": {}})


@pytest.mark.parametrize(
    ("file", "options"),
    [
        ("digits_float.tflite", {"graph_optimization": "basic"}),
        ("digits_float.tflite", {"config": {"a": "b"}}),
        ("digits_qdq.onnx", {"delegates": {"x.so": {}}}),
        ("digits_qdq.onnx", {"graph_optimization": "most"}),
    ],
)
def test_options_of_another_runtime_are_refused(board, models, file, options):
    with pytest.raises(OptionError, match=next(iter(options)).split("_")[0]):
        board.load(models / file, **options)


def test_bfloat16_outputs_are_refused_by_name(board, tmp_path):
    helper, kind = onnx.helper, onnx.TensorProto
    graph = helper.make_graph(
        [helper.make_node("Cast", ["x"], ["y"], to=kind.BFLOAT16)],
        "g",
        [helper.make_tensor_value_info("x", kind.FLOAT, (4,))],
        [helper.make_tensor_value_info("y", kind.BFLOAT16, (4,))],
    )
    path = tmp_path / "bf16.onnx"
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    path.write_bytes(model.SerializeToString())
    with pytest.raises(UnsupportedModel, match="bfloat16"):
        board.load(path)


def test_a_runtime_of_the_run_is_taken_where_a_test_leaves_it_open(open_on, models):
    with open_on("rpi4", "user", runtimes=["onnxruntime==1.20.0"]) as device:
        with device.load(models / "add_float.onnx") as session:
            assert session.runtime == "onnxruntime 1.20.0"
        with device.load(models / "add_float.onnx", runtime="onnxruntime==1.20.1") as session:
            assert session.runtime == "onnxruntime 1.20.1"
