"""ONNX's own backend node tests on emulated boards, beside the same run natively.

    python -m examples.onnx_backend --device rpi4,rpi5
    python -m examples.onnx_backend --device rpi4 --runtime onnxruntime==1.32.0 --only 'test_conv*'

The models, inputs and expected outputs are inside the package ``onnx`` (extra ``onnx``), the
tolerances are its own. Each test loads one model into a worker of its own, so that a crash is one
failed test. The exit status is 1 when a device differs from the native run and nothing here
explains why.
"""

from __future__ import annotations

import argparse
import contextlib
import fnmatch
import hashlib
import json
import re
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

try:
    import onnx
    from onnx import numpy_helper
    from onnx.backend.test.loader import load_model_tests
except ImportError:
    sys.exit("this script needs the package onnx\n  next: pip install 'pytest-edge-harness[onnx]'")

from edge_harness import Device, open_device
from edge_harness.errors import DeviceFailed, EdgeError, InputError, UnsupportedModel


@dataclass(frozen=True, kw_only=True)
class Rule:
    """Why tests may end otherwise on a device than natively."""

    tests: str
    """Names, as a glob."""
    what: str
    """What the difference must look like, as a regular expression: no more is explained."""
    feature: str
    """What the device's processor must have."""
    why: str


#: With onnx 1.17.0 and onnxruntime 1.20.1 nothing differed; with 1.23.2 and 1.32.0 eight tests.
EXPLAINED = [
    Rule(
        tests="*fp16*",
        what=r"^failed \(other values: .*Max absolute difference: 0\.000\d+ ",
        feature="asimdhp",
        why="this processor has half-precision arithmetic (asimdhp) and the float16 kernels use "
        "it, rounding each step to half precision, one or two units in the last place of values "
        "up to 1; the test's rtol of 1e-3 is one unit. Natively, and on boards without it (rpi4, "
        "rock-3399), they compute in float32",
    ),
]


@dataclass(frozen=True, kw_only=True)
class Result:
    """How one test ended."""

    outcome: Literal["passed", "skipped", "failed"]
    """``skipped``: the runtime or the wire has no such type or operator."""
    reason: str = ""
    bits: str = ""
    """Digest of all outputs."""
    whole: str = ""
    """Digest of the outputs that are whole numbers, where nothing is rounded."""


@dataclass(frozen=True, kw_only=True)
class Side:
    """One run of all tests."""

    name: str
    results: dict[str, Result]
    seconds: float
    features: tuple[str, ...] = ()
    """What the processor says it has, in the words of /proc/cpuinfo."""

    def count(self, outcome: str) -> int:
        return sum(result.outcome == outcome for result in self.results.values())


def node_tests(only: str = "*", every: int = 1) -> list[Any]:
    """The node tests whose name matches ``only``, in the order of their names."""
    with warnings.catch_warnings():
        # Newer releases compute what they expect here, infinities and all.
        warnings.simplefilter("ignore")
        cases = sorted(load_model_tests(kind="node"), key=lambda case: str(case.name))
    return [case for case in cases if fnmatch.fnmatch(case.name, only)][::every]


def run_on(
    device: Device,
    cases: Sequence[Any],
    *,
    runtime: str | None,
    progress: Callable[[int], None] = lambda done: None,
) -> Side:
    """Run ``cases`` on ``device``."""
    results = {}
    started = time.monotonic()
    for done, case in enumerate(cases):
        results[case.name] = run_case(device, case, runtime)
        progress(done + 1)
    name = "native" if device.engine == "host" else device.name
    return Side(
        name=name,
        results=results,
        seconds=time.monotonic() - started,
        features=tuple(device.info.features),
    )


def run_case(device: Device, case: Any, runtime: str | None) -> Result:
    """Run one test case with all its data sets."""
    bits, whole = hashlib.sha256(), hashlib.sha256()
    try:
        with (
            model_file(case) as path,
            device.load(path, runtime=runtime) as session,
        ):
            for inputs, expected in data_sets(case):
                outputs = session.run(
                    {t.name: v for t, v in zip(session.inputs, inputs, strict=True)}
                )
                for tensor, wanted in zip(session.outputs, expected, strict=True):
                    actual = outputs[tensor.name]
                    bits.update(actual.tobytes())
                    whole.update(actual.tobytes() if actual.dtype.kind in "biu" else b"")
                    # As onnx.backend.test.runner.Runner.assert_similar_outputs does.
                    np.testing.assert_equal(actual.dtype, wanted.dtype)
                    np.testing.assert_allclose(actual, wanted, rtol=case.rtol, atol=case.atol)
    except UnsupportedModel as error:
        return Result(outcome="skipped", reason=short(error.message))
    except InputError as error:
        return Result(outcome="failed", reason=f"the harness refused the input: {error.message}")
    except DeviceFailed as error:
        return Result(outcome="failed", reason=short(error.message))
    except AssertionError as error:
        text = re.sub(r"^.*?(?=Mismatched|\()| x: .*$", "", " ".join(str(error).split()))
        return Result(outcome="failed", reason=f"other values: {text}", bits=bits.hexdigest())
    return Result(outcome="passed", bits=bits.hexdigest(), whole=whole.hexdigest())


@contextlib.contextmanager
def model_file(case: Any) -> Iterator[Path]:
    """The test's model as a file; newer releases of ``onnx`` make them in memory."""
    if case.model_dir is not None:
        yield Path(case.model_dir) / "model.onnx"
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{case.name}.onnx"
        path.write_bytes(case.model.SerializeToString())
        yield path


