"""Outputs against the golden ones of the running test."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edge_harness.errors import OptionError
from edge_harness.fidelity.distance import FLOAT_ATOL, FLOAT_RTOL, Tolerance, distance
from edge_harness.golden.running_test import RunningTest, running_test
from edge_harness.golden.store import Damaged, Golden, read, write
from edge_harness.models.tensors import Array, Tensor

if TYPE_CHECKING:
    from edge_harness.device.session import Session

FOLDER = "goldens"


class GoldenFailed(AssertionError):
    """Outputs are not the golden ones, or there are none; the message ends in what to do."""


def assert_golden(
    outputs: Any,
    name: str = "",
    *,
    session: Session | None = None,
    max_steps: float = 0,
    rtol: float = FLOAT_RTOL,
    atol: float = FLOAT_ATOL,
    max_ulp: int | None = None,
    finite: bool = True,
    per_device: bool = True,
    path: str | Path | None = None,
    update: bool | None = None,
) -> None:
    """Assert that ``outputs`` are the golden ones of this test.

    Golden files are ``goldens/FILE/TEST.txt`` beside the test's file; where values are many, an
    .npz of the same name beside it. A test that asks several times without ``name`` gets
    ``TEST-2.txt`` and so on.

    Args:
        outputs: what ``session.run`` or ``run_many`` returned, or arrays by name, or one array.
        name: tells several goldens of one test apart.
        session: what gave them: the golden then says which device, runtime and kernels made it.
        max_steps: of whole numbers, in quantization steps; 0 means equal to the last step.
        rtol, atol: of floats: ``atol + rtol * |golden|``.
        max_ulp: of floats, instead: units in the last place of the output's dtype.
        finite: whether NaN and infinity fail, also as golden values.
        per_device: whether each device has goldens of its own; without, all must agree on one.
        path: the file, instead of one beside the running test.
        update: whether to write; by default as ``--edge-update-goldens`` says.

    Raises:
        GoldenFailed: they differ, or there is no golden yet, or it is damaged.
        OptionError: no test is running and ``path`` is missing.
    """
    __tracebackhide__ = True
    current = running_test()
    file = Path(path) if path is not None else _file(current, name, per_device)
    writing = update if update is not None else current is not None and current.update
    arrays = _arrays(outputs)
    if finite:
        _refuse_nonfinite(arrays, file)
    again = "update=True" if current is None else current.again
    try:
        golden = read(file)
    except FileNotFoundError:
        golden = None
        trouble = f"there is no golden {_shown(file)}"
    except Damaged as error:
        golden = None
        trouble = f"the golden {_shown(file)} is damaged: {error}"
    if golden is None and not writing:
        raise GoldenFailed(
            f"{trouble}\n  these outputs: {_brief(arrays)}\n  next: look at the outputs, then "
            f"write it with {again}"
        )
    new = _golden(arrays, session)
    if writing:
        if golden is None or not _identical(golden.arrays, arrays):
            write(file, new)
            if not _identical(read(file).arrays, arrays):
                raise AssertionError(f"{file} does not give back what was written")
            if current is not None:
                current.written.append(_shown(file))
        return
    assert golden is not None
    tolerance = Tolerance(max_steps=max_steps, rtol=rtol, atol=atol)
    wrong = _differences(golden, arrays, tolerance, max_ulp)
    if wrong:
        sides = f"\n  golden: {golden.made_by}" if golden.made_by else ""
        sides += f"\n  now:    {new.made_by}" if new.made_by else ""
        raise GoldenFailed(
            f"outputs are not those of {_shown(file)}:\n  "
            + "\n  ".join(wrong)
            + sides
            + f"\n  next: if the new outputs are right, write them with {again}, and review the "
            "diff"
        )


def _arrays(outputs: Any) -> dict[str, Array]:
    if isinstance(outputs, Mapping):
        return {str(name): np.asarray(array) for name, array in outputs.items()}
    if isinstance(outputs, np.ndarray | np.generic):
        return {"output": np.asarray(outputs)}
    if isinstance(outputs, Sequence) and outputs and isinstance(outputs[0], Mapping):
        # Of run_many: one array a name, the samples in front.
        return {str(n): np.stack([np.asarray(each[n]) for each in outputs]) for n in outputs[0]}
    raise OptionError(
        f"golden outputs cannot be a {type(outputs).__name__} ({outputs!r:.60})",
        next_step="pass what session.run or run_many returned, {name: array}, or an array",
    )


def _file(current: RunningTest | None, name: str, per_device: bool) -> Path:
    if current is None:
        raise OptionError(
            "no test is running in this thread, so there is no file for its golden",
            next_step="call it from the test itself, or pass path=…",
        )
    test = current.name
    if not per_device and current.device:
        device = re.escape(current.device)
        test = re.sub(rf"(?<=[\[-]){device}(?=[\]-])-?", "", test).replace("-]", "]")
        test = test.replace("[]", "")
    key = f"{test}-{name}" if name else test
    count = current.asked[key] = current.asked.get(key, 0) + 1
    if count > 1 and name:
        raise OptionError(
            f"this test has two goldens of the name {name!r}", next_step="give them two names"
        )
    label = re.sub(r"[^\w.=-]+", "_", key if count == 1 else f"{key}-{count}").strip("_")
    return current.path.parent / FOLDER / current.path.stem / f"{label}.txt"


def _shown(file: Path) -> str:
    return os.path.relpath(file)


def _brief(arrays: Mapping[str, Array]) -> str:
    return ", ".join(f"{n!r} {a.dtype.name} {list(a.shape)}" for n, a in arrays.items())


def _refuse_nonfinite(arrays: Mapping[str, Array], file: Path) -> None:
    __tracebackhide__ = True
    for name, array in arrays.items():
        if array.dtype.kind in "fc" and not np.isfinite(array).all():
            bad = ~np.isfinite(array)
            raise GoldenFailed(
                f"output {name!r} has {int(bad.sum())} of {array.size} values that are not "
                f"finite, the first at {np.argwhere(bad)[0].tolist()}\n  next: mend the model, "
                f"or pass finite=False where they are meant ({_shown(file)})"
            )


def _golden(arrays: dict[str, Array], session: Session | None) -> Golden:
    if session is None:
        return Golden(arrays=arrays)
    return Golden(
        arrays=arrays,
        made_by=f"{session.device.name} ({session.device.engine}), {session.runtime}, kernels "
        f"{session.kernels}",
        scales={
            t.name: (t.scale, t.zero_point)
            for t in session.outputs
            if t.name in arrays and t.scale and arrays[t.name].dtype.kind in "iu"
        },
    )


def _identical(one: Mapping[str, Array], other: Mapping[str, Array]) -> bool:
    return list(one) == list(other) and all(
        a.dtype == other[n].dtype
        and a.shape == other[n].shape
        and a.tobytes() == other[n].tobytes()
        for n, a in one.items()
    )


def _differences(
    golden: Golden, arrays: Mapping[str, Array], tolerance: Tolerance, max_ulp: int | None
) -> list[str]:
    wrong = []
    if missing := [name for name in golden.arrays if name not in arrays]:
        wrong.append(f"missing outputs: {', '.join(map(repr, missing))}")
    if unknown := [name for name in arrays if name not in golden.arrays]:
        wrong.append(f"outputs the golden does not have: {', '.join(map(repr, unknown))}")
    for name, wanted in golden.arrays.items():
        actual = arrays.get(name)
        if actual is None:
            continue
        if (actual.dtype, actual.shape) != (wanted.dtype, wanted.shape):
            wrong.append(
                f"{name!r} is {actual.dtype.name} {list(actual.shape)}, the golden "
                f"{wanted.dtype.name} {list(wanted.shape)}"
            )
        elif max_ulp is not None and wanted.dtype.kind == "f":
            wrong += _in_ulp(name, actual, wanted, max_ulp)
        else:
            tensor = Tensor(name=name, index=0, dtype=wanted.dtype, shape=(), shape_signature=())
            far = distance(actual, wanted, tensor, tensor, tolerance)
            if not far.units <= 1:
                wrong.append(f"{name!r} is {far.text}")
    return wrong


def _in_ulp(name: str, actual: Array, wanted: Array, max_ulp: int) -> list[str]:
    from edge_harness.fidelity.metrics import ulps

    # NaN and infinity, where finite=False lets them through, are equal to themselves only.
    same = (actual == wanted) | (np.isnan(actual) & np.isnan(wanted))
    apart = ulps(actual, wanted)
    far = np.where(same, 0.0, np.where(np.isnan(apart), np.inf, apart))
    if not far.size or far.max() <= max_ulp:
        return []
    where = np.unravel_index(int(np.argmax(far)), far.shape)
    many = int(np.count_nonzero(far > max_ulp))
    place = f"at {[int(i) for i in where]} {actual[where]} instead of {wanted[where]}"
    count = f"{many} of {far.size} values are too far"
    return [f"{name!r} is up to {far[where]:g} ULP off (allowed {max_ulp}): {place}; {count}"]


__all__ = ["FOLDER", "GoldenFailed", "assert_golden"]
