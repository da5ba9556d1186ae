"""One model loaded in one device by one runtime."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from edge_harness import wire
from edge_harness.diagnose import FailedLoad
from edge_harness.errors import (
    DeviceFailed,
    DeviceTimeout,
    InputError,
    InternalError,
    MissingAbility,
    RuntimeFailed,
)
from edge_harness.evidence import FigureKind
from edge_harness.models.file import ModelFile
from edge_harness.models.tensors import Array, Outputs, Tensor, arrange, tensor_from

if TYPE_CHECKING:
    from edge_harness.clock.estimate import LatencyEstimate, Percentiles
    from edge_harness.device.device import Device
    from edge_harness.models.onnx import Quantization

#: Most examples in one frame, and the time and bytes they may take together: progress stays
#: visible and a time-out means something.
_GROUP = 256
_GROUP_S = 0.5
_GROUP_BYTES = 1 << 20


#: What a wall time is worth on a device whose figures are of that kind.
_WALL_TIME: dict[FigureKind, str] = {
    "emulated": "emulated: not a latency",
    "native": "native on this machine, not the board",
    "measured": "on the board, the way to it included",
}


@dataclass(frozen=True, kw_only=True)
class WallTime:
    """How long an answer took on this machine. An emulator's wall clock says nothing about the
    board, so nothing may gate on it."""

    wall_ms: float
    source: str

    def __str__(self) -> str:
        return f"{self.wall_ms:.1f} ms ({self.source})"


@dataclass(frozen=True, kw_only=True)
class MemoryUse:
    """Resident memory of the process that holds the model, in MiB."""

    peak_mib: float
    rss_mib: float
    source: str


class Session:
    """Made by :meth:`edge_harness.device.device.Device.load`; a context manager.

    A worker process in the device holds the model. When an input kills it, the call raises what
    killed it and the next call starts a new worker, so that Hypothesis can shrink the input.
    """

    def __init__(
        self,
        device: Device,
        model: ModelFile,
        spec: str,
        request: Mapping[str, Any],
        timeout_s: float,
    ) -> None:
        self.device = device
        self.model = model
        self.timeout_s = timeout_s
        self.inputs: tuple[Tensor, ...] = ()
        self.outputs: tuple[Tensor, ...] = ()
        self.facts: dict[str, Any] = {}
        """Runtime, version, delegates and kernels, as the worker reported them."""
        self._spec = spec
        self._request = dict(request)
        self._stream: wire.Stream | None = None
        self._socket_name = ""
        self._pid = 0
        self._generation = 0
        """Of the machine that the worker runs on; another one knows nothing of it."""
        self._heads: dict[Any, bytes] = {}
        self._group_sizes: dict[Any, int] = {}
        self._lock = threading.RLock()
        self._closed = False
        self._wall_ms = 0.0
        self._quantization: dict[str, Quantization] | None = None
        self._open()

    # -- what the model is -------------------------------------------------------------------

    @property
    def runtime(self) -> str:
        """Distribution and version, e.g. ``tflite-runtime 2.14.0``."""
        return f"{self.facts['runtime']} {self.facts['version']}"

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
        source = _WALL_TIME[self.device.figure_kind]
        return WallTime(wall_ms=self._wall_ms, source=source)

    @property
    def requirement(self) -> str:
        """The runtime as a pinned requirement, to load the same version elsewhere."""
        return f"{self.facts['runtime']}=={self.facts['version']}"

    def again(self, *, threads: int | None = None) -> Session:
        """The same model in a second, fresh worker, with other ``threads`` where given."""
        request = self._request if threads is None else {**self._request, "threads": threads}
        return Session(self.device, self.model, self._spec, request, self.timeout_s)

    def other(self, model: ModelFile) -> Session:
        """Another model in a fresh worker, with the runtime and options of this session."""
        request = {key: value for key, value in self._request.items() if key != "resize"}
        return Session(self.device, model, self._spec, request, self.timeout_s)

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
        header = {"op": "batch", "count": len(group), "tensors": _described(stacked)}
        self._transmit(wire.encode(header, sum(a.nbytes for a in stacked)), stacked)
        whole = self._receive_outputs()
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
        wanted = {name: [int(n) for n in shape] for name, shape in shapes.items()}
        names = [tensor.name for tensor in self.inputs]
        for name in wanted:
            if name not in names:
                raise InputError(
                    f"the model has no input {name!r}", next_step=f"its inputs are: {names}"
                )
        with self._lock:
            self._describe(self._ask({"op": "resize", "shapes": wanted}))
            self._request["resize"] = wanted

    def memory(self) -> MemoryUse:
        """Resident memory of the worker now."""
        answer = self._ask({"op": "memory"})
        return MemoryUse(
            peak_mib=answer["peak_rss_kib"] / 1024,
            rss_mib=answer["rss_kib"] / 1024,
            source=self.device.memory_source,
        )

    def run_unchecked(self, arrays: Iterable[Array]) -> Outputs:
        """Run the model on ``arrays`` as they are, not held against its inputs: to see whether the
        runtime itself refuses what :meth:`run` would not have sent.

        Raises:
            DeviceFailed: the worker died, or the runtime complained (``RuntimeFailed``).
        """
        with self._lock:
            self._send([np.ascontiguousarray(array) for array in arrays])
            return self._receive_outputs()

    def ping(self) -> None:
        """One empty round trip to the worker."""
        self._ask({"op": "ping"})

    def bare_loop_s(self, inputs: Any, repeats: int) -> list[float]:
        """Seconds of ``repeats`` invocations in a loop inside the worker, no frames around them;
        the baseline that benchmarks measure ``run`` against."""
        with self._lock:
            arrays = self._arranged(inputs)
            self._fit(arrays)
            header = {"op": "bench", "repeats": repeats, "tensors": _described(arrays)}
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
                next_step="open it with edge_harness.opening.open_device",
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
            header = {"op": "clock", "repeats": repeats, "tensors": _described(arrays)}
            return self._ask(header, *arrays)

    # -- the worker --------------------------------------------------------------------------

    def _open(self) -> None:
        self._hang_up()
        self._socket_name = self.device._warm(self._spec)
        self._generation = self.device.hold.generation
        try:
            stream = self.device.hold.connect(self._socket_name, timeout_s=self.timeout_s)
        except OSError:
            self._died("loading the model")
        try:
            stream.send({"op": "load", **self._request}, self.model.content)
            self._stream = stream
            hello, _ = self._receive()
            self._pid = hello["pid"]
            self.facts.update(hello)
            answer, _ = self._receive()
        except wire.WireError as error:
            raise InternalError(f"the agent's answer is not understood: {error}") from error
        except BrokenPipeError:
            self._died("loading the model")
        if not answer["ok"]:
            self._hang_up()
            load = FailedLoad(
                device=self.device.name,
                model=str(self.model.path),
                model_bytes=len(self.model.content),
                runtime=self.runtime,
                requirement=self._spec,
            )
            raise self.device.endings.load_failed(load, answer)
        self._describe(answer)
        for name, shape in self._request.get("resize", {}).items():
            self._describe(self._ask({"op": "resize", "shapes": {name: shape}}))

    def _describe(self, answer: Mapping[str, Any]) -> None:
        self.facts.update(answer)
        if self.model.format == "onnx":
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
        """Scales and zero points from the ONNX file; its runtime does not tell them."""
        from edge_harness.models import onnx as onnx_file

        integers = ("int8", "uint8", "int16", "uint16", "int32")
        tensors = [*answer["inputs"], *answer["outputs"]]
        if not any(t["dtype"] in integers for t in tensors):
            return answer
        if not onnx_file.installed():
            self.facts["quantization"] = onnx_file.MISSING
            return answer
        if self._quantization is None:
            model = onnx_file.parse(self.model.content, self.model.path)
            self._quantization = onnx_file.quantization(model, [t["name"] for t in tensors])

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
        if self._stream is None or self._generation != self.device.hold.generation:
            self._open()
        changed = {
            tensor.name: list(array.shape)
            for tensor, array in zip(self.inputs, arrays, strict=True)
            if array.shape != tensor.shape
        }
        if changed:
            self._describe(self._ask({"op": "resize", "shapes": changed}))

    def _once(self, arrays: list[Array]) -> Outputs:
        self._fit(arrays)
        self._send(arrays)
        return self._receive_outputs()

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
        if self._stream is None or self._generation != self.device.hold.generation:
            self._open()
        header = {
            "op": "run",
            "signature": signature,
            "names": list(wanted),
            "tensors": _described(arrays),
        }
        self._transmit(wire.encode(header, sum(a.nbytes for a in arrays)), arrays)
        return self._receive_outputs(known[signature]["outputs"])

    def _send(self, arrays: list[Array]) -> None:
        key = tuple([(array.dtype, array.shape) for array in arrays])
        head = self._heads.get(key)
        if head is None:
            head = wire.encode(
                {"op": "run", "tensors": _described(arrays)}, sum(a.nbytes for a in arrays)
            )
            if len(self._heads) < 64:
                self._heads[key] = head
        self._transmit(head, arrays)

    def _transmit(self, head: bytes, arrays: list[Array]) -> None:
        assert self._stream is not None
        try:
            self._stream.send_encoded(
                # As bytes by numpy: memoryview cannot cast complex numbers.
                head,
                *[array.reshape(-1).view(np.uint8).data for array in arrays if array.nbytes],
            )
        except TimeoutError:
            raise self._timed_out("taking the inputs") from None
        except OSError:
            self._died("taking the inputs")

    def _receive(self) -> tuple[wire.Header, bytes]:
        assert self._stream is not None
        try:
            return self._stream.receive()
        except TimeoutError:
            raise self._timed_out("answering") from None
        except (wire.WireError, OSError):
            self._died("loading the model" if not self.inputs else "running the model")
            raise

    def _receive_outputs(self, names: list[str] | None = None) -> Outputs:
        header, payload = self._receive()
        if not header["ok"]:
            raise self._run_error(header)
        result = Outputs()
        offset = 0
        labels = names or [tensor.name for tensor in self.outputs]
        for label, (dtype, shape) in zip(labels, header["tensors"], strict=True):
            kind = np.dtype(dtype)
            count = _count(shape)
            # A copy: the payload is immutable, and people write into arrays.
            result[label] = np.frombuffer(payload, kind, count, offset).reshape(shape).copy()
            offset += count * kind.itemsize
        return result

    def _run_error(self, header: Mapping[str, Any]) -> Exception:
        text = f"{header.get('type', 'error')}: {header['error']}"
        if header["kind"] == "memory":
            return self.device.endings.out_of_memory(f"running {str(self.model.path)!r}", text)
        return RuntimeFailed(
            f"{self.runtime} on {self.device.name} failed: {text}",
            next_step="look at the device's log (device.log())",
            details={"runtime": self.runtime, "device": self.device.name},
        )

    def _ask(self, header: wire.Header, *arrays: Array) -> wire.Header:
        with self._lock:
            if self._stream is None or self._generation != self.device.hold.generation:
                self._open()
            self._transmit(wire.encode(header, sum(a.nbytes for a in arrays)), list(arrays))
            answer, _ = self._receive()
        if not answer["ok"]:
            raise self._run_error(answer)
        return answer

    def _hang_up(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.close()

    def _died(self, doing: str) -> NoReturn:
        """Raise what ended the worker."""
        self._hang_up()
        raise self.device.endings.worker_death(
            self._spec, self._socket_name, self._pid, f"{doing} {str(self.model.path)!r}"
        ) from None

    def _timed_out(self, doing: str) -> DeviceTimeout:
        self._hang_up()
        self.device.endings.end_worker(self._socket_name, self._pid, kill=True)
        return self.device.endings.timed_out("the worker", doing, self.timeout_s)

    def close(self) -> None:
        """End the worker. Idempotent."""
        with self._lock:
            self._closed = True
            self._hang_up()

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
