"""Every default tolerance, with where it is from, and the exact place where each begins to fail."""

import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
from edge_harness import fidelity
from edge_harness.errors import OptionError
from edge_harness.fidelity.measuring import build
from edge_harness.fidelity.tolerances import current, parse_tolerances
from edge_harness.models.tensors import Outputs

from tests.makers import tensor
from tests.unit.test_fidelity_report import QUANTIZED, REAL, report, runner

DOCS = (Path(__file__).parents[2] / "docs" / "fidelity.md").read_text()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_steps", 1.0),  # tensorflow issue 102943: rounding once or twice
        ("rtol", 1e-5),  # Polygraphy: `polygraphy run --rtol`
        ("atol", 1e-5),  # Polygraphy: `polygraphy run --atol`
        ("rtol_float16", 1e-3),  # torch.testing.assert_close
        ("atol_float16", 1e-3),  # one unit in the last place at 1: 2**-10
        ("sqnr_db", 20.0),  # Polygraphy: PostprocessFunc, --snr-tolerance
        ("cosine", 0.997),  # Polygraphy
        ("top1_agreement", 0.99),  # MLPerf Inference rules: 99 %
        ("accuracy_ratio", 0.99),  # MLPerf Inference rules: 99 % of FP32
        ("kl", math.inf),
        ("layer_steps", 1.0),
        ("layer_rtol", 1e-4),
        ("layer_rtol_float16", 5e-3),
        ("layer_gain", 0.005),
        ("layer_offset_steps", 0.5),
        ("layer_sqnr_db", 20.0),
    ],
)
def test_the_default_is_the_one_with_a_source(name, value):
    assert getattr(fidelity.DEFAULTS, name) == value


def test_the_documented_defaults_are_the_defaults():
    rows = re.findall(r"^\| ((?:`\w+`,? ?)+) \| ([\d.e-]+) \|", DOCS, re.MULTILINE)
    told = {n: float(value) for names, value in rows for n in re.findall(r"`(\w+)`", names)}
    assert len(told) == 9
    assert {name: getattr(fidelity.DEFAULTS, name) for name in told} == told


def test_words_become_tolerances():
    assert parse_tolerances(["max_steps=2", " kl = 0.5 ", "rtol=1e-3"]) == {
        "max_steps": 2.0,
        "kl": 0.5,
        "rtol": 1e-3,
    }
    with pytest.raises(OptionError, match="'kl=much' is not of the form name=number"):
        parse_tolerances(["kl=much"])


def test_a_block_of_tolerances_ends_also_by_an_error():
    inside = []

    def fails():
        with fidelity.tolerances({"kl": 1}):
            inside.append(current().kl)
            raise KeyError

    with pytest.raises(KeyError):
        fails()
    assert inside == [1]
    assert current() == fidelity.DEFAULTS


# -- where each begins to fail ---------------------------------------------------------------


def failing(actual, wanted, **options):
    limits = {name: options.pop(name) for name in list(options) if hasattr(fidelity.DEFAULTS, name)}
    return report(actual, wanted, limits=fidelity.DEFAULTS.but(limits), **options).failures


def test_steps():
    assert failing([[[3]]], [[[0]]], mine=QUANTIZED, max_steps=3) == ()
    assert failing([[[4]]], [[[0]]], mine=QUANTIZED, max_steps=3) == (
        "'y': up to 4 steps, allowed max_steps=3",
    )
    # Of another model as reference steps are no limit.
    assert failing([[[4]]], [[[4.25]]], kind="student") == ()


@pytest.mark.parametrize(("value", "bad"), [(8.5, False), (8.75, True)])
def test_real_values_are_held_to_the_references_size(value, bad):
    found = failing([[value]], [[8.0]], atol=0.25, rtol=0.03125)  # 0.25 + 8/32
    assert bool(found) is bad
    if bad:
        assert found == ("'y': 1 of 1 values are outside atol + rtol·|reference| (up to 0.75)",)


def test_the_ratio_of_signal_to_noise():
    wide = {"kind": "quantization", "cosine": -1.0}
    assert failing([[11.0]], [[10.0]], **wide) == ()  # exactly 20 dB
    assert failing([[11.5]], [[10.0]], **wide) == ("'y': SQNR 16.5 dB, wanted sqnr_db=20",)


