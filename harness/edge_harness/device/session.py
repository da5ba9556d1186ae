"""One model loaded in one device by one runtime."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from edge_harness import wire
from edge_harness.device.described import misfit, trouble_of_description
from edge_harness.device.worker import Worker
from edge_harness.errors import DeviceFailed, InputError, MissingAbility, RuntimeFailed
from edge_harness.evidence import Figure, FigureKind
from edge_harness.models.file import ModelFile
from edge_harness.models.tensors import Array, Outputs, Tensor, arrange, tensor_from

if TYPE_CHECKING:
    from edge_harness.clock.estimate import LatencyEstimate, Percentiles
    from edge_harness.device.loaded_on import LoadedOn
    from edge_harness.models.onnx import Quantization
    from edge_harness.profiles import Profile
    from edge_harness.runtimes import LoadRequest

#: Most examples in one frame, and the time and bytes they may take together: progress stays
#: visible and a time-out means something.
_GROUP = 256
_GROUP_S = 0.5
_GROUP_BYTES = 1 << 20


@dataclass(frozen=True, kw_only=True)
class WallTime:
    """How long an answer took on this machine. An emulator's wall clock says nothing about the
    board, so nothing may gate on it."""

    wall_ms: float
    kind: FigureKind
    source: str

    def __str__(self) -> str:
        return f"{self.wall_ms:.1f} ms ({self.source})"


@dataclass(frozen=True, kw_only=True)
class MemoryUse:
    """Resident memory of the process that holds the model, in MiB."""

    peak_mib: float
    """The most it ever had."""
    rss_mib: float
    """What it has now."""
    model_mib: float
    """What it grew by while the model was read and loaded."""
    kind: FigureKind
    source: str

    def figures(self) -> dict[str, Figure]:
        """As evidence, by name."""
        return {
            name: Figure(value=value, unit="MiB", kind=self.kind, source=self.source)
            for name, value in (
                ("peak_mib", self.peak_mib),
                ("rss_mib", self.rss_mib),
                ("model_mib", self.model_mib),
            )
        }


_WALL_SOURCES: Mapping[FigureKind, str] = {
    "emulated": "emulated: not a latency",
    "native": "native on this machine, not the board",
    "measured": "measured on the board, the way there and back included",
}


class Session:
    """Made by :meth:`edge_harness.device.device.Device.load`; a context manager.

    A worker process in the device holds the model. When an input kills it, the call raises what
    killed it and the next call starts a new worker, so that Hypothesis can shrink the input. So
    does a call that is interrupted.
    """

    def __init__(self, device: LoadedOn, request: LoadRequest, timeout_s: float) -> None:
        self.device = device
        self.request = request
        """What was asked for: model, runtime, options."""
        self.model = ModelFile(
            path=Path(request.file_name), content=request.content, format=request.format
        )
        self.timeout_s = timeout_s
        self.inputs: tuple[Tensor, ...] = ()
        self.outputs: tuple[Tensor, ...] = ()
        self._worker = Worker(device.loading, request, timeout_s, self._loaded)
        self.facts: dict[str, Any] = self._worker.facts
        """Runtime, version, delegates and kernels, as the worker reported them."""
        self._heads: dict[Any, wire.Head] = {}
        # Heads that were seen come as one object: held against the description once.
        self._fitting: tuple[Any, int] = (None, 0)
        self._group_sizes: dict[Any, int] = {}
        self._lock = threading.RLock()
        self._closed = False
        self._wall_ms = 0.0
        self._quantization: Mapping[str, Quantization] | None = None
        self._worker.ready()

    # -- what the model is -------------------------------------------------------------------

    @property
    def profile(self) -> Profile:
        """The board."""
        return self.device.profile

    @property
    def runtime(self) -> str:
        """Distribution and version, e.g. ``tflite-runtime 2.14.0``."""
        return self._worker.runtime

    @property
    def kernels(self) -> str:
        """Which kernels run, with the delegate that really is on: compare like with like."""
        delegates = ", ".join(self.facts["delegates"]) or "no delegate"
        return f"{self.facts['kernels']} ({delegates})"

    @property
    def signatures(self) -> dict[str, dict[str, list[str]]]:
        """Signature names with their ``inputs`` and ``outputs``."""
        return dict(self.facts["signatures"])

    @property
    def wall_time(self) -> WallTime:
        """Wall time of the last :meth:`run`."""
        kind = self.device.figure_kind
        return WallTime(wall_ms=self._wall_ms, kind=kind, source=_WALL_SOURCES[kind])

    @property
    def requirement(self) -> str:
        """The runtime as a pinned requirement, to load the same version elsewhere."""
        row = self.request.runtime
        if row.distribution and row.brought == "wheel":
            return f"{row.distribution}=={self.facts['version']}"
        if row.brought == "debian":
            return self.device.loading.taken(row, self.request.requirement)
        return self.request.requirement

    def again(self, *, threads: int | None = None) -> Session:
        """The same model in a second, fresh worker, with other ``threads`` where given."""
        threads = self.request.threads if threads is None else threads
        return self._another(replace(self.request, threads=threads))

    def other(self, model: ModelFile) -> Session:
        """Another model in a fresh worker, with the runtime and options of this session."""
        request = replace(
            self.request,
            content=model.content,
            file_name=str(model.path),
            format=model.format,
            shapes=(),
        )
        return self._another(request)

    def _another(self, request: LoadRequest) -> Session:
        session: Session = self.device.open_session(request, timeout_s=self.timeout_s)
        return session

    # -- running -----------------------------------------------------------------------------

    def run(self, inputs: Any, *, signature: str | None = None) -> Outputs:
        """Run the model once.

        Args:
            inputs: an array (models with one input), a list in the model's order, or
                ``{name: array}``. Arrays must have the input's dtype; lists are converted.
            signature: name of a signature to run; ``inputs`` is then ``{name: array}``.

        Returns:
            Arrays by output name; an integer takes them by position.

        Raises:
            InputError: dtype, shape, names or count do not fit.
            DeviceFailed: the worker died (and how), ran out of time, or the runtime complained.
        """
        with self._lock:
            started = time.perf_counter()
            if signature is not None:
                result = self._run_signature(signature, inputs)
            else:
                result = self._once(self._arranged(inputs))
            self._wall_ms = (time.perf_counter() - started) * 1e3
            return result

    def run_unchecked(self, arrays: Iterable[Array]) -> Outputs:
        """Run the model on ``arrays`` as they are, not held against its inputs: to see whether the
        runtime itself refuses what :meth:`run` would not have sent.

        Raises:
            DeviceFailed: the worker died (and how), ran out of time, or the runtime complained.
        """
        with self._lock:
            self._worker.ready()
            return self._send([np.ascontiguousarray(array) for array in arrays])

    def run_many(self, samples: Iterable[Any]) -> list[Outputs]:
        """Run the model on each of ``samples``; many examples cost one round trip.

        Raises as :meth:`run` does; ``details["example"]`` is the sample's position.
        """
        results: list[Outputs] = []
        group: list[list[Array]] = []
        key: Any = None
        size = 1
        with self._lock:
            for sample in samples:
                arrays = self._arranged(sample)
                mine = tuple([(array.dtype, array.shape) for array in arrays])
                if group and (mine != key or len(group) >= size):
                    self._group_sizes[key] = self._run_group(group, results)
                    group = []
                if not group:
                    # What earlier calls learnt of this shape: one round trip less for each call.
                    size = self._group_sizes.get(mine, 1)
                group.append(arrays)
                key = mine
            if group:
                self._group_sizes[key] = self._run_group(group, results)
        return results

    def _run_group(self, group: list[list[Array]], results: list[Outputs]) -> int:
        """Run examples of one shape, append their outputs; how many to group next time."""
        started = time.perf_counter()
        try:
            results += self._batch(group) if len(group) > 1 else [self._once(group[0])]
        except DeviceFailed as error:
            # Which of them was it? One at a time; results before it are as they would be.
            for arrays in group if len(group) > 1 else ():
                try:
                    results.append(self._once(arrays))
                except DeviceFailed as single:
                    raise single.but(details={"example": len(results)}) from single.__cause__
            if len(group) == 1:
                raise error.but(details={"example": len(results)}) from error.__cause__
        each_s = (time.perf_counter() - started) / len(group)
        each_bytes = sum(array.nbytes for array in group[0]) + sum(
            t.dtype.itemsize * _count(t.shape) for t in self.outputs
        )
        return max(1, min(_GROUP, int(_GROUP_S / each_s), _GROUP_BYTES // max(each_bytes, 1)))

    def _batch(self, group: list[list[Array]]) -> list[Outputs]:
        self._fit(group[0])
        stacked = [np.stack(column) for column in zip(*group, strict=True)]
        header = {"op": wire.Op.BATCH, "count": len(group), "tensors": _described(stacked)}
        head = wire.encode(header, sum(a.nbytes for a in stacked))
        whole = self._outputs(*self._worker.exchange(head, stacked), stacked=len(group))
        return [
            Outputs((name, values[position].copy()) for name, values in whole.items())
            for position in range(len(group))
        ]

    def resize(self, shapes: Mapping[str, Iterable[int]]) -> None:
        """Give inputs other shapes (models with free dimensions are resized by ``run`` itself).

        Raises:
            InputError: no such input.
            RuntimeFailed: the model cannot be resized that way.
        """
        wanted = {name: tuple(int(n) for n in shape) for name, shape in shapes.items()}
        names = [tensor.name for tensor in self.inputs]
        for name in wanted:
            if name not in names:
                raise InputError(
                    f"the model has no input {name!r}", next_step=f"its inputs are: {names}"
                )
        with self._lock:
            self._describe(self._ask({"op": wire.Op.RESIZE, "shapes": wanted}))
            kept = {**dict(self.request.shapes), **wanted}
            self.request = replace(self.request, shapes=tuple(sorted(kept.items())))

    def memory(self) -> MemoryUse:
        """Resident memory of the worker now."""
        answer = self._ask({"op": wire.Op.MEMORY})
        return MemoryUse(
            peak_mib=answer["peak_rss_kib"] / 1024,
            rss_mib=answer["rss_kib"] / 1024,
            model_mib=answer["model_kib"] / 1024,
            kind=self.device.figure_kind,
            source=self.device.memory_source,
        )

    def ping(self) -> None:
        """One empty round trip to the worker."""
        self._ask({"op": wire.Op.PING})

    def bare_loop_s(self, inputs: Any, repeats: int) -> list[float]:
        """Seconds of ``repeats`` invocations in a loop inside the worker, no frames around them;
        the baseline that benchmarks measure ``run`` against."""
        with self._lock:
            arrays = self._arranged(inputs)
            self._fit(arrays)
            header = {"op": wire.Op.BENCH, "repeats": repeats, "tensors": _described(arrays)}
            seconds: list[float] = self._ask(header, *arrays)["seconds"]
            return seconds

    def latency(
        self, inputs: Any = None, *, threads: int | None = None, refresh: bool | None = None
    ) -> LatencyEstimate:
        """The time of one inference on the board, predicted from the instructions that this
        model's kernels execute; with bounds and their source. Never the emulator's wall clock,
        and the same on every machine.

        Args:
            inputs: as for :meth:`run`; None for random ones that are always the same.
            threads: of the runtime (default: the session's own).
            refresh: count again although nothing has changed (default: ``--edge-refresh``).

        Raises:
            MissingAbility: the core has no model, no whole board can be emulated here, or
                the model would run on an accelerator.
            OptionError: more threads than the board has cores.
            InputError: inputs do not fit the model.
        """
        source = self.device.latency_source
        if source is None:
            raise MissingAbility(
                f"nothing tells latencies of this {self.device.name}: it was started without a "
                "latency source",
                next_step="open it with edge_harness.open_device",
            )
        return source.latency(self, inputs, threads=threads, refresh=refresh)

    def latencies(self, samples: Iterable[Any], *, threads: int | None = None) -> Percentiles:
        """:meth:`latency` of each of ``samples``, for models whose path depends on data.

        Raises:
            InputError: there are no samples, or one does not fit the model.
        """
        from edge_harness.clock.estimate import Percentiles

        found = tuple(self.latency(sample, threads=threads) for sample in samples)
        if not found:
            raise InputError(
                "there are no samples to estimate", next_step="give at least one input"
            )
        return Percentiles(estimates=found)

    def between_markers(self, inputs: Any, repeats: int) -> dict[str, Any]:
        """Run ``repeats`` times, each between the device clock's markers; what is mapped where."""
        with self._lock:
            arrays = self._arranged(inputs)
            self._fit(arrays)
            header = {"op": wire.Op.CLOCK, "repeats": repeats, "tensors": _described(arrays)}
            return self._ask(header, *arrays)

    # -- the worker --------------------------------------------------------------------------

    def _loaded(self, answer: wire.Header) -> None:
        """A new worker has the model: give it the shapes that the one before had."""
        self._describe(answer)
        for name, shape in self.request.shapes:
            self._describe(self._worker.ask({"op": wire.Op.RESIZE, "shapes": {name: list(shape)}}))

    def _describe(self, answer: Mapping[str, Any]) -> None:
        self._fitting = (None, 0)
        if trouble := trouble_of_description(answer):
            raise self.request.runtime.broken(trouble)
        self.facts.update(answer)
        if self.model.format.quantization:
            answer = self._with_quantization(answer)
        self.inputs = tuple(tensor_from(i, t) for i, t in enumerate(answer["inputs"]))
        names: set[str] = set()
        outputs = []
        for index, fields in enumerate(answer["outputs"]):
            name = fields["name"]
            if name in names:  # TFLite does not insist on unique names
                name = f"{name}#{index}"
            names.add(name)
            outputs.append(tensor_from(index, {**fields, "name": name}))
        self.outputs = tuple(outputs)

    def _with_quantization(self, answer: Mapping[str, Any]) -> Mapping[str, Any]:
        """Scales and zero points from the model's file, where its runtime does not tell them."""
        integers = ("int8", "uint8", "int16", "uint16", "int32")
        tensors = [*answer["inputs"], *answer["outputs"]]
        if not any(t["dtype"] in integers for t in tensors):
            return answer
        if self._quantization is None:
            names = [t["name"] for t in tensors]
            self._quantization, note = self.model.format.quantization(self.model, names)
            if note:
                self.facts["quantization"] = note

        def described(fields: Mapping[str, Any]) -> Mapping[str, Any]:
            known = (self._quantization or {}).get(fields["name"])
            if known is None or fields["dtype"] not in integers:
                return fields
            return {
                **fields,
                "scales": known.scales,
                "zero_points": known.zero_points,
                "axis": known.axis,
            }

        return {key: [described(t) for t in answer[key]] for key in ("inputs", "outputs")}

    def _arranged(self, inputs: Any) -> list[Array]:
        if self._closed:
            raise InputError(
                f"the session of {str(self.model.path)!r} is closed",
                next_step="use it inside its 'with' block, or load the model again",
            )
        return arrange(inputs, self.inputs)

    def _fit(self, arrays: list[Array]) -> None:
        """Have a worker whose input shapes are those of ``arrays``."""
        self._worker.ready()
        changed = {
            tensor.name: list(array.shape)
            for tensor, array in zip(self.inputs, arrays, strict=True)
            if array.shape != tensor.shape
        }
        if changed:
            self._describe(self._ask({"op": wire.Op.RESIZE, "shapes": changed}))

    def _once(self, arrays: list[Array]) -> Outputs:
        self._fit(arrays)
        return self._send(arrays)

    def _send(self, arrays: list[Array]) -> Outputs:
        key = tuple([(array.dtype, array.shape) for array in arrays])
        head = self._heads.get(key)
        if head is None:
            header = {"op": wire.Op.RUN, "tensors": _described(arrays)}
            head = wire.encode(header, sum(a.nbytes for a in arrays))
            if len(self._heads) < 64:
                self._heads[key] = head
        return self._outputs(*self._worker.exchange(head, arrays))

    def _run_signature(self, signature: str, inputs: Any) -> Outputs:
        known = self.signatures
        if signature not in known:
            raise InputError(
                f"the model has no signature {signature!r}",
                next_step=f"its signatures are: {', '.join(map(repr, known)) or '(none)'}",
            )
        wanted = known[signature]["inputs"]
        if not isinstance(inputs, Mapping) or sorted(inputs) != sorted(wanted):
            raise InputError(
                f"signature {signature!r} takes a dict with the inputs {wanted}",
                next_step="pass {name: array}",
            )
        arrays = [np.ascontiguousarray(inputs[name]) for name in wanted]
        self._worker.ready()
        header = {
            "op": wire.Op.RUN,
            "signature": signature,
            "names": list(wanted),
            "tensors": _described(arrays),
        }
        head = wire.encode(header, sum(a.nbytes for a in arrays))
        return self._outputs(*self._worker.exchange(head, arrays), known[signature]["outputs"])

    def _outputs(
        self,
        header: wire.Header,
        payload: bytes,
        names: list[str] | None = None,
        *,
        stacked: int = 0,
    ) -> Outputs:
        result = Outputs()
        offset = 0
        came = header["tensors"]
        labels = names or [tensor.name for tensor in self.outputs]
        if names is None and (came is not self._fitting[0] or stacked != self._fitting[1]):
            # What a file says of shapes may be wrong, and its runtime knows it; what a runtime of
            # another distribution describes is its own word.
            strict = bool(self.request.runtime.origin)
            if why := misfit(self.outputs, came, stacked=stacked, shapes=strict):
                raise self._other_outputs(why)
            self._fitting = (came, stacked)
        elif names is not None and len(came) != len(names):
            raise self._other_outputs(f"gave {len(came)} output(s) for the signature's {names}")
        for label, (dtype, shape) in zip(labels, came, strict=True):
            kind = np.dtype(dtype)
            count = _count(shape)
            # A copy: the payload is immutable, and people write into arrays.
            result[label] = np.frombuffer(payload, kind, count, offset).reshape(shape).copy()
            offset += count * kind.itemsize
        return result

    def _other_outputs(self, why: str) -> RuntimeFailed:
        row, device = self.request.runtime, self.device.name
        return RuntimeFailed(
            f"{self._worker.called} on {device} {why} (model {str(self.model.path)!r})",
            next_step=f"have Session.infer and Session.describe of {row.origin} say the same"
            if row.origin
            else "load the model with another version of the runtime, and report it there",
            details={"runtime": self.runtime, "device": device},
        )

    def _ask(self, header: wire.Header, *arrays: Array) -> wire.Header:
        with self._lock:
            return self._worker.ask(header, *arrays)

    def close(self) -> None:
        """End the worker. Idempotent."""
        with self._lock:
            self._closed = True
            self._worker.close()

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Session {self.model.path.name} on {self.device.name} by {self.runtime}>"


def _described(arrays: list[Array]) -> list[list[Any]]:
    return [[array.dtype.name, list(array.shape)] for array in arrays]


def _count(shape: Iterable[int]) -> int:
    count = 1
    for size in shape:
        count *= size
    return count


__all__ = ["MemoryUse", "Session", "WallTime"]
