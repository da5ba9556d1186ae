"""A running profile: start it, share it, run models and programs on it, end it."""

from __future__ import annotations

import uuid
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from edge_harness import wire
from edge_harness.device.controls import BoardControls
from edge_harness.device.endings import Endings
from edge_harness.device.hold import Gone, Hold
from edge_harness.device.lease import Lease, sweep
from edge_harness.device.programs import Programs
from edge_harness.device.results import DeviceInfo, Finding, RunResult, info_from
from edge_harness.diagnose import DeviceFiles, Explainer
from edge_harness.engines import Availability, Engine, Limits, StartSpec
from edge_harness.engines.choose import choose_engine
from edge_harness.engines.launch import AGENT_DIR, LAYERS_DIR, RUN_DIR
from edge_harness.errors import BootFailed, MissingCapability, OptionError
from edge_harness.image import agent_dir, layers_dir
from edge_harness.models.file import (
    GRAPH_OPTIMIZATION,
    KERNELS,
    RUNTIMES,
    pinned,
    read_model,
    runtime_requirement,
)
from edge_harness.runtimes import FORMATS
from edge_harness.runtimes import RUNTIMES as ROWS

if TYPE_CHECKING:
    from edge_harness.device.latency_source import LatencySource
    from edge_harness.device.session import Session
    from edge_harness.egress.packets import Egress
    from edge_harness.evidence import FigureKind
    from edge_harness.image import Image, Layer
    from edge_harness.profiles import Profile

Progress = Callable[[str], None]
#: An emulated import of a large runtime, cold, on a busy machine: 24 s were seen.
WARM_TIMEOUT_S = 180.0


