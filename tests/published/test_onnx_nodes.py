"""ONNX's own tests of operators, on the trusted evaluator."""

import warnings
from pathlib import Path

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
from edge_harness.fidelity import Evaluator  # noqa: E402
from edge_harness.models.file import ModelFile  # noqa: E402


def node_tests():
    from onnx.backend.test.case.node import collect_testcases

    words = ("quantizelinear", "qlinear", "matmulinteger", "convinteger")
    # 8-bit and 4-bit floats, which no device here computes in.
    others = ("e4m3fn", "e5m2", "float4", "_expanded")
    with warnings.catch_warnings():
        # Making the data of other operators overflows on purpose.
        warnings.simplefilter("ignore")
        cases = collect_testcases(None)
    return [
        case
        for case in cases
        if any(word in case.name for word in words) and not any(w in case.name for w in others)
    ]


CASES = node_tests()


def array(value):
    return (
        onnx.numpy_helper.to_array(value)
        if isinstance(value, onnx.TensorProto)
        else np.asarray(value)
    )


def test_there_are_some_of_each_kind():
    assert len(CASES) > 15


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_one_of_onnxs_own_tests_of_quantized_operators(case):
    assert case.data_sets
    file = ModelFile(path=Path("model.onnx"), content=case.model.SerializeToString(), format="onnx")
    found = Evaluator(file)
    for inputs, outputs in case.data_sets:
        names = [tensor.name for tensor in found.outputs]
        values = found.evaluate([array(i) for i in inputs], names)
        for value, wanted in zip(values, map(array, outputs), strict=True):
            if wanted.dtype.kind == "f":
                np.testing.assert_allclose(value, wanted, rtol=1e-3)
            else:
                assert value.tobytes() == wanted.tobytes()
