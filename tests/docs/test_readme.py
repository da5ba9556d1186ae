"""What the README and the docs say is there, is there."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from edge_harness.cli import main

REPOSITORY = Path(__file__).parent.parent.parent
PAGES = sorted([REPOSITORY / "README.md", *(REPOSITORY / "docs").glob("*.md")])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_examples_compile(page):
    for block in re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL):
        compile(block, page.name, "exec")


def test_every_edge_harness_command_in_the_docs_exists():
    for page in PAGES:
        for command in re.findall(r"(?<![\w-])edge-harness ([a-z]+)(?= |$|`|')", page.read_text()):
            if command in ("does", "is", "harness", "needs", "image"):
                continue
            result = CliRunner().invoke(main, [command, "--help"])
            assert result.exit_code == 0, f"{page.name}: edge-harness {command}"


def test_every_pytest_option_in_the_docs_exists():
    text = subprocess.run(
        [sys.executable, "-m", "pytest", "--help"],
        capture_output=True,
        text=True,
        check=True,
        cwd=REPOSITORY,
    ).stdout
    for page in PAGES:
        for option in re.findall(r"(--(?:edge-[a-z-]+|device|engine))", page.read_text()):
            assert option in text, f"{page.name}: {option}"


def test_the_readmes_make_targets_exist():
    makefile = (REPOSITORY / "Makefile").read_text()
    for target in re.findall(r"make ([a-z0-9]+)", (REPOSITORY / "README.md").read_text()):
        assert f"\n{target}:" in makefile


def test_readme_shows_the_examples_tests():
    shown = set(
        re.findall(r"examples/test_digits.py::(\w+)", (REPOSITORY / "README.md").read_text())
    )
    there = set(
        re.findall(
            r"^def (test_\w+)", (REPOSITORY / "examples" / "test_digits.py").read_text(), re.M
        )
    )
    assert shown == there
