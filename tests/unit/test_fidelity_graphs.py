"""Model files taken apart: what is one layer, what it reads, what it is made of."""

import warnings
from pathlib import Path

import numpy as np
import pytest
from edge_harness.errors import UnsupportedModel
from edge_harness.fidelity import graph_tflite
from edge_harness.fidelity.graphs import graph_of
from edge_harness.models.file import ModelFile, read_model
from edge_harness.models.tflite import verify
from edge_harness.runtimes import FORMATS

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import tflite

MODELS = Path(__file__).parents[2] / "fixtures" / "models"


def lite(name):
    return graph_of(read_model(MODELS / f"{name}.tflite"))


# -- TFLite ----------------------------------------------------------------------------------


def test_operators_stand_in_the_order_of_execution_with_what_they_read():
    graph = lite("multi_io")
    assert [(n.op, n.inputs, n.output) for n in graph.nodes] == [
        ("MUL", ("serving_default_right:0",), "mul"),
        ("ADD", ("serving_default_left:0", "mul"), "PartitionedCall:1"),
        ("MUL", ("serving_default_left:0", "serving_default_right:0"), "PartitionedCall:0"),
    ]
    assert all(node.separable for node in graph.nodes)
    assert graph.channel_axis == -1
    (constant,) = graph.parameters(graph.nodes[0])
    assert (constant.position, constant.values.dtype, constant.scales) == (1, np.float32, ())
    assert graph.parameters(graph.nodes[1]) == []


def test_parameters_come_with_shape_scales_and_zero_points():
    graph = lite("digits_int8")
    assert [node.op for node in graph.nodes] == [
        "CONV_2D", "DEPTHWISE_CONV_2D", "CONV_2D", "DEPTHWISE_CONV_2D", "CONV_2D", "MEAN",
        "FULLY_CONNECTED", "SOFTMAX",
    ]  # fmt: skip
    weights, bias = graph.parameters(graph.nodes[0])
    assert (weights.position, weights.values.shape, weights.values.dtype) == (
        1, (16, 3, 3, 1), np.int8,
    )  # fmt: skip
    assert (len(weights.scales), set(weights.zero_points)) == (16, {0})
    assert (bias.position, bias.values.shape, bias.values.dtype) == (2, (16,), np.int32)
    # A bias' scale is that of the input times that of the weights.
    ratio = np.asarray(bias.scales) / np.asarray(weights.scales)
    assert ratio == pytest.approx(np.full(16, ratio[0]))
    (axes,) = graph.parameters(graph.nodes[5])
    assert (axes.values.tolist(), axes.scales, axes.zero_points) == ([1, 2], (), ())


def test_text_cannot_be_watched():
    assert lite("strings").nodes == ()


def test_a_watched_file_is_the_old_one_with_other_outputs():
    graph = lite("digits_int8")
    made = graph.watched()
    assert made.path == Path("digits_int8-watched.tflite")
    assert made.content.endswith(graph.model.content)
    # So that the buffers of the old file keep their alignment.
    assert (len(made.content) - len(graph.model.content)) % 16 == 0
    verify(made.content)
    model = tflite.Model.GetRootAs(made.content, 0)
    assert (model.Version(), model.SubgraphsLength(), model.SignatureDefsLength()) == (3, 1, 0)
    assert made.content[4:8] == b"TFL3"
    old = tflite.Model.GetRootAs(graph.model.content, 0)
    assert model.Description() == old.Description()
    assert model.MetadataLength() == old.MetadataLength()
    assert model.OperatorCodesLength() == old.OperatorCodesLength()
    whole = model.Subgraphs(0)
    names = [whole.Tensors(i).Name().decode() for i in whole.OutputsAsNumpy()]
    assert names == [node.output for node in graph.nodes]
    assert whole.InputsAsNumpy().tolist() == old.Subgraphs(0).InputsAsNumpy().tolist()
    assert whole.OperatorsLength() == 8
    assert whole.Name() == old.Subgraphs(0).Name()
    assert [node.output for node in graph_of(made).nodes] == [n.output for n in graph.nodes]