def data_sets(case: Any) -> Iterator[tuple[list[Any], list[Any]]]:
    """Inputs and expected outputs, in the model's order."""
    if case.model_dir is None:
        for inputs, expected in case.data_sets:
            yield list(map(in_numpy, inputs)), list(map(in_numpy, expected))
        return
    for folder in sorted(Path(case.model_dir).glob("test_data_set_*")):
        yield arrays_of(folder, "input"), arrays_of(folder, "output")


def in_numpy(value: Any) -> Any:
    """A value of a test made in memory; sequences stay what they are."""
    if isinstance(value, onnx.TensorProto):
        return numpy_helper.to_array(value)
    return value if isinstance(value, list) or value is None else np.asarray(value)


def arrays_of(folder: Path, what: str) -> list[Any]:
    """The tensors ``input_0.pb``, ``input_1.pb`` … of a data set."""
    found: list[Any] = []
    while (path := folder / f"{what}_{len(found)}.pb").exists():
        found.append(numpy_helper.to_array(onnx.TensorProto.FromString(path.read_bytes())))
    return found


_KINDS = (
    (r"no numpy equivalent", r"is an? ([\w()]+\(?\w*)", "a tensor of type {} (not on the wire)"),
    (r"under development|official released|opset \d+ is", r"[Oo]pset (\d+)", "opset {} unreleased"),
    (r"implementation for|NOT_IMPLEMENTED", r"(?:node with name.*?|for )(\w+\(\d+\))", "no kernel"),
    (r"Fatal error: .* is not a registered", r"Fatal error: (\S+) is not", "no operator {}"),
)


def short(message: str) -> str:
    """The reason in an error's message, without the file's name."""
    text = " ".join(message.split())
    for mark, detail, form in _KINDS:
        if re.search(mark, text):
            found = re.search(detail, text)
            return form.format(found[1] if found else "")
    return re.sub(r"^.*?(?:cannot execute|could not load|failed)\b[^:]*: ", "", text)[:200]


def differences(native: Side, side: Side) -> list[tuple[str, str, str]]:
    """(test, what differs, explanation or nothing) where ``side`` ended otherwise, or gave other
    whole numbers."""
    found = []
    for name, here in side.results.items():
        there = native.results[name]
        if here.outcome != there.outcome:
            what = f"{here.outcome} ({here.reason}), natively {there.outcome} ({there.reason})"
        elif here.whole != there.whole:
            what = "other whole numbers than natively, within the test's tolerance"
        else:
            continue
        found.append((name, what, explanation(name, what, side)))
    return found


def explanation(name: str, what: str, side: Side) -> str:
    """Why this is so, as far as known."""
    for rule in EXPLAINED:
        if (
            fnmatch.fnmatch(name, rule.tests)
            and re.search(rule.what, what)
            and rule.feature in side.features
        ):
            return rule.why
    return ""


def report(sides: Sequence[Side], native: Side) -> Iterable[str]:
    """The comparison in words."""
    yield f"{'':12}{'passed':>8}{'skipped':>8}{'failed':>8}{'seconds':>9}"
    for side in sides:
        counts = "".join(f"{side.count(o):8d}" for o in ("passed", "skipped", "failed"))
        yield f"{side.name:12}{counts}{side.seconds:9.0f}"
    for outcome in ("skipped", "failed"):
        reasons = Counter(r.reason for r in native.results.values() if r.outcome == outcome)
        if reasons:
            yield f"{outcome} natively:"
        for reason, count in reasons.most_common():
            named = [n for n, r in native.results.items() if r.reason == reason]
            yield f"  {count:4d}  {reason}" + (f": {', '.join(named)}" * (outcome == "failed"))
    for side in sides:
        if side is native:
            continue
        found = differences(native, side)
        both = [
            (r, native.results[n])
            for n, r in side.results.items()
            if r.outcome == native.results[n].outcome == "passed"
        ]
        rounded = sum(a.bits != b.bits and a.whole == b.whole for a, b in both)
        yield (
            f"{side.name}: {len(found)} differences from the native run; of {len(both)} tests that "
            f"passed on both, {rounded} round some float otherwise (code for another processor)"
        )
        for name, what, why in found:
            yield f"  {name}: {what}"
            yield f"    {why or 'NOT EXPLAINED'}"


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="rpi4,rpi5", help="names, comma-separated")
    parser.add_argument("--engine", default="user", help="what runs them (default: user)")
    parser.add_argument("--runtime", help="as onnxruntime==1.32.0 (default: the profile's)")
    parser.add_argument("--only", default="*", help="names of tests, as a glob")
    parser.add_argument("--every", type=int, default=1, help="only every so many-th test")
    parser.add_argument("--json", type=Path, help="write all results to this file")
    asked = parser.parse_args(words)

    cases = node_tests(asked.only, asked.every)
    names = asked.device.split(",")
    runtime = asked.runtime
    sides: list[Side] = []
    for name, engine in [(names[0], "host"), *((name, asked.engine) for name in names)]:
        with open_device(name, engine=engine) as device:
            if not sides:  # the same for all: that of the first board
                runtime = runtime or device.profile.runtimes.defaults()["onnx"]
                print(f"{len(cases)} node tests of onnx {onnx.__version__}, {runtime}", flush=True)

            def progress(done: int, name: str = f"{name} {engine}") -> None:
                if sys.stderr.isatty():
                    print(f"\r{name}: {done} of {len(cases)}", end="\r", file=sys.stderr)

            sides.append(run_on(device, cases, runtime=runtime, progress=progress))
    print("\n".join(report(sides, sides[0])))
    if asked.json:
        asked.json.write_text(
            json.dumps(
                {s.name: {n: vars(r) for n, r in s.results.items()} for s in sides}, indent=1
            )
        )
    unexplained = [d for side in sides[1:] for d in differences(sides[0], side) if not d[2]]
    return 1 if unexplained else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except EdgeError as error:
        sys.exit(str(error))
