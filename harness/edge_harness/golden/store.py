"""Golden files: a text that a review can read, with the values where they are few; else beside
it an .npz (never pickled) that the text names by its hash."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from edge_harness.models.archives import Unreadable, read_arrays
from edge_harness.models.tensors import Array

HEAD = "golden outputs, format 1"
#: Golden outputs with more values in all are kept in an .npz.
TEXT_VALUES = 1024
#: Parts a big array's summary shows the mean of.
_PARTS = 16
_FIELDS = re.compile(
    r"(?P<name>\"(?:[^\"\\]|\\.)*\") (?P<dtype>\w+) (?P<shape>\[[\d, ]*\])(?P<rest>.*)"
)


class Damaged(Exception):
    """The file is not what was written."""


@dataclass(frozen=True, kw_only=True)
class Golden:
    """Arrays and where they come from."""

    arrays: dict[str, Array]
    made_by: str = ""
    """Device, runtime and kernels, where they were known."""
    scales: dict[str, tuple[float, int]] = field(default_factory=dict)
    """Scale and zero point of quantized outputs, by name."""


def write(path: Path, golden: Golden) -> None:
    """Write ``path`` (and its .npz where the arrays are big), each at once or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(".npz")
    big = sum(a.size for a in golden.arrays.values()) > TEXT_VALUES or any(
        not _textual(a) for a in golden.arrays.values()
    )
    if big:
        temporary = beside.with_name(f".{beside.name}.{os.getpid()}.npz")
        # Numbers for names: not every output's name is one of a file in an archive.
        np.savez_compressed(
            temporary, **{f"output{i}": a for i, a in enumerate(golden.arrays.values())}
        )
        temporary.replace(beside)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(_text(golden, big=big))
    temporary.replace(path)
    if not big:
        beside.unlink(missing_ok=True)


def _textual(array: Array) -> bool:
    return array.dtype.kind in "biu" or array.dtype in (np.float32, np.float64, np.float16)


def _digest(array: Array) -> str:
    content = np.ascontiguousarray(array)
    return hashlib.sha256(content.reshape(-1).view(np.uint8).tobytes()).hexdigest()[:16]


def _text(golden: Golden, *, big: bool) -> str:
    lines = [HEAD]
    if golden.made_by:
        lines.append(f"made by {golden.made_by}")
    for name, array in golden.arrays.items():
        head = f"output {json.dumps(name)} {array.dtype.name} {list(array.shape)}"
        if name in golden.scales:
            scale, zero = golden.scales[name]
            head += f" scale {scale!r} zero_point {zero}"
        lines.append(f"{head} sha256 {_digest(array)}" + (" in npz" if big else ""))
        lines += _summary(array) if big else _rows(array)
    return "\n".join(lines) + "\n"


def _rows(array: Array) -> list[str]:
    if not array.size:
        return []
    width = array.shape[-1] if array.ndim else 1
    flat = array.astype(np.uint8) if array.dtype.kind == "b" else array
    # Float16 and 32 in the fewest digits that give them back, as NumPy writes scalars.
    return ["  " + " ".join(str(value) for value in row) for row in flat.reshape(-1, max(width, 1))]


def _summary(array: Array) -> list[str]:
    """What a review can see of a big array: its range and the means of its parts."""
    if not array.size or array.dtype.kind == "c":
        return []
    real = array.reshape(-1).astype(np.float64)
    means = [part.mean() for part in np.array_split(real, min(_PARTS, real.size))]
    spread = f"mean {real.mean():.6g}, deviation {real.std():.6g}"
    return [
        f"  from {real.min():.6g} to {real.max():.6g}, {spread}",
        "  means of parts: " + " ".join(f"{mean:.6g}" for mean in means),
    ]


def read(path: Path) -> Golden:
    """The golden at ``path``.

    Raises:
        Damaged: the text cannot be read, or its values or .npz are not those it names.
        FileNotFoundError: there is none.
    """
    lines = path.read_text().splitlines()
    if not lines or lines[0] != HEAD:
        raise Damaged(f"line 1 is not {HEAD!r}")
    made_by = ""
    heads: list[tuple[int, Any]] = []
    body: dict[int, list[str]] = {}
    for number, line in enumerate(lines[1:], 2):
        if line.startswith("made by "):
            made_by = line[len("made by ") :]
        elif line.startswith("output "):
            match = _FIELDS.fullmatch(line[len("output ") :])
            if match is None:
                raise Damaged(f"line {number} is not understood: {line!r:.80}")
            heads.append((number, match))
            body[number] = []
        elif line.startswith("  ") and heads:
            body[heads[-1][0]].append(line)
        elif line.strip():
            raise Damaged(f"line {number} is not understood: {line!r:.80}")
    archive = _archive(path.with_suffix(".npz")) if any(_big(m) for _, m in heads) else {}
    arrays = {}
    scales = {}
    for position, (number, match) in enumerate(heads):
        name = json.loads(match["name"])
        try:
            dtype, shape = np.dtype(match["dtype"]), tuple(json.loads(match["shape"]))
            array = (
                archive[f"output{position}"]
                if _big(match)
                else _parsed(body[number], dtype).reshape(shape)
            )
        except (KeyError, ValueError, TypeError, OverflowError) as error:
            raise Damaged(f"the values of output {name!r} (line {number}): {error}") from None
        digest = re.search(r" sha256 (\w+)", match["rest"])
        if digest is None or digest[1] != _digest(array) or array.dtype != dtype:
            raise Damaged(
                f"the values of output {name!r} are not those that line {number} was written "
                "for: changed by hand, or merged from two"
            )
        arrays[name] = array
        found = re.search(r" scale (\S+) zero_point (\S+)", match["rest"])
        if found is not None:
            scales[name] = float(found[1]), int(found[2])
    return Golden(arrays=arrays, made_by=made_by, scales=scales)


def _big(match: re.Match[str]) -> bool:
    return match["rest"].endswith(" in npz")


def _parsed(lines: list[str], dtype: np.dtype[Any]) -> Array:
    words = " ".join(lines).split()
    if dtype.kind in "iub":
        # Not by way of floats: 64-bit integers are exact.
        numbers = [int(word) for word in words]
        limits = np.iinfo(np.uint8 if dtype.kind == "b" else dtype)
        if any(not limits.min <= number <= limits.max for number in numbers):
            raise ValueError(f"a number is out of the range of {dtype.name}")
        return np.array(numbers, object).astype(dtype)
    return np.asarray([float(word) for word in words], np.float64).astype(dtype)


def _archive(path: Path) -> Mapping[str, Array]:
    try:
        return read_arrays(path)
    except FileNotFoundError:
        raise Damaged(f"{path.name}, which it names, is not there: commit both") from None
    except Unreadable as error:
        raise Damaged(f"{path.name} cannot be read: {error}") from None
