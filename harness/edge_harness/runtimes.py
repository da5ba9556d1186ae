"""The one table of runtimes and of the model formats they run, and what is asked of a worker.

Whoever needs something of a format or a runtime takes it from its row (see
:mod:`edge_harness.runtime_rows`) and never compares a name. Runtimes of other distributions
register in the entry-point group ``edge_harness.runtimes``: see
:mod:`edge_harness.outside_runtimes`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import PurePath
from typing import Any, Protocol, TypeVar, get_args

from packaging.utils import canonicalize_name

from edge_harness.errors import OptionError
from edge_harness.outside_runtimes import Outside, registered
from edge_harness.runtime_parts import Part
from edge_harness.runtime_rows import (
    Companion,
    Format,
    GraphOptimization,
    Kernels,
    LoadRequest,
    Option,
    Runtime,
    Value,
    WarmParent,
)

TFLITE = Format(
    name="tflite",
    title="TFLite",
    suffixes=(".tflite", ".lite"),
    signatures=((4, b"TFL3"),),
    export="export it again with the TFLite converter",
    channels="last",
    x86_doubt="its kernels round otherwise than Arm's (47 of 65 layers of MobileNet v2 differed)",
    damage=Part(path="edge_harness.models.tflite:damage"),
    inputs=Part(path="edge_harness.models.tflite:inputs"),
    operators=Part(path="edge_harness.clock.operators:tflite_operators"),
    computes_in_integers=Part(path="edge_harness.fidelity.graph_tflite:has_quantized_tensors"),
    output_steps=Part(path="edge_harness.fidelity.graph_tflite:output_steps"),
    graph=Part(path="edge_harness.fidelity.graph_tflite:LiteGraph"),
)
ONNX = Format(
    name="onnx",
    title="ONNX",
    suffixes=(".onnx",),
    # The first field of a ModelProto in practice: ir_version, a varint (onnx.proto3).
    signatures=tuple((0, bytes([first])) for first in (0x08, 0x12, 0x1A, 0x3A, 0x42)),
    certain=False,
    export="export it again; check it with onnx.checker",
    channels="first",
    x86_doubt="without VNNI its U8×S8 products saturate in 16 bits (onnxruntime issues 6004 and "
    "20479: off by up to 313), and it does not fuse S8×S8 QDQ as Arm does",
    inputs=Part(path="edge_harness.models.onnx:inputs"),
    operators=Part(path="edge_harness.clock.operators:onnx_operators"),
    quantization=Part(path="edge_harness.models.onnx:tensor_quantization"),
    computes_in_integers=Part(path="edge_harness.models.onnx:uses_integers"),
    output_steps=Part(path="edge_harness.models.onnx:output_steps"),
    graph=Part(path="edge_harness.fidelity.graph_onnx:OnnxGraph"),
    evaluator=Part(path="edge_harness.fidelity.evaluator:Evaluator"),
)
_LITE_OPTIONS = (
    Option(
        name="kernels",
        kind="choice",
        default="xnnpack",
        allowed=get_args(Kernels),
    ),
    Option(name="preserve_all_tensors", kind="flag", default=False),
    Option(name="delegates", kind="tables", default=(), on_cores=()),
)
_BUILT_IN = (
    Runtime(
        name="tflite",
        distribution="tflite-runtime",
        imports="tflite_runtime",
        formats=(TFLITE,),
        options=_LITE_OPTIONS,
        companions=(
            Companion(
                versions="",
                requirement="numpy<2",
                because="2.14, the last release, was compiled against numpy 1.x and crashes at "
                "import with 2.x, which its metadata allows",
            ),
        ),
        reference_options=(("kernels", "reference"),),
        known_as=("tensorflow lite", "tensorflow-lite"),
        # Since 2.3, on Android and Arm Linux.
        delegated=("fp32",),
        fuses="with delegates",
        # The ruy in the wheel of 2.14 does not see them.
        dot_product=False,
    ),
    Runtime(
        name="litert",
        distribution="ai-edge-litert",
        imports="ai_edge_litert",
        formats=(TFLITE,),
        options=_LITE_OPTIONS,
        reference_options=(("kernels", "reference"),),
        # Seen with 2.3.
        delegated=("fp32", "int8", "uint8"),
        fuses="with delegates",
    ),
    Runtime(
        name="onnx",
        distribution="onnxruntime",
        imports="onnxruntime",
        formats=(ONNX,),
        options=(
            Option(
                name="graph_optimization",
                kind="choice",
                default="all",
                allowed=get_args(GraphOptimization),
            ),
            Option(name="providers", kind="words", default=(), on_cores=("CPUExecutionProvider",)),
            Option(name="config", kind="table", default=()),
        ),
        companions=(
            Companion(
                versions="<1.19",
                requirement="numpy<2",
                because="1.19 is the first release compiled for numpy 2, and the metadata of those "
                "before it do not say so",
            ),
        ),
    ),
)

_Row = TypeVar("_Row")


class Runtimes(Mapping[str, Runtime]):
    """Runtimes by name: this package's, then those of other distributions, which are looked for
    when a name is asked for that is not here."""

    def __init__(self, built_in: Sequence[Runtime], outside: Callable[[], Outside]) -> None:
        self._built_in = {row.name: row for row in built_in}
        self._look_outside = outside

    @cached_property
    def outside(self) -> Outside:
        return self._look_outside()

    def __getitem__(self, name: str) -> Runtime:
        found = self._built_in.get(name)
        if found is None:
            found = self.outside.runtimes[name]
        return found

    def __iter__(self) -> Iterator[str]:
        yield from self._built_in
        yield from self.outside.runtimes

    def __len__(self) -> int:
        return len(self._built_in) + len(self.outside.runtimes)

    @property
    def built_in(self) -> tuple[Runtime, ...]:
        """Of this package: known without a look at what else is installed."""
        return tuple(self._built_in.values())

    def of_distribution(self, name: str) -> list[Runtime]:
        """The runtimes that wheels of the distribution ``name`` carry: this package's, else those
        of other distributions."""
        wanted = canonicalize_name(name)

        def carried(rows: Iterable[Runtime]) -> list[Runtime]:
            return [
                row
                for row in rows
                if row.brought == "wheel" and canonicalize_name(row.distribution) == wanted
            ]

        return carried(self.built_in) or carried(self.outside.runtimes.values())

    def first_running(self, model_format: Format) -> Runtime:
        """The first in the table for models of ``model_format``."""
        return next(row for row in self.lazily() if row.runs(model_format))

    def running(self, model_format: Format) -> list[Runtime]:
        """The runtimes for models of ``model_format``."""
        return [row for row in self.values() if row.runs(model_format)]

    def lazily(self) -> Iterator[Runtime]:
        """All, those of other distributions looked for when this package's are used up."""
        return _lazily(self.built_in, lambda: self.outside.runtimes.values())


