"""A running profile: start it, share it, run models and programs on it, end it."""

from __future__ import annotations

import uuid
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from harness import wire
from harness.board import BoardControls
from harness.choose import choose_engine
from harness.deaths import Deaths
from harness.engines import Availability, Engine, Limits, StartSpec
from harness.engines.launch import tail
from harness.errors import (
    BootFailed,
    DeviceTimeout,
    EdgeError,
    InputError,
    MissingCapability,
    OptionError,
    OutOfMemory,
    RuntimeFailed,
)
from harness.facts import DeviceInfo, Finding, RunResult, info_from
from harness.lease import Lease, sweep
from harness.models import KERNELS, RUNTIMES, read_model, runtime_requirement
from harness.running import Gone, Running

if TYPE_CHECKING:
    from harness.image import Image, Layer
    from harness.network import Egress
    from harness.profile import Profile
    from harness.session import Session

Progress = Callable[[str], None]
#: An emulated import of a large runtime, cold, on a busy machine: 24 s were seen.
WARM_TIMEOUT_S = 180.0


class Device(BoardControls):
    """A running device; made by :func:`open_device`, a context manager.

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
    ) -> None:
        self.profile = profile
        self.availability = availability
        self.findings: list[Finding] = []
        self._image = image
        self._state_dir = lease.state_dir
        self._progress = progress
        self._warmed: dict[str, tuple[int, str]] = {}
        self._layers: dict[str, Layer] = {}
        self._sessions: weakref.WeakSet[Session] = weakref.WeakSet()
        self._deaths = Deaths(
            profile=profile,
            image=image,
            state_dir=lease.state_dir,
            profiles=profiles,
            emulator_counts="memory" not in availability.capabilities,
        )
        spec = StartSpec(
            profile=profile,
            image=image,
            state_dir=lease.state_dir,
            limits=limits,
            warm=_likely_runtime(profile, image, fetch=engine.name == "vm", progress=progress),
            progress=progress,
        )
        self._running = Running(engine=engine, lease=lease, spec=spec, progress=progress)
        try:
            self.info = self._inspect()
        except BaseException:
            self.close()
            raise

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
        """What this device can prove; see :data:`harness.engines.CAPABILITIES`."""
        return self.availability.capabilities

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
        timeout_s: float = 300.0,
    ) -> Session:
        """Load ``model`` into a fresh worker on the device.

        Args:
            model: a ``.tflite`` or ``.onnx`` file on the host.
            runtime: ``tflite``, ``litert``, ``onnx``, or a pinned distribution such as
                ``onnxruntime==1.21.0``. Default: the profile's for the file's format.
            threads: threads of the runtime, at most the board's cores.
            kernels: of TFLite: ``xnnpack`` (the default delegate), ``builtin`` (optimised
                kernels without delegate) or ``reference``.
            preserve_all_tensors: keep intermediate tensors readable.
            timeout_s: for loading and for each run, in seconds of wall time.

        Raises:
            ModelError: the file is missing, damaged or of another format.
            UnsupportedModel: the runtime cannot execute it.
            OptionError: an argument is wrong.
            ImageBuildFailed: the runtime has no wheel for the device.
            DeviceFailed: the runtime or the model crashed on the device.
        """
        from harness.session import Session

        file = read_model(model)
        if kernels not in KERNELS:
            raise OptionError(
                f"there are no kernels {kernels!r}", next_step=f"use one of: {', '.join(KERNELS)}"
            )
        if not 1 <= threads <= self.profile.cpu.cores:
            raise OptionError(
                f"threads={threads!r}, but {self.name} has {self.profile.cpu.cores} core(s)",
                next_step=f"use 1 to {self.profile.cpu.cores}",
            )
        if timeout_s <= 0:
            raise OptionError(f"timeout_s={timeout_s!r} is not positive", next_step="use seconds")
        module, spec = self._runtime(
            runtime or self.profile.default_runtime(file.format), file.format
        )
        request: dict[str, Any] = {"threads": threads, "preserve_all_tensors": preserve_all_tensors}
        if module in ("tflite", "litert"):
            request["kernels"] = kernels
        session = Session(self, file, spec, request, timeout_s)
        self._sessions.add(session)
        return session

    def _runtime(self, asked: str, model_format: str) -> tuple[str, str]:
        module, requirement = runtime_requirement(asked, self.profile.runtimes.defaults())
        if asked in RUNTIMES:
            requirement = self.profile.runtime_requirement(asked)
        if (module == "onnx") != (model_format == "onnx"):
            raise OptionError(
                f"runtime {asked!r} cannot run a {model_format} model",
                next_step="leave runtime out, or name one for this format",
            )
        return module, f"{self._layer((requirement,)).key}:{module}"

    def _layer(self, requirements: Sequence[str]) -> Layer:
        from harness.image import ensure_layer

        label = " ".join(requirements)
        if label not in self._layers:
            self._layers[label] = ensure_layer(self._image, requirements, self._progress)
            bring = getattr(self._running.machine, "bring_layers", None)
            if bring is not None:  # a remote daemon's device does not see the host's cache
                bring()
        return self._layers[label]

    def _warm(self, spec: str) -> str:
        """The socket of the warm parent for ``spec``; imports the runtime if need be."""
        self._running.revive()
        generation, socket_name = self._warmed.get(spec, (0, ""))
        if generation == self._running.generation:
            return socket_name
        answer = self._ask({"op": "warm", "spec": spec}, timeout_s=WARM_TIMEOUT_S)
        if not answer["ok"]:
            wheels = self._named_layer(spec)
            raise self._death(answer, f"importing {wheels}")
        self._warmed[spec] = self._running.generation, answer["socket"]
        return str(answer["socket"])

    def _named_layer(self, spec: str) -> str:
        key = spec.partition(":")[0]
        for label, layer in self._layers.items():
            if layer.key == key:
                return label
        return spec

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
            InputError: there is no such program on the device.
            DeviceTimeout: it was not done in time.
        """
        if isinstance(argv, str) or not argv:
            raise OptionError(
                f"argv is {argv!r}", next_step="pass a list such as ['python3', 'app.py']"
            )
        words = [str(word) for word in argv]
        extra = dict(env or {})
        if requirements:
            site = f"{self._layers_path()}/{self._layer(tuple(requirements)).key}/site"
            extra["PYTHONPATH"] = ":".join(filter(None, (site, extra.get("PYTHONPATH", ""))))
        data = input.encode() if isinstance(input, str) else input
        header = {"op": "exec", "argv": words, "env": extra, "cwd": cwd, "timeout_s": timeout_s}
        self._running.revive()
        try:
            stream = self._running.connect("agent", timeout_s=timeout_s + 30)
        except OSError:
            raise self._machine_death(f"starting {words!r}") from None
        try:
            stream.send(header, data)
            answer, payload = stream.receive()
        except TimeoutError:
            raise DeviceTimeout(
                f"{self.name} did not say how {words!r} ended\n{self._running.log_tail()}",
                next_step="look at device.log()",
            ) from None
        except (wire.WireError, OSError):
            raise self._machine_death(f"running {words!r}") from None
        finally:
            stream.close()
        return self._result(words, answer, payload, timeout_s)

    def _result(
        self, words: list[str], answer: Mapping[str, Any], payload: bytes, timeout_s: float
    ) -> RunResult:
        if not answer["ok"]:
            raise InputError(
                f"{words[0]!r} cannot be started on {self.name}: {answer['error']}",
                next_step="name a program of the device's image; packages can be given as "
                "requirements=[…]",
            )
        split = answer["stdout_bytes"]
        out = payload[:split].decode(errors="replace")
        err = payload[split:].decode(errors="replace")
        if answer["timed_out"]:
            raise DeviceTimeout(
                f"{words!r} was not done after {timeout_s:g} s on {self.name} and was ended; its "
                f"last words:\n{tail(out + err)}",
                next_step="raise timeout_s (emulation is 10 to 100 times slower than the board)",
                details={"stdout": out, "stderr": err},
            )
        number = answer["signal"]
        code = -number if number else answer["code"]
        error: EdgeError | None = None
        diagnosis = None
        if code:
            if number or code > 128:
                self._fetch_cores()
            oom = self._running.new_oom_kills() > 0
            error, diagnosis = self._deaths.explain(
                answer,
                f"running {words!r}",
                device=self.name,
                log=err,
                memory=self._running.memory_events() if oom else None,
            )
            if diagnosis is not None:
                self._report(error)
        return RunResult(
            argv=tuple(words),
            returncode=code,
            signal=number,
            stdout=out,
            stderr=err,
            peak_rss_mib=answer["peak_rss_kib"] / 1024,
            diagnosis=diagnosis,
            error=error,
        )

    def _layers_path(self) -> str:
        from harness.engines.launch import LAYERS_DIR
        from harness.image import layers_dir

        return (
            LAYERS_DIR
            if "rootfs" in self.capabilities or self.engine == "host"
            else str(layers_dir())
        )

    # -- network and limits ------------------------------------------------------------------

    def can_connect(self, host: str, port: int, *, timeout_s: float = 2.0) -> bool:
        """Whether a program on the device can open a TCP connection to ``host``.

        Raises:
            MissingCapability: the engine cannot cut the network, so the answer would be the
                host's.
        """
        self.require("offline")
        header = {"op": "connect", "host": host, "port": port, "timeout_s": timeout_s}
        self._running.revive()
        stream = self._running.connect("agent", timeout_s=timeout_s + 30)
        try:
            stream.send(header)
            answer, _ = stream.receive()
        except (wire.WireError, OSError) as error:
            raise self._machine_death(f"connecting to {host}:{port}") from error
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
        """
        self._running.machine.limit(Limits(memory_mib=memory_mib, cpus=cpus))

    # -- log and life ------------------------------------------------------------------------

    def log(self) -> str:
        """All that the device, its agent and its emulator wrote."""
        return self._running.log()

    def restart(self) -> None:
        """Bring the device up anew, whatever state it is in. Sessions load their model again."""
        self._running.restart()

    def close(self) -> None:
        """End this process's share in the device, and the device itself if it was the last.
        Idempotent."""
        for session in list(self._sessions):
            session.close()
        self._running.close()

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
            return self._running.ask(header, timeout_s=timeout_s)
        except Gone:
            raise self._machine_death(f"answering {header['op']!r}") from None

    def _inspect(self) -> DeviceInfo:
        """Look at the device from inside, and refuse it if it is not the profile's."""
        info = info_from(self._ask({"op": "info"}))
        if "isa" not in self.capabilities:
            return info  # natively run: nothing is claimed about the instruction set
        from harness.profile import hwcap_verdict

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

    # -- deaths ------------------------------------------------------------------------------

    def _end_worker(
        self, socket_name: str, pid: int, *, kill: bool = False
    ) -> dict[str, Any] | None:
        """How the worker ``pid`` ended, from its parent; None if that is gone too."""
        try:
            stream = self._running.connect(f"{socket_name}.end", timeout_s=20.0)
            try:
                stream.send({"op": "end", "pid": pid, "kill": kill})
                answer, _ = stream.receive()
            finally:
                stream.close()
        except (wire.WireError, OSError):
            return None
        status = answer.get("status")
        return None if status is None else {**status, "pid": pid}

    def _worker_death(self, spec: str, socket_name: str, pid: int, doing: str) -> EdgeError:
        status = self._end_worker(socket_name, pid)
        if status is None:
            self._warmed.pop(spec, None)
            if self._running.wait_for_end():
                return self._machine_death(doing)
            status = {"signal": 9, "pid": pid}
        return self._death(status, doing)

    def _fetch_cores(self) -> None:
        """Bring core dumps over from a device whose files this machine does not see."""
        fetch = getattr(self._running.machine, "cores", None)
        if fetch is not None and self._running.machine.alive():
            try:
                fetch(self._state_dir / "run")
            except EdgeError:
                pass  # the death is reported without a diagnosis

    def _death(self, status: Mapping[str, Any], doing: str) -> EdgeError:
        if status.get("signal"):
            self._fetch_cores()
        oom = self._running.new_oom_kills() > 0
        error, _ = self._deaths.explain(
            status,
            doing,
            device=self.name,
            log=self._running.log(),
            memory=self._running.memory_events() if oom else None,
        )
        self._report(error)
        return error

    def _machine_death(self, doing: str) -> EdgeError:
        """The whole device went down."""
        reason = self._running.wait_for_end()
        if self._running.new_oom_kills() > 0:
            return self._out_of_memory(doing, reason)
        error = RuntimeFailed(
            f"{self.name} went down while {doing}: {reason or 'its agent hung up'}\n"
            + self._running.log_tail(),
            next_step="it is started again for the next test; the log above says what it saw",
            details={"device": self.name, "reason": reason},
        )
        self._report(error)
        return error

    def _out_of_memory(self, doing: str, why: str) -> OutOfMemory:
        events = self._running.memory_events()
        error = self._deaths.out_of_memory(doing, events, device=self.name, why=why)
        self._report(error)
        return error

    def _report(self, error: EdgeError) -> None:
        self.findings.append(Finding(kind="crash", device=self.name, text=error.message))


