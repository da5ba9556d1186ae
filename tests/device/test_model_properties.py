"""Properties of real models on an emulated Raspberry Pi 4."""

import numpy as np
import pytest
from edge_harness import properties
from edge_harness.errors import Segfault

onnx = pytest.importorskip("onnx", reason="onnx is not installed: pip install -e .[onnx]")


def graph(path, nodes, inputs, outputs, constants):
    """Write a model of opset 13 to ``path``."""
    from onnx import TensorProto, helper, numpy_helper

    def value(name, dtype, shape):
        return helper.make_tensor_value_info(name, getattr(TensorProto, dtype), shape)

    made = helper.make_model(
        helper.make_graph(
            [helper.make_node(op, ins, outs, **more) for op, ins, outs, more in nodes],
            "test",
            [value(*each) for each in inputs],
            [value(*each) for each in outputs],
            [numpy_helper.from_array(np.asarray(v), name) for name, v in constants.items()],
        ),
        opset_imports=[helper.make_opsetid("", 13)],
        ir_version=8,
    )
    onnx.save(made, str(path))
    return path


def test_all_properties_of_a_small_int8_model(board, models):
    path = models / "digits_int8.tflite"
    # Optimised kernels are up to 3 steps from the reference kernels, for rare inputs.
    with board.load(path, kernels="reference") as session:
        results = properties.check_all(session, reference=path, max_examples=60, max_steps=0)
    assert not results.of("failed")
    assert not results.of("skipped"), results
    assert len(results.of("passed")) == 9
    assert results["equal_to"].examples >= 60
    assert "digits_int8.tflite on rpi4 (user), tflite-runtime 2.14.0" in str(results)


def test_optimised_int8_kernels_round_batches_otherwise_and_reference_kernels_do_not(board, models):
    strictly = properties.Tolerance(max_steps=0)
    path = models / "autoencoder_int8.tflite"
    with board.load(path, kernels="reference") as session:
        assert properties.exact(session, batch=True)
        properties.batch_invariant(session)
    with board.load(path, kernels="builtin") as session:
        assert not properties.exact(session, batch=True)
        properties.batch_invariant(session)
        with pytest.raises(properties.PropertyFailed, match="in a batch"):
            properties.batch_invariant(session, tolerance=strictly)


def test_what_cannot_be_checked_is_listed_as_skipped(board, models):
    with board.load(models / "multi_io.tflite") as session:
        results = properties.check_all(
            session, max_examples=20, memory_calls=40, skip={"independent"}
        )
    skipped = {outcome.name: outcome.verdict.reason for outcome in results.of("skipped")}
    assert skipped["independent"] == "left out by skip="
    assert skipped["equal_to"] == "no reference was given"
    assert "batch size of multi_io.tflite is fixed" in skipped["batch_invariant"]


def test_a_segfault_of_the_runtime_shrinks_to_one_element(board, tmp_path):
    """onnxruntime 1.20.1's RoiAlign reads wherever its batch indices point."""
    path = graph(
        tmp_path / "roi.onnx",
        [("RoiAlign", ["x", "rois", "b"], ["y"], {"output_height": 2, "output_width": 2})],
        [("b", "INT64", [4])],
        [("y", "FLOAT", [4, 1, 2, 2])],
        {
            "x": np.zeros((1, 1, 8, 8), np.float32),
            "rois": np.tile(np.float32([0, 0, 4, 4]), (4, 1)),
        },
    )
    with board.load(path, runtime="onnxruntime==1.20.1") as session:
        with pytest.raises(Segfault) as death:
            properties.survives(session)
        text = str(death.value)
        assert "onnxruntime_pybind11_state" in text
        assert text.count("x['b'].flat[[") == 1
        assert "ranges={'b': (lowest, highest)}" in text
        # The session goes on.
        assert session.run(np.zeros(4, np.int64))[0].shape == (4, 1, 2, 2)
        properties.survives(session, ranges={"b": (0, 0)}, max_examples=5)


def classifier(path, limit):
    """64 int8 inputs, 16 hidden units, 4 int8 outputs whose sums stop at ``limit``."""
    rng = np.random.default_rng(1)
    hidden = rng.normal(0, 1, (64, 16)).astype(np.float32)
    last = rng.normal(0, 1, (16, 4)).astype(np.float32)
    nodes = [
        ("DequantizeLinear", ["x", "sx", "zero"], ["real"], {}),
        ("MatMul", ["real", "hidden"], ["h"], {}),
        ("Relu", ["h"], ["r"], {}),
        ("MatMul", ["r", "last"], ["sums"], {}),
        ("Min", ["sums", "limit"], ["limited"], {}),
        ("QuantizeLinear", ["limited", "sy", "zero"], ["y"], {}),
    ]
    constants = {
        "sx": np.float32(1 / 128),
        "sy": np.float32(1.2),
        "zero": np.int8(0),
        "hidden": hidden,
        "last": last,
        "limit": np.float32(limit),
    }
    return graph(path, nodes, [("x", "INT8", [1, 64])], [("y", "INT8", [1, 4])], constants)


def test_a_rare_wrong_input_is_found_by_the_targeted_search_and_shrunk(board, tmp_path):
    """The sums saturate six standard deviations out, where no random input goes."""
    with (
        board.load(classifier(tmp_path / "right.onnx", 1e9)) as right,
        board.load(classifier(tmp_path / "wrong.onnx", 76.7)) as wrong,
    ):
        rng = np.random.default_rng(0)
        many = [rng.integers(-128, 128, (1, 64), dtype=np.int8) for _ in range(2000)]
        for a, b in zip(right.run_many(many), wrong.run_many(many), strict=True):
            assert np.array_equal(a["y"], b["y"]), "not rare: noise finds it"
        with pytest.raises(properties.PropertyFailed) as failure:
            properties.equal_to(wrong, right, max_examples=300)
        smallest = failure.value.inputs
        assert np.max(np.abs(wrong.run(smallest)["y"] - right.run(smallest)["y"])) == 2
        assert np.count_nonzero(smallest["x"]) < 40
        assert "steps off (allowed 1)" in str(failure.value)


def test_a_leaking_memory_is_seen(board, models, monkeypatch):
    from edge_harness.device.session import MemoryUse

    with board.load(models / "digits_int8.tflite") as session:
        properties.memory_flat(session, calls=200)
        figures = iter([50.0, 52.0, 54.0, 56.0])
        monkeypatch.setattr(
            session,
            "memory",
            lambda: MemoryUse(
                peak_mib=0,
                rss_mib=next(figures, 56.0),
                model_mib=0,
                kind="emulated",
                source="told",
            ),
        )
        with pytest.raises(properties.PropertyFailed, match=r"grew by 4\.00 MiB"):
            properties.memory_flat(session, calls=40)
