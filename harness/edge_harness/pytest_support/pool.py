"""The running devices of one pytest process."""

from __future__ import annotations

import copy
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from edge_harness.engines import Limits
from edge_harness.engines.abilities import MemoryLimit, word_of
from edge_harness.engines.choose import Choice, choose_engine
from edge_harness.engines.registry import AUTO
from edge_harness.errors import EdgeError, MissingAbility
from edge_harness.pytest_support.marks import Wanted, wanted_by
from edge_harness.pytest_support.options import Settings, spelled

if TYPE_CHECKING:
    from _pytest.outcomes import Skipped

    from edge_harness.device.device import Device
    from edge_harness.profiles import Profile
else:
    Skipped = pytest.skip.Exception

_Key = tuple[str, str]  # profile and engine


class AbilitySkip(Skipped):
    """Skips a test whose engine cannot prove what it needs; counted in the summary."""

    def __init__(self, error: MissingAbility) -> None:
        super().__init__(f"{error.message} (an error with --edge-strict)")
        self.error = error


class Pool:
    """Starts devices when they are first asked for, and ends each after the last test for it.

    Raises (from the constructor):
        pytest.UsageError: a device is not known, or its profile is not valid.
    """

    def __init__(self, config: pytest.Config, settings: Settings) -> None:
        from edge_harness.profiles import default_registry

        self.config = config
        self.settings = settings
        self.limits = Limits(memory_mib=settings.memory_mib)
        try:
            self._registry = default_registry(settings.profile_dirs, config.rootpath)
            self.profiles: list[Profile] = self._registry.select(settings.devices)
        except EdgeError as error:
            raise pytest.UsageError(str(error)) from None
        self._by_name = {profile.name: profile for profile in self.profiles}
        worker = getattr(config, "workerinput", None)
        self.is_worker = worker is not None
        # All xdist workers of a run share their devices; another run never does.
        self._share: str = (worker or {}).get("testrunuid", uuid.uuid4().hex)
        self._shared: dict[_Key, Device] = {}
        self._fresh: list[Device] = []
        self._fresh_worked: set[_Key] = set()
        self._failed: dict[tuple[_Key, str], EdgeError] = {}
        self._chosen: dict[Wanted, Choice] = {}
        self._choices: dict[tuple[str, str, frozenset[str]], Choice] = {}
        self._meant: dict[tuple[str, ...], frozenset[str]] = {}
        self._tests_left: Counter[str] = Counter()
        self.troubles: list[str] = []
        """What went wrong outside tests, for the summary."""

    # -- who is who --------------------------------------------------------------------------

    def profile(self, wanted: Wanted) -> Profile:
        return self._by_name[wanted.name]

    def names(self, patterns: tuple[str, ...]) -> frozenset[str]:
        """Names of all known profiles that ``patterns`` mean. Raises UserError."""
        if patterns not in self._meant:  # a suite repeats the same few patterns on every test
            chosen = self._registry.select(patterns)
            self._meant[patterns] = frozenset(profile.name for profile in chosen)
        return self._meant[patterns]

    def key(self, wanted: Wanted) -> _Key:
        """The profile and engine that ``wanted`` runs on.

        Raises:
            AbilitySkip: no engine proves what is needed, and this run is not strict.
            EdgeError: no engine can run it.
        """
        __tracebackhide__ = True
        if wanted not in self._chosen:
            try:
                self._chosen[wanted] = self._engine(wanted)
            except MissingAbility as error:
                if self.settings.strict:
                    raise
                raise AbilitySkip(error) from None
        return wanted.name, self._chosen[wanted].engine.name

    def _engine(self, wanted: Wanted) -> Choice:
        asked = self.settings.engine
        if wanted.engine:
            if asked not in (AUTO, wanted.engine):
                option = spelled(self.config, "--engine")
                raise MissingAbility(
                    f"the test is for the {wanted.engine} engine, and this run is {option}={asked}",
                    next_step=f"run it with {option}={wanted.engine}",
                )
            asked = wanted.engine
        return self._choice(self.profile(wanted), asked, self._needs(wanted))

    def _choice(self, profile: Profile, engine: str, needs: frozenset[str]) -> Choice:
        """Chosen once: the header, a test and its device have the same."""
        key = profile.name, engine, needs
        if key not in self._choices:
            self._choices[key] = choose_engine(profile, engine, needs)
        return self._choices[key]

    def _needs(self, wanted: Wanted | None = None) -> frozenset[str]:
        limits = {word_of(MemoryLimit)} if self.limits.memory_mib is not None else set()
        return (wanted.needs if wanted is not None else frozenset()) | limits

    def engine_line(self, profile: Profile) -> str:
        """What runs ``profile`` where a test needs nothing special, or why nothing does."""
        try:
            choice = self._choice(profile, self.settings.engine, self._needs())
        except EdgeError as error:
            return error.message
        pins = f"; runtime {', '.join(self.settings.runtimes)}" if self.settings.runtimes else ""
        return f"{choice}{pins}"

    # -- devices -----------------------------------------------------------------------------

    def shared(self, wanted: Wanted) -> Device:
        """The running device, started when it is first asked for."""
        __tracebackhide__ = True
        key = self.key(wanted)
        if key not in self._shared:
            self._shared[key] = self._open(wanted, key, share=self._share)
        return self._shared[key]

    @contextmanager
    def fresh(self, wanted: Wanted) -> Iterator[Device]:
        """A device of its own, ended with the block."""
        __tracebackhide__ = True
        key = self.key(wanted)
        device = self._open(wanted, key, share=None)
        self._fresh_worked.add(key)
        self._fresh.append(device)
        try:
            yield device
        finally:
            self._fresh.remove(device)
            device.close()

    def _open(self, wanted: Wanted, key: _Key, *, share: str | None) -> Device:
        __tracebackhide__ = True
        from edge_harness.clock.counting.device_clock import DeviceClock
        from edge_harness.device.request import DeviceRequest
        from edge_harness.device.starting import start_device

        remembered = key, "shared" if share else "fresh"
        if remembered in self._failed:
            # Tried once: what failed to start will fail again, and each try may take minutes.
            raise copy.copy(self._failed[remembered])
        try:
            profiles = self._registry.working()[0] if self.settings.profile_dirs else ()
            return start_device(
                DeviceRequest(
                    profile=self.profile(wanted),
                    engine=key[1],
                    needs=self._needs(wanted),
                    choice=self._chosen[wanted],
                    share=share,
                    limits=self.limits,
                    progress=self._say,
                    among=profiles,
                    runtimes=self.settings.runtimes,
                    latency_source=DeviceClock(refresh=self.settings.refresh, progress=self._say),
                )
            )
        except MissingAbility as error:
            if self.settings.strict:
                raise
            raise AbilitySkip(error) from None
        except EdgeError as error:
            if share or key not in self._fresh_worked:
                self._failed[remembered] = error
            raise

    def device_of(self, item: pytest.Item) -> Device | None:
        """The running device that ``item`` uses, if any; starts nothing."""
        wanted = wanted_by(item)
        if wanted is None:
            return None
        if self._fresh:
            return self._fresh[-1]
        if "edge_device" not in getattr(item, "fixturenames", ()):
            return None
        chosen = self._chosen.get(wanted)
        return self._shared.get((wanted.name, chosen.engine.name)) if chosen else None

    # -- the end -----------------------------------------------------------------------------

    def expect(self, items: Sequence[pytest.Item]) -> None:
        """Learn which tests will run, to know when a device has done its work."""
        self._tests_left = Counter(w.name for item in items if (w := wanted_by(item)) is not None)

    def test_done(self, item: pytest.Item) -> None:
        wanted = wanted_by(item)
        if wanted is not None:
            self._tests_left[wanted.name] -= 1

    def release(self, wanted: Wanted) -> None:
        """Called once no fixture uses the device any more: end it if no test is left for it, so
        that a long matrix does not hold every device at once."""
        if self._tests_left[wanted.name] <= 0:
            for key in [key for key in self._shared if key[0] == wanted.name]:
                self._close(self._shared.pop(key))

    def close(self) -> None:
        """End this process's share in all devices. Idempotent."""
        devices = [*self._shared.values(), *self._fresh]
        self._shared.clear()
        self._fresh.clear()
        for device in devices:
            self._close(device)

    def _close(self, device: Device) -> None:
        try:
            device.close()
        except (EdgeError, OSError) as error:
            # The others must be ended too; the next sweep ends this one.
            self.troubles.append(f"{device.name} could not be ended: {error}")

    def sweep(self) -> None:
        """End what killed runs left behind."""
        from edge_harness.device.lease import sweep

        try:
            sweep(self.troubles.append)
        except (EdgeError, OSError) as error:
            self.troubles.append(f"devices of killed runs could not be ended: {error}")

    def _say(self, text: str) -> None:
        """Show progress at once, past pytest's capturing; xdist workers have no terminal."""
        terminal: Any = self.config.pluginmanager.get_plugin("terminalreporter")
        capture: Any = self.config.pluginmanager.get_plugin("capturemanager")
        verbosity = self.config.option.verbose
        routine = text.startswith("starting ") and verbosity < 1
        if terminal is None or capture is None or verbosity < 0 or routine:
            return
        with capture.global_and_fixture_disabled():
            terminal.ensure_newline()
            terminal.write_line(f"edge-harness: {text}", flush=True)
