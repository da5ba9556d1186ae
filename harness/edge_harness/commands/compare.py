"""``edge-harness compare``: one model on a device beside a reference."""

from __future__ import annotations

import contextlib
import json
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edge_harness.errors import InputError, OptionError
from edge_harness.models.tensors import Array, Tensor

if TYPE_CHECKING:
    from edge_harness.device.session import Session
    from edge_harness.fidelity import Report
    from edge_harness.profiles import Profile

#: Samples drawn where none are given.
DRAWN = 16
SEED = 0
LABELS = "labels"


def compare(
    model: str,
    reference: str | None,
    *,
    profile: Profile,
    engine: str,
    samples: str | None,
    kind: str | None,
    by: str,
    runtime: str | None,
    threads: int,
    kernels: str,
    tolerances: Sequence[str],
    layers: bool,
    plot: str | None,
    as_json: bool,
    say: Callable[[str], None],
    show: Callable[[str], None],
) -> bool:
    """Compare, print, and say whether it passed.

    Raises:
        EdgeError: something is wrong with the request, the device or the machinery.
    """
    from edge_harness import fidelity
    from edge_harness.device.device import sweep
    from edge_harness.opening import open_device

    limits = parse_tolerances(tolerances)
    fidelity.DEFAULTS.but(limits)
    given = None if samples is None else read_npz(Path(samples))
    # What is wrong with the request was said before anything is started.
    sweep()
    with (
        open_device(profile, engine=engine, progress=say) as device,
        device.load(model, runtime=runtime, threads=threads, kernels=kernels) as session,
    ):
        if samples is None or given is None:
            arrays, labels = drawn(session.inputs), None
        else:
            arrays, labels = arrange_samples(given, session.inputs, Path(samples))
        options: dict[str, Any] = {"by": by, "tolerances": limits}
        report = fidelity.compare(session, reference, arrays, kind=kind, labels=labels, **options)
        walk = _walk(session, reference, report, options) if layers or plot else None
    if walk is not None and plot:
        walk.plot(plot)
    if as_json:
        content = report.as_dict()
        content["samples_from"] = samples or f"{DRAWN} drawn at random, seed {SEED}"
        if walk is not None:
            content["layers"] = walk.as_dict()
        show(json.dumps(content, indent=1))
    else:
        show(str(report))
        if samples is None:
            show(
                f"  {DRAWN} samples were drawn at random (seed {SEED}): of quantization they say "
                "little; give real ones with --samples"
            )
        if walk is not None:
            show(f"\n{walk}")
    return report.passed


def _walk(
    session: Session, reference: str | None, report: Report, options: Mapping[str, Any]
) -> Any:
    """Through the layers, on the sample that was worst."""
    from edge_harness import fidelity

    assert report.worst is not None
    return fidelity.layers(session, reference, list(report.worst.inputs), **options)


def parse_tolerances(words: Sequence[str]) -> dict[str, float]:
    """``name=number`` words.

    Raises:
        OptionError: a word is not of that form.
    """
    found = {}
    for word in words:
        name, _, text = word.partition("=")
        try:
            found[name.strip()] = float(text)
        except ValueError:
            raise OptionError(
                f"the tolerance {word!r} is not of the form name=number",
                next_step="write it as max_steps=2",
            ) from None
    return found


