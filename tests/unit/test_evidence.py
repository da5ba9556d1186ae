import json
import math

import numpy as np
import pytest
from edge_harness.errors import EvidenceError, UserError
from edge_harness.evidence import FIGURE_KINDS, VERDICT_WORDS, Figure, Verdict, worst_of


def figure(**changes):
    return Figure(
        **{"value": 24.0, "unit": "ms", "kind": "device-clock", "source": "rpi4"} | changes
    )


def verdict(word, reason="", **changes):
    return Verdict(word=word, reason=reason or ("" if word == "passed" else f"{word}!"), **changes)


# -- figures ---------------------------------------------------------------------------------


def test_a_figure_has_the_one_json_form():
    assert figure(low=20, high=29.5).as_json() == {
        "value": 24.0,
        "unit": "ms",
        "kind": "device-clock",
        "source": "rpi4",
        "low": 20,
        "high": 29.5,
    }
    assert figure().as_json()["low"] is None


@pytest.mark.parametrize("kind", FIGURE_KINDS)
def test_a_figure_survives_json(kind):
    given = figure(kind=kind, low=1, high=math.inf)
    assert Figure.from_json(json.loads(json.dumps(given.as_json(), allow_nan=False))) == given


@pytest.mark.parametrize(
    ("value", "word"), [(math.nan, "nan"), (math.inf, "inf"), (-math.inf, "-inf")]
)
def test_numbers_that_json_lacks_are_words(value, word):
    content = json.loads(json.dumps(figure(value=value).as_json(), allow_nan=False))
    assert content["value"] == word
    back = Figure.from_json(content).value
    assert back == value or (math.isnan(back) and math.isnan(value))


def test_whole_numbers_stay_whole():
    many = 2**53 + 1  # no float64 is
    assert Figure.from_json(json.loads(json.dumps(figure(value=many).as_json()))).value == many
    assert type(figure(value=np.int64(3)).value) is int
    assert type(figure(value=np.float32(0.5), low=np.float32(0.5)).low) is float


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"low": 24.1}, "not between its bounds 24.1 and None"),
        ({"high": 23.9}, "not between its bounds None and 23.9"),
        ({"low": 30, "high": 20}, "not between"),
        ({"value": math.nan, "low": 30, "high": 20}, "not between"),
        ({"low": math.nan}, "low=nan of a figure bounds nothing"),
        ({"high": math.nan}, "high=nan of a figure bounds nothing"),
        ({"value": True}, "value=True of a figure is no number"),
        ({"value": "24"}, "value='24' of a figure is no number"),
        ({"value": None}, "value=None of a figure is no number"),
        ({"low": "1"}, "low='1' of a figure is no number"),
        ({"kind": "guessed"}, "cannot be of kind 'guessed'"),
        ({"unit": None}, "the unit of a figure cannot be None"),
        ({"source": 3}, "the source of a figure cannot be 3"),
        ({"source": " "}, "has no source"),
    ],
)
def test_what_is_no_figure_is_refused(changes, told):
    with pytest.raises(EvidenceError, match="next: ") as caught:
        figure(**changes)
    assert told in str(caught.value)
    assert isinstance(caught.value, UserError)


def test_bounds_may_meet_the_value():
    same = figure(value=1, low=1, high=1)
    assert (same.low, same.high) == (1, 1)


def test_no_number_may_stand_inside_bounds_that_are_known():
    assert math.isnan(figure(value=math.nan, low=1, high=2).value)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({}, "24 ms (device-clock)"),
        ({"low": 20, "high": 29.5}, "24 ms (from 20 to 29.5, device-clock)"),
        ({"high": 29.5}, "24 ms (to 29.5, device-clock)"),
        ({"low": 20}, "24 ms (from 20, device-clock)"),
        ({"unit": "", "value": 0.99, "kind": "native"}, "0.99 (native)"),
    ],
)
def test_a_figure_in_words(changes, text):
    assert str(figure(**changes)) == text


# -- verdicts --------------------------------------------------------------------------------


def test_there_are_five_words():
    assert VERDICT_WORDS == ("passed", "failed", "inconclusive", "vacuous", "skipped")


