"""The running devices of one pytest process."""

from __future__ import annotations

import copy
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from harness.errors import EdgeError, InternalError, MissingCapability
from harness.pytest_support.matrix import Wanted
from harness.pytest_support.options import Settings

if TYPE_CHECKING:
    from harness.device import Device
    from harness.engines import Limits
    from harness.profile import Profile


class Pool:
    """Starts devices when they are first asked for and keeps them to the end of the run.

    Raises:
        pytest.UsageError: a device is not known, or its profile is not valid.
    """

    def __init__(self, config: pytest.Config, settings: Settings) -> None:
        from harness.profile import default_registry

        self.config = config
        self.settings = settings
        try:
            self._registry = default_registry(settings.profile_dirs, config.rootpath)
            self.profiles: list[Profile] = self._registry.select(settings.devices)
        except EdgeError as error:
            raise pytest.UsageError(str(error)) from None
        self._by_name = {profile.name: profile for profile in self.profiles}
        self._shared: dict[tuple[str, str], Device] = {}
        self._failed: dict[tuple[str, str], EdgeError] = {}
        self._engines: dict[Wanted, str] = {}
        self.fresh_devices: list[Device] = []
        self.current: Device | None = None
        """The device that the running test uses."""
        # All xdist workers of a run share their devices; another run never does.
        worker = getattr(config, "workerinput", {})
        self._share = worker.get("testrunuid", uuid.uuid4().hex)

    def profile(self, wanted: Wanted) -> Profile:
        return self._by_name[wanted.name]

    @property
    def limits(self) -> Limits:
        from harness.engines import Limits

        return Limits(memory_mib=self.settings.memory_mib)

    def _needs(self, wanted: Wanted) -> frozenset[str]:
        extra = {"memory_limit"} if self.settings.memory_mib is not None else set()
        return wanted.needs | extra

    def engine_for(self, wanted: Wanted) -> str:
        """The name of the engine that ``wanted`` runs on.

        Raises:
            EdgeError: none can; skips the test where that is a matter of capability.
        """
        __tracebackhide__ = True
        from harness.choose import choose_engine

        known = self._engines.get(wanted)
        if known is not None:
            return known
        asked = self.settings.engine
        if wanted.engine:
            if asked not in ("auto", wanted.engine):
                pytest.skip(f"meant for the {wanted.engine} engine, and --engine={asked} was given")
            asked = wanted.engine
        try:
            engine, _ = choose_engine(self.profile(wanted), asked, self._needs(wanted))
        except MissingCapability as error:
            if self.settings.strict:
                raise
            pytest.skip(f"{error.message} (an error with --edge-strict)")
        self._engines[wanted] = engine.name
        return engine.name

    def shared(self, wanted: Wanted) -> Device:
        """The running device, started at its first use; a failure is remembered and not tried
        again for each test."""
        __tracebackhide__ = True
        key = (wanted.name, self.engine_for(wanted))
        if key in self._failed:
            raise copy.copy(self._failed[key])
        if key not in self._shared:
            try:
                self._shared[key] = self._open(wanted, share=self._share)
            except EdgeError as error:
                self._failed[key] = error
                raise
        return self._shared[key]

    @contextmanager
    def fresh(self, wanted: Wanted) -> Iterator[Device]:
        """A device of its own, ended with the block."""
        __tracebackhide__ = True
        device = self._open(wanted, share=None)
        self.fresh_devices.append(device)
        try:
            yield device
        finally:
            self.fresh_devices.remove(device)
            device.close()

    def _open(self, wanted: Wanted, *, share: str | None) -> Device:
        __tracebackhide__ = True
        from harness.device import open_device

        return open_device(
            self.profile(wanted),
            engine=self.engine_for(wanted),
            needs=self._needs(wanted),
            share=share,
            limits=self.limits,
            progress=self._say,
        )

    def _say(self, text: str) -> None:
        """Show progress at once, past pytest's capturing; xdist workers have no terminal."""
        terminal = self.config.pluginmanager.get_plugin("terminalreporter")
        capture = self.config.pluginmanager.get_plugin("capturemanager")
        if terminal is None or capture is None or self.config.get_verbosity() < 0:
            return
        with capture.global_and_fixture_disabled():
            terminal.ensure_newline()
            terminal.write_line(f"edge-harness: {text}", flush=True)

    def running(self) -> list[Device]:
        """All devices that run now."""
        return [*self._shared.values(), *self.fresh_devices]

    def header(self) -> list[str]:
        """One line for each selected device: what will run it, and why."""
        from harness.choose import choose_engine

        lines = []
        for profile in self.profiles:
            try:
                engine, availability = choose_engine(profile, self.settings.engine)
                how = f"engine {engine.name} ({availability.reason})"
            except EdgeError as error:
                how = error.message
            lines.append(
                f"edge: {profile.name}: {profile.title}, {profile.cpu.cores}x {profile.cpu.core}, "
                f"{profile.memory.ram_mib} MiB; {how}"
            )
        return lines

    def sweep(self) -> None:
        """End what a killed run left behind."""
        from harness.lease import sweep

        try:
            sweep()
        except EdgeError as error:
            if isinstance(error, InternalError):
                raise
            raise pytest.UsageError(str(error)) from None

    def close(self) -> None:
        """End this process's share in all devices. Idempotent."""
        devices = self.running()
        self._shared.clear()
        self.fresh_devices.clear()
        for device in devices:
            device.close()
