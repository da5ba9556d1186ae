"""A running profile: start it, share it, run models and programs on it, end it."""

from __future__ import annotations

import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from edge_harness import wire
from edge_harness.device.controls import Controls, Moment, Storage
from edge_harness.device.endings import Endings
from edge_harness.device.hold import Gone, Hold
from edge_harness.device.lease import Lease
from edge_harness.device.loading import Loading
from edge_harness.device.programs import Programs
from edge_harness.device.request import DeviceRequest
from edge_harness.device.results import DeviceInfo, Finding, RunResult, info_from
from edge_harness.diagnose import DeviceFiles, Explainer
from edge_harness.engines import Availability, StartSpec
from edge_harness.engines.abilities import (
    BoardMemory,
    MemoryLimit,
    Offline,
    OwnFiles,
    PageSize,
    PinnedCore,
    SharesFiles,
    bound,
    word_of,
)
from edge_harness.engines.choose import Choice
from edge_harness.engines.launch import AGENT_DIR, RUN_DIR
from edge_harness.errors import BootFailed, OptionError
from edge_harness.image import agent_dir, layers_dir

if TYPE_CHECKING:
    from edge_harness.device.session import Session
    from edge_harness.egress.packets import Egress
    from edge_harness.evidence import FigureKind, Verdict
    from edge_harness.image import Environment
    from edge_harness.models.file import ModelFile
    from edge_harness.runtimes import GraphOptimization, Kernels, LoadRequest