def test_an_operator_alone_reads_a_tensor_of_its_own():
    graph = lite("digits_int8")
    nodes = [graph.nodes[1], graph.nodes[7]]
    made, names = graph.isolated(nodes, {})
    assert made.path == Path("digits_int8-isolated.tflite")
    assert names == [nodes[0].inputs[0], nodes[1].inputs[0]]
    verify(made.content)
    old = tflite.Model.GetRootAs(graph.model.content, 0).Subgraphs(0)
    whole = tflite.Model.GetRootAs(made.content, 0).Subgraphs(0)
    assert whole.OperatorsLength() == 2
    # Tensors that are inputs and outputs of others in the old file are there twice.
    assert whole.TensorsLength() == old.TensorsLength() + 2
    inputs = whole.InputsAsNumpy().tolist()
    assert inputs == [old.TensorsLength(), old.TensorsLength() + 1]
    assert [whole.Tensors(i).Name().decode() for i in inputs] == names
    assert [whole.Operators(i).Inputs(0) for i in range(2)] == inputs
    outputs = [whole.Tensors(i).Name().decode() for i in whole.OutputsAsNumpy()]
    assert outputs == [node.output for node in nodes]
    # Weights, options and version stay.
    first = whole.Operators(0)
    before = old.Operators(1)
    assert first.InputsAsNumpy()[1:].tolist() == before.InputsAsNumpy()[1:].tolist()
    assert first.BuiltinOptionsType() == before.BuiltinOptionsType()
    assert first.OpcodeIndex() == before.OpcodeIndex()
    for each in (first, before):
        options = tflite.DepthwiseConv2DOptions()
        options.Init(each.BuiltinOptions().Bytes, each.BuiltinOptions().Pos)
        assert (options.StrideW(), options.DepthMultiplier()) == (1, 1)


def test_the_models_own_inputs_need_no_second_tensor():
    graph = lite("multi_io")
    made, names = graph.isolated(list(graph.nodes[1:]), {})
    assert names == ["serving_default_left:0", "mul", "serving_default_right:0"]
    old = tflite.Model.GetRootAs(graph.model.content, 0).Subgraphs(0)
    whole = tflite.Model.GetRootAs(made.content, 0).Subgraphs(0)
    assert whole.TensorsLength() == old.TensorsLength() + 1
    assert whole.OperatorsLength() == 2


def test_real_ends_of_integer_models_have_steps():
    steps = graph_tflite.output_steps(read_model(MODELS / "digits_int8_real_ends.tflite"))
    assert steps == {"StatefulPartitionedCall:0": 1 / 256}
    assert graph_tflite.output_steps(read_model(MODELS / "digits_int8.tflite")) == {}


@pytest.mark.parametrize(
    ("name", "integers"),
    [("digits_int8", True), ("digits_float", False), ("multi_io", False), ("dtype_int8", False)],
)
def test_integers_with_a_scale_are_quantized(name, integers):
    content = (MODELS / f"{name}.tflite").read_bytes()
    assert graph_tflite.has_quantized_tensors(content) is integers


def test_names_that_stand_twice_get_their_place():
    assert graph_tflite._unique(["a", "b", "a", ""]) == ["a#0", "b", "a#2", "#3"]


def test_options_outside_of_tables_cannot_be_taken_apart(monkeypatch):
    graph = lite("multi_io")
    offset = tflite.flatbuffers.table.Table.Offset

    def outside(self, place):
        return 4 if place == 22 else offset(self, place)

    monkeypatch.setattr(tflite.flatbuffers.table.Table, "Offset", outside)
    with pytest.raises(UnsupportedModel, match="keeps options outside its tables"):
        graph.isolated([graph.nodes[0]], {})


# -- ONNX ------------------------------------------------------------------------------------

onnx = pytest.importorskip("onnx")
from fixtures import small_onnx  # noqa: E402

helper, kind = onnx.helper, onnx.TensorProto


def onnx_graph(content):
    file = ModelFile(path=Path("m.onnx"), content=content, format=FORMATS["onnx"])
    return graph_of(file)


