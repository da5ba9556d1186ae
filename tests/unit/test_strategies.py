from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import find, given, settings
from hypothesis import strategies as st

from harness import strategies as edge
from harness.errors import OptionError
from harness.tensors import Tensor, arrange

DTYPES = ["bool", "int8", "uint8", "int16", "int32", "int64", "uint32", "float16", "float32"]
DTYPES += ["float64", "complex64"]


def tensor(dtype, signature=(1, 3), name="x"):
    return Tensor(
        name=name,
        index=0,
        dtype=np.dtype(dtype),
        shape=tuple(max(n, 1) for n in signature),
        shape_signature=signature,
    )


@pytest.mark.parametrize("dtype", DTYPES)
def test_drawn_inputs_fit_the_model(dtype):
    session = SimpleNamespace(inputs=(tensor(dtype), tensor(dtype, (-1, 2), "y")))

    @settings(max_examples=25, database=None)
    @given(edge.inputs(session))
    def check(values):
        x, y = arrange(values, session.inputs)
        assert x.shape == (1, 3)
        assert 1 <= y.shape[0] <= edge.MAX_FREE_SIZE
        if x.dtype.kind in "fc":
            assert np.isfinite(x).all()

    check()


def test_a_failing_input_shrinks_to_its_smallest_form():
    session = SimpleNamespace(inputs=(tensor("int8"),))
    smallest = find(edge.inputs(session, dense=False), lambda v: bool((v["x"] >= 50).any()))
    assert sorted(smallest["x"].ravel().tolist()) in ([0, 0, 50], [50, 50, 50])


def test_dense_noise_is_among_the_draws():
    session = SimpleNamespace(inputs=(tensor("int8", (1, 500)),))
    found = find(edge.inputs(session), lambda v: len(np.unique(v["x"])) > 150)
    assert found["x"].shape == (1, 500)


def test_single_elements_can_be_given_by_name():
    session = SimpleNamespace(inputs=(tensor("float32"),))
    found = find(edge.inputs(session, elements={"x": st.just(np.float32(7.0))}), lambda v: True)
    assert found["x"].tolist() == [[7.0, 7.0, 7.0]]
    with pytest.raises(OptionError, match="no input 'z'"):
        edge.inputs(session, elements={"z": st.just(1.0)})


@given(edge.images((1, 8, 6, 3)))
def test_images_have_the_shape_asked_for(image):
    assert image.shape == (1, 8, 6, 3)
    assert image.dtype == np.uint8
