from types import SimpleNamespace

import numpy as np
import pytest
from edge_harness import strategies as edge
from edge_harness.errors import InputError, OptionError
from edge_harness.models.tensors import arrange
from edge_harness.strategies.space import CODES, Space
from edge_harness.strategies.values import PATTERNS, paint, pattern_names, span_of
from hypothesis import HealthCheck, Phase, find, given, settings
from hypothesis import strategies as st

from tests.makers import tensor

#: Where it only matters that there is such an input: making it small takes seconds.
UNSHRUNK = settings(phases=[Phase.generate], max_examples=2000, database=None)
DTYPES = ["bool", "int8", "uint8", "int16", "int32", "int64", "uint32", "uint64", "float16"]
DTYPES += ["float32", "float64", "complex64", "complex128"]


@pytest.mark.parametrize("dtype", DTYPES)
def test_drawn_inputs_fit_the_model(dtype):
    session = SimpleNamespace(inputs=(tensor("x", dtype), tensor("y", dtype, (-1, 2))))

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
    session = SimpleNamespace(inputs=(tensor("x", "int8"),))
    smallest = find(edge.inputs(session, dense=False), lambda v: bool((v["x"] >= 50).any()))
    assert sorted(smallest["x"].ravel().tolist()) in ([0, 0, 50], [50, 50, 50])


def test_dense_noise_is_among_the_draws():
    session = SimpleNamespace(inputs=(tensor("x", "int8", (1, 60)),))
    found = find(edge.inputs(session), lambda v: len(np.unique(v["x"])) > 30, settings=UNSHRUNK)
    assert found["x"].shape == (1, 60)


def test_single_elements_can_be_given_by_name():
    session = SimpleNamespace(inputs=(tensor("x", "float32"),))
    found = find(edge.inputs(session, elements={"x": st.just(np.float32(7.0))}), lambda v: True)
    assert found["x"].tolist() == [[7.0, 7.0, 7.0]]
    with pytest.raises(OptionError, match="no input 'z'"):
        edge.inputs(session, elements={"z": st.just(1.0)})


@given(edge.images((1, 8, 6, 3)))
def test_images_have_the_shape_asked_for(image):
    assert image.shape == (1, 8, 6, 3)
    assert image.dtype == np.uint8


@pytest.mark.parametrize("dtype", DTYPES)
def test_coded_inputs_fit_the_model_and_their_codes(dtype):
    session = SimpleNamespace(
        inputs=(tensor("x", dtype, (-1, 8, 8, 3)), tensor("y", dtype, (1, 16)))
    )
    space = Space.of(session)
    for code in (*range(60), CODES - 1):
        one, two = space.build(code), space.build(code)
        for x, y in zip(arrange(one, session.inputs), arrange(two, session.inputs), strict=True):
            assert x.tobytes() == y.tobytes()
            assert x.dtype.kind not in "fc" or np.isfinite(x).all()


def test_small_codes_are_simple_inputs():
    session = SimpleNamespace(
        inputs=(tensor("x", "int8", (1, 4), scales=(0.1,), zero_points=(-7,)), tensor("n", "int64"))
    )
    built = [Space.of(session).build(code) for code in range(3)]
    assert [int(values["x"][0, 0]) for values in built] == [-7, 127, -128]
    assert [int(values["n"][0, 0]) for values in built] == [0, 2**63 - 1, -(2**63)]


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("shape", [(), (0,), (7,), (1, 5), (2, 9, 4), (1, 3, 8, 8), (1, 8, 8, 1)])
def test_every_pattern_paints_every_shape(pattern, shape):
    for dtype in ("int8", "float32", "uint64"):
        span = span_of(tensor("x", dtype, shape))
        array = paint(span, shape, pattern, 3)
        assert array.shape == shape
        assert array.dtype == dtype
        assert ((array >= span.low) & (array <= span.high)).all()


def test_the_power_of_natural_noise_falls_with_the_square_of_the_frequency():
    span = span_of(tensor("x", "float32", (1, 128, 128, 1)))
    image = paint(span, (1, 128, 128, 1), "natural", 0)[0, :, :, 0]
    power = np.abs(np.fft.fft2(image - image.mean())) ** 2
    radius = np.hypot(*np.meshgrid(np.fft.fftfreq(128), np.fft.fftfreq(128)))
    inner = (radius > 0.02) & (radius < 0.4)
    slope = np.polyfit(np.log(radius[inner]), np.log(power[inner]), 1)[0]
    assert -2.2 < slope < -1.8


def test_floats_get_subnormal_numbers():
    span = span_of(tensor("x", "float32", (1, 100)))
    array = paint(span, (1, 100), pattern_names(span)[-1], 0)
    assert (np.abs(array) < np.finfo(np.float32).tiny).all()
    assert np.count_nonzero(array) > 90
    away = span_of(tensor("x", "float32", (1, 100)), bounds=(5, 6))
    assert pattern_names(away) == list(PATTERNS), "they would lie outside"


