import math

import numpy as np
import pytest
from edge_harness import fidelity
from edge_harness.errors import InputError
from edge_harness.evidence import percentile
from edge_harness.fidelity import metrics
from hypothesis import given
from hypothesis import strategies as st

FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)


@given(FLOATS)
def test_neighbours_are_one_ulp_apart_and_equals_none(value):
    x = np.float32([value])
    assert metrics.ulps(x, x)[0] == 0
    with np.errstate(over="ignore"):
        up = np.nextafter(x, np.float32(np.inf))
    if np.isfinite(up).all():
        assert metrics.ulps(x, up)[0] == 1


def test_plus_and_minus_zero_are_the_same_number():
    assert metrics.ulps(np.float32([0.0]), np.float32([-0.0]))[0] == 0
    tiny = np.float32([np.finfo(np.float32).smallest_subnormal])
    assert metrics.ulps(tiny, -tiny)[0] == 2


def test_ulps_are_those_of_the_devices_dtype():
    assert metrics.ulps(np.float16([1.0]), np.float64([1.0 + 2**-10]))[0] == 1
    assert metrics.ulps(np.float64([1.0]), np.float64([1.0 + 2**-52]))[0] == 1
    assert math.isnan(metrics.ulps(np.float16([1.0]), np.float64([1e9]))[0])
    with pytest.raises(InputError, match="int8"):
        metrics.ulps(np.int8([1]), np.int8([1]))


def test_sqnr_is_not_a_number_where_an_output_is_not():
    assert math.isnan(metrics.sqnr_db(np.array([np.inf]), np.array([np.inf])))
    assert metrics.sqnr_db(np.array([1.0]), np.array([0.0])) == -math.inf
    assert metrics.sqnr_db(np.array([1.1]), np.array([1.0])) == pytest.approx(20.0)


def test_kl_follows_its_definition_and_stays_finite_at_zero():
    p, q = np.array([0.75, 0.25]), np.array([0.5, 0.5])
    expected = 0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5)
    assert metrics.kl_divergence(q, p, least=1e-9) == pytest.approx(expected)
    assert math.isfinite(metrics.kl_divergence(np.array([1.0, 0.0]), p, least=1 / 512))


def test_nan_is_nobodys_answer():
    assert metrics.top(np.array([np.nan, 1.0, 2.0]), 2) == [2, 1]
    assert metrics.top(np.array([np.nan]), 1) == []


def test_of_equal_scores_the_first_is_the_answer():
    assert metrics.top(np.array([3.0, 3.0, 1.0]), 1) == [0]
    assert metrics.margin(np.array([3.0, 3.0, 1.0])) == 0


def test_percentiles_are_observed_values_by_nearest_rank():
    values = list(range(1, 101))
    assert percentile(values, 99) == 99
    assert percentile(values, 95) == 95
    assert percentile([3, 1, 2], 50) == 2


@pytest.mark.parametrize(("q", "least"), [(99, 100), (95, 20), (5, 20), (99.9, 1000)])
def test_percentiles_of_too_few_samples_are_refused(q, least):
    assert percentile(range(least), q) >= 0
    with pytest.raises(InputError, match="says nothing") as error:
        percentile(range(least - 1), q)
    assert str(least) in error.value.next_step


def test_a_percentile_over_a_nan_is_a_nan():
    assert math.isnan(percentile([1.0, math.nan], 50))


# -- detections ----------------------------------------------------------------------------------


def test_iou_of_halves_and_strangers():
    found = fidelity.iou([[0, 0, 2, 2]], [[0, 0, 2, 2], [1, 0, 3, 2], [5, 5, 6, 6]])
    assert found[0] == pytest.approx([1.0, 1 / 3, 0.0])
    assert fidelity.iou([], [[0, 0, 1, 1]]).shape == (0, 1)


def detections(*rows):
    return fidelity.Detections(
        boxes=[r[0] for r in rows], classes=[r[1] for r in rows], scores=[r[2] for r in rows]
    )


A, B, FAR = (0, 0, 2, 2), (4, 4, 6, 6), (9, 9, 10, 10)
TRUTH = [fidelity.Detections(boxes=[A, B], classes=[1, 1])]