class Formats(Mapping[str, Format]):
    """Formats by name: those that some runtime runs."""

    def __init__(self, runtimes: Runtimes) -> None:
        self._runtimes = runtimes

    @property
    def built_in(self) -> tuple[Format, ...]:
        """Of this package: known without a look at what else is installed."""
        return tuple(_formats(self._runtimes.built_in).values())

    def __getitem__(self, name: str) -> Format:
        for row in self.lazily():
            if row.name == name:
                return row
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        return (row.name for row in self.lazily())

    def __len__(self) -> int:
        return len(_formats(self._runtimes.values()))

    def lazily(self) -> Iterator[Format]:
        """All, those of other distributions looked for when the others are used up."""
        return _lazily(
            self.built_in,
            lambda: [
                each
                for name, each in _formats(self._runtimes.values()).items()
                if all(name != known.name for known in self.built_in)
            ],
        )


def _formats(runtimes: Any) -> dict[str, Format]:
    return {each.name: each for row in runtimes for each in row.formats}


def _lazily(first: Sequence[_Row], later: Callable[[], Any]) -> Iterator[_Row]:
    yield from first
    yield from later()


RUNTIMES = Runtimes(_BUILT_IN, lambda: registered(_BUILT_IN))
FORMATS = Formats(RUNTIMES)


class Board(Protocol):
    """What is asked of a profile to find a runtime for it."""

    @property
    def name(self) -> str: ...

    def checked_threads(self, threads: int) -> int:
        """``threads`` of a runtime, where the board has a core for each.

        Raises:
            OptionError: it is no whole number, or there are not so many cores.
        """

    def default_runtime(self, model_format: Format) -> str:
        """Name of the runtime for models of ``model_format`` where nobody names one."""

    def runtime_requirement(self, runtime: Runtime) -> str:
        """The requirement for ``runtime`` on this device.

        Raises:
            UnsupportedModel: nothing is published for this device.
        """


