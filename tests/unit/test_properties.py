"""The hunt itself, on functions in place of models; real models are in tests/device."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from edge_harness import properties
from edge_harness.errors import BootFailed, MissingAbility, OptionError, Segfault
from edge_harness.evidence import Verdict
from edge_harness.models.file import read_model
from edge_harness.models.tensors import Outputs
from hypothesis import settings
from hypothesis.database import InMemoryExampleDatabase

from tests.makers import tensor

#: A file to name; what is run is a Python function.
FILE = read_model(Path(__file__).parents[2] / "fixtures/models/digits_float.tflite")


class Function:
    """A session whose model is a Python function of one input."""

    def __init__(self, function, shape=(1, 64), dtype="int8", out="int8", out_shape=(1, 4)):
        self.function = function
        self.inputs = (tensor("x", dtype, shape),)
        self.outputs = (tensor("y", out, out_shape),)
        self.device = SimpleNamespace(name="rpi4", engine="user", figure_kind="emulated")
        self.model = replace(FILE, path=Path("f.tflite"))
        self.runtime, self.kernels = "numpy", "python"
        self.ran = []

    def run_many(self, samples):
        results = []
        for position, sample in enumerate(samples):
            self.ran.append(sample["x"].copy())
            try:
                results.append(Outputs(y=self.function(sample["x"])))
            except Segfault as error:
                error.details["example"] = position
                raise
        return results

    def again(self, *, threads=None):
        return Fresh(self)


class Fresh:
    def __init__(self, session):
        self.session = session
        self.device, self.model = session.device, session.model

    def __enter__(self):
        start = getattr(self.session.function, "fresh", lambda: self.session.function)
        self.inner = Function(start())
        return self.inner

    def __exit__(self, *_):
        pass


@pytest.fixture(autouse=True)
def database():
    """A database of this test alone."""
    before = settings.default
    kept = InMemoryExampleDatabase()
    settings.register_profile("edge-test", database=kept)
    settings.load_profile("edge-test")
    yield kept
    settings.register_profile("edge-before", before)
    settings.load_profile("edge-before")


def first_four(x):
    return x.reshape(1, -1)[:, :4]


def test_a_property_that_holds_says_how_many_inputs_it_saw():
    session = Function(first_four)
    done = properties.survives(session, max_examples=200)
    assert done.examples == len(session.ran) >= 200
    assert len({x.tobytes() for x in session.ran}) > 150


def test_a_failing_input_is_shrunk_to_the_one_element_that_matters():
    session = Function(first_four)

    def judge(inputs, outputs):
        return "pixel 40 is bright" if inputs["x"][0, 40] >= 100 else None

    with pytest.raises(properties.PropertyFailed) as failure:
        properties.check(session, judge)
    smallest = failure.value.inputs["x"]
    assert np.flatnonzero(smallest).tolist() == [40]
    assert smallest[0, 40] == 100
    assert "x['x'].flat[[40]] = [100]" in str(failure.value)
    assert failure.value.repeatable


def test_the_message_is_python_that_makes_the_input():
    session = Function(first_four)

    def judge(inputs, outputs):
        assert not (inputs["x"][0, 3:6] < -20).all(), "three dark ones"

    with pytest.raises(properties.PropertyFailed, match="three dark ones") as failure:
        properties.check(session, judge)
    lines = [s.strip() for s in str(failure.value).splitlines() if s.strip().startswith("x[")]
    x = {}
    exec("\n".join(lines), {"np": np, "x": x})
    assert np.array_equal(x["x"], failure.value.inputs["x"])


def test_floats_and_free_dimensions_shrink_too():
    session = Function(
        lambda x: np.float32([[x.max()]]), (-1, 5), "float32", out="float32", out_shape=(1, 1)
    )

    def judge(inputs, outputs):
        return "big" if outputs["y"].max() > 3 else ""

    with pytest.raises(properties.PropertyFailed) as failure:
        properties.check(session, judge)
    smallest = failure.value.inputs["x"]
    assert smallest.shape == (1, 5)
    assert np.count_nonzero(smallest) == 1
    assert 3 < smallest.max() < 3.1


def test_a_crash_shrinks_to_a_small_input_and_keeps_its_class():
    def crashes(x):
        if x[0, 7] < -90:
            raise Segfault("rpi4 died of SIGSEGV", next_step="look at it")
        return first_four(x)

    with pytest.raises(Segfault, match=r"x\['x'\].flat\[\[7\]\] = \[-91\]") as death:
        properties.survives(Function(crashes))
    assert death.value.next_step == "look at it"


def test_trouble_with_the_machinery_is_not_the_models_and_is_not_shrunk():
    calls = []

    def broken(x):
        calls.append(x)
        raise BootFailed("the device is gone")

    with pytest.raises(BootFailed, match="is gone"):
        properties.survives(Function(broken))
    assert len(calls) == 1


def test_the_next_run_begins_with_what_failed(database):
    session = Function(first_four)

    def judge(inputs, outputs):
        return "bright" if inputs["x"][0, 40] >= 100 else None

    with pytest.raises(properties.PropertyFailed):
        properties.check(session, judge)
    session.ran.clear()
    with pytest.raises(properties.PropertyFailed, match="after 1 inputs"):
        properties.check(session, judge)
    assert np.flatnonzero(session.ran[0]).tolist() == [40]
    # Once it is mended it is forgotten.
    properties.check(session, lambda inputs, outputs: None)
    session.ran.clear()
    properties.check(session, lambda inputs, outputs: None)
    assert not np.array_equal(np.flatnonzero(session.ran[0]), [40])


def test_what_failed_in_one_model_is_not_tried_in_another(database):
    session = Function(first_four)
    with pytest.raises(properties.PropertyFailed):
        properties.check(session, lambda i, o: "bad" if i["x"][0, 40] >= 100 else None)
    other = Function(first_four)
    other.model = replace(FILE, path=Path("g.tflite"))
    properties.check(other, lambda i, o: None)
    assert np.count_nonzero(other.ran[0]) == 0


def test_an_unrepeatable_failure_says_so():
    calls = []

    def once(x):
        calls.append(x)
        return np.full((1, 4), 1 if len(calls) == 30 else 0, np.int8)

    def judge(inputs, outputs):
        return "a one" if outputs["y"].any() else None

    with pytest.raises(properties.PropertyFailed, match="did not happen again") as failure:
        properties.check(Function(once), judge)
    assert not failure.value.repeatable


def test_nan_and_infinity_are_found():
    def divides(x):
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.float32(1) / x[:, :4]

    session = Function(divides, (1, 4), "float32", out="float32")
    with pytest.raises(properties.PropertyFailed, match="finite: output 'y' has 4 of 4"):
        properties.finite(session)


class Counting:
    """A model that remembers its last input."""

    def __init__(self):
        self.last = 0

    def fresh(self):
        return Counting()

    def __call__(self, x):
        result = np.full((1, 4), self.last, np.int8)
        self.last = int(x[0, 0]) // 2
        return result


def test_state_that_leaks_into_the_next_answer_is_found():
    with pytest.raises(properties.PropertyFailed, match=r"independent: .* differs after another"):
        properties.independent(Function(Counting()))
    properties.independent(Function(first_four))


class Random:
    def fresh(self):
        return self

    def __init__(self):
        self.rng = np.random.default_rng(0)

    def __call__(self, x):
        return self.rng.integers(0, 9, (1, 4)).astype(np.int8)


def test_answers_that_change_from_run_to_run_are_found():
    with pytest.raises(properties.PropertyFailed, match=r"deterministic: .* in a second run"):
        properties.deterministic(Function(Random()))
    properties.deterministic(Function(first_four))


def test_distances_are_in_steps_for_whole_numbers():
    session = Function(first_four)
    off_by_two = Function(lambda x: np.clip(first_four(x), -100, 100) + np.int8(2))
    with pytest.raises(properties.PropertyFailed, match=r"up to \d+ steps off \(allowed 1\)"):
        properties.equal_to(session, off_by_two)
    close = Function(lambda x: first_four(x) // np.int8(2) * np.int8(2))
    done = properties.equal_to(session, close)
    assert done.worst == 1
    assert (first_four(done.worst_inputs["x"]) % 2).any()


def test_a_rare_wrong_region_is_found_by_the_targeted_search_only():
    weights = np.random.default_rng(1).normal(0, 1, (64, 4))
    limit = 6 * np.sqrt((weights[:, 0] ** 2).sum() / 3) * 128
    scale = limit / 100

    def right(x):
        return np.clip(x.astype(float) @ weights / scale, -128, 127).astype(np.int8)

    def wrong(x):
        return np.minimum(right(x), 100)

    sure = np.random.default_rng(0).integers(-128, 128, (100_000, 64))
    assert (right(sure) <= 100).all(), "not rare"
    session, reference = Function(wrong), Function(right)
    properties.equal_to(session, reference, max_examples=300, targeted=False)
    with pytest.raises(properties.PropertyFailed) as failure:
        properties.equal_to(session, reference, max_examples=300)
    assert len(session.ran) > 0
    assert (
        np.count_nonzero(failure.value.inputs["x"])
        < 48
        <= np.count_nonzero(failure.value.found["x"])
    )


def test_a_model_that_always_gives_the_same_proves_nothing():
    constant = Function(lambda x: np.zeros((1, 4), np.int8))
    same = [
        properties.equal_to(constant, constant),
        properties.finite(constant),
        properties.deterministic(constant),
        properties.invariant(constant, lambda x: x),
    ]
    assert {done.varied for done in same} == {False}
    assert {str(done.verdict) for done in same} == {"vacuous: every input gave the same outputs"}
    varying = properties.finite(Function(first_four))
    assert (varying.varied, varying.verdict.word) == (True, "passed")


def test_surviving_needs_no_outputs_that_vary():
    done = properties.survives(Function(lambda x: np.zeros((1, 4), np.int8)))
    assert (done.varied, done.verdict.word) == (False, "passed")


def test_a_single_input_cannot_vary():
    done = properties.finite(Function(first_four, shape=(1, 0)), max_examples=4)
    assert (done.varied, done.verdict.word) == (None, "passed")


def test_the_verdict_of_a_comparison_rests_on_the_greatest_distance():
    close = Function(lambda x: first_four(x) // np.int8(2) * np.int8(2))
    done = properties.equal_to(Function(first_four), close, max_examples=40)
    assert done.verdict.word == "passed"
    (figure,) = done.verdict.figures
    assert (figure.value, figure.unit, figure.kind) == (1, "steps", "emulated")
    assert f"over {done.examples} inputs: f.tflite on rpi4 (user), numpy" in figure.source


def test_floats_are_told_as_multiples_of_the_tolerance():
    def half(x):
        return np.float32(first_four(x)) / 2

    session = Function(half, out="float32")
    done = properties.equal_to(session, session, max_examples=20)
    assert (done.figures[0].value, done.figures[0].unit) == (0, "tolerances")
    # So few that one input stands at the end of the directions: it is no case of Hypothesis.


def test_changes_that_must_not_matter():
    session = Function(lambda x: np.sort(x.reshape(1, -1))[:, -4:])

    def flip(x):
        return x[:, ::-1]

    def darken(x):
        return np.maximum(x, -127) - np.int8(1)

    properties.invariant(session, flip)
    with pytest.raises(properties.PropertyFailed, match="invariant under darken"):
        properties.invariant(session, darken)
    properties.invariant(session, darken, max_steps=1)
    properties.invariant(session, darken, relation=lambda a, b: b["y"].max() <= a["y"].max())


def test_measures_that_must_not_fall():
    session = Function(first_four)

    def brighten(x):
        return np.minimum(x, 126) + np.int8(1)

    properties.monotone(session, brighten, lambda outputs: float(outputs["y"].sum()))
    with pytest.raises(properties.PropertyFailed, match=r"monotone under brighten: it falls from"):
        properties.monotone(session, brighten, lambda outputs: -float(outputs["y"].sum()))


def test_a_fixed_batch_size_is_a_missing_ability():
    with pytest.raises(MissingAbility, match=r"batch size of f\.tflite is fixed"):
        properties.batch_invariant(Function(first_four))


@pytest.mark.parametrize("count", [0, -1])
def test_no_inputs_are_no_proof(count):
    with pytest.raises(OptionError, match="max_examples"):
        properties.survives(Function(first_four), max_examples=count)


def test_unknown_names_are_refused():
    with pytest.raises(OptionError, match="no property 'quick'"):
        properties.check_all(Function(first_four), skip={"quick"})
    with pytest.raises(TypeError, match="unexpected keyword argument 'example'"):
        properties.deterministic(Function(first_four), example=3)  # type: ignore[call-arg]


def test_failures_survive_pickling():
    import pickle

    array = np.int8([1])
    error = properties.PropertyFailed(
        "x: y", name="x", inputs={"a": array}, found={"a": array}, repeatable=False
    )
    copy = pickle.loads(pickle.dumps(error))
    assert str(copy) == "x: y"
    assert copy.inputs["a"].tolist() == [1]


def outcome(name, word, reason="", **fields):
    verdict = Verdict(word=word, reason=reason)
    return properties.Outcome(name=name, verdict=verdict, **fields)


def test_results_are_read_by_name_and_by_word():
    results = properties.Results(
        side="f.tflite on rpi4",
        outcomes=(
            outcome("survives", "passed", examples=100, seconds=1.5),
            outcome("finite", "vacuous", "every input gave the same outputs"),
            outcome("equal_to", "skipped", "no reference was given"),
        ),
    )
    assert results["finite"].verdict.word == "vacuous"
    assert [each.name for each in results.of("skipped")] == ["equal_to"]
    with pytest.raises(KeyError):
        results["other"]
    assert str(results.verdict) == "vacuous: finite: every input gave the same outputs"
    lines = str(results).splitlines()
    assert lines[0] == "properties of f.tflite on rpi4"
    assert lines[1].split() == ["survives", "passed", "100", "inputs", "1.50", "s"]
    assert lines[3].split() == ["equal_to", "skipped", "no", "reference", "was", "given"]
    found = json.loads(json.dumps(results.as_dict(), allow_nan=False))
    assert found["verdict"]["word"] == "vacuous"
    assert found["outcomes"][0]["verdict"]["word"] == "passed"
