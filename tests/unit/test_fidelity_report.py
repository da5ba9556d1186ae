"""Comparisons of outputs that are there already: figures, verdicts and words."""

import json
import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from edge_harness import fidelity
from edge_harness.errors import InputError, OptionError
from edge_harness.fidelity.inputs import arranged, converted, laid_out
from edge_harness.fidelity.measuring import build
from edge_harness.models.file import ModelFile
from edge_harness.models.tensors import Outputs
from edge_harness.runtimes import FORMATS

from tests.makers import tensor

QUANTIZED = {"dtype": np.dtype("int8"), "scales": (1 / 256,), "zero_points": (-128,)}
REAL = {"dtype": np.dtype("float32")}
TFLITE, ONNX = FORMATS["tflite"], FORMATS["onnx"]


def runner(*outputs, inputs=(), model_format="tflite", name="model.tflite"):
    return SimpleNamespace(
        inputs=tuple(inputs),
        outputs=outputs,
        model=ModelFile(path=Path(name), content=b"", format=FORMATS[model_format]),
        runtime="tflite-runtime 2.14.0",
        kernels="reference (no delegate)",
    )


def report(actual, wanted, *, mine=REAL, theirs=None, kind="port", **options):
    shape = np.shape(actual[0])
    ours, other = (
        tensor("y", signature=shape, **mine),
        tensor("y", signature=shape, **(theirs or mine)),
    )
    return build(
        runner(ours),
        runner(other),
        options.pop("samples", [[np.float32([i])] for i in range(len(actual))]),
        [Outputs(y=np.asarray(a, ours.dtype)) for a in actual],
        [Outputs(y=np.asarray(b, other.dtype)) for b in wanted],
        kind=kind,
        **options,
    )


def test_a_step_is_within_port_tolerance_and_two_are_not():
    near = report([[[0, 1, 2, 3]]], [[[0, 1, 2, 4]]], mine=QUANTIZED)
    assert (near.passed, near.max_steps) == (True, 1.0)
    far = report([[[0, 1, 2, 3]]], [[[0, 1, 2, 5]]], mine=QUANTIZED)
    assert far.verdict.word == "failed"
    assert "up to 2 steps, allowed max_steps=1" in far.failures[0]


def test_tolerances_of_the_call_count():
    allowed = report(
        [[[0, 1, 2, 3]]], [[[0, 1, 2, 5]]], mine=QUANTIZED, limits=fidelity.Tolerances(max_steps=2)
    )
    assert allowed.passed


def test_real_outputs_are_held_to_rtol_and_atol_and_shown_in_ulps():
    good = report([[1.0, 2.0]], [[1.0, np.nextafter(np.float32(2.0), np.float32(3.0))]])
    assert (good.passed, good.max_ulp) == (True, 1.0)
    bad = report([[1.0, 2.0]], [[1.0, 2.001]])
    assert "1 of 2 values are outside" in bad.failures[0]


def test_half_precision_has_a_tolerance_of_its_own():
    half = {"dtype": np.dtype("float16")}
    assert report([[1.0]], [[1.001]], mine=half).passed
    assert not report([[1.0]], [[1.01]], mine=half).passed


