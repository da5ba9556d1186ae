"""Trusted executions to compare with, and what is wrong with those that are not."""

from __future__ import annotations

import platform
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Union, get_args

from edge_harness.errors import EdgeError, OptionError
from edge_harness.evidence import FigureKind
from edge_harness.fidelity.evaluator import Evaluator
from edge_harness.fidelity.inputs import Loaded, OnDevice, Runner
from edge_harness.models.file import ModelFile, read_model
from edge_harness.runtimes import resolve

if TYPE_CHECKING:
    from edge_harness.device.session import Session
    from edge_harness.runtimes import LoadRequest

#: How a reference given as a file is executed.
Way = Literal["trusted", "native", "device"]
WAYS: tuple[Way, ...] = get_args(Way)
Reference = Union["Session", Evaluator, str, Path, None]


class ReferenceWarning(UserWarning):
    """A reference that may itself be wrong; the message says why."""


@contextmanager
def opened(session: Session, reference: Reference, by: Way = "trusted") -> Iterator[Runner]:
    """``reference`` as something that runs.

    Args:
        reference: a session or an evaluated model, which stay open; a model file; or None for
            the session's own file.
        by: for a file. ``trusted``: TFLite's reference kernels in the same runtime version on
            this machine, ``onnx.reference`` in double precision for ONNX; for formats that have
            neither, what ``native`` runs, which is warned about. ``native``: the same
            runtime with its optimised kernels on this machine. ``device``: the same runtime on
            the same device.

    Raises:
        OptionError: ``by`` is none of these, or ``device`` would compare the session with itself.
        MissingTool: an ONNX file, and the package ``onnx`` is not installed.
        ImageBuildFailed: the runtime's version has no wheel for this machine's architecture.
    """
    if by not in WAYS:
        raise OptionError(
            f"by={by!r} is no way to execute a reference",
            next_step=f"use one of: {', '.join(WAYS)}",
        )
    if reference is not None and not isinstance(reference, (str, Path)):
        yield reference
        return
    model = session.model if reference is None else read_model(reference)
    if by == "trusted" and model.format.evaluator:
        yield model.format.evaluator(model)
        return
    if by == "device":
        if model.content == session.model.content:
            raise OptionError(
                f"by='device' would compare {model.path.name!r} with itself",
                next_step="use by='trusted', or a session on another device",
            )
        if session.request.runtime.runs(model.format):
            there = session.device.open_session(_same_runtime(session, model))
        else:
            there = session.device.load(model)
        with there as loaded:
            yield loaded
        return
    with reference_session(session, model, trusted=by == "trusted") as loaded:
        yield loaded


@contextmanager
def reference_session(
    session: Session, model: str | Path | ModelFile | None = None, *, trusted: bool = True
) -> Iterator[Session]:
    """``model`` (default: the session's own) under TFLite's reference kernels on this machine,
    in the same runtime version.

    x86 is no golden reference with its optimised kernels: they saturate and fuse otherwise than
    Arm's. The reference kernels are plain C++ and gave the same bits on both (65 of 65 layers
    of MobileNet v2 int8). ONNX Runtime has no such kernels: see
    :class:`edge_harness.fidelity.evaluator.Evaluator`; here it runs with its native default.

    Raises:
        ImageBuildFailed: the runtime's version has no wheel for this machine's architecture.
    """
    from edge_harness.engines.registry import native_engine
    from edge_harness.opening import open_device

    # What was read, not what lies at its path by now.
    file = session.model if model is None else model
    if not isinstance(file, ModelFile):
        file = read_model(file)
    row = session.request.runtime
    same = row.runs(file.format)
    if not same:  # none in common with the session: its profile's then
        row, _ = resolve(session.device.profile, file.format)
    options = dict(row.reference_options) if trusted else {}
    with open_device(session.device.profile, engine=native_engine()) as host:
        try:
            if same:
                loaded = host.open_session(_same_runtime(session, file, options))
            else:
                loaded = host.load(file, options=options)
        except EdgeError as error:
            marked = {"reference": str(file.path), **error.details}
            raise error.but(details=marked) from error.__cause__
        with loaded:
            yield loaded


def _same_runtime(
    session: Session, model: ModelFile, options: Mapping[str, object] | None = None
) -> LoadRequest:
    """``model`` by the runtime of ``session`` itself, in the very version that it has: its
    distribution may carry others as well."""
    return replace(
        session.request,
        content=model.content,
        file_name=str(model.path),
        format=model.format,
        requirement=session.requirement,
        threads=1,
        options=session.request.runtime.checked(options or {}),
        shapes=(),
    )


def warn_about(reference: Runner) -> list[str]:
    """Issue a :class:`ReferenceWarning` where ``reference`` is not to be trusted; its text."""
    doubt = doubt_about(reference)
    if doubt:
        warnings.warn(doubt, ReferenceWarning, stacklevel=3)
    return [doubt] if doubt else []


def doubt_about(reference: Runner) -> str:
    """Why ``reference`` is not to be trusted with this model; empty where nothing is known."""
    if not isinstance(reference, Loaded) or figure_kind(reference) != "native":
        return ""
    row, model = reference.request.runtime, reference.model
    if not row.reference_options and not model.format.evaluator:
        return (
            f"{side(reference)} is the runtime itself on this machine's own processor: no trusted "
            f"execution of {model.format.title} files is known here, so what is wrong with "
            f"{row.name!r} everywhere is not seen. Use a session of another runtime as reference, "
            "or goldens"
        )
    if platform.machine().lower() not in ("x86_64", "amd64", "i686"):
        return ""
    plain = row.reference_options
    if plain and set(plain) <= set(reference.request.options):
        return ""
    why = model.format.x86_doubt
    if not why or not computes_in_integers(model):
        return ""
    return (
        f"{side(reference)} is no golden reference for the int8 model "
        f"{model.path.name!r}: x86 with optimised kernels; {why}. Use the file itself "
        "as reference (a trusted execution), or a session on an Arm device"
    )


def computes_in_integers(model: ModelFile) -> bool:
    """Whether the model has operators on quantized integers."""
    look = model.format.computes_in_integers
    return bool(look and look(model.content))


def output_steps(model: ModelFile) -> dict[str, float]:
    """Quantization steps of real outputs that were integers until the last operator, as of most
    models that are float at both ends and int8 inside. Of an ONNX model only where the package
    ``onnx`` is there to look into it."""
    look = model.format.output_steps
    steps: dict[str, float] = look(model) if look else {}
    return steps


def figure_kind(runner: Runner) -> FigureKind:
    """How what ``runner`` computes comes about: its device says it; what has none computes on this
    machine."""
    return runner.device.figure_kind if isinstance(runner, OnDevice) else "native"


def side(runner: Runner) -> str:
    """One side of a comparison in words: model, device, runtime and kernels."""
    where = "this machine"
    if isinstance(runner, OnDevice):
        where = f"{runner.device.name} ({runner.device.engine})"
    return f"{runner.model.path.name} on {where}, {runner.runtime}, kernels {runner.kernels}"
