"""Hypothesis' own pytest options and its example database, as they meet properties; on a
function in place of a model, because they are about Hypothesis and not about devices."""

import pytest

MODULE = """
from types import SimpleNamespace

import numpy as np

from edge_harness import properties
from edge_harness.models.tensors import Outputs, Tensor

RAN = []


class Function:
    inputs = outputs = (
        Tensor(name="x", index=0, dtype=np.dtype("int8"), shape=(1, 9), shape_signature=(1, 9)),
    )
    device = SimpleNamespace(name="rpi4", engine="user")
    model = SimpleNamespace(path=SimpleNamespace(name="f.tflite"))
    runtime = kernels = "numpy"

    def run_many(self, samples):
        RAN.extend(samples)
        return [Outputs(x=sample["x"]) for sample in samples]


def test_it():
    try:
        properties.check(Function(), lambda i, o: "bright" if i["x"][0, 5] > LIMIT else None)
    finally:
        print("FIRST", RAN[0]["x"].tolist())
        print("DRAWN", hash(b"".join(x["x"].tobytes() for x in RAN)), len(RAN))
"""


#: Where one of these is set Hypothesis takes a profile of its own: no database, one fixed seed.
CI_VARIABLES = (
    "CI",
    "__TOX_ENVIRONMENT_VARIABLE_ORIGINAL_CI",
    "TF_BUILD",
    "bamboo.buildKey",
    "BUILDKITE",
    "CIRCLECI",
    "CIRRUS_CI",
    "CODEBUILD_BUILD_ID",
    "GITHUB_ACTIONS",
    "GITLAB_CI",
    "HEROKU_TEST_RUN_ID",
    "TEAMCITY_VERSION",
)


@pytest.fixture
def run(pytester, monkeypatch):
    for name in CI_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PYTHONHASHSEED", "0")

    def start(limit, *words):
        pytester.makepyfile(test_it=f"LIMIT = {limit}\n{MODULE}")
        # In a process of its own: the seed is a global of Hypothesis.
        result = pytester.runpytest_subprocess("-s", "-p", "no:cacheprovider", *words)
        lines = result.outlines
        told = {word: next(x for x in lines if word in x) for word in ("FIRST", "DRAWN")}
        return result, told

    return start


def test_a_second_run_starts_with_the_input_that_failed(run):
    result, told = run(100)
    result.assert_outcomes(failed=1)
    assert "FIRST [[0, 0, 0, 0, 0, 0, 0, 0, 0]]" in told["FIRST"]
    result, told = run(100)
    result.assert_outcomes(failed=1)
    assert "FIRST [[0, 0, 0, 0, 0, 101, 0, 0, 0]]" in told["FIRST"]
    result.stdout.fnmatch_lines(["*found after 1 inputs on rpi4*"])


def test_the_seed_option_repeats_a_run(run):
    drawn = {seed: run(127, f"--hypothesis-seed={seed}")[1]["DRAWN"] for seed in (1, 2)}
    assert drawn[1] != drawn[2]
    assert run(127, "--hypothesis-seed=1")[1]["DRAWN"] == drawn[1]


def test_a_short_deadline_of_the_profile_does_not_apply(run, pytester):
    pytester.makeconftest(
        """
        from hypothesis import settings

        settings.register_profile("hasty", deadline=0.01)
        settings.load_profile("hasty")
        """
    )
    result, _ = run(127)
    result.assert_outcomes(passed=1)