class Device(Programs, BoardControls):
    """A running device; made by :func:`edge_harness.opening.open_device`, a context manager.

    Not shared between threads; several processes may share the machine behind it.
    """

    def __init__(
        self,
        *,
        profile: Profile,
        engine: Engine,
        availability: Availability,
        image: Image,
        lease: Lease,
        limits: Limits,
        progress: Progress | None,
        profiles: Sequence[Profile],
        runtimes: Sequence[str] = (),
        plugin: str = "",
        icount: bool = False,
        warm: tuple[str, str] | None = None,
        latency_source: LatencySource | None = None,
    ) -> None:
        self.profile = profile
        self.latency_source = latency_source
        """What :meth:`edge_harness.device.session.Session.latency` asks."""
        self.runtimes = tuple(runtimes)
        """Runtimes to take instead of the profile's, such as ``onnxruntime==1.21.0``."""
        self.availability = availability
        self.findings: list[Finding] = []
        self._image = image
        self._state_dir = lease.state_dir
        self._progress = progress
        self._warmed: dict[str, tuple[int, str]] = {}
        self._layers: dict[str, Layer] = {}
        self._sessions: weakref.WeakSet[Session] = weakref.WeakSet()
        spec = StartSpec(
            profile=profile,
            image=image,
            state_dir=lease.state_dir,
            limits=limits,
            warm=_warm_runtime(warm, image, progress)
            if warm
            else _likely_runtime(
                profile, image, self.runtimes, fetch=engine.name == "vm", progress=progress
            ),
            progress=progress,
            plugin=plugin,
            icount=icount,
            repeatable=bool(plugin) or icount,
        )
        self.hold = Hold(engine=engine, lease=lease, spec=spec, progress=progress)
        self.endings = Endings(
            hold=self.hold,
            explainer=Explainer(
                device=profile.name,
                profile=profile,
                find=self._file_here,
                cores=lease.state_dir / "run",
                emulator_counts="memory" not in availability.capabilities,
                profiles=profiles,
            ),
            findings=self.findings,
            state_dir=lease.state_dir,
            forget=self._forget_warm,
        )
        try:
            self.info = self._inspect()
        except BaseException:
            self.close()
            raise

    def _file_here(self, path: str) -> Path | None:
        """Where a file of the device lies on this machine."""
        mounted = {
            LAYERS_DIR: layers_dir(),
            AGENT_DIR: agent_dir(),
            RUN_DIR: self._state_dir / "run",
        }
        return DeviceFiles(root=self._image.root, mounted=mounted).find(path)

    # -- who it is ---------------------------------------------------------------------------

    @property
    def name(self) -> str:
        return self.profile.name

    @property
    def engine(self) -> str:
        """Name of the engine that runs it."""
        return self.availability.engine

    @property
    def capabilities(self) -> frozenset[str]:
        """What this device can prove; see :data:`edge_harness.engines.CAPABILITIES`."""
        return self.availability.capabilities

    @property
    def figure_kind(self) -> FigureKind:
        """How figures seen on it come about: ``emulated``, ``native`` (this machine's own processor
        runs its programs) or ``measured`` (it is a board)."""
        return self.availability.figure_kind

    def header(self) -> str:
        """One line that says what runs and how."""
        return (
            f"{self.name}: {self.profile.title}, {self.profile.cpu.cores}× "
            f"{self.profile.cpu.core}, {self.profile.memory.ram_mib} MiB; engine {self.engine} "
            f"({self.availability.reason})"
        )

    def describe(self) -> dict[str, str]:
        """Facts for reports: device, engine, versions and hashes."""
        facts = {
            "device": self.name,
            "board": self.profile.title,
            "engine": self.engine,
            "engine_detail": self.availability.reason,
            "image": self._image.key,
            "image_sha256": self._image.digest,
            "os": self.info.os,
            "kernel": self.info.kernel,
            "python": self.info.python,
            "cpu_features": " ".join(self.info.features),
            "page_size_kib": str(self.info.page_size_kib),
            "cpu_count": str(self.info.cpu_count),
        }
        for requirement, layer in self._layers.items():
            versions = ", ".join(f"{w['name']} {w['version']}" for w in layer.lock["wheels"])
            facts[f"layer {requirement}"] = f"{versions} (sha256 {layer.digest[:16]})"
        return facts

    # -- models ------------------------------------------------------------------------------

    def load(
        self,
        model: str | Path,
        *,
        runtime: str | None = None,
        threads: int = 1,
        kernels: str = "xnnpack",
        preserve_all_tensors: bool = False,
        delegates: Mapping[str, Mapping[str, str]] | None = None,
        graph_optimization: str = "all",
        providers: Sequence[str] = (),
        config: Mapping[str, str] | None = None,
        timeout_s: float = 300.0,
    ) -> Session:
        """Load ``model`` into a fresh worker on the device.

        Args:
            model: a ``.tflite`` or ``.onnx`` file on the host.
            runtime: ``tflite``, ``litert``, ``onnx``, or a pinned distribution such as
                ``onnxruntime==1.21.0``. Default: what ``--edge-runtime`` or the ini value
                ``edge_runtime`` says for the file's format, else the profile's.
            threads: threads of the runtime, at most the chip's cores.
            kernels: of TFLite: ``xnnpack`` (the default delegate), ``builtin`` (optimised
                kernels without delegate) or ``reference``.
            preserve_all_tensors: keep intermediate tensors readable (TFLite).
            delegates: of TFLite: shared libraries on the device, each with its options.
            graph_optimization: of ONNX Runtime: ``all``, ``extended``, ``basic``, ``disabled``.
            providers: of ONNX Runtime, in order of preference (default: the CPU's). One that
                the build lacks is an error, never a silent fall-back.
            config: of ONNX Runtime: session configuration entries, such as
                ``{"session.qdqisint8allowed": "1"}``.
            timeout_s: for loading and for each run, in seconds of wall time.

        Raises:
            ModelError: the file is missing, damaged or of another format.
            UnsupportedModel: the runtime cannot execute it.
            OptionError: an argument is wrong.
            ImageBuildFailed: the runtime has no wheel for the device.
            DeviceFailed: the runtime or the model crashed on the device.
        """
        from edge_harness.device.session import Session

        file = read_model(model)
        if kernels not in KERNELS:
            raise OptionError(
                f"there are no kernels {kernels!r}", next_step=f"use one of: {', '.join(KERNELS)}"
            )
        if graph_optimization not in GRAPH_OPTIMIZATION:
            raise OptionError(
                f"there is no level of graph optimization {graph_optimization!r}",
                next_step=f"use one of: {', '.join(GRAPH_OPTIMIZATION)}",
            )
        threads = self.profile.checked_threads(threads)
        if timeout_s <= 0:
            raise OptionError(f"timeout_s={timeout_s!r} is not positive", next_step="use seconds")
        chosen = pinned(runtime, self.runtimes, file.format)
        module, spec = self._runtime(
            chosen or self.profile.default_runtime(FORMATS[file.format]), file.format
        )
        request: dict[str, Any] = {"threads": threads, "preserve_all_tensors": preserve_all_tensors}
        if module in ("tflite", "litert"):
            _refuse("TFLite", providers=providers, config=config)
            if graph_optimization != "all":
                _refuse("TFLite", graph_optimization=graph_optimization)
            request["kernels"] = kernels
            request["delegates"] = [[lib, dict(opts)] for lib, opts in (delegates or {}).items()]
        else:
            _refuse("ONNX", delegates=delegates)
            request["graph_optimization"] = graph_optimization
            request["providers"] = list(providers)
            request["config"] = {str(key): str(value) for key, value in (config or {}).items()}
        session = Session(self, file, spec, request, timeout_s)
        self._sessions.add(session)
        return session

    def _runtime(self, asked: str, model_format: str) -> tuple[str, str]:
        module, requirement = runtime_requirement(asked, self.profile.runtimes.defaults())
        if asked in RUNTIMES:
            requirement = self.profile.runtime_requirement(ROWS[asked])
        if (module == "onnx") != (model_format == "onnx"):
            raise OptionError(
                f"runtime {asked!r} cannot run a {model_format} model",
                next_step="leave runtime out, or name one for this format",
            )
        return module, f"{self._layer((requirement,)).key}:{module}"

    def _layer(self, requirements: Sequence[str]) -> Layer:
        from edge_harness.image import ensure_layer

        label = " ".join(requirements)
        if label not in self._layers:
            self._layers[label] = ensure_layer(
                self._image.environment, requirements, self._progress
            )
            bring = getattr(self.hold.machine, "bring_layers", None)
            if bring is not None:  # a remote daemon's device does not see the host's cache
                bring()
        self._plug_in(self._layers[label].key)
        return self._layers[label]

    def _plug_in(self, key: str) -> None:
        """Have the layer ``key`` on a board, which forgets it with every boot."""
        if hasattr(self.hold.machine, "bring_layer"):
            self.hold.revive()
            self.hold.machine.bring_layer(key)

    def _warm(self, spec: str) -> str:
        """The socket of the warm parent for ``spec``; imports the runtime if need be."""
        self.hold.revive()
        generation, socket_name = self._warmed.get(spec, (0, ""))
        if generation == self.hold.generation:
            return socket_name
        self._plug_in(spec.partition(":")[0])
        answer = self._ask({"op": "warm", "spec": spec}, timeout_s=WARM_TIMEOUT_S)
        if not answer["ok"]:
            wheels = self._named_layer(spec)
            raise self.endings.death(answer, f"importing {wheels}")
        self._warmed[spec] = self.hold.generation, answer["socket"]
        return str(answer["socket"])

    def _forget_warm(self, spec: str) -> None:
        self._warmed.pop(spec, None)

    def _named_layer(self, spec: str) -> str:
        key = spec.partition(":")[0]
        for label, layer in self._layers.items():
            if layer.key == key:
                return label
        return spec

    # -- network and limits ------------------------------------------------------------------

    def can_connect(self, host: str, port: int, *, timeout_s: float = 2.0) -> bool:
        """Whether a program on the device can open a TCP connection to ``host``.

        Raises:
            MissingCapability: the engine cannot cut the network, so the answer would be the
                host's.
        """
        self.require("offline")
        header = {"op": "connect", "host": host, "port": port, "timeout_s": timeout_s}
        self.hold.revive()
        stream = self.hold.connect("agent", timeout_s=timeout_s + 30)
        try:
            stream.send(header)
            answer, _ = stream.receive()
        except (wire.WireError, OSError) as error:
            raise self.endings.machine_death(f"connecting to {host}:{port}") from error
        finally:
            stream.close()
        return bool(answer["connected"])

    def require(self, *needs: str) -> None:
        """Raise :class:`MissingCapability` unless the device has every capability in ``needs``."""
        missing = [need for need in needs if need not in self.capabilities]
        if missing:
            raise MissingCapability(
                f"{self.name} on the {self.engine} engine cannot prove {', '.join(missing)} "
                f"({self.availability.reason})",
                next_step="mark the test with needs={…} so that an engine that can is chosen; "
                + (self.availability.fix or "edge-harness doctor shows what is missing"),
            )

    @property
    def egress(self) -> list[Egress]:
        """What the device tried to reach since :meth:`connect_network`.

        Raises:
            MissingCapability: the engine cuts the network but cannot list what was tried. An
                empty list would be a lie.
        """
        if "network" in self.capabilities:
            return self._recorded_egress()
        raise MissingCapability(
            f"the {self.engine} engine cuts the network of {self.name} but cannot list what was "
            "tried",
            next_step="mark the test needs={'network'} and call device.connect_network() first, or "
            "assert not device.can_connect(host, port)",
        )

    def limit(self, *, memory_mib: int | None = None, cpus: float | None = None) -> None:
        """Change limits of the running device.

        Raises:
            MissingCapability: the engine has no such limit.
            OptionError: a limit is not positive.
        """
        for name, value in (("memory_mib", memory_mib), ("cpus", cpus)):
            if value is not None and not value > 0:
                raise OptionError(
                    f"{name}={value!r} is not positive", next_step="leave it out to keep what is"
                )
        self.hold.machine.limit(Limits(memory_mib=memory_mib, cpus=cpus))

    # -- log and life ------------------------------------------------------------------------

    def log(self) -> str:
        """All that the device, its agent and its emulator wrote."""
        return self.hold.log()

    def restart(self) -> None:
        """Bring the device up anew, whatever state it is in. Sessions load their model again."""
        self.hold.restart()

    def close(self) -> None:
        """End this process's share in the device, and the device itself if it was the last.
        Idempotent."""
        for session in list(self._sessions):
            session.close()
        self.hold.close()

    def __enter__(self) -> Device:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Device {self.name} on {self.engine}>"

    def _ask(self, header: wire.Header, *, timeout_s: float = 60.0) -> wire.Header:
        try:
            return self.hold.ask(header, timeout_s=timeout_s)
        except Gone:
            raise self.endings.machine_death(f"answering {header['op']!r}") from None

    def _inspect(self) -> DeviceInfo:
        """Look at the device from inside, and refuse it if it is not the profile's."""
        info = info_from(self._ask({"op": "info"}))
        if "isa" not in self.capabilities:
            return info  # natively run: nothing is claimed about the instruction set
        from edge_harness.profiles import hwcap_verdict

        expected_kib = self.profile.os.page_size_kib
        if "page_size" in self.capabilities and info.page_size_kib != expected_kib:
            raise BootFailed(
                f"{self.name} came up with pages of {info.page_size_kib} KiB, and its profile says "
                f"{expected_kib} KiB",
                next_step="please report this with the output of edge-harness doctor",
            )

        verdict = hwcap_verdict(self.profile, info.features)
        if not verdict.ok:
            raise BootFailed(
                f"{self.name} came up with a CPU that is not the profile's: {verdict.message}",
                next_step="the emulator must run with -cpu "
                f"{self.profile.emulation.qemu_cpu}; edge-harness doctor shows its version",
                details={"missing": verdict.missing, "unexpected": verdict.unexpected},
            )
        if not verdict.checked:
            # A skipped check is not a pass: it is shown at the end of every run.
            self.findings.append(Finding(kind="warning", device=self.name, text=verdict.message))
        if "offline" in self.capabilities and set(info.interfaces) - {"lo"}:
            raise BootFailed(
                f"{self.name} should have no network, but has the interfaces {info.interfaces}",
                next_step="please report this with the output of edge-harness doctor",
            )
        return info


