"""docs/extending.md shows the packages that tests install, to the letter; what it adds works."""

import importlib.util
import json
import sys

import pytest
from click.testing import CliRunner
from edge_harness import cli

from tests.docs.blocks import REPOSITORY, blocks

PACKAGES = REPOSITORY / "tests" / "extension_packages"
SHOWN = {block.file: block.text for block in blocks("docs/extending.md") if block.file}


@pytest.mark.parametrize(
    "path", sorted(str(p.relative_to(PACKAGES)) for p in PACKAGES.glob("*/*.*") if p.is_file())
)
def test_the_page_shows_the_package_as_it_is(path):
    _, _, text = SHOWN[path].partition("\n")
    assert text == (PACKAGES / path).read_text()


def test_a_command_as_on_the_page_answers(tmp_path, monkeypatch):
    file = tmp_path / "board_names.py"
    file.write_text(SHOWN["board_names/board_names.py"])
    spec = importlib.util.spec_from_file_location("board_names", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setitem(cli.COMMANDS, "board-names", ("board_names:board_names", "Names."))
    monkeypatch.setitem(sys.modules, "board_names", module)
    result = CliRunner().invoke(cli.main, ["board-names", "--device", "rpi4,rpi5", "--json"])
    assert result.exit_code == 0, result.output
    assert list(json.loads(result.stdout)) == ["rpi4", "rpi5"]
