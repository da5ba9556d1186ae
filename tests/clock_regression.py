"""What the device clock's arithmetic makes of recorded counts; ``tests/unit/data/clock`` has both.

The files hold what was counted on emulated boards beside what the clock makes of it, so that a
changed formula, table or core file shows without an emulator, as llvm-mca's regression files do for
a scheduling model. After a change that is meant, look at what it does and write it down with

    python -m tests.clock_regression

from the top of the repository.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import msgspec
from edge_harness.clock.calibrate.fit import Row, fit_general
from edge_harness.clock.calibrate.held_out import errors_general
from edge_harness.clock.calibrate.instruction_rate import fit_instruction_rate
from edge_harness.clock.calibrate.measurements import read_csv
from edge_harness.clock.calibrate.report import make_report
from edge_harness.clock.cost import cost
from edge_harness.clock.instructions import decode
from edge_harness.clock.milliseconds import estimate_from
from edge_harness.clock.operators import Operator
from edge_harness.clock.pipeline import block_cycles, core_named
from edge_harness.clock.steps import Step
from edge_harness.clock.trace import Counted, read_trace
from edge_harness.clock.trust import general_parameters, thread_equivalent, trust_for
from edge_harness.profiles import default_registry

DATA = Path(__file__).parent / "unit" / "data" / "clock"
BOARDS = default_registry()


# -- instructions ----------------------------------------------------------------------------------


def words(bits: int) -> list[tuple[str, str, str]]:
    """``(code in hexadecimal, assembly, what it was decoded to)``."""
    lines = (DATA / f"a{bits}_words.txt").read_text().splitlines()
    return [(code, text, seen) for code, text, seen in (line.split("\t") for line in lines)]


def decoded(code: str, bits: int) -> str:
    """Class, width, units of work, registers read > registers written."""
    (insn,) = decode(bytes.fromhex(code), 1, bits=bits)
    width = "q" if insn.quad else "d"
    registers = f"{' '.join(sorted(insn.reads))} > {' '.join(sorted(insn.writes))}".strip()
    return f"{insn.kind} {width} {insn.units}  {registers}"


# -- blocks ----------------------------------------------------------------------------------------


def blocks() -> list[dict[str, Any]]:
    """Blocks of instructions with their cycles by core."""
    with (DATA / "blocks.jsonl").open() as file:
        return [json.loads(line) for line in file]


def cycles(block: dict[str, Any], core: str) -> float:
    code = bytes.fromhex(block["code"])
    return block_cycles(core_named(core), code, block["insns"], bits=block["bits"])


# -- published measurements ------------------------------------------------------------------------


def published() -> list[dict[str, str]]:
    """Published measurements, each with the name of its count and what is predicted for it."""
    with (DATA / "published.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def counted_steps() -> dict[str, list[Step]]:
    """The steps of each count, by its name."""
    found: dict[str, list[Step]] = {}
    with (DATA / "steps.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            name = row.pop("count")
            rounded = {key: float(value) for key, value in row.items()}
            found.setdefault(name, []).append(
                Step(
                    name="",
                    kind="",
                    cycles=rounded.pop("cycles"),
                    serial_cycles=rounded.pop("serial_cycles"),
                    **{key: int(value) for key, value in rounded.items()},
                )
            )
    return found


def predicted_ms(row: dict[str, str], steps: list[Step], *, calibrated: bool) -> float:
    """Milliseconds for a published measurement, by the board's own calibration or by what holds for
    boards in general."""
    profile = BOARDS.get(row["board"])
    core = core_named(profile.cpu.core)
    general = general_parameters(profile.memory.bandwidth_gb_s, core)
    return cost(
        steps,
        trust_for(profile).parameters if calibrated else general,
        mhz=float(row["mhz"]),
        threads=thread_equivalent(profile, int(row["threads"])),
        float_inputs=int(row["float_inputs"]),
        whole=row["whole"] == "yes",
    ).total_ms


def measurements(boards: tuple[str, ...]) -> list[Row]:
    """The published measurements of some boards, as calibration takes them."""
    steps = counted_steps()
    return [
        Row(
            **{name: row[name] for name in ("id", "board", "core", "family", "model", "precision")},
            latency_ms=float(row["latency_ms"]),
            mhz=float(row["mhz"]),
            threads=thread_equivalent(BOARDS.get(row["board"]), int(row["threads"])),
            float_inputs=int(row["float_inputs"]),
            whole=row["whole"] == "yes",
            steps=steps[row["count"]],
            dram_peak_gb_s=BOARDS.get(row["board"]).memory.bandwidth_gb_s,
            macs=int(row["macs"]),
            activation_bytes=int(row["activation_bytes"]),
        )
        for row in published()
        if row["board"] in boards
    ]


def mapping() -> list[dict[str, str]]:
    """What each published measurement stands for here, or why it stands for nothing."""
    wanted, left = read_csv(None, BOARDS)
    left_out = {name: "" for name in asdict(wanted[0]) if name not in ("latency_ms", "source")}
    found = [
        {name: str(value) for name, value in asdict(row).items() if name in left_out}
        for row in wanted
    ]
    found = [{**row, "reason": ""} for row in found]
    return found + [{**left_out, "id": row.id, "reason": row.reason} for row in left]


def recorded_mapping() -> list[dict[str, str]]:
    """The same, when it was recorded."""
    with (DATA / "mapping.csv").open(newline="") as file:
        return list(csv.DictReader(file))


#: Few enough that they are fitted within a second or two.
FITTED = ("imx93-evk", "pixel", "rock-3399")


def report() -> dict[str, Any]:
    """What a calibration on the measurements of :data:`FITTED` comes to."""
    rows = measurements(FITTED)
    found = make_report(rows, dict.fromkeys(FITTED, "a test"), every_board=True)
    general = fit_general(rows)
    content: dict[str, Any] = {
        **found.as_json(),
        "general": {
            "parameters": msgspec.to_builtins(general.parameters),
            "dram_share": general.dram_share,
            "cores": general.cores,
            "errors": errors_general(rows, general).tolist(),
        },
        "instruction_rate": msgspec.to_builtins(fit_instruction_rate(rows)),
    }
    return content


# -- whole inferences ------------------------------------------------------------------------------


def traces() -> list[dict[str, Any]]:
    """Counted inferences: board, model's operators, traces, and the estimates made of them."""
    with (DATA / "inferences.jsonl").open() as file:
        return [json.loads(line) for line in file]