def _refuse(model_format: str, **options: object) -> None:
    """Say that options of the other runtime were given; ignoring them would hide a mistake."""
    for name, value in options.items():
        if value:
            raise OptionError(
                f"{name}={value!r} has no meaning for {model_format} models",
                next_step="leave it out",
            )


def _warm_runtime(
    warm: tuple[str, str], image: Image, progress: Progress | None
) -> tuple[str, ...]:
    from edge_harness.image import ensure_layer

    module, requirement = warm
    return (f"{ensure_layer(image.environment, [requirement], progress).key}:{module}",)


def _likely_runtime(
    profile: Profile,
    image: Image,
    runtimes: Sequence[str],
    *,
    fetch: bool,
    progress: Progress | None,
) -> tuple[str, ...]:
    """The runtime most tests will ask for, imported while the device still comes up. Unless
    ``fetch``, only if it is in the cache already: what is saved with the runtime imported is
    used many times, what is started for one run is not."""
    from edge_harness.image import ensure_layer, layer_key

    defaults = profile.runtimes.defaults()
    module = profile.default_runtime(FORMATS["tflite"])
    requirement = defaults.get(module)
    pin = pinned(None, runtimes, "tflite")
    if pin is not None:
        module, requirement = runtime_requirement(pin, defaults)
    if requirement and fetch:
        return (f"{ensure_layer(image.environment, [requirement], progress).key}:{module}",)
    key = layer_key(image.environment, [requirement]) if requirement else None
    return (f"{key}:{module}",) if key else ()


