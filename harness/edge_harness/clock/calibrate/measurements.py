"""Measured latencies from a CSV, each with the counts of the same inference, emulated."""

from __future__ import annotations

import csv
import math
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from edge_harness.clock.calibrate import published
from edge_harness.clock.calibrate.architectures import build
from edge_harness.clock.calibrate.fit import Row
from edge_harness.clock.counting.count import count
from edge_harness.clock.counting.inference import of_file
from edge_harness.clock.pipeline import core_named
from edge_harness.clock.steps import Step, steps_of
from edge_harness.clock.trust import thread_equivalent
from edge_harness.errors import EdgeError, UserError
from edge_harness.models.file import read_model
from edge_harness.profiles import default_registry
from edge_harness.runtimes import FORMATS, RUNTIMES, load_request

if TYPE_CHECKING:
    from edge_harness.profiles import Profile, ProfileRegistry

Progress = Callable[[str], None]
_COLUMNS = ("model", "device", "threads", "latency_ms")


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """A row of the CSV, understood."""

    id: str
    board: str
    model: str
    """A file, or the name of a network in :mod:`edge_harness.clock.calibrate.architectures`."""
    family: str
    precision: str
    kernels: str
    runtime: str
    """``tflite``, ``litert``, ``onnx``, or pinned."""
    threads: int
    mhz: float
    latency_ms: float
    whole: bool
    same_code: bool
    """Whether it was measured with code of the profile's own word size."""
    source: str


@dataclass(frozen=True, kw_only=True)
class Unused:
    """A row that cannot be used, and why."""

    id: str
    reason: str


def read_csv(
    path: Path | None, registry: ProfileRegistry
) -> tuple[list[Measurement], list[Unused]]:
    """Rows of the user's CSV, or of the published table where ``path`` is None.

    Raises:
        UserError: the file is not a CSV with the columns needed.
    """
    if path is None:
        return _published(None)
    try:
        # Spreadsheets begin their UTF-8 with a byte order mark.
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            names = reader.fieldnames or []
            rows = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(
            f"the measurements {str(path)!r} cannot be read: {error}",
            next_step="give a CSV file in UTF-8 with a line of column names",
        ) from None
    if missing := [name for name in _COLUMNS if name not in names]:
        raise UserError(
            f"{str(path)!r} has no column {', '.join(map(repr, missing))}",
            next_step=f"it has {names}; docs/clock.md lists the columns",
        )
    if rows and not any(_is_file(row["model"] or "") for row in rows):
        return _published(path)
    wanted: list[Measurement] = []
    left: list[Unused] = []
    for number, row in enumerate(rows, start=2):
        name = row.get("id") or f"line {number}"
        try:
            wanted.append(_own(row, name, path, registry))
        except (EdgeError, ValueError) as error:
            left.append(Unused(id=name, reason=getattr(error, "message", str(error))))
    return wanted, left


def _is_file(model: str) -> bool:
    return model.endswith(tuple(s for row in FORMATS.values() for s in row.suffixes))


def _own(row: Mapping[str, str], name: str, path: Path, registry: ProfileRegistry) -> Measurement:
    if missing := [column for column in _COLUMNS if not row[column]]:
        raise ValueError(f"nothing in the column {', '.join(map(repr, missing))}")
    profile = registry.get(row["device"])
    model = path.parent / row["model"]
    most = profile.total_cores
    threads = _number(row, "threads")
    if threads != int(threads) or not threads <= most:
        raise ValueError(f"threads = {row['threads']!r}, but {profile.name} has {most} core(s)")
    kernels = row.get("kernels") or None
    request = load_request(
        read_model(model),
        profile,
        runtime=row.get("runtime") or None,
        options={"kernels": kernels},
    )
    return Measurement(
        id=name,
        board=profile.name,
        model=str(model),
        family=row.get("family") or model.stem,
        precision=row.get("precision") or "",
        kernels=request.header().get("kernels", ""),
        runtime=row.get("runtime") or request.runtime.name,
        threads=int(threads),
        mhz=_number(row, "freq_mhz") if row.get("freq_mhz") else profile.cpu.mhz,
        latency_ms=_number(row, "latency_ms"),
        whole=(row.get("whole") or "yes").lower() not in ("no", "0", "false"),
        same_code=True,
        source=row.get("source") or path.name,
    )


def _number(row: Mapping[str, str], column: str) -> float:
    try:
        number = float(row[column])
    except ValueError:
        raise ValueError(f"{column} = {row[column]!r} is not a number") from None
    if not 0 < number < math.inf:
        raise ValueError(f"{column} = {row[column]!r} is not positive")
    return number