def test_the_cosine_of_the_worst_sample():
    loose = {"kind": "quantization", "sqnr_db": -99.0}
    actual, wanted = [[1.0, 0.0], [3.0, 4.0]], [[1.0, 0.0], [4.0, 3.0]]
    assert failing(actual, wanted, cosine=0.96, **loose) == ()
    assert failing(actual, wanted, cosine=0.97, **loose) == ("cosine 0.9600, wanted cosine=0.97",)
    # A student is not held to it.
    assert failing(actual, wanted, kind="student", cosine=0.97) == ()


ONE, TWO = [[0.75, 0.25]], [[0.25, 0.75]]


def test_top1_agreement():
    options = {"kind": "student"}
    assert failing([ONE, ONE], [ONE, TWO], top1_agreement=0.5, **options) == ()
    assert failing([ONE, ONE], [ONE, TWO], top1_agreement=0.51, **options) == (
        "top-1 agreement 50.00%, wanted top1_agreement=0.51",
    )
    # Not of a port, and not where it is no classifier.
    assert failing([ONE, ONE], [ONE, ONE], top1_agreement=2) == ()
    assert failing([ONE], [TWO], top1_agreement=1, task="other", **options) == ()
    assert failing([[[5.0, 1.0]]], [[[1.0, 5.0]]], task="classification", **options) != ()
    assert failing([[[5.0, 1.0]]], [[[1.0, 5.0]]], **options) == ()
    # A single value is no choice among classes.
    assert not report([[5.0]], [[1.0]], kind="student", truth=[0]).classes


def test_one_side_alone_makes_no_probabilities():
    assert not report([ONE], [[[5.0, 1.0]]], kind="student").classes
    assert not report([[[5.0, 1.0]]], [ONE], kind="student").classes
    assert not report([ONE, [[5.0, 1.0]]], [ONE, ONE], kind="student").classes
    assert report([ONE, TWO], [ONE, ONE], kind="student").classes


def test_accuracy_is_a_share_of_the_references():
    options = {"kind": "student", "truth": [0, 0, 0, 1]}
    actual, wanted = [ONE, ONE, TWO, TWO], [ONE, ONE, ONE, TWO]
    assert failing(actual, wanted, accuracy_ratio=0.75, **options) == ()
    assert failing(actual, wanted, accuracy_ratio=0.76, **options) == (
        "accuracy 75.00%, the reference has 100.00%; wanted accuracy_ratio=0.76",
    )


def test_divergence_has_no_limit_but_ones_own():
    found = report([TWO], [ONE], kind="student", task="other")
    # 0.75 log 3 - 0.25 log 3
    assert found.kl == pytest.approx(0.5 * math.log(3))
    assert found.failures == ()
    told = failing([TWO], [ONE], kind="student", task="other", kl=0.5)
    assert told == ("KL divergence 0.549 nats, allowed kl=0.5",)
    assert failing([TWO], [ONE], kind="student", task="other", kl=0.55) == ()


# -- the words -------------------------------------------------------------------------------


def test_a_comparison_in_words():
    found = report(
        [[[0.75, 0.25]], [[0.5, 0.5]]],
        [[[0.75, 0.25]], [[0.25, 0.75]]],
        kind="quantization",
        truth=[0, 1],
        k=1,
    )
    lines = str(found).splitlines()
    side = "model.tflite on this machine, tflite-runtime 2.14.0, kernels reference (no delegate)"
    assert lines[:3] == [
        "quantization fidelity: failed; 2 samples",
        f"  device:    {side}",
        f"  reference: {side}",
    ]
    figures = "up to 8.38861e+06 ulp, up to 0.25, SQNR 10.0 dB, cosine 0.94868, KL 0.065 nats"
    assert lines[3] == f"  'y': 2 of 4 values differ, {figures}"
    assert lines[4:] == [
        "  top-1 agreement 50.00%, top-1 50.00%, smallest margin 0",
        "  accuracy 50.00%, the reference's 100.00%",
        "  worst sample: 1, 0.25 abs in 'y'",
        "  FAILED 'y': SQNR 10.0 dB, wanted sqnr_db=20",
        "  FAILED cosine 0.8944, wanted cosine=0.997",
        "  FAILED top-1 agreement 50.00%, wanted top1_agreement=0.99",
        "  FAILED accuracy 50.00%, the reference has 100.00%; wanted accuracy_ratio=0.99",
    ]