def estimates(inference: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The estimate for each number of threads, as plain values."""
    counted = Counted(
        runtime=inference["runtime"],
        kernels=inference["kernels"],
        delegates=tuple(inference["delegates"]),
        **{
            name: read_trace(
                gzip.decompress((DATA / f"{inference['name']}.{name}.gz").read_bytes()).decode(),
                inference["maps"],
            )
            for name in ("steady", "cold")
        },
    )
    for threads in inference["threads"]:
        estimate = estimate_from(
            BOARDS.get(inference["board"]),
            counted,
            [Operator(**fields) for fields in inference["operators"]],
            float_inputs=inference["float_inputs"],
            threads=threads,
            dot_product=inference["dot_product"],
        )
        plain: dict[str, Any] = json.loads(json.dumps(estimate.as_dict()))
        yield plain


# -- written down anew -----------------------------------------------------------------------------


def _write_lines(name: str, content: list[dict[str, Any]]) -> None:
    (DATA / name).write_text("".join(json.dumps(each) + "\n" for each in content))


def _table(rows: Sequence[Mapping[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def main() -> None:
    for bits in (64, 32):
        lines = (DATA / f"a{bits}_words.txt").read_text().splitlines()
        kept = [line.split("\t")[:2] for line in lines]
        (DATA / f"a{bits}_words.txt").write_text(
            "".join(f"{code}\t{text}\t{decoded(code, bits)}\n" for code, text in kept)
        )
    for block in (known := blocks()):
        block["cycles"] = {core: cycles(block, core) for core in block["cycles"]}
    _write_lines("blocks.jsonl", known)
    steps = counted_steps()
    rows = [
        {
            **row,
            "calibrated_ms": predicted_ms(row, steps[row["count"]], calibrated=True),
            "general_ms": predicted_ms(row, steps[row["count"]], calibrated=False),
        }
        for row in published()
    ]
    (DATA / "published.csv").write_text(_table(rows))
    (DATA / "mapping.csv").write_text(_table(mapping()))
    (DATA / "calibration.json").write_text(json.dumps(report(), indent=1) + "\n")
    for inference in (inferences := traces()):
        inference["estimates"] = list(estimates(inference))
    _write_lines("inferences.jsonl", inferences)


if __name__ == "__main__":
    main()
