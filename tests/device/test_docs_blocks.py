"""Blocks of README.md and docs/ that need an emulated device; see tests/docs/blocks.py."""

import pytest
from edge_harness.errors import EdgeError
from edge_harness.opening import open_device

from tests.docs.blocks import PAGES, blocks
from tests.docs.project import Project


@pytest.fixture(scope="module", autouse=True)
def _a_board_can_be_emulated():
    try:
        open_device("rpi4", engine="user").close()
    except EdgeError as error:
        pytest.skip(str(error))


def needs_device(page):
    return any(b.kind in ("python", "commands", "output") and b.needs_device for b in blocks(page))


@pytest.mark.parametrize("page", [page for page in PAGES if needs_device(page)])
def test_each_block_does_what_the_page_says(page, tmp_path):
    problems = Project(tmp_path).problems(blocks(page), on_device=True)
    assert not problems, "\n\n".join(problems)
