"""From an inference to the estimate of its latency: count, cycles, milliseconds; kept in the
cache."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from edge_harness.cache import cache_dir, explained
from edge_harness.clock.counting.count import Subject, count, count_key, operators_in
from edge_harness.clock.counting.icount import count_instructions
from edge_harness.clock.estimate import LatencyEstimate
from edge_harness.clock.instruction_rate import estimate_by_number
from edge_harness.clock.milliseconds import estimate_from
from edge_harness.clock.operators import Operator
from edge_harness.clock.trust import trust_for
from edge_harness.errors import MissingAbility, MissingTool

if TYPE_CHECKING:
    from edge_harness.profiles import Profile

Progress = Callable[[str], None]


def predict(
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
        MissingAbility: the core has no model, or no whole board can be emulated here.
        OptionError: more threads than the board has cores.
        DeviceFailed: the model crashed on the board.
    """
    threads = profile.checked_threads(threads)
    operators = operators_in(subject)
    refuse_accelerators(subject, operators)
    kept = _kept(profile, subject, threads)
    if not refresh and (known := _read(kept)) is not None:
        return replace(known, cached=True)
    try:
        counted = count(profile, subject, refresh=refresh, progress=progress)
    except MissingTool as error:
        if progress:
            progress(f"counting instructions alone: {error.message}")
        number = count_instructions(profile, subject, progress=progress)
        # Never kept: with the tool there is a better answer.
        return estimate_by_number(
            profile,
            number.instructions,
            runtime=number.runtime,
            kernels=number.kernels,
            threads=threads,
            why=error.message,
        )
    result = estimate_from(
        profile,
        counted,
        operators,
        float_inputs=sum(a.size for a in subject.inputs if np.issubdtype(a.dtype, np.floating)),
        threads=threads,
        dot_product=subject.request.runtime.dot_product,
    )
    _keep(kept, result)
    return result


def refuse_accelerators(subject: Subject, operators: Sequence[Operator]) -> None:
    """Refuse what would run elsewhere on the board than on its cores.

    Raises:
        MissingAbility: the model was compiled for an Edge TPU, a GPU or an NPU.
    """
    for operator in operators:
        if operator.kind in _ACCELERATED or operator.kind.startswith(("edgetpu", "vx-", "neutron")):
            raise MissingAbility(
                f"{subject.request.file_name!r} has the operator {operator.kind!r}, which runs on "
                "an accelerator; the device clock knows cores only and does not guess",
                next_step="measure it on a board, or estimate the model before it was compiled "
                "for the accelerator",
                details={"operator": operator.kind},
            )


#: Custom operators that stand for a compiled part of the model.
_ACCELERATED = frozenset(
    {"edgetpu-custom-op", "vx-delegate", "NeutronGraph", "ethos-u", "DISPATCH_OP", "QNN_CUSTOM"}
)


def estimate_key(profile: Profile, subject: Subject, threads: int) -> str:
    """Names an estimate by everything that decides it: the count, the whole of the board that
    formulas and notes ask for, how far it is trusted, and the formulas themselves."""
    content = [
        count_key(profile, subject),
        model_digest(),
        profile.name,
        msgspec.to_builtins(profile.cpu),
        profile.os.arch,
        profile.memory.bandwidth_gb_s,
        msgspec.to_builtins(asdict(trust_for(profile))),
        threads,
    ]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:24]


def _kept(profile: Profile, subject: Subject, threads: int) -> Path:
    return cache_dir() / "clock-answers" / f"{estimate_key(profile, subject, threads)}.json"


def _read(path: Path) -> LatencyEstimate | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=LatencyEstimate)
    except (FileNotFoundError, msgspec.DecodeError):  # not there, or damaged: found out anew
        return None


def _keep(path: Path, result: LatencyEstimate) -> None:
    with explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        staged = path.with_suffix(f".{uuid.uuid4().hex[:8]}")
        staged.write_bytes(msgspec.json.encode(asdict(result)))
        staged.replace(path)


@lru_cache(maxsize=1)
def model_digest() -> str:
    """Changes with every core, every fit that ships with the package and every formula."""
    package = Path(str(resources.files("edge_harness.clock")))
    digest = hashlib.sha256()
    for path in sorted(
        [*package.glob("*.py"), *package.glob("counting/*.py"), *package.glob("*/*.toml")]
    ):
        digest.update(path.relative_to(package).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()
