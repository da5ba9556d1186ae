"""Runtimes and models on a running device: its layers, the parents of its workers, its sessions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from edge_harness.device.endings import Endings
from edge_harness.device.hold import Gone, Hold
from edge_harness.engines.abilities import TakesLayers, bound
from edge_harness.errors import DeviceTimeout, UnsupportedModel
from edge_harness.image import cached_parent, ensure_layer, ensure_runtime_layers, warm_parent
from edge_harness.models.file import ModelFile, read_model
from edge_harness.runtimes import LoadRequest, Runtime, WarmParent, likely, load_request, named

if TYPE_CHECKING:
    from edge_harness.image import Environment, Layer
    from edge_harness.profiles import Profile

Progress = Callable[[str], None]
#: An emulated import of a large runtime, cold, on a busy machine: 24 s were seen.
WARM_TIMEOUT_S = 180.0


class Loading:
    """Brings runtimes and models into one device.

    Args:
        profile: of the device.
        environment: what decides which wheels it can load.
        hold: its machine.
        endings: explains what ends.
        pins: runtimes to take instead of the profile's, such as ``onnxruntime==1.21.0``.
        progress: called with a line of text while something slow happens.
    """

    def __init__(
        self,
        *,
        profile: Profile,
        environment: Environment,
        hold: Hold,
        endings: Endings,
        pins: Sequence[str],
        progress: Progress | None,
    ) -> None:
        self.hold = hold
        self.endings = endings
        self._profile = profile
        self._environment = environment
        self._pins = tuple(pins)
        self._progress = progress
        self._layers: dict[str, tuple[Layer, ...]] = {}
        self._warmed: dict[WarmParent, int] = {}

    # -- layers ------------------------------------------------------------------------------

    @property
    def layers(self) -> Mapping[str, Sequence[Layer]]:
        """What was brought so far, by what was asked for."""
        return self._layers

    def layer(self, requirements: Sequence[str]) -> Layer:
        """Wheels, in the device.

        Raises:
            OptionError: one is no requirement.
            ImageBuildFailed: there is no such wheel for this device.
        """
        label = " ".join(requirements)
        if label not in self._layers:
            self._layers[label] = (ensure_layer(self._environment, requirements, self._progress),)
        self._bring(self._layers[label])
        return self._layers[label][-1]

    def _bring(self, layers: Sequence[Layer]) -> None:
        """Have ``layers`` on a machine that does not see the cache's."""
        if bound(self.hold.machine, TakesLayers) is None:
            return
        self.hold.revive()
        machine = bound(self.hold.machine, TakesLayers)
        assert machine is not None
        for layer in layers:
            machine.bring_layer(layer.key)

    # -- the parents of workers --------------------------------------------------------------

    def parent(self, runtime: Runtime, requirement: str) -> WarmParent:
        """A process in the device that has imported ``runtime`` and forks workers.

        Raises:
            ImageBuildFailed: the runtime has no wheel for this device.
            UnsupportedModel: it cannot be brought to such a device, or the device has not the
                shared library that it is.
            DeviceFailed: it could not be imported, or not within 180 s.
        """
        label = _label(runtime, requirement)
        if label not in self._layers:
            self._layers[label] = ensure_runtime_layers(
                self._environment, runtime, requirement, self._progress
            )
        parent = warm_parent(runtime, requirement, self._layers[label])
        self.hold.revive()
        if self._warmed.get(parent) == self.hold.generation:
            return parent
        self._bring(self._layers[label])
        header = parent.header()
        before = self.hold.log_mark()
        try:
            answer = self.hold.ask(header, timeout_s=WARM_TIMEOUT_S)
        except Gone:
            raise self.endings.machine_death(f"answering {header['op']!r}") from None
        except DeviceTimeout:
            raise self._not_warm(runtime, requirement) from None
        if not answer["ok"] and answer["kind"] == "missing":
            raise UnsupportedModel(
                f"{self.hold.name} has no {answer['path']!r}, the shared library that the runtime "
                f"{runtime.name!r} is",
                next_step="say where the device has it: runtime='/PATH' of the same file name, or "
                f"{runtime.name} = '/PATH' in the table [runtimes] of its profile",
                details={"device": self.hold.name, "runtime": runtime.name, "path": answer["path"]},
            )
        if not answer["ok"]:
            raise self.endings.death(
                answer, f"importing {label}", said=self.hold.said_since(before)
            )
        self._warmed[parent] = self.hold.generation
        return parent

    def _not_warm(self, runtime: Runtime, requirement: str) -> DeviceTimeout:
        whose = f", of {runtime.origin}" if runtime.origin else ""
        return DeviceTimeout(
            f"the runtime {runtime.name!r} ({requirement or runtime.imports}{whose}) was not "
            f"imported on {self.hold.name} within {WARM_TIMEOUT_S:g} s: that is the limit for "
            f"its import and its warm(), whatever timeout_s of a load says\n{self.hold.log_tail()}",
            next_step="look for an endless loop in warm() and at the top of its file, then at the "
            "load of this machine"
            if runtime.origin
            else "look at the load of this machine, then run again",
            details={
                "device": self.hold.name,
                "runtime": runtime.name,
                "timeout_s": WARM_TIMEOUT_S,
            },
        )

    def taken(self, runtime: Runtime, requirement: str) -> str:
        """``requirement`` of a Debian package with the version that was brought."""
        name, _, _ = requirement.partition("=")
        for layer in self._layers.get(_label(runtime, requirement), ()):
            for package in layer.lock.get("packages", ()):
                if package["name"] == name:
                    return f"{name}={package['version']}"
        return requirement  # it is in the image

    def forget(self, parent: WarmParent) -> None:
        """Look at ``parent`` anew before the next worker is forked from it: it may have died."""
        self._warmed.pop(parent, None)

    # -- models ------------------------------------------------------------------------------

    def request(
        self,
        model: str | Path | ModelFile,
        *,
        runtime: str | None = None,
        threads: int = 1,
        options: Mapping[str, object] | None = None,
    ) -> LoadRequest:
        """What to ask a worker for; see :meth:`edge_harness.device.device.Device.load`.

        Raises:
            ModelError: the file is missing, damaged or of another format.
            OptionError: an argument is wrong.
            UnsupportedModel: no runtime for it is published for this device.
            BrokenExtension: the runtime asked for is another distribution's, and is broken.
        """
        # First of all what is asked for by name: where that is broken, its files are unknown.
        for asked in (*self._pins, *([runtime] if runtime is not None else ())):
            named(asked)
        return load_request(
            model if isinstance(model, ModelFile) else read_model(model),
            self._profile,
            runtime=runtime,
            pins=self._pins,
            threads=threads,
            options=options,
        )