def start_device(
    profile: Profile,
    *,
    engine: str = "auto",
    needs: Iterable[str] = (),
    share: str | None = None,
    limits: Limits | None = None,
    progress: Progress | None = None,
    profiles: Sequence[Profile] = (),
    runtimes: Sequence[str] = (),
    plugin: str = "",
    icount: bool = False,
    warm: tuple[str, str] | None = None,
    latency_source: LatencySource | None = None,
) -> Device:
    """Bring ``profile`` up, with what only the plugin and the device clock ask for.

    Users have :func:`edge_harness.opening.open_device`.

    Args:
        profile: what the board is.
        engine: ``auto``, ``user``, ``docker``, ``vm`` or ``host``.
        needs: capabilities the device must have; see :data:`edge_harness.engines.CAPABILITIES`.
        share: processes that give the same string share one running device.
        limits: instead of the profile's own memory (MiB) and CPUs.
        progress: called with a line of text while something slow happens.
        profiles: among which to look for one that has a missing CPU feature (default: all).
        runtimes: instead of the profile's, where ``load`` names no version: pinned
            distributions such as ``onnxruntime==1.21.0``.
        plugin: a TCG plugin for QEMU and its arguments (engine ``vm`` alone); programs then lie
            at the same addresses at every start, so that what it sees can be repeated.
        icount: let the board's clock count instructions, one a nanosecond (``vm`` alone).
        warm: runtime (``tflite``) and requirement to import at start, instead of the likely one.
        latency_source: what sessions ask for latencies; None where nobody will ask.

    Raises:
        MissingCapability: the engine cannot prove what ``needs`` asks for.
        MissingTool: no engine can run here; the message has the fix.
        ImageBuildFailed, CacheError, BootFailed: it did not come up, and why.
    """
    from edge_harness.image import ensure_image

    limits = limits or Limits()
    wanted = set(needs)
    if limits.memory_mib is not None:
        wanted.add("memory_limit")
    if limits.cpus is not None:
        wanted.add("cpu_quota")
    chosen, availability = choose_engine(profile, engine, needs=frozenset(wanted))
    image = ensure_image(chosen.image_arch(profile), profile.os.suite, progress)
    key = f"{profile.name}-{chosen.name}"
    suffix = uuid.uuid4().hex[:12]
    if share is not None:
        import hashlib

        text = repr((share, key, limits.memory_mib, limits.cpus, profile.source_file))
        suffix = hashlib.sha256(text.encode()).hexdigest()[:12]
    return Device(
        profile=profile,
        engine=chosen,
        availability=availability,
        image=image,
        lease=Lease(f"{key}-{suffix}"),
        limits=limits,
        progress=progress,
        profiles=profiles,
        runtimes=runtimes,
        plugin=plugin,
        icount=icount,
        warm=warm,
        latency_source=latency_source,
    )


__all__ = ["Device", "DeviceInfo", "Finding", "RunResult", "choose_engine", "start_device", "sweep"]