def test_average_precision_of_all_some_and_none():
    perfect = [detections((A, 1, 0.9), (B, 1, 0.8))]
    assert fidelity.mean_average_precision(perfect, TRUTH) == 1.0
    half = [detections((A, 1, 0.9), (FAR, 1, 0.8))]
    assert fidelity.mean_average_precision(half, TRUTH) == pytest.approx(0.5)
    # A false box with a higher score: precision is a half at the first true one, 2/3 at the next.
    late = [detections((FAR, 1, 0.9), (A, 1, 0.8), (B, 1, 0.7))]
    assert fidelity.mean_average_precision(late, TRUTH) == pytest.approx(2 / 3)
    assert fidelity.mean_average_precision([detections()], TRUTH) == 0.0


def test_a_true_box_is_found_only_once():
    twice = [detections((A, 1, 0.9), (A, 1, 0.8), (B, 1, 0.7))]
    assert fidelity.mean_average_precision(twice, TRUTH) == pytest.approx(0.5 + 0.5 * 2 / 3)


def test_truths_without_boxes_and_boxes_without_scores_are_refused():
    with pytest.raises(InputError, match="no true box"):
        fidelity.mean_average_precision([detections()], [detections()])
    with pytest.raises(InputError, match="0 scores"):
        fidelity.mean_average_precision([fidelity.Detections(boxes=[A], classes=[1])], TRUTH)
    with pytest.raises(InputError, match="not finite"):
        fidelity.iou([[0, 0, np.nan, 1]], [A])


# -- exact numbers -------------------------------------------------------------------------------


def test_cosine_is_that_of_the_angle():
    assert metrics.cosine(np.array([3.0, 4.0]), np.array([4.0, 3.0])) == pytest.approx(0.96)
    assert metrics.cosine(np.array([1.0, 0.0]), np.array([0.0, 2.0])) == 0.0
    assert metrics.cosine(np.array([2.0]), np.array([-5.0])) == -1.0
    assert math.isnan(metrics.cosine(np.array([0.0]), np.array([1.0])))


def test_relative_distance_is_a_share_of_the_reference():
    found = metrics.relative(np.array([1.0, 3.0, 0.0, 1.0]), np.array([1.0, -4.0, 0.0, 0.0]))
    assert found.tolist() == [0.0, 1.75, 0.0, math.inf]


def test_ulps_across_zero_and_to_the_far_end():
    up = np.float32([1.0])
    assert metrics.ulps(up, -up)[0] == 2 * 0x3F800000
    assert metrics.ulps(-up, up)[0] == 2 * 0x3F800000
    assert metrics.ulps(-up, np.float32([-1.5]))[0] == 0x3FC00000 - 0x3F800000
    assert metrics.ulps(np.float32([0.0]), np.float32([1e-45]))[0] == 1
    assert metrics.ulps(np.float32([-1e-45]), np.float32([0.0]))[0] == 1
    assert metrics.ulps(np.float16([1.0]), np.float16([-1.0]))[0] == 2 * 0x3C00
    wide = np.float64([1.0])
    assert metrics.ulps(wide, -wide)[0] == 2.0 * 0x3FF0000000000000
    assert metrics.ulps(wide, np.nextafter(wide, 2))[0] == 1
    assert math.isnan(metrics.ulps(np.float32([np.inf]), np.float32([np.inf]))[0])
    assert math.isnan(metrics.ulps(up, np.float32([np.nan]))[0])


def test_probabilities_sum_to_one_within_what_int8_loses():
    looks = metrics.probabilities
    assert looks(np.array([0.5, 0.5]))
    assert looks(np.array([0.5, 0.54]))
    assert looks(np.array([0.5, 0.46]))
    assert not looks(np.array([0.5, 0.56]))
    assert not looks(np.array([0.5, 0.44]))
    assert looks(np.array([1.0, 0.0]))
    assert not looks(np.array([1.0]))
    assert not looks(np.array([1.25, -0.25]))
    assert not looks(np.array([1.04, 0.0]))
    assert looks(np.array([[0.25, 0.25], [0.25, 0.25]]))