def _likely_runtime(
    profile: Profile, image: Image, *, fetch: bool, progress: Progress | None
) -> tuple[str, ...]:
    """The runtime most tests will ask for, imported while the device still comes up. Unless
    ``fetch``, only if it is in the cache already: what is saved with the runtime imported is
    used many times, what is started for one run is not."""
    from harness.image import ensure_layer, layer_key

    module = profile.default_runtime("tflite")
    requirement = profile.runtimes.defaults().get(module)
    if requirement and fetch:
        return (f"{ensure_layer(image, [requirement], progress).key}:{module}",)
    key = layer_key(image, [requirement]) if requirement else None
    return (f"{key}:{module}",) if key else ()


def open_device(
    profile: Profile,
    *,
    engine: str = "auto",
    needs: Iterable[str] = (),
    share: str | None = None,
    limits: Limits | None = None,
    progress: Progress | None = None,
    profiles: Sequence[Profile] = (),
) -> Device:
    """Bring ``profile`` up.

    Args:
        profile: what the board is.
        engine: ``auto``, ``user``, ``docker``, ``vm`` or ``host``.
        needs: capabilities the device must have; see :data:`harness.engines.CAPABILITIES`.
        share: processes that give the same string share one running device.
        limits: instead of the profile's own memory (MiB) and CPUs.
        progress: called with a line of text while something slow happens.
        profiles: among which to look for one that has a missing CPU feature (default: all).

    Raises:
        MissingCapability: the engine cannot prove what ``needs`` asks for.
        MissingTool: no engine can run here; the message has the fix.
        ImageBuildFailed, CacheError, BootFailed: it did not come up, and why.
    """
    from harness.image import ensure_image

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
    )


__all__ = ["Device", "DeviceInfo", "Finding", "RunResult", "choose_engine", "open_device", "sweep"]
