"""Entry points of other distributions: listed without import, one broken harms no other."""

import sys
from pathlib import Path

import pytest
from edge_harness.errors import BrokenExtension
from edge_harness.extensions import extensions

GROUP = "edge_harness.test_things"


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Puts a distribution with entry points and modules on the path."""
    monkeypatch.syspath_prepend(str(tmp_path))
    extensions.cache_clear()

    def put(name: str, points: dict[str, str], **modules: str) -> Path:
        info = tmp_path / f"{name.replace('-', '_')}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        lines = [f"[{GROUP}]", *(f"{key} = {value}" for key, value in points.items())]
        (info / "entry_points.txt").write_text("\n".join(lines) + "\n")
        for module, text in modules.items():
            (tmp_path / f"{module}.py").write_text(text)
        return info

    yield put
    extensions.cache_clear()


def test_extensions_are_listed_by_name_and_none_is_imported(install):
    install("some-thing", {"b": "things_b:B", "a": "things_a:A"}, things_a="1/0", things_b="B = 7")
    assert [(each.name, each.distribution) for each in extensions(GROUP)] == [
        ("a", "some-thing 1.0"),
        ("b", "some-thing 1.0"),
    ]
    assert not {"things_a", "things_b"} & sys.modules.keys()
    assert extensions(GROUP)[1].load() == 7


@pytest.mark.parametrize(
    ("module", "why"),
    [
        ("1/0", "ZeroDivisionError"),
        ("import nothing_of_that_name", "nothing_of_that_name"),
        ("raise SystemExit(3)", "SystemExit"),
        ("x = 1", "has no attribute 'A'"),
    ],
)
def test_a_broken_extension_is_one_error_that_names_whose_it_is(install, module, why):
    install("bad-thing", {"a": "bad_a:A"}, bad_a=module)
    sys.modules.pop("bad_a", None)
    (only,) = extensions(GROUP)
    with pytest.raises(BrokenExtension, match="'a' of bad-thing 1.0 is broken: .*" + why) as seen:
        only.load()
    assert "bad-thing" in seen.value.next_step
    assert seen.value.details == {"test_thing": "a", "distribution": "bad-thing 1.0"}


def test_two_distributions_of_one_name_are_refused_when_it_is_asked_for(install):
    install("first", {"a": "one:A", "b": "one:B"}, one="A = B = 1")
    install("second", {"a": "two:A"}, two="A = 2")
    a, b = extensions(GROUP)
    assert b.load() == 1
    with pytest.raises(BrokenExtension, match="has one of the same name") as seen:
        a.load()
    assert "uninstall first or second: while both are here" in seen.value.next_step or (
        "uninstall second or first: while both are here" in seen.value.next_step
    )
    assert "neither's test_thing 'a' is to be had" in seen.value.next_step


def test_no_extension_takes_the_name_of_what_is_built_in(install):
    install("greedy", {"built": "greedy:A"}, greedy="A = 1")
    (only,) = extensions(GROUP, ("built",))
    with pytest.raises(BrokenExtension, match="the name 'built' is taken"):
        only.load()