def arrange_samples(
    found: Mapping[str, Array], inputs: Sequence[Tensor], path: Path
) -> tuple[list[list[Array]], list[int] | None]:
    """Samples from the arrays of an ``.npz`` file: one for each input, samples along its first
    axis.

    Returns:
        Arrays for each sample in the model's order, and the labels if there are any.

    Raises:
        InputError: they do not fit the model.
    """
    content = dict(found)
    labels = content.pop(LABELS, None)
    if len(inputs) == 1 and inputs[0].name not in content:
        # Golden data of ours keeps the outputs beside the inputs.
        candidates = ["inputs"] if "inputs" in content else list(content)
        if len(candidates) != 1:
            raise InputError(
                f"{str(path)!r} has the arrays {sorted(content)}, and none is called "
                f"{inputs[0].name!r} as the model's input",
                next_step=f"call the samples {inputs[0].name!r} or 'inputs'",
            )
        content = {inputs[0].name: content[candidates[0]]}
    columns = []
    for tensor in inputs:
        if tensor.name not in content:
            raise InputError(
                f"{str(path)!r} has no array {tensor.name!r}, only {sorted(content)}",
                next_step=f"it needs one for each of: {', '.join(map(str, inputs))}",
            )
        columns.append(_batched(content[tensor.name], tensor, path))
    counts = {len(column) for column in columns}
    if len(counts) != 1 or 0 in counts:
        raise InputError(
            f"{str(path)!r} has {sorted(counts)} samples for the model's inputs",
            next_step="give every input the same number of samples, at least one",
        )
    rows = [list(row) for row in zip(*columns, strict=True)]
    if labels is None:
        return rows, None
    if (
        labels.shape[:1] != (len(rows),)
        or labels.size != len(rows)
        or labels.dtype.kind not in ("iu")
    ):
        raise InputError(
            f"{str(path)!r} has labels of {labels.dtype.name} {list(labels.shape)} for "
            f"{len(rows)} samples",
            next_step="give each sample one whole number",
        )
    return rows, [int(label) for label in labels.ravel()]


def read_npz(path: Path) -> dict[str, Array]:
    """The arrays of an ``.npz`` file; nothing is unpickled.

    Raises:
        InputError: it is missing, damaged, no such file, or holds Python objects.
    """
    try:
        with path.open("rb") as file:
            start = file.read(6)
            if start[:2] != b"PK" and start != b"\x93NUMPY":
                raise InputError(
                    f"{str(path)!r} is not an .npz file: it begins with {start!r}",
                    next_step="save plain arrays with np.savez(path, inputs=array)",
                )
            file.seek(0)
            found = np.load(file, allow_pickle=False)
            if not isinstance(found, np.lib.npyio.NpzFile):
                raise InputError(
                    f"{str(path)!r} is a single array (.npy), not an .npz file",
                    next_step="save it with np.savez(path, inputs=array)",
                )
            with contextlib.closing(found):
                return {name: np.asarray(found[name]) for name in found.files}
    except FileNotFoundError:
        raise InputError(
            f"there is no file {str(path)!r}",
            next_step=f"check the path; the current folder is {str(Path.cwd())!r}",
        ) from None
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        pickled = "allow_pickle" in str(error)
        raise InputError(
            f"{str(path)!r} holds Python objects, which are never loaded"
            if pickled
            else f"{str(path)!r} cannot be read as .npz: {error}",
            next_step="save plain arrays with np.savez(path, inputs=array)",
        ) from None


def _batched(values: Array, tensor: Tensor, path: Path) -> list[Array]:
    """``values`` sample by sample, with a batch axis of one where the model wants one."""
    wanted = tensor.shape_signature
    if values.ndim == len(wanted) + 1:
        return list(values)
    if values.ndim == len(wanted) and wanted and wanted[0] in (1, -1):
        return [value[np.newaxis] for value in values]
    raise InputError(
        f"{str(path)!r}: the samples for {tensor.name!r} have shape {list(values.shape)}, the "
        f"input takes {list(wanted)}",
        next_step="put the samples along a first axis before the input's own",
    )


def drawn(inputs: Sequence[Tensor]) -> list[list[Array]]:
    """Random samples: every step of a quantized input alike, reals from -1 to 1.

    Raises:
        InputError: an input's values cannot be guessed (indices, for instance).
    """
    random = np.random.default_rng(SEED)
    rows = []
    for _ in range(DRAWN):
        row: list[Array] = []
        for tensor in inputs:
            shape = tuple(max(n, 1) for n in tensor.shape)
            if tensor.dtype.kind == "f":
                row.append(random.uniform(-1, 1, shape).astype(tensor.dtype))
            elif tensor.dtype.kind in "iu" and (tensor.quantized or tensor.dtype.itemsize == 1):
                limits = np.iinfo(tensor.dtype)
                row.append(
                    random.integers(limits.min, limits.max, shape, tensor.dtype, endpoint=True)
                )
            elif tensor.dtype.kind == "b":
                row.append(random.integers(0, 2, shape).astype(bool))
            else:
                raise InputError(
                    f"values for the input {tensor} cannot be guessed",
                    next_step="give samples with --samples FILE.npz",
                )
        rows.append(row)
    return rows
