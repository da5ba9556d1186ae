"""docs/engines.md has the abilities and the engines as the code has them."""

import re
from pathlib import Path

from edge_harness.engines.abilities import ABILITIES, abilities_of
from edge_harness.engines.registry import engine_named, engine_names

PAGE = (Path(__file__).parents[2] / "docs" / "engines.md").read_text()


def test_every_word_stands_there_with_its_meaning():
    rows = re.findall(r"^\| `(\w+)` \| ([^|]+) \|$", PAGE, re.MULTILINE)
    assert rows == [(each.word, each.meaning) for each in ABILITIES.values()]


def test_every_engine_stands_there_with_what_it_adds():
    named: set[str] = set()
    for name in engine_names():
        row = re.search(rf"^\| `{name}` \|.*\|.*\|(.*)\|$", PAGE, re.MULTILINE)
        assert row, f"docs/engines.md has no row for {name}"
        named = named | set(re.findall(r"`(\w+)`", row[1])) & ABILITIES.keys()
        assert abilities_of(engine_named(name).machine_type) <= named