def test_a_port_in_words_says_where_to_look_on():
    same = report([[[1, 2, 3]]], [[[1, 2, 3]]], mine=QUANTIZED)
    assert [line.strip() for line in str(same).splitlines()[3:]] == ["'y': equal to the last bit"]
    near = str(report([[[1, 2, 3]]], [[[1, 3, 3]]], mine=QUANTIZED)).splitlines()
    assert near[0] == "port fidelity: passed; 1 sample"
    assert near[3] == (
        "  'y': 1 of 3 values differ, up to 1 steps, up to 0.003906, SQNR 47.1 dB, cosine 0.99999"
    )
    assert near[4:] == [
        "  worst sample: 0, 1 steps in 'y'",
        "  edge_harness.fidelity.layers shows the first layer that differs",
    ]
    far = str(report([[[1, 2, 3]]], [[[1, 9, 3]]], mine=QUANTIZED, doubts=["careful"])).splitlines()
    assert far[5] == "  FAILED 'y': up to 7 steps, allowed max_steps=1"
    assert far[6] == "  warning: careful"
    assert "later layers amplify" in far[7]
    other = str(report([[1.0]], [[1.5]], kind="student"))
    assert other.startswith("student against teacher: passed; 1 sample")
    assert "layers" not in other
    lost = str(report([[np.nan]], [[1.0]]))
    assert "  worst sample: 0, nan in 'y'" in lost.splitlines()


def test_a_comparison_as_plain_values():
    found = report([[[0.75, 0.25]]], [[[0.5, 0.5]]], kind="student", truth=[1]).as_dict()
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    outputs = found.pop("outputs")
    verdict = found.pop("verdict")
    assert verdict["word"] == "passed"
    assert found.pop("device") == found.pop("reference")
    assert found == {
        "passed": True,
        "kind": "student",
        "samples": 1,
        "equal": False,
        "vacuous": False,
        "top1_agreement": 1.0,
        "topk_agreement": 1.0,
        "k": 2,
        "sqnr_db": pytest.approx(6.0206, abs=1e-4),
        "max_steps": None,
        "max_abs": 0.25,
        "max_rel": 0.5,
        "max_ulp": pytest.approx(2**23),
        "cosine": pytest.approx(0.894427),
        "kl": pytest.approx(0.5 * math.log(0.5 / 0.75) + 0.5 * math.log(2)),
        "not_finite": 0,
        "accuracy": 0.0,
        "reference_accuracy": 0.0,
        "worst_sample": 0,
        "failures": [],
        "warnings": [],
    }
    assert outputs == [
        {
            "name": "y",
            "dtype": "float32",
            "differing": 2,
            "values": 2,
            "mean_abs": 0.25,
            **{name: found[name] for name in ("sqnr_db", "max_steps", "max_abs", "max_rel")},
            **{name: found[name] for name in ("max_ulp", "cosine", "kl")},
        }
    ]


def test_a_table_shows_what_each_comparison_has():
    good = report([[[1, 2, 3]]], [[[1, 2, 3]]], mine=QUANTIZED)
    bad = report([ONE, ONE], [ONE, TWO], kind="quantization", truth=[0, 1])
    lines = [line.split() for line in fidelity.table_text({"a": good, "b": bad}).splitlines()]
    titles = "model verdict SQNR dB cosine max steps top-1 KL nats accuracy reference"
    assert " ".join(lines[0]) == titles
    assert lines[1] == ["a", "passed", "inf", "1.0000", "0", "100.0%", "–", "–", "–"]
    assert lines[2] == ["b", "failed", "4.0", "0.6000", "–", "50.0%", "0.27", "50.0%", "100.0%"]


# -- figures of several outputs and samples --------------------------------------------------


def two_outputs(first, second, wanted_first, wanted_second, **options):
    outputs = [tensor("a", "float32", (1,)), tensor("b", "float32", (1,))]
    side = runner(*outputs)
    rows = [
        [Outputs(a=np.float32([x]), b=np.float32([y])) for x, y in zip(a, b, strict=True)]
        for a, b in ((first, second), (wanted_first, wanted_second))
    ]
    samples = [[np.float32([i])] for i in range(len(first))]
    return build(side, side, samples, *rows, kind="port", **options)


