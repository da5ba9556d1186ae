from functools import partial

import numpy as np
import pytest
from edge_harness.errors import InputError
from edge_harness.models.tensors import Outputs, arrange, checked
from hypothesis import given
from hypothesis import strategies as st

from tests import makers

tensor = partial(makers.tensor, dtype="int8", signature=(1, 4), scales=(0.5,), zero_points=(3,))


def test_a_fitting_array_passes_unchanged():
    array = np.array([[1, 2, 3, 4]], np.int8)
    assert checked(array, tensor()).tobytes() == array.tobytes()


def test_lists_of_numbers_are_converted():
    assert checked([[1, 2, 3, 4]], tensor()).dtype == np.int8


def test_another_dtype_is_refused_with_the_conversion_that_cures_it():
    with pytest.raises(InputError, match=r"takes int8, but the array is int64"):
        checked(np.zeros((1, 4), np.int64), tensor())
    with pytest.raises(InputError, match=r"inputs\[0\]\.quantize"):
        checked(np.zeros((1, 4), np.float32), tensor())


def test_numbers_out_of_range_are_refused_and_not_wrapped():
    with pytest.raises(InputError, match=r"-128 to 127.*300"):
        checked([[1, 2, 3, 300]], tensor())
    with pytest.raises(InputError, match="int8"):
        checked([[1.5, 2, 3, 4]], tensor())


def test_a_missing_batch_axis_is_named():
    with pytest.raises(InputError, match=r"x\[np.newaxis\]"):
        checked(np.zeros(4, np.int8), tensor())


def test_free_dimensions_take_any_size():
    free = tensor(signature=(-1, 4))
    assert checked(np.zeros((7, 4), np.int8), free).shape == (7, 4)
    with pytest.raises(InputError, match=r"takes shape \[-1, 4\]"):
        checked(np.zeros((7, 5), np.int8), free)


@pytest.mark.parametrize("value", ["text", [["a"]], [[1, 2], [3]], None, object()])
def test_what_is_no_array_of_numbers_is_refused(value):
    with pytest.raises(InputError, match="'x'"):
        checked(value, tensor())


def test_big_endian_arrays_are_put_right():
    array = np.array([[1, 2, 3, 4]], ">i4")
    result = checked(array, tensor(dtype=np.dtype("int32"), scales=(), zero_points=()))
    assert result.tolist() == [[1, 2, 3, 4]]
    assert result.dtype.isnative


def test_names_that_do_not_fit_are_listed():
    with pytest.raises(InputError, match=r"unknown 'y'; missing 'x'"):
        arrange({"y": [[1, 2, 3, 4]]}, [tensor()])


def test_a_list_is_taken_in_the_models_order():
    two = [tensor(name="a"), tensor(name="b", index=1)]
    a, b = arrange([[[1, 1, 1, 1]], [[2, 2, 2, 2]]], two)
    assert a[0, 0] == 1
    assert b[0, 0] == 2
    with pytest.raises(InputError, match="2 inputs, one array"):
        arrange(np.zeros((1, 4), np.int8), two)


def test_outputs_are_found_by_name_and_by_position():
    outputs = Outputs(first=np.ones(1), second=np.zeros(1))
    assert outputs["second"] is outputs[1] is outputs[-1]
    with pytest.raises(InputError, match="'first', 'second'"):
        outputs["third"]
    with pytest.raises(InputError):
        outputs[2]


@given(st.lists(st.integers(-128, 127), min_size=4, max_size=4))
def test_quantizing_what_was_dequantized_gives_the_same_integers(values):
    array = np.array([values], np.int8)
    assert np.array_equal(tensor().quantize(tensor().dequantize(array)), array)


def test_quantizing_saturates_and_rounds_half_away_from_zero():
    plain = tensor(scales=(1.0,), zero_points=(0,))
    assert plain.quantize([[0.5, -0.5, 1e9, -1e9]]).tolist() == [[1, -1, 127, -128]]


def test_per_channel_scales_follow_their_axis():
    channels = tensor(signature=(1, 2), scales=(1.0, 10.0), zero_points=(0, 1), axis=1)
    assert channels.dequantize(np.array([[3, 3]], np.int8)).tolist() == [[3.0, 20.0]]