def _label(runtime: Runtime, requirement: str) -> str:
    """What a runtime's layers are found by: those of one from another distribution are its own,
    whoever else asks for the same requirement."""
    label = requirement or runtime.name
    return f"{label} for {runtime.name}" if runtime.agent_source else label


def wanted_parent(
    environment: Environment, runtime: Runtime, requirement: str, progress: Progress | None
) -> WarmParent:
    """What a device is to import at its start for ``runtime``.

    Raises:
        ImageBuildFailed: the runtime has no wheel for this device.
    """
    layers = ensure_runtime_layers(environment, runtime, requirement, progress)
    return warm_parent(runtime, requirement, layers)


def likely_parents(
    profile: Profile,
    environment: Environment,
    pins: Sequence[str],
    *,
    fetch: bool,
    progress: Progress | None,
) -> tuple[WarmParent, ...]:
    """The runtime most tests will ask for, to be imported while the device still comes up. Unless
    ``fetch``, only if it is in the cache already: what is saved with the runtime imported is used
    many times, what is started for one run is not.

    Raises:
        OptionError: a pin names no runtime.
        ImageBuildFailed: the runtime has no wheel for this device.
    """
    try:
        runtime, requirement = likely(profile, pins)
    except UnsupportedModel:
        return ()  # a device for programs alone
    if fetch:
        return (wanted_parent(environment, runtime, requirement, progress),)
    parent = cached_parent(environment, runtime, requirement)
    return (parent,) if parent is not None else ()


__all__ = ["Loading", "likely_parents", "wanted_parent"]