def _published(path: Path | None) -> tuple[list[Measurement], list[Unused]]:
    """Networks by name, as the published table has them."""
    mapped, others = published.read(path) if path else published.read()
    boards = default_registry()

    def runtime_of(row: Any) -> str:
        # The wheel of tflite-runtime 2.14 does not use the dot-product instructions of cores that
        # have them (its ruy does not see them); the measured builds of TFLite did, and so does
        # LiteRT's. The same instructions, or the fit would be of something else.
        dot = "asimddp" in boards.get(row.profile).cpu.features
        runtime = RUNTIMES[row.runtime]
        if dot and row.kernels == "builtin" and row.precision != "fp32":
            same_format = RUNTIMES.running(runtime.formats[0])
            return next((each.name for each in same_format if each.dot_product), runtime.name)
        return runtime.name

    wanted = [
        Measurement(
            id=row.id,
            board=row.profile,
            model=row.model,
            family=_family(row.model),
            precision=row.precision,
            kernels=row.kernels,
            runtime=runtime_of(row),
            threads=row.threads,
            mhz=row.frequency_mhz,
            latency_ms=row.latency_ms,
            # XNNPACK's own benchmark runs the operators and nothing around them.
            whole=row.kernels != "xnnpack" or "XNNPACK README" not in row.source,
            same_code=row.arch == boards.get(row.profile).os.arch,
            source=row.source.partition("@")[0].partition("/results/")[0],
        )
        for row in mapped
    ]
    return wanted, [Unused(id=row.id, reason=row.reason) for row in others]


def _family(model: str) -> str:
    for prefix in ("mobilenet_v1", "mobilenet_v2", "mobilenet_v3", "efficientnet_lite", "resnet50"):
        if model.startswith(prefix):
            return prefix
    return model.partition(":")[0]


def measured_rows(
    wanted: Sequence[Measurement],
    registry: ProfileRegistry,
    progress: Progress | None = None,
) -> tuple[list[Row], list[Unused]]:
    """The rows with their steps; each different inference is counted once (and cached)."""
    rows: list[Row] = []
    left: list[Unused] = []
    with _model_files() as file_of:
        for board in dict.fromkeys(row.board for row in wanted):
            profile = registry.get(board)
            known: dict[tuple[str, str, str, str], _Counted | Unused] = {}
            for row in (row for row in wanted if row.board == board):
                key = (row.model, row.precision, row.kernels, row.runtime)
                if key not in known:
                    known[key] = _counted(profile, file_of, row, progress)
                found = known[key]
                if isinstance(found, Unused):
                    left.append(Unused(id=row.id, reason=found.reason))
                else:
                    rows.append(_row(profile, row, found))
    order = {row.id: position for position, row in enumerate(wanted)}
    return sorted(rows, key=lambda row: order[row.id]), left


def _counted(
    profile: Profile,
    file_of: Callable[[str, str], Path],
    row: Measurement,
    progress: Progress | None,
) -> _Counted | Unused:
    try:
        model = read_model(file_of(row.model, row.precision))
        request = load_request(
            model,
            profile,
            runtime=row.runtime,
            options={"kernels": row.kernels} if row.kernels else None,
        )
        inference = of_file(model, request)
        counted = count(profile, inference, progress=progress)
    except EdgeError as error:
        return Unused(id=row.id, reason=error.message)
    operators = inference.operators
    return _Counted(
        steps=steps_of(profile, counted.steady, operators, delegated=counted.delegated),
        float_inputs=inference.float_inputs,
        macs=sum(o.macs for o in operators),
        activation_bytes=sum(o.activation_bytes for o in operators),
    )


class _Counted(NamedTuple):
    """What a row needs of its inference, whatever was measured."""

    steps: list[Step]
    float_inputs: int
    macs: int
    activation_bytes: int


def _row(profile: Profile, row: Measurement, counted: _Counted) -> Row:
    return Row(
        id=row.id,
        board=row.board,
        core=core_named(profile.cpu.core).name,
        family=row.family,
        model=row.model,
        precision="fp32" if row.precision in ("fp32", "") else "int8",
        latency_ms=row.latency_ms,
        mhz=row.mhz,
        threads=thread_equivalent(profile, row.threads),
        float_inputs=counted.float_inputs,
        whole=row.whole,
        steps=counted.steps,
        dram_peak_gb_s=profile.memory.bandwidth_gb_s,
        macs=counted.macs,
        activation_bytes=counted.activation_bytes,
    )


@contextmanager
def _model_files() -> Iterator[Callable[[str, str], Path]]:
    """Files of networks by name and precision, built when asked for, gone at the end."""
    with tempfile.TemporaryDirectory(prefix="edge-networks-") as folder:

        @cache
        def file_of(model: str, precision: str) -> Path:
            if _is_file(model):
                return Path(model)
            plain = "".join(c if c.isalnum() or c in "._" else "-" for c in model)
            path = Path(folder) / f"{plain[:80]}-{precision}.tflite"
            path.write_bytes(build(model, precision))
            return path

        yield file_of