def test_the_whole_is_as_bad_as_its_worst_output():
    found = two_outputs([1.0, 2.0], [4.0, 8.0], [1.0, 2.5], [4.0, 6.0])
    assert [o.max_abs for o in found.outputs] == [0.5, 2.0]
    assert (found.max_abs, found.max_rel) == (2.0, pytest.approx(1 / 3))
    assert found.sqnr_db == min(o.sqnr_db for o in found.outputs)
    assert (found.worst.output, found.worst.sample, found.worst.value) == ("b", 1, 2.0)
    assert found.worst.inputs[0].tolist() == [1.0]
    assert not found.equal
    assert found.percentile("abs", 50, output="b") == 0.0
    assert found.mean("abs", output="b") == 1.0
    assert found.mean("abs") == 0.25


def test_what_is_not_finite_is_worse_than_any_number():
    found = two_outputs([1.0, np.nan], [99.0, 1.0], [1.0, 1.0], [1.0, 1.0])
    assert (found.worst.output, found.worst.sample, found.worst.metric) == ("a", 1, "not finite")
    assert math.isnan(found.sqnr_db)
    assert found.not_finite == 1


def test_an_output_of_integers_counts_its_units_and_one_of_another_scale_its_real_values():
    whole = {"dtype": np.dtype("int32")}
    assert report([[5, 1]], [[2, 1]], mine=whole).max_steps == 3.0
    coarse = {"dtype": np.dtype("int8"), "scales": (1 / 128,), "zero_points": (-128,)}
    found = report([[[0, 2]]], [[[-64, -63]]], mine=QUANTIZED, theirs=coarse, kind="student")
    assert found.max_steps == 0.0  # 128/256 is 64/128
    shifted = {"dtype": np.dtype("int8"), "scales": (1 / 256,), "zero_points": (-127,)}
    found = report([[[0, 2]]], [[[0, 2]]], mine=QUANTIZED, theirs=shifted, kind="student")
    assert found.max_steps == 1.0


def test_every_value_is_counted():
    found = report([[[1.0, 2.0, 3.0]]], [[[1.0, 2.5, 4.0]]], kind="student")
    (output,) = found.outputs
    assert (output.differing, output.values, output.not_finite) == (2, 3, 0)
    assert output.mean_abs == pytest.approx(0.5)
    assert output.max_rel == 0.25
    assert output.per_sample["cosine"] == pytest.approx(found.cosine)
    assert found.min_margin == 1.0
    empty = report([np.zeros((1, 0))], [np.zeros((1, 0))], kind="student")
    assert (empty.outputs[0].mean_abs, empty.outputs[0].max_abs) == (0.0, 0.0)


def test_only_real_values_outside_are_counted_and_steps_take_their_place():
    real = report([[1.0, 2.0]], [[1.0, 2.5]])
    assert real.outputs[0].outside == 1
    stepped = report([[1.0, 2.0]], [[1.0, 2.5]], steps={"y": 0.5})
    assert (stepped.outputs[0].outside, stepped.max_steps, stepped.passed) == (0, 1.0, True)
    assert report([[5]], [[2]], mine={"dtype": np.dtype("int32")}).outputs[0].outside == 0


def test_k_answers_agree_in_any_order():
    actual, wanted = [[[4.0, 3.0, 2.0, 1.0]]], [[[3.0, 4.0, 1.0, 2.0]]]
    assert report(actual, wanted, kind="student", k=2).topk_agreement == 1.0
    assert report(actual, wanted, kind="student", k=3).topk_agreement == 0.0
    assert report(actual, wanted, kind="student").k == 4
    assert report(actual, wanted, kind="student").top1_agreement == 0.0
    many = report([np.arange(9.0)], [np.arange(9.0)])
    assert many.k == 5
    assert report([np.zeros((1, 0))], [np.zeros((1, 0))], kind="student").k == 1


def test_quantized_probabilities_are_known_to_half_a_step():
    # 0 of 256 counts as half a step.
    ours = {"dtype": np.dtype("int8"), "scales": (1 / 256,), "zero_points": (-128,)}
    found = report([[[127, -128]]], [[[1.0, 0.0]]], mine=ours, theirs=REAL, kind="student")
    p = np.maximum([1.0, 0.0], 1 / 512)
    q = np.maximum([255 / 256, 0.0], 1 / 512)
    p, q = p / p.sum(), q / q.sum()
    assert found.kl == pytest.approx(float(np.sum(p * np.log(p / q))), abs=1e-12)
    sure = report([[[1.0, 0.0]]], [[[0.5, 0.5]]], kind="student", task="other")
    assert sure.kl == pytest.approx(
        0.5 * math.log(0.5 / (1 / (1 + 1e-7))) + 0.5 * math.log(0.5 / (1e-7 / (1 + 1e-7)))
    )
