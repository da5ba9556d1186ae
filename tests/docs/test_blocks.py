"""Every fenced block of README.md and docs/ is run, checked, or marked with the reason why not.
Blocks that need an emulated device are run by tests/device/test_docs_blocks.py."""

import pytest

from tests.docs.blocks import CHECKED_ONLY, PAGES, Block, blocks, commands, file_for, missing_lines
from tests.docs.project import Project

#: Of all blocks.
MOST_NOT_RUN = 0.1


@pytest.mark.parametrize("page", PAGES)
def test_each_block_does_what_the_page_says(page, tmp_path):
    problems = Project(tmp_path).problems(blocks(page), on_device=False)
    assert not problems, "\n\n".join(problems)


def test_few_blocks_are_not_run_and_each_has_a_reason(record_property, capsys):
    every = [block for page in PAGES for block in blocks(page)]
    left_out = [block for block in every if block.kind == "not run"]
    lines = [f"{block.where}: {block.comment}" for block in left_out]
    for block in every:
        lines += [
            f"{block.where}: $ {command.line.strip()}: arguments checked, not run: {reason}"
            for command in commands(block)
            if (reason := command.checked_only)
        ]
    with capsys.disabled():
        print(
            f"\nof {len(every)} blocks in the docs {len(left_out)} are not run:", *lines, sep="\n  "
        )
    assert all(block.told("not run:") for block in left_out), "say why: <!-- not run: REASON -->"
    assert len(left_out) <= MOST_NOT_RUN * len(every)


# -- the runner itself -----------------------------------------------------------------------------


def block(language, text, comment=""):
    return Block(page="x.md", line=1, language=language, text=text, comment=comment)


@pytest.mark.parametrize(
    ("language", "text", "comment"),
    [("", "make", ""), ("bash", "make", ""), ("text", "some words", "")],
)
def test_a_block_that_nothing_holds_to_anything_is_refused(language, text, comment):
    with pytest.raises(ValueError, match=r"^x\.md:1: "):
        _ = block(language, text, comment).kind


def test_a_name_that_nothing_gives_is_told():
    with pytest.raises(ValueError, match="uses nothing_of_ours, which it does not import"):
        file_for(block("python", "print(nothing_of_ours)"))


def test_a_broken_block_of_each_kind_is_found(tmp_path):
    broken = [
        block("python", "def test_x(images): assert not images"),
        block("console", "$ echo 1 apple\n2 pears\n"),
        block("sh", "edge-harness devices --device nowhere"),
        block("sh", "edge-harness setup --sytsem"),
        block("sh", "make nothing-of-ours"),
        block("toml", "# device_profiles/kiosk.toml\nextends = 'rpi4'\n[cpu]\nmzh = 1\n"),
        block("toml", "[tool.pytest.ini_options]\nedge_engine = 'steam'\n"),
        block("ini", "[pytest]\nedge_fidelity = max_step = 2\n"),
        block("json", "{'a': 1}"),
        block("text", "nowhere/   a folder\n"),
        block("text", "golden outputs, format 9", "in: examples/test_digits.py"),
        block("text", "other words", "output of: echo words"),
    ]
    for number, each in enumerate(broken):
        folder = tmp_path / str(number)
        folder.mkdir()
        assert len(Project(folder).problems([each], on_device=False)) == 1, each


def test_output_is_compared_loosely():
    printed = "ran on a1b2c3d4e5f6\n12 passed in 0.31 s   ====\nthe end\n"
    assert missing_lines(["ran on 0123456789ab", "7 passed in 2 s ==="], printed) == []
    assert missing_lines(["ran … 0123456789ab", "…", "the end"], printed) == []
    assert missing_lines(["the end", "ran on …"], printed) == ["ran on …"]
    assert missing_lines(["7 failed in 2 s"], printed) == ["7 failed in 2 s"]


def test_why_a_command_is_not_run_is_said():
    assert all(CHECKED_ONLY.values())
