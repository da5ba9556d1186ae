"""Do the unit tests notice when the code is wrong? ``make mutants``.

    python -m tests.mutants [--seed N] [--count 100] [--slice 1/4] [--named | --random] [--jobs 2]

Each mutant is one change of the code in a copy of the tree, against which ``tests/unit`` runs until
the first failure. There are the named ones of ``named.py``, all of which must be noticed, and
``--count`` random ones (``tokens.py``) of the clock, the diagnosis, fidelity and leases, of which
four in five must be. Prints those nobody noticed; ends with status 1 if they are too many, with
2 if a named change does not fit the code any more.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import Queue

from tests.mutants.named import NAMED
from tests.mutants.tokens import Mutant, mutants_of

REPOSITORY = Path(__file__).parent.parent.parent
PACKAGE = "harness/edge_harness"
#: What random mutants are drawn from. Not calibration, which only its authors run, nor the part of
#: the clock that needs an emulator.
AREAS = ("clock", "diagnose", "fidelity", "device/lease.py")
NOT = ("clock/calibrate", "clock/counting")
ENOUGH = 0.8
#: What a copy is made of, with the files beside them.
FOLDERS = (
    ".ci",
    "benchmarks",
    "device_profiles",
    "docs",
    "examples",
    "fixtures",
    "harness",
    "tests",
)
#: A mutant may loop for ever; the whole suite takes a fraction of this.
TIMEOUT_S = 300.0


def drawn(count: int, seed: int, areas: Sequence[str] = AREAS) -> list[Mutant]:
    """``count`` random mutants, each place as likely as any other."""
    everything: list[Mutant] = []
    for area in areas:
        place = REPOSITORY / PACKAGE / area
        for path in sorted([place] if place.suffix else place.rglob("*.py")):
            name = str(path.relative_to(REPOSITORY))
            if not any(f"{PACKAGE}/{other}" in name for other in NOT):
                everything += mutants_of(name, path.read_text())
    return random.Random(seed).sample(everything, min(count, len(everything)))


def copied(to: Path) -> None:
    """The files of the repository that tests need."""
    for entry in REPOSITORY.iterdir():
        if entry.name in FOLDERS:
            shutil.copytree(entry, to / entry.name, ignore=shutil.ignore_patterns("__pycache__"))
        elif entry.is_file():
            shutil.copy2(entry, to / entry.name)


def tests_of(path: str, tree: Path) -> list[list[str]]:
    """All files of ``tests/unit``, those first that name the changed module, then those that name
    its folder: a mutant that they notice costs seconds, as only they are collected."""
    module = path.removeprefix("harness/").removesuffix(".py").replace("/", ".")
    parent, _, name = module.rpartition(".")
    pattern = re.compile(rf"{module}\b|from {parent} import [^\n]*\b{name}\b")
    wider = re.compile(rf"{parent}\b")
    groups: list[list[str]] = [[], [], []]
    for test in sorted((tree / "tests" / "unit").glob("test_*.py")):
        text = test.read_text()
        near = 0 if pattern.search(text) else 1 if wider.search(text) else 2
        groups[near].append(f"tests/unit/{test.name}")
    return [group for group in groups if group]


def tested(tree: Path, tests: list[str], *options: str) -> tuple[bool, str]:
    """Whether all ``tests`` pass in ``tree``, and the last line that says which did not."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(tree / "harness"),
        "PYTHONDONTWRITEBYTECODE": "1",
        "EDGE_HARNESS_CACHE": str(tree / ".cache"),
    }
    argv = [sys.executable, "-m", "pytest", "-x", "-q", "--no-header", "-p", "no:cacheprovider"]
    try:
        done = subprocess.run(
            [*argv, *options, *tests],
            cwd=tree,
            env=environment,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return False, f"not done after {TIMEOUT_S:g} s"
    lines = [line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    return done.returncode == 0, (lines or done.stdout.splitlines() or [done.stderr])[-1]


def noticed(mutant: Mutant, tree: Path, *, near: bool = False) -> tuple[bool, str]:
    """Whether a test fails with the change, and which; ``near``: of those that name the module or
    its folder."""
    target = tree / mutant.path
    source = target.read_text()
    target.write_text(mutant.apply(source))
    try:
        groups = tests_of(mutant.path, tree)
        for tests in groups[:-1] if near else groups:
            passed, how = tested(tree, tests)
            if not passed:
                return True, how
    finally:
        target.write_text(source)
    return False, ""


def run(mutants: list[Mutant], jobs: int, *, check: bool, near: bool = False) -> list[Mutant]:
    """Those of ``mutants`` that no test noticed."""
    survivors: list[Mutant] = []
    trees: Queue[Path] = Queue()
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        for number in range(jobs):
            tree = Path(folder) / str(number)
            tree.mkdir()
            copied(tree)
            trees.put(tree)
        if check:
            print("without a change …", flush=True)
            passed, how = tested(tree, ["tests/unit"], "-n", str(jobs))
            if not passed:
                raise SystemExit(f"the unit tests fail as they are: {how}")

        def one(numbered: tuple[int, Mutant]) -> None:
            number, mutant = numbered
            tree, started = trees.get(), time.monotonic()
            try:
                seen, how = noticed(mutant, tree, near=near)
            finally:
                trees.put(tree)
            took = time.monotonic() - started
            word = "noticed" if seen else "SURVIVED"
            place = mutant.name or f"{mutant.path}:{mutant.line}"
            print(f"{number:4} {word:8} {took:5.1f} s  {place}  {how[:90]}", flush=True)
            if not seen:
                survivors.append(mutant)

        with ThreadPoolExecutor(jobs) as pool:
            list(pool.map(one, enumerate(mutants, 1)))
    return survivors


def sliced(mutants: list[Mutant], part: str) -> list[Mutant]:
    index, _, of = part.partition("/")
    return mutants[int(index) - 1 :: int(of)]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--slice", default="1/1", help="a part of the mutants, as 2/5")
    parser.add_argument("--named", action="store_true", help="the named ones only")
    parser.add_argument("--random", action="store_true", help="the random ones only")
    parser.add_argument("--area", action="append", help=f"random ones of {', '.join(AREAS)}")
    parser.add_argument(
        "--unchecked", action="store_true", help="without running the tests unchanged first"
    )
    parser.add_argument(
        "--near", action="store_true", help="only tests that name the module or its folder: quicker"
    )
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    again = f"--seed {options.seed} --count {options.count}"
    again += "".join(f" --area {area}" for area in options.area or ())
    try:
        for mutant in NAMED:
            mutant.apply((REPOSITORY / mutant.path).read_text())
    except (ValueError, OSError) as error:
        print(f"a named change does not fit any more: {error}", file=sys.stderr)
        return 2
    status, check = 0, not options.unchecked
    if not options.random:
        named = sliced(list(NAMED), options.slice)
        survivors = run(named, options.jobs, check=check, near=options.near)
        print(f"\nnamed: {len(named) - len(survivors)} of {len(named)} noticed")
        print("\n".join(map(str, survivors)))
        status = 1 if survivors else status
    if not options.named:
        print(f"\nrandom ones; the same again: python -m tests.mutants --random {again}")
        random_ones = sliced(
            drawn(options.count, options.seed, options.area or AREAS), options.slice
        )
        survivors = run(
            random_ones, options.jobs, check=check and options.random, near=options.near
        )
        share = 1 - len(survivors) / max(1, len(random_ones))
        print(f"\nrandom: {len(random_ones) - len(survivors)} of {len(random_ones)} noticed")
        print("\n".join(map(str, survivors)))
        status = 1 if share < ENOUGH else status
    return status


if __name__ == "__main__":
    sys.exit(main())
