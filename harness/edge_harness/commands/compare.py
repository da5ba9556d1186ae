"""``edge-harness compare``: one model on a device beside a reference."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edge_harness.commands import common
from edge_harness.commands.status import complain, of_verdict

if TYPE_CHECKING:
    from edge_harness.device.session import Session
    from edge_harness.fidelity import LayerReport, Report
    from edge_harness.fidelity.reference import Way
    from edge_harness.fidelity.report import Kind
    from edge_harness.models.tensors import Array
    from edge_harness.profiles import Profile
    from edge_harness.runtimes import Kernels


@click.command()
@common.device_option()
@common.engine_option()
@common.samples_option()
@click.option(
    "--kind",
    type=click.Choice(("port", "quantization", "student")),
    help="What REFERENCE is to MODEL. Default: port for the same file, else quantization.",
)
@click.option(
    "--by",
    type=click.Choice(("trusted", "native", "device")),
    default="trusted",
    show_default=True,
    help="What executes the reference.",
)
@common.runtime_option()
@common.threads_option()
@common.kernels_option()
@click.option(
    "--tolerance",
    "tolerances",
    multiple=True,
    metavar="NAME=NUMBER",
    help="As max_steps=2; may be repeated.",
)
@click.option("--layers", is_flag=True, help="Also walk through the layers, on the worst sample.")
@click.option("--plot", metavar="FILE", help="Draw that walk: .svg, .png or .pdf.")
@common.json_option()
@click.argument("model")
@click.argument("reference", required=False)
def compare(
    devices: tuple[str, ...],
    model: str,
    reference: str | None,
    engine: str | None,
    samples: Path | None,
    kind: Kind | None,
    by: Way,
    runtime: str | None,
    threads: int,
    kernels: Kernels | None,
    tolerances: tuple[str, ...],
    layers: bool,
    plot: str | None,
    as_json: bool,
) -> None:
    """Compare MODEL on a device with REFERENCE.

    Without REFERENCE with a trusted execution of MODEL itself. Ends with status 0 if it passed, 1
    if it did not, and 4 if it proved nothing.
    """
    from edge_harness import fidelity
    from edge_harness.device.lease import sweep
    from edge_harness.fidelity.tolerances import parse_tolerances
    from edge_harness.models.samples import read_samples

    boards = common.selected(devices)
    limits = parse_tolerances(tolerances)
    fidelity.DEFAULTS.but(limits)
    question = _Question(
        model=model,
        reference=reference,
        engine=common.engine_for(engine),
        samples=samples,
        given=None if samples is None else read_samples(samples),
        kind=kind,
        by=by,
        runtime=runtime,
        threads=threads,
        kernels=kernels,
        limits=limits,
        layers=layers or plot is not None,
        plot=plot,
    )
    # What is wrong with the request was said before anything is started.
    sweep(complain)
    sys.exit(common.answer_for_each(boards, question.ask, as_json=as_json))


@dataclass(frozen=True, kw_only=True)
class _Question:
    """What is asked about each board."""

    model: str
    reference: str | None
    engine: str
    samples: Path | None
    given: Mapping[str, Array] | None
    kind: Kind | None
    by: Way
    runtime: str | None
    threads: int
    kernels: Kernels | None
    limits: Mapping[str, float]
    layers: bool
    plot: str | None

    def ask(self, profile: Profile) -> common.Answer:
        """Compare on ``profile``.

        Raises:
            EdgeError: something is wrong with the request, the device or the machinery.
        """
        from edge_harness import fidelity
        from edge_harness.opening import open_device

        walk = None
        with (
            common.progress() as say,
            open_device(profile, engine=self.engine, progress=say) as device,
            device.load(
                self.model, runtime=self.runtime, threads=self.threads, kernels=self.kernels
            ) as session,
        ):
            arrays, labels = self._samples(session)
            report = fidelity.compare(
                session,
                self.reference,
                arrays,
                kind=self.kind,
                by=self.by,
                labels=labels,
                tolerances=self.limits,
            )
            if self.layers:
                assert report.worst is not None
                worst = list(report.worst.inputs)
                walk = fidelity.layers(
                    session, self.reference, worst, by=self.by, tolerances=self.limits
                )
        if walk is not None and self.plot:
            walk.plot(self.plot)
        return common.Answer(
            status=of_verdict(report.verdict.word),
            show=lambda: click.echo(self._text(report, walk)),
            document=self._document(report, walk),
        )

    def _samples(self, session: Session) -> tuple[list[list[Array]], list[int] | None]:
        from edge_harness.models.samples import arrange_samples, drawn

        if self.samples is None or self.given is None:
            return drawn(session.inputs), None
        return arrange_samples(self.given, session.inputs, self.samples)

    def _text(self, report: Report, walk: LayerReport | None) -> str:
        lines = [str(report)]
        if self.samples is None:
            lines.append(
                f"  samples:   {_drawn()}; they say little of quantization,\n"
                "             give real ones with --samples"
            )
        if walk is not None:
            lines.append(f"\n{walk}")
        return "\n".join(lines)

    def _document(self, report: Report, walk: LayerReport | None) -> dict[str, Any]:
        content = report.as_dict()
        content["samples_from"] = _drawn() if self.samples is None else str(self.samples)
        if walk is not None:
            content["layers"] = walk.as_dict()
        return content


def _drawn() -> str:
    from edge_harness.models.samples import DRAWN, SEED

    return f"{DRAWN} drawn at random, seed {SEED}"
