"""Counts of an inference to the estimate of its latency; no emulation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from edge_harness.clock.cost import Cost, cost, step_cost
from edge_harness.clock.estimate import LatencyEstimate, OperatorTime, longest
from edge_harness.clock.operators import Operator
from edge_harness.clock.steps import Step, steps_of
from edge_harness.clock.trace import Counted
from edge_harness.clock.trust import Trust, thread_equivalent, trust_for
from edge_harness.profiles.clock import Parameters

if TYPE_CHECKING:
    from edge_harness.profiles import Profile


def estimate_from(
    profile: Profile,
    counted: Counted,
    operators: Sequence[Operator],
    *,
    float_inputs: int,
    threads: int,
    dot_product: bool = True,
) -> LatencyEstimate:
    """The latency that the counts of one inference lead to.

    Args:
        profile: the board it was counted on.
        counted: by one thread.
        operators: of the model file, in order.
        float_inputs: elements of the model's floating-point inputs.
        threads: of the runtime, to predict for.
        dot_product: whether the runtime's int8 kernels use the dot-product instructions of cores
            that have them.

    Raises:
        MissingAbility: the core has no model.
    """
    trust = trust_for(profile)
    parameters, mhz = trust.parameters, profile.cpu.mhz
    cores = thread_equivalent(profile, threads)
    steady = steps_of(profile, counted.steady, operators, delegated=counted.delegated)
    whole = cost(steady, parameters, mhz=mhz, threads=cores, float_inputs=float_inputs)
    total = whole.total_ms
    low, high, doubts = bounds(whole, trust)
    notes = _notes(profile, counted, operators, threads, dot_product=dot_product)
    return LatencyEstimate(
        latency_ms=total,
        low_ms=low,
        high_ms=high,
        source=trust.source,
        device=profile.name,
        runtime=counted.runtime,
        kernels=_kernels(counted),
        threads=threads,
        cycles=round(sum(_one_core_cycles(step, parameters, mhz) for step in steady)),
        instructions=counted.steady.instructions,
        compute_ms=whole.compute_ms,
        memory_ms=whole.memory_ms,
        overhead_ms=whole.overhead_ms,
        invoke_ms=total - whole.around_ms,
        first_ms=total + _cold_ms(profile, counted, operators, parameters),
        operators=longest(_operator_times(steady, parameters, mhz, cores, total)),
        notes=notes + doubts,
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
    profile: Profile, counted: Counted, operators: Sequence[Operator], parameters: Parameters
) -> float:
    """What the first inference takes longer: code that runs once, and caches that are empty. The
    calling thread pays for it alone."""
    cold, warm = (
        cost(
            steps_of(profile, replace(trace, segments=()), operators, delegated=counted.delegated),
            parameters,
            mhz=profile.cpu.mhz,
            threads=1,
        ).total_ms
        for trace in (counted.cold, counted.steady)
    )
    return max(0.0, cold - warm)


def _one_core_cycles(step: Step, parameters: Parameters, mhz: float) -> float:
    return step_cost(step, parameters, mhz=mhz, threads=1).total_ms * mhz * 1e3


def _kernels(counted: Counted) -> str:
    return f"{counted.kernels} ({', '.join(counted.delegates) or 'no delegate'})"


def _operator_times(
    steady: Sequence[Step], parameters: Parameters, mhz: float, cores: float, total: float
) -> list[OperatorTime]:
    if len(steady) < 2:
        return []
    found = []
    for step in steady:
        each = step_cost(step, parameters, mhz=mhz, threads=cores)
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
    profile: Profile,
    counted: Counted,
    operators: Sequence[Operator],
    threads: int,
    *,
    dot_product: bool,
) -> tuple[str, ...]:
    cpu = profile.cpu
    notes = [
        (
            "a cool, otherwise idle board at its full clock: governors, heat and other programs "
            "are not in it"
        )
    ]
    if threads > cpu.cores:
        notes.append(
            f"{threads} threads on {cpu.cores} {cpu.core} and the chip's smaller cores: a rough "
            "model"
        )
    if (
        not dot_product
        and not counted.delegated
        and "asimddp" in cpu.features
        and any(operator.integer for operator in operators)
    ):
        notes.append(
            f"the wheel of {counted.runtime} does not use the dot-product instructions of "
            f"{cpu.core}; LiteRT does (runtime='litert'), and so do many builds of TFLite"
        )
    if not counted.steady.segments:
        notes.append("the runtime's steps could not be told apart: no figures for operators")
    return tuple(notes)