def test_divergence_normalizes_both_sides():
    p, q = np.array([3.0, 1.0]), np.array([1.0, 1.0])
    expected = 0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5)
    assert metrics.kl_divergence(q, p, least=1e-9) == pytest.approx(expected)
    both = np.array([1.0, 0.0])
    assert metrics.kl_divergence(both, both, least=0.25) == 0.0
    clipped = metrics.kl_divergence(np.array([1.0, 0.0]), np.array([0.5, 0.5]), least=0.5)
    # 1 and 0.5 are two thirds and one third.
    assert clipped == pytest.approx(0.5 * math.log(0.75) + 0.5 * math.log(1.5))


def test_answers_are_the_greatest_values_in_order():
    values = np.array([[1.0, 9.0], [5.0, 7.0]])
    assert metrics.top(values, 3) == [1, 3, 2]
    assert metrics.top(values, 0) == []
    assert metrics.margin(values) == 2.0
    assert metrics.margin(np.array([-1.0, -4.0])) == 3.0
    assert metrics.margin(np.array([2.0, 5.0])) == 3.0
    assert math.isnan(metrics.margin(np.array([1.0])))


def test_percentiles_at_their_ranks():
    ten = list(range(1, 11))
    assert [percentile(ten, q) for q in (10, 50, 90)] == [1, 5, 9]
    assert percentile([7], 50) == 7
    assert percentile([1, 2], 50) == 1
    twenty = list(range(1, 21))
    assert (percentile(twenty, 5), percentile(twenty, 95)) == (1, 19)
    for wrong in (0, 100, -1, 101):
        with pytest.raises(InputError, match="there is no percentile"):
            percentile(ten, wrong)
    with pytest.raises(InputError, match="p50 of 0 samples"):
        percentile([], 50)
    assert percentile(range(200), 99.5) == 198


def test_boxes_overlap_by_area():
    assert fidelity.iou([0, 0, 2, 2], [1, 1, 3, 3])[0, 0] == pytest.approx(1 / 7)
    assert fidelity.iou([0, 0, 4, 1], [0, 0, 1, 4])[0, 0] == pytest.approx(1 / 7)
    nothing = fidelity.iou([1, 1, 1, 1], [1, 1, 1, 1])[0, 0]
    assert nothing == 0.0
    assert fidelity.iou([2, 2, 0, 0], [0, 0, 2, 2])[0, 0] == 0.0
    many = fidelity.iou([[0, 0, 1, 1], [0, 0, 2, 1]], [[0, 0, 2, 1], [5, 5, 6, 6], [0, 0, 1, 1]])
    assert many.tolist() == [[0.5, 0.0, 1.0], [1.0, 0.0, 0.5]]


def test_precision_counts_thresholds_classes_and_images():
    near = (0, 0, 2, 1.5)  # overlaps A by three quarters
    found = [detections((near, 1, 0.9))]
    truth = [fidelity.Detections(boxes=[A], classes=[1])]
    assert fidelity.mean_average_precision(found, truth, thresholds=[0.75]) == 1.0
    assert fidelity.mean_average_precision(found, truth, thresholds=[0.76]) == 0.0
    assert fidelity.mean_average_precision(found, truth, thresholds=[0.5, 0.9]) == 0.5
    two = [fidelity.Detections(boxes=[A, B], classes=[1, 2])]
    assert fidelity.mean_average_precision([detections((A, 1, 0.9))], two) == 0.5
    wrong_class = [detections((A, 2, 0.9))]
    assert fidelity.mean_average_precision(wrong_class, truth) == 0.0
    images = [detections((A, 1, 0.5)), detections((A, 1, 0.9), (FAR, 1, 0.7))]
    truths = [truth[0], truth[0]]
    # Right, wrong, right by score: precision 1 for the first half, 2/3 for the second.
    assert fidelity.mean_average_precision(images, truths) == pytest.approx(0.5 + 0.5 * 2 / 3)
    nobody = [fidelity.Detections(boxes=[], classes=[]), truth[0]]
    assert fidelity.mean_average_precision(images, nobody) == pytest.approx(1.0)
    with pytest.raises(InputError, match="detections of 1 images, truths of 2"):
        fidelity.mean_average_precision(found, truths)


def test_the_better_of_two_true_boxes_is_taken():
    inside, whole = (0, 0, 2, 1), (0, 0, 2, 2)
    truth = [fidelity.Detections(boxes=[inside, whole], classes=[1, 1])]
    found = [detections((whole, 1, 0.9), (inside, 1, 0.8))]
    assert fidelity.mean_average_precision(found, truth) == 1.0
