"""From an inference to the estimate of its latency, step by step: what is asked, what was counted,
what that takes on the board. Estimates are kept in the cache."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import lru_cache
from importlib import metadata, resources
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from edge_harness.cache import cache_dir, explained
from edge_harness.clock.counting.count import count, count_key
from edge_harness.clock.counting.icount import count_instructions
from edge_harness.clock.counting.inference import Inference
from edge_harness.clock.estimate import LatencyEstimate
from edge_harness.clock.instruction_rate import estimate_by_number
from edge_harness.clock.milliseconds import estimate_from
from edge_harness.clock.trust import trust_for
from edge_harness.errors import MissingTool

if TYPE_CHECKING:
    from edge_harness.profiles import Profile

Progress = Callable[[str], None]


def predict(
    profile: Profile,
    inference: Inference,
    *,
    refresh: bool = False,
    progress: Progress | None = None,
) -> LatencyEstimate:
    """The latency of ``inference`` on the board, by as many threads as it asks for.

    Args:
        profile: the board.
        inference: model, runtime, options, threads, inputs.
        refresh: count again although it is known.
        progress: called with a line of text while something slow happens.

    Raises:
        MissingAbility: the core has no model, no whole board can be emulated here, or the model
            would run elsewhere than on the board's cores.
        OptionError: more threads than the board has cores.
        DeviceFailed: the model crashed on the board.
    """
    # What is asked: an inference on the board's own cores.
    threads = profile.checked_threads(inference.request.threads)
    inference.refuse_other_processors()
    # Perhaps it is known.
    kept = cache_dir() / "clock-estimates" / f"{estimate_key(profile, inference)}.json"
    if not refresh and (known := _read(kept)) is not None:
        return replace(known, cached=True)
    # The count: what its kernels execute on an emulated board.
    try:
        counted = count(profile, inference, refresh=refresh, progress=progress)
    except MissingTool as error:
        if progress:
            progress(f"counting instructions alone: {error.message}")
        number = count_instructions(profile, inference, progress=progress)
        # Never kept: with the tool there is a better answer.
        return estimate_by_number(
            profile,
            number.instructions,
            runtime=number.runtime,
            kernels=number.kernels,
            threads=threads,
            why=error.message,
        )
    # Cycles of the board's core, then milliseconds with bounds.
    estimate = estimate_from(
        profile,
        counted,
        inference.operators,
        float_inputs=inference.float_inputs,
        threads=threads,
        dot_product=inference.request.runtime.dot_product,
    )
    _keep(kept, estimate)
    return estimate


def estimate_key(profile: Profile, inference: Inference) -> str:
    """Names an estimate by everything that decides it: the count, what formulas and notes ask of
    the board and the runtime, how far the board is trusted, and the formulas themselves.

    Raises:
        MissingAbility: the core has no model.
    """
    content = [
        count_key(profile, inference),
        formulas(),
        profile.name,
        msgspec.to_builtins(profile.cpu),
        profile.os.arch,
        profile.memory.bandwidth_gb_s,
        msgspec.to_builtins(asdict(trust_for(profile))),
        inference.request.threads,
        inference.request.runtime.dot_product,
    ]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:24]


@lru_cache(maxsize=1)
def formulas() -> str:
    """Changes with every core, every fit that ships with the package and every formula."""
    package = Path(str(resources.files("edge_harness.clock")))
    digest = hashlib.sha256(metadata.version("capstone").encode())  # which decodes the blocks
    for path in sorted(
        [*package.glob("*.py"), *package.glob("counting/*.py"), *package.glob("*/*.toml")]
    ):
        digest.update(path.relative_to(package).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()


def _read(path: Path) -> LatencyEstimate | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=LatencyEstimate)
    except (FileNotFoundError, msgspec.DecodeError):  # not there, or damaged: found out anew
        return None


def _keep(path: Path, estimate: LatencyEstimate) -> None:
    with explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        staged = path.with_suffix(f".{uuid.uuid4().hex[:8]}")
        staged.write_bytes(msgspec.json.encode(asdict(estimate)))
        staged.replace(path)
