"""``edge-harness latency``."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edge_harness.commands import common
from edge_harness.commands.status import Status, complain, of_verdict

if TYPE_CHECKING:
    from edge_harness.clock.counting.inference import Inference
    from edge_harness.clock.estimate import LatencyEstimate
    from edge_harness.profiles import Profile


def _milliseconds(_context: click.Context, _option: click.Parameter, text: str | None) -> Any:
    if text is None:
        return None
    found = re.fullmatch(r"\s*([0-9]*\.?[0-9]+)\s*(ms|s|us|µs)?\s*", text)
    if found is None or float(found[1]) <= 0:
        raise click.BadParameter(f"{text!r} is not a time; write it as '40 ms'")
    return float(found[1]) * {"s": 1e3, "us": 1e-3, "µs": 1e-3}.get(found[2] or "ms", 1.0)


@click.command()
@common.device_option()
@common.samples_option()
@common.runtime_option()
@common.threads_option()
@common.kernels_option()
@click.option(
    "--budget",
    callback=_milliseconds,
    metavar="TIME",
    help="As '40 ms': status 1 where it is missed, 4 where the bounds leave it open.",
)
@click.option(
    "--against",
    type=click.Path(path_type=Path),
    metavar="MODEL",
    help="A second model, to compare.",
)
@click.option("--refresh", is_flag=True, help="Count again although nothing has changed.")
@common.json_option()
@click.argument("model", type=click.Path(path_type=Path))
def latency(
    devices: tuple[str, ...],
    model: Path,
    against: Path | None,
    samples: Path | None,
    runtime: str | None,
    threads: int,
    kernels: str | None,
    budget: float | None,
    refresh: bool,
    as_json: bool,
) -> None:
    """Predict how long one inference of MODEL takes on a board.

    From the instructions that its kernels execute on the emulated core, with bounds.
    """
    from edge_harness.device.lease import sweep
    from edge_harness.models.file import read_model

    boards = common.selected(devices)
    question = _Question(
        models=(model,) if against is None else (model, against),
        samples=samples,
        runtime=runtime,
        threads=threads,
        kernels=kernels,
        budget=budget,
        refresh=refresh,
    )
    for path in question.models:
        read_model(path)  # what is wrong with it concerns all boards, and is said once
    sweep(complain)
    sys.exit(common.answer_for_each(boards, question.ask, as_json=as_json))


@dataclass(frozen=True, kw_only=True)
class _Question:
    """What is asked about each board."""

    models: tuple[Path, ...]
    """The model, and the one it is compared with."""
    samples: Path | None
    runtime: str | None
    threads: int
    kernels: str | None
    budget: float | None
    """Milliseconds."""
    refresh: bool

    def ask(self, profile: Profile) -> common.Answer:
        """Predict for ``profile``.

        Raises:
            EdgeError: something is wrong with the request, the device or the machinery.
        """
        from edge_harness.clock.counting.predict import predict

        with common.progress() as say:
            inferences = [_inference(path, profile, self, say) for path in self.models]
            first, *others = (
                predict(profile, inference, refresh=self.refresh, progress=say)
                for inference in inferences
            )
        status = Status.HELD
        if self.budget is not None:
            status = of_verdict(first.verdict(self.budget).word)
        return common.Answer(
            status=status,
            show=lambda: click.echo(_text(first, others, self.budget)),
            document=_document(first, others, self.budget),
        )


def _text(first: LatencyEstimate, others: Sequence[LatencyEstimate], budget: float | None) -> str:
    lines = [first.explain(budget)]
    for other in others:
        lines.append(f"against:\n{other.explain()}\n{first.compare(other)} of its latency")
    return "\n".join(lines)


def _document(
    first: LatencyEstimate, others: Sequence[LatencyEstimate], budget: float | None
) -> dict[str, Any]:
    content = first.as_dict()
    if budget is not None:
        content |= {"budget_ms": budget, "verdict": first.verdict(budget).as_json()}
    for other in others:
        ratio = first.compare(other)
        content["against"] = other.as_dict()
        content["ratio"] = {"ratio": ratio.ratio, "low": ratio.low, "high": ratio.high}
    return content


def _inference(
    path: Path, profile: Profile, question: _Question, say: Callable[[str], None]
) -> Inference:
    from edge_harness.clock.counting.inference import of_file
    from edge_harness.models.file import read_model
    from edge_harness.runtimes import load_request

    file = read_model(path)
    request = load_request(
        file,
        profile,
        runtime=question.runtime,
        threads=question.threads,
        options={"kernels": question.kernels},
    )
    return of_file(file, request, question.samples, progress=say)
