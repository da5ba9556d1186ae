"""What users' type checkers see of the public face: mypy here, pyright by ``tox -e pyright`` and
where it is installed."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


def marked(file):
    lines = file.read_text().splitlines()
    return {number for number, line in enumerate(lines, 1) if line.endswith("# error")}


@pytest.fixture(scope="module")
def mypy_errors(tmp_path_factory):
    """``(file, line, message)`` of each error that mypy finds in the two files, without ours."""
    pytest.importorskip("mypy", reason="mypy is not installed: pip install -e .[lint]")
    words = [sys.executable, "-m", "mypy", "--config-file", "mypy.ini", "--no-error-summary"]
    cache = tmp_path_factory.mktemp("mypy")
    done = subprocess.run(
        [*words, f"--cache-dir={cache}", "user_file.py", "wrong.py"],
        cwd=HERE,
        # Installed, the package is found by its py.typed marker; from here, by its path.
        env={**os.environ, "MYPYPATH": str(HERE.parent.parent / "harness")},
        capture_output=True,
        text=True,
        check=False,
    )
    found = re.findall(r"^(\w+\.py):(\d+): error: (.*)$", done.stdout, re.MULTILINE)
    assert found or done.returncode == 0, done.stdout + done.stderr
    return [(file, int(line), message) for file, line, message in found]


def test_a_users_file_has_the_types_it_says(mypy_errors):
    assert [error for error in mypy_errors if error[0] == "user_file.py"] == []


def test_mistakes_are_found_and_nothing_else(mypy_errors):
    lines = {line for file, line, _ in mypy_errors if file == "wrong.py"}
    assert lines == marked(HERE / "wrong.py"), mypy_errors


def test_pyright_sees_the_same():
    pyright = shutil.which("basedpyright") or shutil.which("pyright")
    if pyright is None:
        pytest.skip("pyright is not installed: pip install basedpyright, or tox -e pyright")
    done = subprocess.run(
        [
            pyright,
            "--project",
            "pyrightconfig.json",
            "--outputjson",
            "--pythonpath",
            sys.executable,
        ],
        cwd=HERE,
        capture_output=True,
        text=True,
        check=False,
    )
    found = [d for d in json.loads(done.stdout)["generalDiagnostics"] if d["severity"] == "error"]
    by_file = {}
    for each in found:
        line = each["range"]["start"]["line"] + 1
        by_file.setdefault(Path(each["file"]).name, {})[line] = each["message"]
    assert by_file.get("user_file.py", {}) == {}
    assert set(by_file.get("wrong.py", {})) == marked(HERE / "wrong.py"), by_file
