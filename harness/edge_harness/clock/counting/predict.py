"""From a model on a board to an estimate, through the cache."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from edge_harness.cache import cache_dir, explained
from edge_harness.clock.cost import Cost, cost, step_cost
from edge_harness.clock.counting.count import Measured, Rig, Subject, measurement_key
from edge_harness.clock.counting.icount import rough_estimate
from edge_harness.clock.estimate import LatencyEstimate, OperatorTime, longest
from edge_harness.clock.operators import Operator, operators_of
from edge_harness.clock.pipeline import Core, core_named
from edge_harness.clock.steps import Step, steps_of
from edge_harness.clock.trust import Trust, thread_equivalent, trust_for
from edge_harness.errors import MissingCapability, MissingTool
from edge_harness.profiles.clock import Parameters

if TYPE_CHECKING:
    from edge_harness.clock.trace import Trace
    from edge_harness.profiles import Profile

Progress = Callable[[str], None]


def estimate(
    profile: Profile,
    subject: Subject,
    *,
    threads: int = 1,
    refresh: bool = False,
    progress: Progress | None = None,
) -> LatencyEstimate:
    """The latency of one inference on ``profile``.

    Args:
        profile: the board.
        subject: model, runtime, kernels, inputs.
        threads: of the runtime, 1 to all cores of the chip.
        refresh: count again although it is known.
        progress: called with a line of text while something slow happens.

    Raises:
        MissingCapability: the core has no model, or no whole board can be emulated here.
        OptionError: more threads than the board has cores.
        DeviceFailed: the model crashed on the board.
    """
    threads = profile.checked_threads(threads)
    refuse_accelerators(subject)
    core = core_named(profile.cpu.core)
    trust = trust_for(profile)
    key = measurement_key(profile, core, subject)
    answer = _answer_path(key, profile, trust, threads)
    if not refresh and answer.exists():
        found = msgspec.json.decode(answer.read_bytes(), type=LatencyEstimate)
        return replace(found, cached=True)
    rig = Rig(profile, progress)
    try:
        measured = rig.measure(subject, refresh=refresh)
    except MissingTool as error:
        # Never kept: with the tool there is a better answer.
        if progress:
            progress(f"counting instructions alone: {error.message}")
        return rough_estimate(profile, subject, rig, threads, error.message)
    result = evaluate(profile, core, trust, subject, measured, threads)
    with explained(answer):
        answer.parent.mkdir(parents=True, exist_ok=True)
        staged = answer.with_suffix(f".{hashlib.sha256(str(id(result)).encode()).hexdigest()[:8]}")
        staged.write_bytes(msgspec.json.encode(asdict(result)))
        staged.replace(answer)
    return result


def refuse_accelerators(subject: Subject) -> None:
    """Refuse what would run elsewhere on the board than on its cores.

    Raises:
        MissingCapability: the model was compiled for an Edge TPU, a GPU or an NPU.
    """
    for operator in operators_of(subject.content, subject.format):
        if operator.kind in _ACCELERATED or operator.kind.startswith(("edgetpu", "vx-", "neutron")):
            raise MissingCapability(
                f"{str(subject.model)!r} has the operator {operator.kind!r}, which runs on an "
                "accelerator; the device clock knows cores only and does not guess",
                next_step="measure it on a board, or estimate the model before it was compiled "
                "for the accelerator",
                details={"operator": operator.kind},
            )


#: Custom operators that stand for a compiled part of the model.
_ACCELERATED = frozenset(
    {"edgetpu-custom-op", "vx-delegate", "NeutronGraph", "ethos-u", "DISPATCH_OP", "QNN_CUSTOM"}
)


def steps(
    profile: Profile, core: Core, subject: Subject, measured: Measured, trace: Trace
) -> list[Step]:
    """The steps of one inference of ``subject``."""
    return steps_of(
        trace,
        core,
        operators_of(subject.content, subject.format),
        bits=32 if profile.os.arch in ("armhf", "armel") else 64,
        caches=3 if profile.cpu.l3_kib else 2 if profile.cpu.l2_kib else 1,
        # ONNX Runtime names its providers here; its kernels all split their work.
        delegated=bool(measured.facts["delegates"]),
    )


def evaluate(
    profile: Profile,
    core: Core,
    trust: Trust,
    subject: Subject,
    measured: Measured,
    threads: int,
) -> LatencyEstimate:
    """The estimate that a measurement leads to; no emulation."""
    float_inputs = sum(a.size for a in subject.inputs if np.issubdtype(a.dtype, np.floating))
    equivalent = thread_equivalent(profile, threads)
    mhz, parameters = profile.cpu.mhz, trust.parameters

    def costs(which: list[Step]) -> Cost:
        return cost(which, parameters, mhz=mhz, threads=equivalent, float_inputs=float_inputs)

    steady = steps(profile, core, subject, measured, measured.steady)
    whole = costs(steady)
    total = whole.total_ms
    low, high, doubt = bounds(whole, trust)
    # What the measured programs did around the runtime.
    around_ms = parameters.fixed_us * 1e-3 + float_inputs * parameters.input_cycles / (mhz * 1e3)
    notes = _notes(profile, measured, operators_of(subject.content, subject.format), threads)
    return LatencyEstimate(
        latency_ms=total,
        low_ms=low,
        high_ms=high,
        source=trust.source,
        device=profile.name,
        runtime=measured.facts["runtime"],
        kernels=_kernels(measured),
        threads=threads,
        cycles=round(sum(_one_core(s, parameters, mhz) for s in steady)),
        instructions=measured.steady.instructions,
        compute_ms=whole.compute_ms,
        memory_ms=whole.memory_ms,
        overhead_ms=whole.overhead_ms,
        invoke_ms=total - around_ms,
        first_ms=total + _cold_ms(profile, core, subject, measured, parameters),
        operators=longest(_operators(steady, parameters, mhz, equivalent, total)),
        notes=notes + doubt,
    )


def bounds(whole: Cost, trust: Trust) -> tuple[float, float, tuple[str, ...]]:
    """Lower and upper bound in milliseconds, and what else there is to say of them.

    Args:
        whole: of the inference.
        trust: in the board's parameters.
    """
    error = trust.error
    total, work = whole.total_ms, whole.compute_ms + whole.memory_ms
    if whole.overhead_ms <= work or total >= trust.shortest_ms:
        return total / (1 + error), total * (1 + error), ()
    # What surrounds the operators was fitted where it is a few per cent of the figure, and on the
    # programs of benchmarks (78 to 1185 µs on eleven boards): there an error of several times was
    # not to be seen. Here it is all there is.
    note = (
        f"{whole.overhead_ms / total:.0%} of it is overhead, which is known from longer "
        "inferences only: the lower bound is without it"
    )
    return work / (1 + error), total * (1 + error), (note,)


def _cold_ms(
    profile: Profile, core: Core, subject: Subject, measured: Measured, parameters: Parameters
) -> float:
    """What the first inference takes longer: code that runs once, and caches that are empty. The
    calling thread pays for it alone."""
    warm, cold = (
        steps(profile, core, subject, measured, replace(trace, segments=()))
        for trace in (measured.steady, measured.cold)
    )
    mhz = profile.cpu.mhz
    longer = cost(cold, parameters, mhz=mhz, threads=1).total_ms
    return max(0.0, longer - cost(warm, parameters, mhz=mhz, threads=1).total_ms)


def _one_core(step: Step, parameters: Parameters, mhz: float) -> float:
    return step_cost(step, parameters, mhz=mhz, threads=1).total_ms * mhz * 1e3


def _kernels(measured: Measured) -> str:
    delegates = ", ".join(measured.facts["delegates"]) or "no delegate"
    return f"{measured.facts['kernels']} ({delegates})"


def _operators(
    steady: Sequence[Step], parameters: Parameters, mhz: float, threads: float, total: float
) -> list[OperatorTime]:
    if len(steady) < 2:
        return []
    found = []
    for step in steady:
        each = step_cost(step, parameters, mhz=mhz, threads=threads)
        found.append(
            OperatorTime(
                name=step.name,
                kind=step.kind,
                instructions=step.instructions,
                latency_ms=each.total_ms,
                share=each.total_ms / total if total else 0.0,
                bound="memory" if each.memory_ms > each.compute_ms else "compute",
            )
        )
    return found


def _notes(
    profile: Profile, measured: Measured, operators: Sequence[Operator], threads: int
) -> tuple[str, ...]:
    notes = [
        (
            "a cool, otherwise idle board at its full clock: governors, heat and other programs "
            "are not in it"
        )
    ]
    if threads > profile.cpu.cores:
        notes.append(
            f"{threads} threads on {profile.cpu.cores} {profile.cpu.core} and the chip's smaller "
            "cores: a rough model"
        )
    if (
        measured.facts["runtime"].startswith("tflite-runtime")
        and not measured.facts["delegates"]
        and "asimddp" in profile.cpu.features
        and any(operator.integer for operator in operators)
    ):
        notes.append(
            f"the wheel of tflite-runtime does not use the dot-product instructions of "
            f"{profile.cpu.core}; LiteRT does (runtime='litert'), and so do many builds of TFLite"
        )
    if not measured.steady.segments:
        notes.append("the runtime's steps could not be told apart: no figures for operators")
    return tuple(notes)


def _answer_path(key: str, profile: Profile, trust: Trust, threads: int) -> Path:
    content: list[Any] = [
        key,
        model_digest(),
        msgspec.to_builtins(trust.parameters),
        (trust.error, trust.source),
        (profile.name, profile.cpu.mhz, profile.cpu.core, profile.cpu.cores, threads),
    ]
    digest = hashlib.sha256(json.dumps(content).encode()).hexdigest()[:24]
    return cache_dir() / "clock-answers" / f"{digest}.json"


@lru_cache(maxsize=1)
def model_digest() -> str:
    """Changes with every core and every formula."""
    package = Path(str(resources.files("edge_harness.clock")))
    digest = hashlib.sha256()
    for path in sorted([*package.glob("*.py"), *package.glob("*/*.toml")]):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()