@pytest.mark.parametrize("kind", ["port", "quantization", "student"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_always_fails_even_on_both_sides(kind, bad):
    found = report([[1.0, bad]], [[1.0, bad]], kind=kind)
    assert found.verdict.word == "failed"
    assert "NaN or infinite" in found.failures[0]
    assert found.worst.metric == "not finite"


def test_a_student_is_held_to_answers_and_not_to_values():
    actual, wanted = [[[0.1, 0.9]], [[0.8, 0.2]]], [[[0.4, 0.6]], [[0.6, 0.4]]]
    assert report(actual, wanted, kind="student").passed
    assert not report(actual, wanted, kind="quantization").passed


def test_top1_is_checked_for_probabilities_and_labels_only():
    swapped = [[[0.5, 0.25, 0.25]], [[0.25, 0.5, 0.25]]]
    other = [[[0.25, 0.5, 0.25]], [[0.25, 0.5, 0.25]]]
    wide = fidelity.Tolerances(sqnr_db=-99, cosine=-1)
    softmax = report(swapped, other, kind="quantization", limits=wide)
    assert (softmax.classes, softmax.top1_agreement) == (True, 0.5)
    assert "top-1 agreement 50.00%" in softmax.failures[0]
    scores = report(np.multiply(swapped, 9), np.multiply(other, 9), kind="student")
    assert (scores.classes, scores.passed) == (False, True)


def test_accuracy_is_held_against_the_references():
    actual = [[[1.0, 0.0]], [[1.0, 0.0]]]
    wanted = [[[1.0, 0.0]], [[0.0, 1.0]]]
    limits = fidelity.Tolerances(top1_agreement=0)
    found = report(actual, wanted, kind="quantization", truth=[0, 1], limits=limits)
    assert (found.accuracy, found.reference_accuracy) == (0.5, 1.0)
    assert "accuracy 50.00%, the reference has 100.00%" in found.failures[-1]


def test_a_student_may_be_right_where_its_teacher_is_wrong():
    actual = [[[1.0, 0.0]], [[0.0, 1.0]]]
    wanted = [[[1.0, 0.0]], [[1.0, 0.0]]]
    assert report(actual, wanted, kind="student", truth=[0, 1]).passed
    assert not report(actual, wanted, kind="student", truth=[0, 0]).passed
    assert not report(actual, wanted, kind="student").passed


def test_outputs_that_never_change_are_vacuous_and_no_pass():
    found = report([[1.0, 2.0]] * 3, [[1.0, 2.0]] * 3)
    assert (found.verdict.word, found.passed, found.equal) == ("vacuous", False, True)
    assert "vacuous: all 3 samples gave the same output" in str(found)
    assert not found.verdict


def test_outputs_that_never_change_and_are_wrong_failed():
    found = report([[1.0, 2.0]] * 3, [[1.0, 3.0]] * 3)
    assert (found.verdict.word, found.vacuous) == ("failed", True)


def test_no_samples_prove_nothing():
    found = build(
        runner(tensor("y", signature=(1, 4), **REAL)),
        runner(tensor("y", signature=(1, 4), **REAL)),
        [],
        [],
        [],
        kind="port",
    )
    assert (found.verdict.word, found.passed, found.equal) == ("vacuous", False, False)
    assert found.verdict.reason == "there were no samples: pass at least one input"
    assert found.verdict.figures == ()
    assert not found.top1_agreement >= 0
    assert math.isnan(found.kl)
    assert str(found).splitlines()[0] == "port fidelity: vacuous; 0 samples"
    assert json.dumps(found.as_dict()["verdict"], allow_nan=False)
    with pytest.raises(InputError, match="there were no samples, hence no 'abs'"):
        found.percentile("abs", 50)


def test_a_verdict_rests_on_figures_with_unit_kind_and_source():
    found = report([[[0, 1, 2, 5]]], [[[0, 1, 2, 3]]], mine=QUANTIZED)
    steps = found.verdict.figures[0]
    assert (steps.value, steps.unit, steps.kind) == (2.0, "steps", "native")
    assert steps.source.startswith("max_steps over 1 samples: model.tflite on this machine")
    assert found.verdict.reason == "'y': up to 2 steps, allowed max_steps=1"
    assert [f.source.split()[0] for f in found.verdict.figures] == [
        "max_steps", "max_abs", "sqnr_db", "cosine",
    ]  # fmt: skip


def test_figures_that_a_comparison_does_not_have_are_left_out():
    real = report([[1.0, 2.0]], [[1.0, 2.0]], truth=[1])
    assert [f.source.split()[0] for f in real.verdict.figures] == [
        "max_abs", "sqnr_db", "cosine", "top1_agreement", "accuracy", "reference_accuracy",
    ]  # fmt: skip
    assert real.verdict.figures[1].value == math.inf


def test_figures_are_of_the_devices_kind():
    side = runner(tensor("y", signature=(1,), **REAL))
    side.device = SimpleNamespace(name="rpi4", engine="user", figure_kind="emulated")
    values = [Outputs(y=np.float32([1.0]))]
    found = build(side, side, [[np.float32([0])]], values, values, kind="port")
    assert {figure.kind for figure in found.verdict.figures} == {"emulated"}


def test_a_nan_is_infinitely_many_steps_also_beside_an_output_that_is_near():
    outputs = [tensor("a", signature=(1,), **REAL), tensor("b", signature=(1,), **QUANTIZED)]
    actual = [Outputs(a=np.float32([np.nan]), b=np.int8([3]))]
    wanted = [Outputs(a=np.float32([0.5]), b=np.int8([2]))]
    side = runner(*outputs)
    found = build(side, side, [[np.zeros(1)]], actual, wanted, kind="port", steps={"a": 0.25})
    assert found.max_steps == math.inf
    assert [output.max_steps for output in found.outputs] == [math.inf, 1.0]
    assert found.verdict.word == "failed"


def test_one_sample_several_times_is_not_vacuous():
    same = [[np.zeros(1)]] * 3
    assert report([[1.0, 2.0]] * 3, [[1.0, 2.0]] * 3, samples=same).passed


def test_the_worst_sample_is_kept():
    found = report([[1.0], [5.0], [3.0]], [[1.0], [2.0], [3.0]])
    assert (found.worst.sample, found.worst.value, found.worst.metric) == (1, 3.0, "abs")
    assert found.worst.outputs["y"][0] == 5
    assert found.worst.expected["y"][0] == 2
    assert "worst sample: 1, 3 abs in 'y'" in str(found)


def test_percentiles_and_means_over_samples():
    count = 100
    found = report([[float(i)] for i in range(count)], [[0.0]] * count)
    assert found.percentile("abs", 95) == 94
    assert found.mean("abs") == pytest.approx(49.5)
    with pytest.raises(InputError, match="no metric 'p'"):
        found.percentile("p", 95)
    with pytest.raises(InputError, match="no output 'z'"):
        found.mean("abs", output="z")


def test_an_int8_output_is_measured_against_a_real_one_in_its_steps():
    found = report([[[-128, -64]]], [[[0.0, 0.5]]], mine=QUANTIZED, theirs=REAL, kind="student")
    assert found.max_steps == pytest.approx(64.0)


def test_json_holds_no_infinities():
    found = report([[[1.0, 2.0]], [[2.0, 1.0]]], [[[1.0, 2.0]], [[2.0, 1.0]]]).as_dict()
    assert (found["passed"], found["sqnr_db"], found["max_steps"]) == (True, None, None)


def test_outputs_are_mapped_by_name_or_by_a_function():
    mine = [tensor("scores", signature=(2,), **REAL), tensor("extra", signature=(2,), **REAL)]
    ours, theirs = runner(*mine), runner(tensor("logits", signature=(2,), **REAL))
    values = np.float32([1, 2])
    actual = [Outputs(scores=values, extra=values)]
    wanted = [Outputs(logits=values)]
    for mapping in ({"scores": "logits"}, lambda outputs: {"scores": outputs["logits"]}):
        found = build(ours, theirs, [[values]], actual, wanted, kind="student", mapping=mapping)
        assert [o.name for o in found.outputs] == ["scores"]
        assert found.equal
    with pytest.raises(InputError, match="2 outputs, the reference 1"):
        build(ours, theirs, [[values]], actual, wanted, kind="student")
    with pytest.raises(InputError, match="'nope'"):
        build(ours, theirs, [[values]], actual, wanted, kind="student", mapping={"scores": "nope"})


def test_channels_are_moved_between_formats_only():
    image = np.arange(24).reshape(1, 2, 3, 4)
    assert laid_out(image, TFLITE, ONNX).shape == (1, 4, 2, 3)
    assert laid_out(laid_out(image, TFLITE, ONNX), ONNX, TFLITE).tolist() == image.tolist()
    assert laid_out(image, TFLITE, TFLITE) is image
    assert laid_out(image, TFLITE, ONNX, (1, 2, 3, 4)) is image


def test_samples_are_quantized_for_one_side_and_real_for_the_other():
    ours = runner(inputs=[tensor("x", signature=(1, 2), **QUANTIZED)])
    theirs = runner(inputs=[tensor("image", signature=(1, 2), **REAL)])
    arrays = arranged(np.float32([[0.0, 0.5]]), ours)
    assert arrays[0].tolist() == [[-128, 0]]
    assert converted(arrays, ours, theirs)[0].tolist() == [[0.0, 0.5]]
    doubled = converted(arrays, ours, theirs, lambda real: np.float32(real["x"] * 2))
    assert doubled[0].tolist() == [[0.0, 1.0]]


def test_a_sample_that_is_not_finite_cannot_become_an_integer():
    with pytest.raises(InputError, match="not finite"):
        arranged(
            np.float32([[0.0, np.nan]]), runner(inputs=[tensor("x", signature=(1, 2), **QUANTIZED)])
        )


def test_samples_with_wrong_names_are_refused():
    ours = runner(inputs=[tensor("x", signature=(1, 2), **REAL)])
    with pytest.raises(InputError, match="'z'"):
        arranged({"z": np.float32([[1, 2]])}, ours)


# -- tolerances ----------------------------------------------------------------------------------


def test_tolerances_change_within_a_block_only():
    with fidelity.tolerances({"max_steps": 3}) as inner, fidelity.tolerances({"atol": 1}):
        assert inner.max_steps == 3
        assert report([[[0, 3]]], [[[0, 0]]], mine=QUANTIZED).passed
    assert not report([[[0, 3]]], [[[0, 0]]], mine=QUANTIZED).passed


def test_an_unknown_tolerance_names_the_nearest():
    with pytest.raises(OptionError, match="did you mean 'max_steps'"):
        fidelity.DEFAULTS.but({"max_step": 1})
    for wrong in ("2", None, math.nan, True):
        with pytest.raises(OptionError, match="not a number"):
            fidelity.DEFAULTS.but({"max_steps": wrong})


def test_reports_stand_side_by_side_in_a_table():
    good = report([[[0, 1, 2, 3]]], [[[0, 1, 2, 3]]], mine=QUANTIZED)
    bad = report([[[0, 1, 2, 3]]], [[[0, 1, 2, 9]]], mine=QUANTIZED)
    text = fidelity.table_text({"int8": good, "[broken]": bad})
    assert [line.split()[:2] for line in text.splitlines()[1:]] == [
        ["int8", "passed"],
        ["[broken]", "failed"],
    ]


def test_a_real_output_that_was_integers_is_held_to_steps():
    found = report([[0.5, 0.25]], [[0.5, 0.75]], steps={"y": 0.25})
    assert found.max_steps == 2.0
    assert found.failures == ("'y': up to 2 steps, allowed max_steps=1",)
    assert report([[0.5, 0.25]], [[0.5, 0.5]], steps={"y": 0.25}).passed


def test_both_parts_of_complex_outputs_are_compared():
    kind = {"dtype": np.dtype("complex64")}
    found = report([[1 + 2j]], [[1 + 5j]], mine=kind, kind="student")
    assert (found.max_abs, found.outputs[0].differing) == (3.0, 1)


def test_the_short_form_that_pytest_shows_names_the_first_failure():
    bad = report([[[0, 1, 2, 3]]], [[[0, 1, 2, 9]]], mine=QUANTIZED)
    assert repr(bad) == (
        "<Report of port failed, 1 samples: 'y': up to 6 steps, allowed max_steps=1>"
    )
