"""Is it slower than before? The same benchmarks in two checkouts, in turn, as ratios.

    python benchmarks/against.py OTHER [--rounds N] [pytest arguments: -k "round_trip or warm"]

``OTHER`` is a checkout of another commit with a ``.venv`` of its own, which ``.ci/bootstrap
test,lint,bench`` makes there. Whatever both report under one name is compared: the best of
each side, as both had the same machine in turn and only disturbances add.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).parents[1]


def figures(checkout: Path, arguments: Sequence[str]) -> dict[str, float]:
    """``{name: figure}`` of one run of the benchmarks in ``checkout``."""
    python, env = Path(sys.executable), dict(os.environ)
    if checkout != HERE:
        python = checkout / ".venv" / "bin" / "python"
        env.pop("PYTHONPATH", None)  # it may name the package of this checkout
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        subprocess.run(
            [
                *(str(python), "-m", "pytest", "benchmarks/test_speed.py", "-q"),
                *("-p", "no:cacheprovider", f"--junitxml={report}", *arguments),
            ],
            cwd=checkout,
            env=env,
            check=False,
            stdout=subprocess.DEVNULL,
        )
        cases = ElementTree.parse(report).iter("testcase")
        found: dict[str, float] = {}
        for case in cases:
            where = str(case.get("name", "")).partition("[")[2].rstrip("]")
            for each in case.iter("property"):
                name = f"{each.get('name')}{f' [{where}]' if where else ''}"
                found[name] = float(str(each.get("value")))
        return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, usage="%(prog)s OTHER [--rounds N] …")
    parser.add_argument("other", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    options, arguments = parser.parse_known_args()
    best: list[dict[str, float]] = [{}, {}]
    for number in range(options.rounds):
        for side, checkout in enumerate((HERE, options.other.resolve())):
            for name, value in figures(checkout, arguments).items():
                best[side][name] = min(value, best[side].get(name, value))
            print(f"round {number + 1}: {checkout}", file=sys.stderr)
    here, other = best
    print(f"{'here':>9} {'other':>9} {'ratio':>6}")
    for name in here:
        if name in other and other[name] > 0:
            ratio = here[name] / other[name]
            print(f"{here[name]:9.3f} {other[name]:9.3f} {ratio:6.2f}  {name}")
        else:
            print(f"{here[name]:9.3f} {'':9} {'':6}  {name}")


if __name__ == "__main__":
    main()
