import math
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
from edge_harness import fidelity
from edge_harness.errors import InputError
from edge_harness.fidelity.measuring import output_report

from tests import makers

tensor = partial(makers.tensor, name="y", dtype="int8", scales=(0.25,), zero_points=(-1,))


def session_with(*outputs):
    return SimpleNamespace(
        outputs=outputs,
        device=SimpleNamespace(name="rpi4", engine="user"),
        runtime="tflite-runtime 2.14.0",
        kernels="builtin (no delegate)",
    )


def test_integers_are_compared_in_steps_without_wrapping():
    far = fidelity.steps_between(np.int8([-128]), np.int8([127]), tensor())
    assert far.tolist() == [255.0]


def test_a_real_reference_is_measured_on_the_tensors_scale():
    steps = fidelity.steps_between(np.int8([[3]]), np.float32([[0.5]]), tensor())
    assert steps.tolist() == [[2.0]]


def test_floats_without_a_scale_have_no_steps():
    plain = tensor(dtype=np.dtype("float32"), scales=(), zero_points=())
    with pytest.raises(InputError, match="no quantization step"):
        fidelity.steps_between(np.float32([1]), np.float32([1]), plain)


def test_a_difference_names_place_values_and_kernels():
    with pytest.raises(AssertionError, match=r"2 steps.*\[0, 1\] 7 instead of 5.*builtin"):
        fidelity.assert_within_steps(
            session_with(tensor()),
            {"y": np.int8([[1, 7, 3]])},
            {"y": np.int8([[1, 5, 3]])},
            max_steps=1,
        )


def test_a_nan_is_never_within_any_number_of_steps():
    output = tensor(dtype=np.dtype("float32"))
    with pytest.raises(AssertionError):
        fidelity.assert_within_steps(
            session_with(output),
            {"y": np.float32([[np.nan, 0, 0]])},
            np.float32([[np.nan, 0, 0]]),
            max_steps=1e9,
        )


def test_not_finite_values_are_counted_and_located():
    fidelity.assert_finite({"y": np.int8([1]), "z": np.float32([1.0])})
    with pytest.raises(AssertionError, match=r"2 of 3 values.*\[1\]"):
        fidelity.assert_finite({"y": np.float32([0, np.inf, np.nan])})


def test_sqnr_follows_its_definition():
    report = output_report(
        tensor(dtype=np.dtype("float64"), scales=(), zero_points=()),
        tensor(dtype=np.dtype("float64"), scales=(), zero_points=()),
        [np.array([1.0, 2.0])],
        [np.array([1.0, 1.0])],
    )
    assert report.sqnr_db == pytest.approx(10 * math.log10(2 / 1))
    assert math.isnan(report.max_steps)


def test_equal_outputs_have_infinite_sqnr_and_no_steps():
    report = output_report(tensor(), tensor(), [np.int8([1, 2])], [np.int8([1, 2])])
    assert (report.sqnr_db, report.max_steps, report.differing) == (math.inf, 0.0, 0)


def test_nan_in_an_output_is_not_hidden_by_a_metric():
    plain = tensor(dtype=np.dtype("float32"), scales=(), zero_points=())
    report = output_report(plain, plain, [np.float32([np.nan])], [np.float32([1.0])])
    assert report.differing == 1
    assert math.isnan(report.sqnr_db)


def test_every_public_name_is_there():
    assert all(getattr(fidelity, name) is not None for name in fidelity.__all__)
    assert sorted(fidelity.__all__) == fidelity.__all__