def test_ranges_are_kept():
    session = SimpleNamespace(inputs=(tensor("tokens", "int64", (1, 16)),))
    kept = {"tokens": (5, 300)}

    @settings(max_examples=50, database=None)
    @given(edge.inputs(session, ranges=kept), edge.batches(session, ranges=kept))
    def check(one, many):
        for values in (one, *many):
            assert values["tokens"].min() >= 5
            assert values["tokens"].max() <= 300

    check()
    with pytest.raises(OptionError, match="no input 'ids'"):
        edge.inputs(session, ranges={"ids": (0, 1)})
    with pytest.raises(OptionError, match="not one of int64"):
        edge.inputs(session, ranges={"tokens": (0, 2**64)})


def test_a_big_tensor_costs_few_choices():
    session = SimpleNamespace(inputs=(tensor("x", "float32", (1, 224, 224, 3)),))

    @settings(max_examples=15, database=None, suppress_health_check=[HealthCheck.too_slow])
    @given(edge.inputs(session))
    def check(values):
        assert values["x"].shape == (1, 224, 224, 3)

    check()  # Hypothesis fails with data_too_large where most draws are


def test_batches_shrink_to_the_inputs_that_matter():
    session = SimpleNamespace(inputs=(tensor("x", "int8", (1, 100)),))

    def dense(values):
        return len(np.unique(values["x"])) > 50

    found = find(edge.batches(session), lambda batch: any(map(dense, batch)))
    assert [dense(values) for values in found].count(True) == 1
    assert len(found) <= 2
    with pytest.raises(OptionError, match="max_size=0"):
        edge.batches(session, max_size=0)


def test_samples_are_drawn_as_they_are_and_perturbed():
    sample = np.arange(64, dtype=np.uint8).reshape(1, 64)
    plain = find(edge.near([sample, sample * 2]), lambda x: True)
    assert np.array_equal(plain, sample)
    other = find(edge.near([sample]), lambda x: not np.array_equal(x, sample))
    assert other.dtype == np.uint8
    assert other.shape == (1, 64)
    with pytest.raises(InputError, match="no samples"):
        edge.near([])


def test_perturbed_samples_stay_near_and_in_range():
    sample = {"x": np.linspace(-1, 1, 30, dtype=np.float32).reshape(1, 30)}

    @settings(max_examples=50, database=None)
    @given(edge.near([sample], amplitude=0.1))
    def check(values):
        assert values["x"].dtype == np.float32
        assert np.abs(values["x"]).max() <= 1

    check()
    session = SimpleNamespace(inputs=(tensor("x", "float32", (1, 30)),))
    found = find(
        edge.inputs(session, samples=[sample["x"]]), lambda v: np.array_equal(v["x"], sample["x"])
    )
    assert found["x"].shape == (1, 30)
    with pytest.raises(InputError, match="takes float32"):
        edge.inputs(session, samples=[sample["x"].astype(np.float64)])


def test_settings_for_devices_have_no_deadline_unless_asked():
    @edge.settings(max_examples=7)
    @given(st.integers())
    def one(n): ...

    @edge.settings(deadline=100)
    @given(st.integers())
    def two(n): ...

    first, second = (vars(test)["_hypothesis_internal_use_settings"] for test in (one, two))
    assert first.deadline is None
    assert first.max_examples == 7
    assert second.deadline.total_seconds() == 0.1


def test_images_are_boxes_or_patterns():
    plain = find(edge.images((4, 4, 3)), lambda image: True)
    assert len(np.unique(plain)) == 1
    noisy = find(
        edge.images((1, 5, 5, 3)), lambda image: len(np.unique(image)) > 20, settings=UNSHRUNK
    )
    assert noisy.shape == (1, 5, 5, 3)

    @settings(max_examples=50, database=None)
    @given(edge.images((6, 6, 1), dtype="float32"))
    def check(image):
        assert image.dtype == np.float32
        assert image.min() >= 0
        assert image.max() <= 1

    check()
    with pytest.raises(OptionError, match="not that of an image"):
        edge.images((8, 8))


def test_sequences_end_in_padding():
    @settings(max_examples=50, database=None)
    @given(edge.sequences(40, vocabulary=50, padding=7, min_tokens=3))
    def check(tokens):
        assert tokens.shape == (1, 40)
        assert tokens.dtype == np.int64
        assert tokens.min() >= 0
        assert tokens.max() < 50

    check()
    found = find(edge.sequences(20, vocabulary=1000), lambda t: bool((t == 17).any()))
    assert found[0].tolist() == [17] + [0] * 19
    with pytest.raises(OptionError, match="leave no sequence"):
        edge.sequences(3, vocabulary=9, min_tokens=4)