@pytest.mark.parametrize("word", VERDICT_WORDS)
def test_a_verdict_survives_json(word):
    given = verdict(word, "because", figures=(figure(), figure(value=math.inf)))
    assert Verdict.from_json(json.loads(json.dumps(given.as_json(), allow_nan=False))) == given


@pytest.mark.parametrize("word", VERDICT_WORDS)
def test_only_what_passed_is_true(word):
    assert bool(verdict(word)) is (word == "passed")


def test_figures_become_a_tuple():
    assert Verdict(word="passed", figures=[figure()]).figures == (figure(),)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"word": "error"}, "raised as an InfrastructureError"),
        ({"word": "PASSED"}, "cannot be 'PASSED'"),
        ({"word": "failed", "reason": ""}, "'failed' has no reason"),
        ({"word": "skipped", "reason": "\n"}, "'skipped' has no reason"),
        ({"reason": None}, "the reason of a verdict cannot be None"),
        ({"figures": ({"value": 1},)}, "cannot rest on {'value': 1}"),
    ],
)
def test_what_is_no_verdict_is_refused(changes, told):
    with pytest.raises(EvidenceError, match="next: ") as caught:
        Verdict(**({"word": "passed"} | changes))
    assert told in str(caught.value)


def test_a_verdict_in_words():
    assert str(verdict("failed", "3 steps, allowed 1")) == "failed: 3 steps, allowed 1"
    assert str(verdict("passed")) == "passed"


# -- reading ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, "cannot be read from None"),
        ([], "cannot be read from []"),
        ({"value": 1}, "missing unit, kind, source, low, high"),
        (figure().as_json() | {"name": "x"}, "unknown name"),
        (figure().as_json() | {"value": "NaN"}, "value='NaN' of a figure is no number"),
        (figure().as_json() | {"value": math.nan}, "value=nan of a figure is not JSON"),
        (figure().as_json() | {"high": math.inf}, "high=inf of a figure is not JSON"),
        (figure().as_json() | {"value": None}, "value=None"),
        (figure().as_json() | {"value": [1]}, "value=[1]"),
        (figure().as_json() | {"kind": ["native"]}, "cannot be of kind ['native']"),
        (figure().as_json() | {"low": 99}, "not between"),
    ],
)
def test_figures_are_read_strictly(content, told):
    with pytest.raises(EvidenceError) as caught:
        Figure.from_json(content)
    assert told in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"figures": {}}, "the figures of a verdict cannot be {}"),
        ({"figures": [3]}, "a figure cannot be read from 3"),
        ({"word": "skipped"}, "has no reason"),
        ({"more": 1}, "unknown more"),
    ],
)
def test_verdicts_are_read_strictly(changes, told):
    with pytest.raises(EvidenceError) as caught:
        Verdict.from_json(verdict("passed").as_json() | changes)
    assert told in str(caught.value)


# -- the whole from its parts ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "whole", "strict"),
    [
        ("passed", "passed", "passed"),
        ("skipped", "skipped", "skipped"),
        ("passed skipped", "passed", "skipped"),
        ("skipped vacuous passed", "vacuous", "vacuous"),
        ("vacuous inconclusive passed", "inconclusive", "inconclusive"),
        ("skipped inconclusive failed vacuous passed", "failed", "failed"),
    ],
)
def test_the_worst_word_is_the_wholes(words, whole, strict):
    for parts in (words.split(), words.split()[::-1]):
        assert worst_of(map(verdict, parts)).word == whole
        assert worst_of(map(verdict, parts), strict=True).word == strict


def test_a_whole_without_parts_proves_nothing():
    assert worst_of([]) == Verdict(word="vacuous", reason="nothing was checked")


def test_reasons_and_figures_are_those_of_the_winning_parts():
    one, two = figure(value=1), figure(value=2)
    whole = worst_of(
        [
            verdict("failed", "a", figures=(one,)),
            verdict("passed", "fine", figures=(figure(value=3),)),
            verdict("failed", "b", figures=(two,)),
            verdict("failed", "a"),
        ]
    )
    assert whole == Verdict(word="failed", reason="a; b", figures=(one, two))


def test_a_skip_beside_what_passed_is_told():
    whole = worst_of([verdict("passed"), verdict("skipped", "the board has one core")])
    assert str(whole) == "passed: skipped: the board has one core"
