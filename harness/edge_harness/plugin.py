"""The pytest plugin: hooks and fixtures; what they do stands in ``edge_harness.pytest_support``.

Importing this costs next to nothing, and without ``--device`` it probes, starts and prints
nothing: whatever needs a device is imported and registered only once one is selected.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from edge_harness.pytest_support import options as _options
from edge_harness.pytest_support import short_names as _short_names

if TYPE_CHECKING:
    from edge_harness.device.device import Device
    from edge_harness.golden.running_test import RunningTest
    from edge_harness.profiles import Profile
    from edge_harness.pytest_support.marks import Wanted
    from edge_harness.pytest_support.pool import Pool

_POOL: pytest.StashKey[Pool] = pytest.StashKey()
_BAD_MARKS: pytest.StashKey[list[str]] = pytest.StashKey()


# -- options -------------------------------------------------------------------------------------


def pytest_addoption(parser: pytest.Parser) -> None:
    _options.add(parser)


@pytest.hookimpl(hookwrapper=True, tryfirst=True)
def pytest_load_initial_conftests(
    early_config: pytest.Config, parser: pytest.Parser, args: Sequence[str]
) -> Iterator[None]:
    _options.forget_values_taken_for_paths(early_config, parser, args)
    yield
    # Only now: plugins and the initial conftest files have had their turn with these names.
    _options.add_aliases(early_config, parser)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        "edge(devices=..., needs=..., engine=...): on which selected devices a test runs (names "
        "or globs), what the engine must be able to prove, and which engine it is for",
    )
    config.addinivalue_line(
        "markers",
        "edge_fidelity(max_steps=..., sqnr_db=..., ...): tolerances of fidelity in a test",
    )
    if config.option.edge_update_goldens:
        from edge_harness.pytest_support.goldens import Written

        config.pluginmanager.register(Written(), "edge-harness-goldens")
    settings = _options.settings_of(config)
    if settings.devices:
        from edge_harness.pytest_support.fidelity_marks import Fidelity
        from edge_harness.pytest_support.pool import Pool
        from edge_harness.pytest_support.reporting import Reporting

        pool = config.stash[_POOL] = Pool(config, settings)
        config.pluginmanager.register(Reporting(pool), "edge-harness-reporting")
        tolerances = Fidelity(config, is_worker=pool.is_worker)
        config.pluginmanager.register(tolerances, "edge-harness-fidelity")


# -- the run -------------------------------------------------------------------------------------


@pytest.hookimpl(tryfirst=True)  # all plugins are there, and pytest has not yet read fixtures
def pytest_sessionstart(session: pytest.Session) -> None:
    _short_names.register(session.config)
    pool = session.config.stash.get(_POOL, None)
    if pool is not None and not pool.is_worker and not session.config.option.collectonly:
        pool.sweep()


@pytest.hookimpl(trylast=True)  # after the fixtures that use devices were torn down
def pytest_sessionfinish(session: pytest.Session) -> None:
    pool = session.config.stash.get(_POOL, None)
    if pool is not None:
        pool.close()
        if session.config.pluginmanager.has_plugin("dsession"):
            pool.sweep()  # xdist ends workers that do not stop in time by force


def pytest_unconfigure(config: pytest.Config) -> None:
    pool = config.stash.get(_POOL, None)
    if pool is not None:
        pool.close()


def pytest_report_header(config: pytest.Config) -> list[str]:
    pool = config.stash.get(_POOL, None)
    if pool is None or config.option.verbose < 0:
        return []
    from edge_harness.pytest_support.summary import header

    return [*header(pool), *_short_names.header(config)]


@pytest.hookimpl(hookwrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    from edge_harness.golden.running_test import RUNNING

    token = RUNNING.set(partial(_running_test, item))
    yield
    RUNNING.reset(token)


def _running_test(item: pytest.Item) -> RunningTest:
    from edge_harness.pytest_support.running_test import of_item

    return of_item(item)


@pytest.hookimpl(hookwrapper=True, tryfirst=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[Any]) -> Iterator[None]:
    outcome: Any = yield
    if call.excinfo is not None:
        from edge_harness.pytest_support.error_reports import restate

        restate(item, call, outcome.get_result())


# -- the matrix ----------------------------------------------------------------------------------


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "_edge_wanted" not in metafunc.fixturenames:
        return
    from edge_harness.errors import UserError
    from edge_harness.pytest_support.matrix import parametrize

    pool = metafunc.config.stash.get(_POOL, None)
    try:
        parametrize(metafunc, pool)
    except UserError as error:
        text = f"@pytest.mark.edge on {metafunc.definition.nodeid}: {error}"
        if pool is not None and pool.is_worker:
            # The controller collects nothing, so a usage error here could not reach the person.
            raise pytest.Collector.CollectError(text) from None
        metafunc.config.stash.setdefault(_BAD_MARKS, []).append(text)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    bad = config.stash.get(_BAD_MARKS, [])
    if bad:
        raise pytest.UsageError("\n".join(bad))
    pool = config.stash.get(_POOL, None)
    if pool is not None or _options.settings_of(config).strict:
        return
    skip = pytest.mark.skip(reason=_options.nothing_selected(config))
    for item in items:
        if "_edge_wanted" in getattr(item, "fixturenames", ()):
            # A mark, not the fixture: so nothing else is set up for a test that cannot run.
            item.add_marker(skip)


# -- fixtures; short names for them: pytest_support/short_names.py --------------------------------


@pytest.fixture(scope="session")
def _edge_wanted(request: pytest.FixtureRequest) -> Wanted:
    """Carries the parameter, so that a project may have a ``device`` fixture of its own."""
    __tracebackhide__ = True
    wanted: Wanted | None = getattr(request, "param", None)
    if wanted is not None:
        return wanted
    from edge_harness.errors import OptionError
    from edge_harness.pytest_support.marks import Wanted

    pool = request.config.stash.get(_POOL, None)
    if pool is None:
        reason = _options.nothing_selected(request.config)
        if _options.settings_of(request.config).strict:
            raise OptionError(reason, next_step="select a device, or leave out --edge-strict")
        pytest.skip(reason)
    if len(pool.profiles) > 1:  # request.getfixturevalue("device"): pytest cannot parametrise it
        raise OptionError(
            "a device was asked for while the test runs, and "
            f"{', '.join(p.name for p in pool.profiles)} are selected",
            next_step="name the fixture in the test's arguments, or select one device",
        )
    return Wanted(name=pool.profiles[0].name)


@pytest.fixture(scope="session")
def edge_device(_edge_wanted: Wanted, pytestconfig: pytest.Config) -> Iterator[Device]:
    """The emulated device of this test, shared by all tests of the run that use the same one."""
    __tracebackhide__ = True
    pool = pytestconfig.stash[_POOL]
    yield pool.shared(_edge_wanted)
    pool.release(_edge_wanted)


@pytest.fixture
def fresh_edge_device(_edge_wanted: Wanted, pytestconfig: pytest.Config) -> Iterator[Device]:
    """A device of this test alone, started for it and ended after it."""
    __tracebackhide__ = True
    with pytestconfig.stash[_POOL].fresh(_edge_wanted) as running:
        yield running


@pytest.fixture(scope="session")
def edge_device_profile(_edge_wanted: Wanted, pytestconfig: pytest.Config) -> Profile:
    """The profile of the device that this test runs on; starts nothing."""
    return pytestconfig.stash[_POOL].profile(_edge_wanted)


@pytest.fixture
def edge_golden() -> Any:
    """``edge_golden.assert_golden(outputs)``: ``edge_harness.golden``, for the running test."""
    from edge_harness import golden

    return golden
