"""``device``, ``fresh_device``, ``device_profile``, ``golden``: short names for our fixtures, where
nobody else has them.

pytest-playwright owns a session fixture ``device``, pytest-golden ``golden``. Of two plugins with
one name pytest takes the one registered last, without a word, and the other's tests get a fixture
they do not know. So ours are registered only where no other plugin has the name: at the start of
the session, when all plugins and the initial conftest files are there and pytest has not yet read
fixtures from any (it does in a sessionstart of its own, and what comes later wins). A conftest
file needs no such care: its fixture overrides a plugin's below its folder, and may wrap it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import pytest

#: Short name to the name that is always ours.
LONG: Mapping[str, str] = {
    "device": "edge_device",
    "fresh_device": "fresh_edge_device",
    "device_profile": "edge_device_profile",
    "golden": "edge_golden",
}
_PLUGIN = "edge-harness-short-names"


@pytest.fixture(scope="session")
def device(edge_device: Any) -> Any:
    """The emulated device of this test: ``edge_device`` by its short name."""
    return edge_device


@pytest.fixture
def fresh_device(fresh_edge_device: Any) -> Any:
    """A device of this test alone: ``fresh_edge_device`` by its short name."""
    return fresh_edge_device


@pytest.fixture(scope="session")
def device_profile(edge_device_profile: Any) -> Any:
    """The profile of the device: ``edge_device_profile`` by its short name."""
    return edge_device_profile


@pytest.fixture
def golden(edge_golden: Any) -> Any:
    """``golden.assert_golden(outputs)``: ``edge_golden`` by its short name."""
    return edge_golden


class Taken(NamedTuple):
    """A short name that another plugin or a conftest file has."""

    name: str
    owner: str
    is_conftest: bool


_TAKEN: pytest.StashKey[tuple[Taken, ...]] = pytest.StashKey()


def register(config: pytest.Config) -> None:
    """Register the short names that no other plugin has. Once, when all plugins are there."""
    if config.pluginmanager.has_plugin(_PLUGIN):
        return
    taken = config.stash[_TAKEN] = tuple(_taken(config))
    by_plugins = {each.name for each in taken if not each.is_conftest}
    # A module of its own, because pytest registers all fixtures that it finds in one.
    names = ModuleType(_PLUGIN)
    for name in LONG:
        if name not in by_plugins:
            setattr(names, name, globals()[name])
    config.pluginmanager.register(names, _PLUGIN)


def header(config: pytest.Config) -> list[str]:
    """A line for each owner of short names, for the header of a run on devices."""
    owners: dict[str, list[str]] = {}
    for each in config.stash.get(_TAKEN, ()):
        owners.setdefault(each.owner, []).append(each.name)
    return [
        f"edge: fixture {', '.join(names)} from {owner}; "
        f"ours: {', '.join(LONG[name] for name in names)}"
        for owner, names in owners.items()
    ]


def _taken(config: pytest.Config) -> Iterator[Taken]:
    for plugin_name, plugin in config.pluginmanager.list_name_plugin():
        if plugin is None:  # blocked by -p no:NAME
            continue
        there = set(_fixtures_of(plugin))
        is_conftest = plugin_name.endswith("conftest.py")
        for name in LONG:
            if name in there:
                owner = _shown(plugin_name, plugin, config, is_conftest=is_conftest)
                yield Taken(name=name, owner=owner, is_conftest=is_conftest)


def _fixtures_of(plugin: object) -> Iterator[str]:
    """Names of the fixtures that ``plugin`` defines, without calling anything of it."""
    holders = [plugin] if isinstance(plugin, ModuleType) else [plugin, *type(plugin).__mro__]
    for holder in holders:
        for attribute, value in list(getattr(holder, "__dict__", {}).items()):
            # There is no public way to ask. A function with a mark until pytest 8.3, an object
            # of a class of its own since.
            marker = getattr(value, "__dict__", {}).get("_pytestfixturefunction") or getattr(
                value, "__dict__", {}
            ).get("_fixture_function_marker")
            if type(marker).__name__ == "FixtureFunctionMarker":
                yield getattr(marker, "name", None) or attribute


def _shown(name: str, plugin: object, config: pytest.Config, *, is_conftest: bool) -> str:
    if is_conftest:
        path = Path(name)
        inside = path.is_relative_to(config.rootpath)
        return os.path.relpath(path, config.rootpath) if inside else name
    for registered, distribution in config.pluginmanager.list_plugin_distinfo():
        if registered is plugin:
            return str(distribution.project_name)
    return f"the plugin {name}"