def named(asked: str, model_format: Format | None = None) -> tuple[Runtime, str]:
    """The runtime ``asked`` names, and the requirement it pins; "" where it leaves that open.

    ``asked`` is a name (``onnx``), a distribution (``onnxruntime``) or a pinned one
    (``onnxruntime==1.21.0``), as :meth:`Runtime.pinned` takes it. Of several runtimes that one
    distribution carries, the first that runs ``model_format`` is meant; else the first.

    Raises:
        OptionError: there is no such runtime, or what registered it is broken.
    """
    if asked in RUNTIMES:
        return RUNTIMES[asked], ""
    first = None
    for row in RUNTIMES.lazily():
        requirement = row.pinned(asked)
        if requirement is None:
            continue
        if model_format is None or row.runs(model_format):
            return row, requirement
        first = first or (row, requirement)
    if first is not None:
        return first
    broken = RUNTIMES.outside.broken
    if asked in broken:
        raise broken[asked]
    told = f"; registered, but broken:\n{RUNTIMES.outside.troubles}" if broken else ""
    raise OptionError(
        f"there is no runtime {asked!r}{told}",
        next_step=f"use one of {', '.join(RUNTIMES)}, or pin a version like 'onnxruntime==1.20.1'",
    )


def pinned(asked: str | None, pins: Sequence[str], model_format: Format) -> str | None:
    """The runtime to take where ``asked`` leaves its version open: the first of ``pins`` that
    fits, else ``asked``.

    ``pins`` are what a project or a run has set (``edge_runtime``, ``--edge-runtime``). A version
    that ``asked`` names stands; a bare name (``onnx``) takes the pin of the same runtime; None
    takes any pin for the format.

    Raises:
        OptionError: ``asked`` or a pin names no runtime.
    """
    wanted = None
    if asked is not None:
        wanted, requirement = named(asked, model_format)
        if requirement:
            return asked
    for pin in pins:
        row, _ = named(pin, model_format)
        if row is wanted or (wanted is None and row.runs(model_format)):
            return pin
    return asked


def resolve(
    board: Board, model_format: Format, asked: str | None = None, pins: Sequence[str] = ()
) -> tuple[Runtime, str]:
    """The runtime for a model on ``board``, and its requirement.

    Args:
        board: a profile.
        model_format: of the model.
        asked: as :func:`named` takes it; None for the project's or the board's choice.
        pins: as for :func:`pinned`.

    Raises:
        OptionError: no such runtime, or it does not run this format.
        UnsupportedModel: nothing is published for this board.
    """
    chosen = pinned(asked, pins, model_format)
    row, requirement = named(chosen or board.default_runtime(model_format), model_format)
    if not row.runs(model_format):
        others = ", ".join(each.name for each in RUNTIMES.running(model_format))
        raise OptionError(
            f"runtime {chosen!r} cannot run a {model_format} model",
            next_step=f"leave runtime out, or name one for this format: {others}",
        )
    return row, requirement or board.runtime_requirement(row)


def likely(board: Board, pins: Sequence[str] = ()) -> tuple[Runtime, str]:
    """The runtime that most tests will ask for: of the first format of the table.

    Raises as :func:`resolve` does.
    """
    return resolve(board, FORMATS.built_in[0], None, pins)


class Model(Protocol):
    """A model file that was read."""

    @property
    def path(self) -> PurePath: ...

    @property
    def content(self) -> bytes: ...

    @property
    def format(self) -> Format: ...


def load_request(
    model: Model,
    board: Board,
    *,
    runtime: str | None = None,
    pins: Sequence[str] = (),
    threads: int = 1,
    options: Mapping[str, object] | None = None,
) -> LoadRequest:
    """What to ask a worker on ``board`` for.

    Args:
        model: a file that was read.
        board: its profile.
        runtime: as :func:`resolve` takes it.
        pins: as :func:`pinned` takes them.
        threads: of the runtime, 1 to all cores of the chip.
        options: of the runtime; None stands for its default.

    Raises:
        OptionError: an argument is wrong.
        UnsupportedModel: no runtime for this model is published for this board.
    """
    threads = board.checked_threads(threads)
    row, requirement = resolve(board, model.format, runtime, pins)
    given = {name: value for name, value in (options or {}).items() if value is not None}
    return LoadRequest(
        content=model.content,
        file_name=str(model.path),
        format=model.format,
        runtime=row,
        requirement=requirement,
        threads=threads,
        options=row.checked(given),
    )


__all__ = [
    "FORMATS",
    "RUNTIMES",
    "Board",
    "Companion",
    "Format",
    "Formats",
    "GraphOptimization",
    "Kernels",
    "LoadRequest",
    "Model",
    "Option",
    "Outside",
    "Part",
    "Runtime",
    "Runtimes",
    "Value",
    "WarmParent",
    "likely",
    "load_request",
    "named",
    "pinned",
    "resolve",
]