def made(nodes, constants=(), inputs=("x",), outputs=("y",)):
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(name, kind.FLOAT, (1, 4)) for name in inputs],
        [helper.make_tensor_value_info(name, kind.FLOAT, None) for name in outputs],
        [onnx.numpy_helper.from_array(np.asarray(v), n) for n, v in dict(constants).items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
    return onnx_graph(model.SerializeToString())


SCALE = {"s": np.float32(0.5), "z": np.uint8(3)}


def told(graph):
    return [(n.op, n.inputs, n.output) for n in graph.nodes]


def test_dequantize_operator_quantize_is_one_layer():
    assert told(onnx_graph(small_onnx.classifier_qdq())) == [
        ("QuantizeLinear", ("image",), "image_q"),
        ("Conv+Relu", ("image_q",), "conv1_q"),
        ("Conv+Relu", ("conv1_q",), "conv2_q"),
        ("Conv+Relu", ("conv2_q",), "conv3_q"),
        ("GlobalAveragePool", ("conv3_q",), "pooled_q"),
        ("Flatten", ("pooled_q",), "features"),
        ("MatMul", ("features",), "product_q"),
        ("Add", ("product_q",), "scores"),
    ]
    assert onnx_graph(small_onnx.classifier_float()).channel_axis == 1


def test_a_real_tensor_that_somebody_else_reads_is_a_layer_of_its_own():
    node = helper.make_node
    quantize = [node("QuantizeLinear", ["r", "s", "z"], ["q"]), node("Neg", ["q2"], ["y"])]
    read = [node("DequantizeLinear", ["q", "s", "z"], ["q2"])]
    alone = made([node("Relu", ["x"], ["r"]), quantize[0], *read, quantize[1]], SCALE)
    assert told(alone) == [("Relu", ("x",), "q"), ("Neg", ("q",), "y")]
    # Relu's answer is also an output: it is watched.
    both = made(
        [node("Relu", ["x"], ["r"]), quantize[0], *read, quantize[1]], SCALE, outputs=("y", "r")
    )
    assert told(both)[:2] == [("Relu", ("x",), "r"), ("QuantizeLinear", ("r",), "q")]
    # Nobody reads it: it is no layer.
    dead = made([node("Relu", ["x"], ["r"]), node("Neg", ["x"], ["y"])])
    assert told(dead) == [("Neg", ("x",), "y")]


def test_an_activation_hides_what_is_before_it_only_on_its_way_to_integers():
    node = helper.make_node
    head = [node("Add", ["x", "x"], ["sum"]), node("Relu", ["sum"], ["r"])]
    tail = [node("QuantizeLinear", ["r", "s", "z"], ["q"])]
    tail += [node("DequantizeLinear", ["q", "s", "z"], ["d"]), node("Neg", ["d"], ["y"])]
    assert told(made([*head, *tail], SCALE))[0] == ("Add+Relu", ("x",), "q")
    # Read by another as well, or no activation, or not on its way to integers.
    other = node("Abs", ["sum"], ["a"])
    shown = made([*head, other, *tail], SCALE, outputs=("y", "a"))
    assert told(shown)[0] == ("Add", ("x",), "sum")
    plain = made([head[0], node("Abs", ["sum"], ["r"]), *tail], SCALE)
    assert told(plain)[0] == ("Add", ("x",), "sum")
    real = made([*head, node("Neg", ["r"], ["y"])])
    assert told(real) == [("Add", ("x",), "sum"), ("Relu", ("sum",), "r"), ("Neg", ("r",), "y")]
    output = made([*head, *tail], SCALE, outputs=("y", "r"))
    assert told(output)[0] == ("Add", ("x",), "sum")


def test_what_comes_from_constants_alone_is_no_layer_and_stays():
    node = helper.make_node
    graph = made(
        [node("Mul", ["w", "w"], ["w2"]), node("Add", ["x", "w2"], ["sum"]),
         node("Neg", ["sum"], ["y"])],
        {"w": np.float32([2])},
    )  # fmt: skip
    assert told(graph) == [("Add", ("x",), "sum"), ("Neg", ("sum",), "y")]
    alone, names = graph.isolated([graph.nodes[0]], {"x": np.zeros((1, 4), np.float32)})
    assert names == ["x"]
    model = onnx.load_model_from_string(alone.content)
    assert [n.op_type for n in model.graph.node] == ["Mul", "Add"]


def test_layers_alone_read_inputs_of_their_own_and_nothing_else():
    graph = onnx_graph(small_onnx.classifier_qdq())
    nodes = [graph.nodes[2], graph.nodes[6]]
    feeds = {"conv1_q": np.zeros((1, 8, 12, 12), np.uint8), "features": np.zeros((1, 16), "u1")}
    alone, names = graph.isolated(nodes, feeds)
    assert (alone.path, names) == (Path("m-isolated.onnx"), ["conv1_q", "features"])
    model = onnx.load_model_from_string(alone.content)
    assert [i.name for i in model.graph.input] == ["conv1_q//alone", "features//alone"]
    shapes = [[d.dim_value for d in i.type.tensor_type.shape.dim] for i in model.graph.input]
    assert shapes == [[1, 8, 12, 12], [1, 16]]
    assert {i.type.tensor_type.elem_type for i in model.graph.input} == {kind.UINT8}
    assert [o.name for o in model.graph.output] == ["conv2_q", "product_q"]
    assert len(model.graph.value_info) == 0
    ops = [n.op_type for n in model.graph.node]
    assert ops.count("Conv") == ops.count("Relu") == ops.count("MatMul") == 1
    assert "GlobalAveragePool" not in ops
    # The file that was taken apart is as it was.
    assert [i.name for i in graph.proto.graph.input] == ["image"]


def test_a_watched_onnx_file_has_all_layers_as_outputs():
    graph = onnx_graph(small_onnx.classifier_float())
    made_file = graph.watched()
    assert made_file.path == Path("m-watched.onnx")
    model = onnx.load_model_from_string(made_file.content)
    assert [o.name for o in model.graph.output] == [n.output for n in graph.nodes]
    assert len(graph.nodes) == 10


@pytest.mark.parametrize("form", ["qdq", "qoperator"])
def test_weights_stand_second_and_bias_third_however_they_are_written(form):
    graph = onnx_graph(getattr(small_onnx, f"classifier_{form}")())
    weights, bias = graph.parameters(graph.nodes[1])
    assert (weights.position, weights.values.shape, weights.values.dtype) == (
        1, (8, 3, 3, 3), np.int8,
    )  # fmt: skip
    assert (len(weights.scales), weights.zero_points) == (8, (0,) * 8)
    assert (bias.position, bias.values.shape, bias.values.dtype) == (2, (8,), np.int32)
    assert graph.parameters(graph.nodes[0]) == []  # scale and zero point are no weights
    (head,) = graph.parameters(graph.nodes[6])
    assert (head.position, head.values.shape) == (1, (16, 10))


def test_a_branch_reads_from_outside_and_cannot_stand_alone():
    branches = [
        helper.make_graph(
            [helper.make_node(op, ["a"], [f"{op}_out"])],
            op,
            [],
            [helper.make_tensor_value_info(f"{op}_out", kind.FLOAT, None)],
        )
        for op in ("Neg", "Abs")
    ]
    graph = made(
        [
            helper.make_node("Relu", ["x"], ["a"]),
            helper.make_node("If", ["c"], ["y"], then_branch=branches[0], else_branch=branches[1]),
        ],
        {"c": np.array([True])},
    )
    # What only a branch reads is read by nobody here, and is in no other way a layer.
    assert [(n.op, n.separable) for n in graph.nodes] == [("If", False)]


@pytest.mark.parametrize(
    ("op", "names", "positions"),
    [
        ("QLinearMatMul", ["q", "s", "z", "w", "s", "z", "s", "z"], {1}),
        ("QLinearAdd", ["q", "s", "z", "w", "s", "z", "s", "z"], {1}),
        ("QLinearMul", ["q", "s", "z", "w", "s", "z", "s", "z"], {1}),
        ("QGemm", ["q", "s", "z", "w", "s", "z", "b", "s", "z"], {1, 2}),
        ("QLinearConv", ["q", "s", "z", "w", "s", "z", "s", "z", "b"], {1, 2}),
        ("Gemm", ["q", "w", "b"], {1, 2}),
    ],
)
def test_scales_and_zero_points_are_no_parameters(op, names, positions):
    graph = made(
        [helper.make_node("Identity", ["x"], ["q"]), helper.make_node(op, names, ["y"])],
        SCALE | {"w": np.uint8([[1, 2]]), "b": np.int32([5, 6])},
    )
    found = {p.position: p.values.tolist() for p in graph.parameters(graph.nodes[-1])}
    wanted = {1: [[1, 2]], 2: [5, 6]}
    assert found == {position: wanted[position] for position in positions}
