"""The operators of a model file, and how much each computes and moves."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from edge_harness.clock.calibrate.architectures import build
from edge_harness.clock.calibrate.architectures.tflite_writer import (
    FileOperator,
    FileTensor,
    write,
)
from edge_harness.clock.operators import Operator, onnx_operators, tflite_operators

from tests.network_facts import facts

MODELS = Path(__file__).parents[2] / "fixtures" / "models"


def test_operators_of_a_file_in_the_order_they_run():
    found = tflite_operators((MODELS / "digits_int8.tflite").read_bytes())
    assert [(o.kind, o.macs, o.activation_bytes) for o in found] == [
        ("CONV_2D", 9216, 8 * 8 + 8 * 8 * 16),
        ("DEPTHWISE_CONV_2D", 9216, 8 * 8 * 16 * 2),
        ("CONV_2D", 32768, 8 * 8 * 16 + 8 * 8 * 32),
        ("DEPTHWISE_CONV_2D", 4608, 8 * 8 * 32 + 4 * 4 * 32),
        ("CONV_2D", 24576, 4 * 4 * 32 + 4 * 4 * 48),
        ("MEAN", 0, 4 * 4 * 48 + 48),
        ("FULLY_CONNECTED", 480, 48 + 10),
        ("SOFTMAX", 0, 10 + 10),
    ]
    assert all(operator.integer for operator in found)
    assert found[-1].name == "StatefulPartitionedCall:0"


@pytest.mark.parametrize(
    ("dtype", "width", "integer"),
    [
        ("bool", 1, False),
        ("complex64", 8, False),
        ("complex128", 16, False),
        ("float16", 2, False),
        ("float32", 4, False),
        ("float64", 8, False),
        ("int8", 1, True),
        ("int16", 2, True),
        ("int32", 4, True),
        ("int64", 8, True),
        ("uint8", 1, True),
        ("uint32", 4, True),
        ("uint64", 8, True),
    ],
)
def test_every_type_has_its_width(dtype, width, integer):
    (reshape,) = tflite_operators((MODELS / f"dtype_{dtype}.tflite").read_bytes())
    assert reshape.activation_bytes == 2 * 6 * width
    assert reshape.integer is integer


def test_multiply_accumulates_are_those_another_count_of_the_file_finds():
    content = build("mobilenet_v1_0.25_128", "int8")
    assert sum(o.macs for o in tflite_operators(content)) == facts(content).macs


def activation(name, shape, dtype="float32"):
    return FileTensor(name=name, shape=shape, dtype=dtype)


def constant(name, shape, dtype="float32"):
    return FileTensor(name=name, shape=shape, dtype=dtype, data=np.ones(shape, dtype))


def test_operators_that_the_fixtures_do_not_have():
    content = write(
        tensors=[
            activation("image", (1, 4, 4, 3)),
            constant("shape", (4,), "int32"),
            constant("filter", (5, 2, 2, 3)),  # output channels, height, width, input channels
            activation("grown", (1, 8, 8, 5)),
            activation("left", (2, 6, 7)),
            activation("right", (2, 7, 9)),
            activation("product", (2, 6, 9), "int32"),
            activation("rest", (2, 6, 9)),
        ],
        operators=[
            FileOperator(
                code="TRANSPOSE_CONV",
                inputs=(1, 2, 0),
                outputs=(3,),
                options="TransposeConvOptions",
            ),
            FileOperator(
                code="BATCH_MATMUL", inputs=(4, 5), outputs=(6,), options="BatchMatMulOptions"
            ),
            FileOperator(code="CAST", inputs=(6, -1), outputs=(7,), options="CastOptions"),
        ],
        inputs=[0, 4, 5],
        outputs=[3, 7],
        description="operators",
    )
    grown, product, rest = tflite_operators(content)
    assert grown == Operator(
        name="grown",
        kind="TRANSPOSE_CONV",
        macs=(4 * 4 * 3) * (5 * 2 * 2),  # each input element goes into that many outputs
        activation_bytes=4 * (4 * 4 * 3 + 8 * 8 * 5),
        integer=False,
    )
    assert product == Operator(
        name="product",
        kind="BATCH_MATMUL",
        macs=2 * 6 * 9 * 7,
        activation_bytes=4 * (2 * 6 * 7 + 2 * 7 * 9 + 2 * 6 * 9),
        integer=True,
    )
    assert (rest.kind, rest.macs, rest.activation_bytes) == ("CAST", 0, 4 * 2 * 2 * 6 * 9)


@pytest.mark.parametrize(
    ("number", "custom", "kind"),
    [
        (32, b"edgetpu-custom-op", "edgetpu-custom-op"),
        (32, None, "CUSTOM"),
        (0, b"left over", "ADD"),
        (126, None, "BATCH_MATMUL"),
        (9999, None, "9999"),
    ],
)
def test_an_operator_of_ones_own_has_its_own_name(monkeypatch, number, custom, kind):
    import tflite

    code = SimpleNamespace(
        BuiltinCode=lambda: number,
        DeprecatedBuiltinCode=lambda: min(number, 127),
        CustomCode=lambda: custom,
    )
    monkeypatch.setattr(tflite.Model, "OperatorCodes", lambda self, index: code)
    assert tflite_operators((MODELS / "multi_io.tflite").read_bytes())[0].kind == kind


def test_a_name_that_is_no_text_is_told_as_far_as_it_is(monkeypatch):
    import tflite

    monkeypatch.setattr(tflite.Tensor, "Name", lambda self: b"conv\xff")
    found = tflite_operators((MODELS / "multi_io.tflite").read_bytes())
    assert found[0].name == "conv\ufffd"


def test_operators_of_an_onnx_file_are_its_nodes():
    pytest.importorskip("onnx")
    found = onnx_operators((MODELS / "digits_qdq.onnx").read_bytes())
    assert "Constant" not in {o.kind for o in found}
    assert {o.kind for o in found} >= {"QuantizeLinear", "DequantizeLinear", "MatMul"}
    assert all(o.name for o in found)
    assert not any(o.integer for o in found)


def test_operators_of_onnx_that_compute_on_integers_are_told():
    onnx = pytest.importorskip("onnx")
    helper = onnx.helper
    nodes = [
        helper.make_node("QLinearMatMul", list("abcdefgh"), ["y"]),
        helper.make_node("ConvInteger", ["a", "b"], ["z"]),
        helper.make_node("Constant", [], ["k"], value_int=1),
        helper.make_node("Relu", ["z"], ["r"]),
    ]
    model = helper.make_model(helper.make_graph(nodes, "g", [], []))
    found = onnx_operators(model.SerializeToString())
    assert [(o.kind, o.name, o.integer) for o in found] == [
        ("QLinearMatMul", "y", True),
        ("ConvInteger", "z", True),
        ("Relu", "r", False),
    ]
