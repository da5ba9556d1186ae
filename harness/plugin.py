"""The pytest plugin: options, parametrisation, fixtures and report hooks; nothing else.

Importing it costs next to nothing, and without ``--device`` it does nothing.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, Any

import pytest

from harness.pytest_support import options as _options

if TYPE_CHECKING:
    from harness.device import Device
    from harness.profile import Profile
    from harness.pytest_support.matrix import Wanted
    from harness.pytest_support.pool import Pool

_POOL: pytest.StashKey[Pool] = pytest.StashKey()


def pytest_addoption(parser: pytest.Parser) -> None:
    _options.add(parser)


@pytest.hookimpl(hookwrapper=True, tryfirst=True)
def pytest_load_initial_conftests(
    early_config: pytest.Config, parser: pytest.Parser
) -> Iterator[None]:
    yield
    # Only now, when plugins and conftest files have had their turn with these names.
    _options.add_aliases(parser)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        "edge(devices=..., needs=..., engine=...): on which emulated devices a test runs "
        "(names or globs), and what the engine must be able to prove",
    )
    settings = _options.settings_of(config)
    if settings.devices:
        from harness.pytest_support.pool import Pool

        config.stash[_POOL] = Pool(config, settings)
        from harness.pytest_support.reporting import Reporting

        config.pluginmanager.register(Reporting(config.stash[_POOL]), "edge-reporting")


def pytest_sessionstart(session: pytest.Session) -> None:
    pool = session.config.stash.get(_POOL, None)
    is_worker = hasattr(session.config, "workerinput")
    if pool is not None and not is_worker and not session.config.option.collectonly:
        pool.sweep()


def pytest_unconfigure(config: pytest.Config) -> None:
    pool = config.stash.get(_POOL, None)
    if pool is not None:
        pool.close()


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    pool = session.config.stash.get(_POOL, None)
    if pool is not None:
        pool.close()


def pytest_report_header(config: pytest.Config) -> list[str]:
    pool = config.stash.get(_POOL, None)
    if pool is None or config.get_verbosity() < 0:
        return []
    return pool.header()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "_edge_wanted" not in metafunc.fixturenames:
        return
    from harness.pytest_support.matrix import parametrize

    pool = metafunc.config.stash.get(_POOL, None)
    parametrize(metafunc, pool.profiles if pool is not None else [])


@pytest.fixture(scope="session")
def _edge_wanted(request: pytest.FixtureRequest) -> Wanted | None:
    wanted: Wanted | None = getattr(request, "param", None)
    if wanted is None:
        text = (
            "no device was selected: run pytest --device=rpi4 "
            "('edge-harness devices' lists the names)"
        )
        if _options.settings_of(request.config).strict:
            pytest.fail(text, pytrace=False)
        pytest.skip(text)
    return wanted


@pytest.fixture(scope="session")
def device(_edge_wanted: Wanted, pytestconfig: pytest.Config) -> Device:
    """The emulated device of this test; shared by all tests of the run that use the same one."""
    __tracebackhide__ = True
    return pytestconfig.stash[_POOL].shared(_edge_wanted)


@pytest.fixture
def fresh_device(_edge_wanted: Wanted, pytestconfig: pytest.Config) -> Generator[Device, Any, None]:
    """A device of this test alone, started for it and ended after it."""
    __tracebackhide__ = True
    with pytestconfig.stash[_POOL].fresh(_edge_wanted) as running:
        yield running


@pytest.fixture(scope="session")
def device_profile(_edge_wanted: Wanted, pytestconfig: pytest.Config) -> Profile:
    """The profile of the device that a test runs on; starts nothing."""
    return pytestconfig.stash[_POOL].profile(_edge_wanted)
