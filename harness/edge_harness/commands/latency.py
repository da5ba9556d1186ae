"""``edge-harness latency`` and ``edge-harness calibrate``."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from edge_harness.clock.counting.count import Subject
    from edge_harness.clock.estimate import LatencyEstimate
    from edge_harness.models.file import ModelFile
    from edge_harness.profiles import Profile


def _milliseconds(_context: click.Context, _option: click.Parameter, text: str | None) -> Any:
    if text is None:
        return None
    found = re.fullmatch(r"\s*([0-9]*\.?[0-9]+)\s*(ms|s|us|µs)?\s*", text)
    if found is None or float(found[1]) <= 0:
        raise click.BadParameter(f"{text!r} is not a time; write it as '40 ms'")
    return float(found[1]) * {"s": 1e3, "us": 1e-3, "µs": 1e-3}.get(found[2] or "ms", 1.0)


#: What a budget's verdict ends the command with.
_STATUS = {"passed": 0, "failed": 1, "inconclusive": 4}


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--device", required=True, help="The board.")
@click.option("--threads", type=click.IntRange(min=1), default=1, show_default=True)
@click.option("--runtime", help="tflite, litert, onnx, or pinned as onnxruntime==1.20.1.")
@click.option(
    "--kernels",
    type=click.Choice(["xnnpack", "builtin", "reference"]),
    default="xnnpack",
    show_default=True,
    help="Of TFLite: with its default delegate, or without.",
)
@click.option("--input", "input_file", type=click.Path(path_type=Path), help="Inputs, as .npz.")
@click.option("--budget", callback=_milliseconds, help="As '40 ms': status 1 if missed, 4 if open.")
@click.option("--against", type=click.Path(path_type=Path), help="A second model, to compare.")
@click.option("--refresh", is_flag=True, help="Count again although nothing has changed.")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def latency(
    model: Path,
    device: str,
    threads: int,
    runtime: str | None,
    kernels: str,
    input_file: Path | None,
    budget: float | None,
    against: Path | None,
    refresh: bool,
    as_json: bool,
) -> None:
    """Predict how long one inference of MODEL takes on a board.

    From the instructions that its kernels execute on the emulated core, with bounds.
    """
    from edge_harness.cli import _registry, progress
    from edge_harness.clock.counting.predict import predict
    from edge_harness.device.device import sweep

    profile = _registry().get(device)
    options = {"runtime": runtime, "kernels": kernels, "input_file": input_file}
    subjects = [_subject(path, profile, **options) for path in (model, against) if path]
    sweep()
    with progress() as say:
        found = [
            predict(profile, subject, threads=threads, refresh=refresh, progress=say)
            for subject in subjects
        ]
    _show(found, budget, as_json=as_json)
    if budget is not None:
        sys.exit(_STATUS[found[0].verdict(budget).word])


def _show(found: list[LatencyEstimate], budget: float | None, *, as_json: bool) -> None:
    first = found[0]
    if as_json:
        import json

        answer = first.as_dict()
        if budget is not None:
            answer |= {"budget_ms": budget, "verdict": first.verdict(budget).as_json()}
        if len(found) > 1:
            ratio = first.compare(found[1])
            answer["against"] = found[1].as_dict()
            answer["ratio"] = {"ratio": ratio.ratio, "low": ratio.low, "high": ratio.high}
        click.echo(json.dumps(answer, indent=1))
        return
    click.echo(first.explain(budget))
    if len(found) > 1:
        click.echo(f"against:\n{found[1].explain()}\n{first.compare(found[1])} of its latency")


def _subject(
    path: Path, profile: Profile, *, runtime: Any, kernels: Any, input_file: Any
) -> Subject:
    from edge_harness.clock.counting.count import Subject
    from edge_harness.errors import OptionError
    from edge_harness.models.file import RUNTIMES, read_model, runtime_requirement
    from edge_harness.runtimes import FORMATS
    from edge_harness.runtimes import RUNTIMES as ROWS

    file = read_model(path)
    asked = runtime or profile.default_runtime(FORMATS[file.format])
    module, requirement = runtime_requirement(asked, profile.runtimes.defaults())
    if asked in RUNTIMES:
        requirement = profile.runtime_requirement(ROWS[asked])
    if (module == "onnx") != (file.format == "onnx"):
        raise OptionError(
            f"runtime {asked!r} cannot run a {file.format} model",
            next_step="leave --runtime out, or name one for this format",
        )
    options: dict[str, Any] = {} if module == "onnx" else {"kernels": kernels}
    return Subject(
        model=file.path,
        content=file.content,
        format=file.format,
        runtime=requirement,
        module=module,
        options=tuple(sorted(options.items())),
        inputs=_inputs(file, input_file),
    )


def _inputs(file: ModelFile, input_file: Path | None) -> Any:
    from edge_harness.clock.counting.inputs import default_inputs, given_inputs

    return default_inputs(file) if input_file is None else given_inputs(file, input_file)


@click.command()
@click.argument("measurements", required=False, type=click.Path(path_type=Path))
@click.option("--device", help="Fit this board alone (default: report on all in the file).")
@click.option(
    "--write",
    "write_to",
    type=click.Path(path_type=Path),
    help="Profile file to put the fit into, as [clock].",
)
@click.option(
    "--write-all",
    "write_all",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="Folder of profiles to put the fits of all boards into, each as [clock].",
)
@click.option("--general", is_flag=True, help="Also refit what holds for boards in general.")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def calibrate(
    measurements: Path | None,
    device: str | None,
    write_to: Path | None,
    write_all: Path | None,
    general: bool,
    as_json: bool,
) -> None:
    """Fit the device clock to measured latencies, and report its errors.

    MEASUREMENTS is a CSV with the columns model (a file, or the name of a published network such
    as mobilenet_v1_1.0_224), precision, device, runtime, threads and latency_ms; without it the
    published table that the package carries is taken. Needs the extra "calibrate".
    """
    from edge_harness.cli import _registry, progress
    from edge_harness.clock.calibrate import run as calibration

    with progress() as say:
        report, left = calibration.run_calibration(
            _registry(),
            measurements,
            device=device,
            write_to=write_to,
            write_all=write_all,
            general=general,
            progress=say,
        )
    # Not before the moving line is gone: a terminal would show both in one place.
    if as_json:
        click.echo(calibration.as_json(report))
    else:
        calibration.print_report(report, left, write_to)