class Device:
    """A running device; made by :func:`edge_harness.opening.open_device`, a context manager.

    Not shared between threads; several processes may share the machine behind it.
    """

    def __init__(
        self,
        request: DeviceRequest,
        *,
        choice: Choice,
        lease: Lease,
        spec: StartSpec,
        environment: Environment,
    ) -> None:
        self.profile = request.profile
        self.choice = choice
        """The engine, what its probe said, and why this one."""
        self.latency_source = request.latency_source
        """What :meth:`edge_harness.device.session.Session.latency` asks."""
        self.runtimes = tuple(request.runtimes)
        """Runtimes to take instead of the profile's, such as ``onnxruntime==1.21.0``."""
        self.image = spec.image
        """Its root filesystem in the cache; None for a device that has files of its own."""
        self.environment = environment
        """What decides which wheels it can load."""
        self.state_dir = lease.state_dir
        """Its folder on this machine."""
        self.findings: list[Finding] = []
        self._sessions: weakref.WeakSet[Session] = weakref.WeakSet()
        self.hold = Hold(engine=choice.engine, lease=lease, spec=spec, progress=request.progress)
        self.endings = Endings(
            hold=self.hold,
            explainer=Explainer(
                device=self.profile.name,
                profile=self.profile,
                find=self._file_here,
                cores=self.state_dir / "run",
                emulator_counts=word_of(BoardMemory) not in self.abilities,
                emulated=self.figure_kind == "emulated",
                board_cpu=self.figure_kind == "measured" or word_of(PinnedCore) in self.abilities,
                memory_limit=word_of(MemoryLimit) in self.abilities,
                profiles=request.among,
            ),
            findings=self.findings,
            state_dir=self.state_dir,
        )
        self.loading = Loading(
            profile=self.profile,
            environment=environment,
            hold=self.hold,
            endings=self.endings,
            pins=self.runtimes,
            progress=request.progress,
        )
        self.controls = Controls(hold=self.hold, availability=choice.availability)
        self.programs = Programs(hold=self.hold, endings=self.endings, layer=self.loading.layer)
        try:
            self.info = self._inspect()
        except BaseException:
            self.close()
            raise

    def _file_here(self, path: str) -> Path | None:
        """Where a file of the device lies on this machine."""
        machine = self.hold.machine
        own, shared = bound(machine, OwnFiles), bound(machine, SharesFiles)
        root = own.root() if own is not None else shared.host_root() if shared else None
        mounted = {
            machine.layers_dir: layers_dir(),
            AGENT_DIR: agent_dir(),
            RUN_DIR: self.state_dir / "run",
        }
        return DeviceFiles(root=root, mounted=mounted).find(path)

    # -- who it is ---------------------------------------------------------------------------

    @property
    def name(self) -> str:
        return self.profile.name

    @property
    def engine(self) -> str:
        """Name of the engine that runs it."""
        return self.choice.engine.name

    @property
    def availability(self) -> Availability:
        """What the engine said of this profile on this machine."""
        return self.choice.availability

    @property
    def abilities(self) -> frozenset[str]:
        """What this device can do or prove, the words of ``needs=``; see
        :data:`edge_harness.engines.abilities.ABILITIES`."""
        return self.choice.availability.abilities

    @property
    def figure_kind(self) -> FigureKind:
        """How figures seen on it come about: ``emulated``, ``native`` (this machine's own processor
        runs its programs) or ``measured`` (it is a board)."""
        return self.choice.availability.figure_kind

    @property
    def memory_source(self) -> str:
        """Whose figures those of memory are, in a few words."""
        if self.figure_kind == "native":
            return "native on this machine"
        machine = bound(self.hold.machine, BoardMemory)
        if machine is not None:
            return machine.memory_source()
        return "emulated, the translator's own memory included: not the board's figure"

    def header(self) -> str:
        """One line that says what runs and how."""
        return (
            f"{self.name}: {self.profile.title}, {self.profile.cpu.cores}× "
            f"{self.profile.cpu.core}, {self.profile.memory.ram_mib} MiB; {self.choice}"
        )

    def describe(self) -> dict[str, str]:
        """Facts for reports: device, engine, versions and hashes."""
        facts = {
            "device": self.name,
            "board": self.profile.title,
            "engine": self.engine,
            "engine_detail": self.availability.reason,
            "os": self.info.os,
            "kernel": self.info.kernel,
            "python": self.info.python,
            "cpu_features": " ".join(self.info.features),
            "page_size_kib": str(self.info.page_size_kib),
            "cpu_count": str(self.info.cpu_count),
        }
        if self.image is not None:
            facts["image"] = self.image.key
            facts["image_sha256"] = self.image.digest
        for label, layers in self.loading.layers.items():
            facts[f"layer {label}"] = "; ".join(
                f"{layer.what} (sha256 {layer.digest[:16]})" for layer in layers
            )
        return facts

    # -- models ------------------------------------------------------------------------------

    def load(
        self,
        model: str | Path | ModelFile,
        *,
        runtime: str | None = None,
        threads: int = 1,
        kernels: Kernels | None = None,
        preserve_all_tensors: bool | None = None,
        delegates: Mapping[str, Mapping[str, str]] | None = None,
        graph_optimization: GraphOptimization | None = None,
        providers: Sequence[str] | None = None,
        config: Mapping[str, str] | None = None,
        options: Mapping[str, object] | None = None,
        timeout_s: float = 300.0,
    ) -> Session:
        """Load ``model`` into a fresh worker on the device.

        Args:
            model: a file on the host, of a format that one of the runtimes runs, or one that was
                read already.
            runtime: ``tflite``, ``litert``, ``onnx``, the name of an installed runtime of others,
                or a pinned distribution such as ``onnxruntime==1.21.0``. Default: what
                ``--edge-runtime`` or the ini value ``edge_runtime`` says for the file's format,
                else the profile's.
            threads: threads of the runtime, at most the chip's cores.
            kernels: of TFLite: ``xnnpack`` (the default delegate), ``builtin`` (optimised
                kernels without delegate) or ``reference``.
            preserve_all_tensors: keep intermediate tensors readable (TFLite).
            delegates: of TFLite: shared libraries on the device, each with its options.
            graph_optimization: of ONNX Runtime: ``all`` (the default), ``extended``, ``basic``,
                ``disabled``.
            providers: of ONNX Runtime, in order of preference (default: the CPU's). One that
                the build lacks is an error, never a silent fall-back.
            config: of ONNX Runtime: session configuration entries, such as
                ``{"session.qdqisint8allowed": "1"}``.
            options: of any runtime, by name: those above, and those of runtimes of others.
            timeout_s: for loading and for each run, in seconds of wall time.

        Raises:
            ModelError: the file is missing, damaged or of another format.
            UnsupportedModel: the runtime cannot execute it.
            OptionError: an argument is wrong, or has no meaning for the runtime.
            ImageBuildFailed: the runtime has no wheel for the device.
            DeviceFailed: the runtime or the model crashed on the device.
        """
        given: dict[str, object] = {
            name: value
            for name, value in (
                ("kernels", kernels),
                ("preserve_all_tensors", preserve_all_tensors),
                ("delegates", delegates),
                ("graph_optimization", graph_optimization),
                ("providers", providers),
                ("config", config),
            )
            if value is not None
        }
        for name, value in (options or {}).items():
            if name in given:
                raise OptionError(
                    f"{name} is given twice: {given[name]!r}, and {value!r} in options",
                    next_step="leave one of them out",
                )
            given[name] = value
        request = self.loading.request(model, runtime=runtime, threads=threads, options=given)
        return self.open_session(request, timeout_s=timeout_s)

    def open_session(self, request: LoadRequest, *, timeout_s: float = 300.0) -> Session:
        """A session for ``request``, whatever lies at the model's path by now: a fresh worker.

        Raises as :meth:`load` does.
        """
        from edge_harness.device.session import Session

        if not timeout_s > 0:
            raise OptionError(f"timeout_s={timeout_s!r} is not positive", next_step="use seconds")
        session = Session(self, request, timeout_s)
        self._sessions.add(session)
        return session

    # -- programs ----------------------------------------------------------------------------

    def run(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        input: bytes | str = b"",
        timeout_s: float = 120.0,
        requirements: Sequence[str] = (),
    ) -> RunResult:
        """Run a program on the device to its end.

        Args:
            argv: the program and its arguments; paths are the device's.
            env: additions to the device's environment.
            cwd: working folder in the device (default ``/tmp``).
            input: what the program reads from standard input.
            timeout_s: wall time after which it is ended.
            requirements: wheels to have on its ``PYTHONPATH``, as pip takes them.

        Returns:
            How it ended, with a diagnosis where it crashed. A crash is a result here, not an
            exception; :meth:`RunResult.check` raises it.

        Raises:
            CacheError: this machine's disk is full, so the device could not go on.
            InputError: there is no such program on the device.
            DeviceTimeout: it was not done in time.
        """
        return self.programs.run(
            argv, env=env, cwd=cwd, input=input, timeout_s=timeout_s, requirements=requirements
        )

    # -- what is done to the device ----------------------------------------------------------
    # Each takes an ability, and raises MissingAbility without. Most change the whole machine:
    # use them on ``fresh_device``, not on the shared ``device``.

    def require(self, *needs: str) -> None:
        """Raise :class:`MissingAbility` unless the device has every ability in ``needs``."""
        self.controls.require(*needs)

    def limit(self, *, memory_mib: int | None = None, cpus: float | None = None) -> None:
        """Change limits of the running device (``memory_limit``, ``cpu_quota``).

        Raises:
            MissingAbility: the engine has no such limit.
            OptionError: a limit is not positive, or nothing can run under it.
        """
        self.controls.limit(memory_mib=memory_mib, cpus=cpus)

    def power_cut(
        self, *, while_running: Sequence[str] | None = None, after_s: float = 0.0
    ) -> bool:
        """Cut the power: what was not synced to the storage is gone (``power_loss``).
        :meth:`boot` follows.

        Args:
            while_running: a program to start first, in whose middle the power goes.
            after_s: how long after its start, in seconds of wall time.

        Returns:
            Whether the power went while the program ran; False if it had ended before, or none
            was given.

        Raises:
            InputError: there is no such program on the device.
        """
        return self.controls.power_cut(while_running=while_running, after_s=after_s)

    def boot(self, *, clock: Moment | None = None) -> None:
        """Switch the board on again, with the storage it had; its kernel starts anew
        (``reboot``).

        Args:
            clock: what its clock shows at first; a board without a battery-backed clock starts
                at 0, the first of January 1970. Default: this machine's time.
        """
        self.controls.boot(clock=clock)

    def reboot(self, *, clock: Moment | None = None) -> None:
        """Shut down in order (everything is synced), then :meth:`boot` (``reboot``)."""
        self.controls.reboot(clock=clock)

    def pause(self) -> None:
        """Stop the whole board between two instructions; its own clock stops with it
        (``pause``)."""
        self.controls.pause()

    def resume(self) -> None:
        """Go on after :meth:`pause`."""
        self.controls.resume()

    def set_clock(self, clock: Moment) -> None:
        """Set the board's clock, as a time server might (``clock``)."""
        self.controls.set_clock(clock)

    def shift_clock(self, seconds: float) -> None:
        """Let the board's clock jump, forwards or (negative) backwards (``clock``)."""
        self.controls.shift_clock(seconds)

    def throttle(
        self, cpus: float | None, *, then: Sequence[tuple[float, float | None]] = ()
    ) -> None:
        """Give the board's programs ``cpus`` processors' worth of time; None lifts the limit
        (``cpu_throttle``).

        Args:
            cpus: how many, 0.5 for half of one.
            then: ``(seconds, cpus)`` pairs that follow, as a board that gets hot and cools
                down; seconds are of the board's own clock, after the step before.
        """
        self.controls.throttle(cpus, then)

    @property
    def storage(self) -> Storage:
        """The storage under the device's files, and trouble with it (``storage_faults``)."""
        return self.controls.storage

    # -- network -----------------------------------------------------------------------------

    def can_connect(self, host: str, port: int, *, timeout_s: float = 2.0) -> bool:
        """Whether a program on the device can open a TCP connection to ``host`` (``offline``).

        Raises:
            MissingAbility: the engine cannot cut the network, so the answer would be the
                host's.
        """
        try:
            return self.controls.can_connect(host, port, timeout_s=timeout_s)
        except (wire.WireError, OSError) as error:
            raise self.endings.machine_death(f"connecting to {host}:{port}") from error

    def connect_network(self) -> None:
        """Plug in a network that leads nowhere: every packet the device sends is recorded, none
        reaches this machine or any other (``network``). See :attr:`egress` and
        :attr:`packets`."""
        self.controls.connect_network()

    def disconnect_network(self) -> None:
        """Unplug the network: the device has no interface but loopback again (``network``)."""
        self.controls.disconnect_network()

    @property
    def packets(self) -> Path:
        """The recording of the device's network, a pcap file; gone when the device ends
        (``network``)."""
        return self.controls.packets

    @property
    def egress(self) -> list[Egress]:
        """What the device tried to reach since :meth:`connect_network` (``network``).

        Raises:
            MissingAbility: the engine cuts the network but cannot list what was tried. An
                empty list would be a lie.
        """
        return self.controls.egress

    @property
    def egress_verdict(self) -> Verdict:
        """``passed`` where :attr:`egress` is empty, ``failed`` with what was tried where not.

        Raises as :attr:`egress` does: what was not recorded has no verdict.
        """
        from edge_harness.egress.packets import verdict_on

        source = f"the packets that {self.name} sent ({self.engine})"
        return verdict_on(self.egress, kind=self.figure_kind, source=source)

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
        info = info_from(self._ask({"op": wire.Op.INFO}))
        if word_of(PinnedCore) not in self.abilities:
            return info  # natively run: nothing is claimed about the instruction set
        from edge_harness.profiles import hwcap_verdict

        if word_of(PageSize) in self.abilities:
            expected_kib = self.controls.with_ability(PageSize).page_size_kib()
            if info.page_size_kib != expected_kib:
                raise BootFailed(
                    f"{self.name} came up with pages of {info.page_size_kib} KiB, and its profile "
                    f"says {expected_kib} KiB",
                    next_step="please report this with the output of edge-harness doctor",
                )
        verdict = hwcap_verdict(self.profile, info.features)
        if not verdict.ok:
            core = self.controls.with_ability(PinnedCore).pinned_core()
            raise BootFailed(
                f"{self.name} came up with a CPU that is not the profile's: {verdict.message}",
                next_step=f"the emulator must run with -cpu {core}; edge-harness doctor shows its "
                "version",
                details={"missing": verdict.missing, "unexpected": verdict.unexpected},
            )
        if not verdict.checked:
            # A skipped check is not a pass: it is shown at the end of every run.
            self.findings.append(Finding(kind="warning", device=self.name, text=verdict.message))
        if word_of(Offline) in self.abilities:
            others = set(info.interfaces) - self.controls.with_ability(Offline).interfaces()
            if others:
                raise BootFailed(
                    f"{self.name} should have no network, but has the interfaces {info.interfaces}",
                    next_step="please report this with the output of edge-harness doctor",
                )
        return info


__all__ = ["Device", "DeviceInfo", "Finding", "RunResult"]
