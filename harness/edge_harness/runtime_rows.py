"""What a row of the table of runtimes says, and a request for one; the rows themselves are in
``edge_harness.runtimes``.

A row is data: whoever needs something of a format or a runtime takes it from the row and never
compares a name. What reads a model file on this machine is named by dotted path, so that nothing
heavy is imported before a model asks for it and so that rows may lie below all of that.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from pathlib import PurePath
from typing import Any, Literal, TypeAlias

from packaging.specifiers import SpecifierSet
from packaging.version import Version

from edge_harness import wire
from edge_harness.errors import BrokenExtension, InternalError, OptionError
from edge_harness.runtime_parts import NO_PART, Part
from edge_harness.runtime_requirements import Brought, example, pinned

#: A value of an option as a load request keeps it: hashable, and JSON once lists stand for tuples.
Value: TypeAlias = "str | int | float | bool | tuple[Value, ...]"
#: Of TFLite: with the default delegate, optimised kernels without it, or plain C++.
Kernels = Literal["xnnpack", "builtin", "reference"]
#: ONNX Runtime's levels, the default first.
GraphOptimization = Literal["all", "extended", "basic", "disabled"]
OptionKind = Literal["flag", "number", "text", "choice", "words", "table", "tables"]


@dataclass(frozen=True, kw_only=True)
class Format:
    """A format of model files."""

    name: str
    title: str
    """As people write it: ``TFLite``."""
    suffixes: tuple[str, ...]
    """Endings of file names, lower case, the usual one first."""
    signatures: tuple[tuple[int, bytes], ...] = ()
    """``(offset, bytes)``: such a file has one of them; none if nothing tells it by its bytes."""
    certain: bool = True
    """Whether a signature tells the format whatever the file is called."""
    export: str = "export it again"
    """What to do about a file that is none."""
    channels: Literal["first", "last", ""] = ""
    """Where tensors with channels keep them; "" where no habit is known."""
    x86_doubt: str = ""
    """Why optimised kernels on x86 are no reference for integer models of this format."""
    damage: Part = NO_PART
    """``(content) -> str``: how the file is damaged; "" where it holds together."""
    inputs: Part = NO_PART
    """``(ModelFile) -> [(name, dtype, shape)]`` of its inputs, free dimensions as 1."""
    operators: Part = NO_PART
    """``(content) -> [edge_harness.clock.operators.Operator]`` in the order of execution."""
    quantization: Part = NO_PART
    """``(ModelFile, names) -> (…)``: scales by tensor name, where the runtime does not tell them,
    and a note why there are none."""
    computes_in_integers: Part = NO_PART
    """``(content) -> bool``: whether operators compute on quantized integers."""
    output_steps: Part = NO_PART
    """``(ModelFile) -> {output: step}`` of real outputs that were integers to the last."""
    graph: Part = NO_PART
    """``(ModelFile) -> edge_harness.fidelity.graphs.Graph``."""
    evaluator: Part = NO_PART
    """``(ModelFile) -> Runner``: a trusted execution of the file on this machine. Without one the
    runtime's own reference kernels are it: :attr:`Runtime.reference_options`."""
    origin: str = field(default="", compare=False)
    """The distribution that registered it, with its version; "" for those of this package."""

    def __post_init__(self) -> None:
        for each in fields(self):
            value = getattr(self, each.name)
            if isinstance(value, Part):
                what = f"{each.name.replace('_', ' ')} of {self.title} files"
                named = replace(value, what=what, role=each.name, origin=self.origin)
                object.__setattr__(self, each.name, named)

    def __str__(self) -> str:
        return self.name

    def signed(self, content: bytes) -> bool:
        """Whether ``content`` has a signature of this format."""
        return any(content[at : at + len(mark)] == mark for at, mark in self.signatures)


@dataclass(frozen=True, kw_only=True)
class Option:
    """Something :meth:`edge_harness.device.device.Device.load` can ask of a runtime."""

    name: str
    kind: OptionKind
    """``flag``: bool; ``number``: int; ``text``; ``choice``: one of ``allowed``; ``words``: several
    texts; ``table``: ``{text: text}``; ``tables``: ``{text: {text: text}}``."""
    default: Value
    allowed: tuple[str, ...] = ()
    on_cores: tuple[str, ...] | None = None
    """None: where the model runs does not depend on it. Else: the values that keep it on the
    board's own cores; others may run it on a GPU, NPU or DSP."""

    def checked(self, given: object) -> Value:
        """``given`` as a request keeps it.

        Raises:
            OptionError: it has another type, or is not among the values that are allowed.
        """
        if self.kind == "choice":
            if given not in self.allowed:
                raise OptionError(
                    f"{self.name}={given!r} is none of {', '.join(self.allowed)}",
                    next_step=f"use one of: {', '.join(self.allowed)}",
                )
            return str(given)
        value = _PLAIN[self.kind](given)
        if value is None:
            raise OptionError(
                f"{self.name}={given!r} is not {_KINDS[self.kind]}",
                next_step=f"write it as {self.name}={_EXAMPLES[self.kind]}",
            )
        return value


def _texts(given: object) -> Value | None:
    if isinstance(given, str) or not isinstance(given, Sequence):
        return None
    return tuple(given) if all(isinstance(each, str) for each in given) else None


def _table(given: object) -> Value | None:
    if not isinstance(given, Mapping):
        return None
    return tuple((str(key), str(value)) for key, value in given.items())


def _tables(given: object) -> Value | None:
    if not isinstance(given, Mapping):
        return None
    tables = [(str(key), _table(value)) for key, value in given.items()]
    found = [(key, table) for key, table in tables if table is not None]
    return tuple(found) if len(found) == len(tables) else None


def _of(*kinds: type) -> Callable[[object], Any]:
    return lambda given: given if type(given) in kinds else None


_PLAIN: Mapping[str, Callable[[object], Value | None]] = {
    "flag": _of(bool),
    "number": _of(int),
    "text": _of(str),
    "words": _texts,
    "table": _table,
    "tables": _tables,
}
_KINDS = {
    "flag": "True or False",
    "number": "a whole number",
    "text": "a text",
    "words": "a list of texts",
    "table": "a dictionary of texts",
    "tables": "a dictionary of dictionaries of texts",
}
_EXAMPLES = {
    "flag": "True",
    "number": "2",
    "text": "'text'",
    "words": "['first', 'second']",
    "table": "{'key': 'value'}",
    "tables": "{'name': {'key': 'value'}}",
}


@dataclass(frozen=True, kw_only=True)
class Companion:
    """Another distribution that some versions of a runtime need and do not ask for."""

    versions: str
    """Of the runtime, as PEP 440 has them (``<1.19``); "" for all there are."""
    requirement: str
    because: str

    def goes_with(self, versions: SpecifierSet) -> bool:
        """Whether a runtime asked for as ``versions`` will be one of :attr:`versions`: every
        version that may be taken is one, as far as the bounds on both sides tell."""
        mine = SpecifierSet(self.versions)
        if not self.versions:
            return True
        bounds = [Version(each.version.removesuffix(".*")) for each in (*mine, *versions)]
        # The installer takes the newest that is allowed: "later than anything" stands for it.
        later = [Version("99999"), *(Version(f"{b.public}.99999") for b in bounds)]
        taken = [version for version in (*bounds, *later) if versions.contains(version)]
        return all(mine.contains(version) for version in taken)


@dataclass(frozen=True, kw_only=True)
class Runtime:
    """What executes models inside a device."""

    name: str
    """What users write: ``litert``; also the agent's file of it, ``agent/runtimes/NAME.py``."""
    distribution: str
    """What carries it, as package indexes or Debian call it, or the file name of its library; ""
    where it needs nothing but Python."""
    imports: str
    """The module that is imported inside the device."""
    formats: tuple[Format, ...]
    """That it runs, its usual one first."""
    options: tuple[Option, ...] = ()
    companions: tuple[Companion, ...] = ()
    requirement: str = ""
    """Taken on devices whose profile says nothing about this runtime; "" for the profile's word
    alone."""
    brought: Brought = "wheel"
    """How it comes into the device: wheels in a layer, a Debian package (``python3-yaml``, or
    ``python3-yaml=6.0-3``) with what it needs beyond the image in a layer, or a shared library
    that is there already, whose absolute path the requirement is."""
    reference_options: tuple[tuple[str, Value], ...] = ()
    """Options under which it computes plainly enough to be a reference anywhere."""
    fuses: Literal["with delegates", "always"] = "always"
    """Whether watching tensors in the middle may change what it computes even without a
    delegate."""
    known_as: tuple[str, ...] = ()
    """What published measurements call it besides its name, lower case."""
    delegated: tuple[str, ...] = ()
    """Precisions (``fp32``, ``int8``, ``uint8``) that it computes with its delegate's kernels
    where nobody asks for others."""
    dot_product: bool = True
    """Whether its int8 kernels use the dot-product instructions of cores that have them."""
    agent_source: bytes = field(default=b"", repr=False)
    """The agent's file of a runtime from another distribution; "" for those of this package."""
    origin: str = ""
    """The distribution that registered it, with its version; "" for those of this package."""

    def broken(self, trouble: str) -> BrokenExtension | InternalError:
        """The error for ``trouble`` with what this runtime's own file says, naming whose it is."""
        if not self.origin:
            return InternalError(f"the runtime {self.name!r} is broken: {trouble}")
        owner = self.origin.partition(" ")[0]
        return BrokenExtension(
            f"the runtime {self.name!r} of {self.origin} is broken: {trouble}",
            next_step=f"mend, update or uninstall {owner}; docs/extending.md says what its file "
            "defines",
            details={"runtime": self.name, "distribution": self.origin},
        )

    @property
    def title(self) -> str:
        """As people write the formats it runs: ``TFLite``."""
        return " and ".join(each.title for each in self.formats)

    @cached_property
    def agent_sha256(self) -> str:
        """Of the agent's file, where it comes from another distribution; else ""."""
        return hashlib.sha256(self.agent_source).hexdigest() if self.agent_source else ""

    def pinned(self, asked: str) -> str | None:
        """The requirement for this runtime that ``asked`` is: "" where it names what carries the
        runtime and leaves the version open, None where it names something else."""
        return pinned(self.brought, asked, self.distribution)

    @property
    def example(self) -> str:
        """A requirement for this runtime, as people write one."""
        return example(self.brought, self.distribution)

    def runs(self, model_format: Format) -> bool:
        return any(each.name == model_format.name for each in self.formats)

    def option(self, name: str) -> Option | None:
        return next((each for each in self.options if each.name == name), None)

    def checked(self, given: Mapping[str, object]) -> tuple[tuple[str, Value], ...]:
        """Options as a request keeps them: in order of their names, those that are the default
        left out.

        Raises:
            OptionError: one is not this runtime's, or has a wrong value.
        """
        kept: dict[str, Value] = {}
        for name, value in given.items():
            option = self.option(name)
            if option is None:
                known = ", ".join(each.name for each in self.options) or "none"
                raise OptionError(
                    f"{name}={value!r} has no meaning for {self.title} models run by {self.name}",
                    next_step=f"leave it out; options of {self.name}: {known}",
                )
            plain = option.checked(value)
            if plain != option.default:
                kept[name] = plain
        return tuple(sorted(kept.items()))

    def companions_for(self, versions: SpecifierSet) -> list[str]:
        """Requirements that go with this runtime where it is asked for as ``versions``."""
        return [each.requirement for each in self.companions if each.goes_with(versions)]


@dataclass(frozen=True, kw_only=True)
class WarmParent:
    """What a process in a device is to import, once, so that workers can be forked from it."""

    layers: tuple[str, ...]
    """Keys of the layers that it finds its modules in; a later one covers those before it."""
    runtime: str
    agent_sha256: str = ""
    """Of the agent's file, where it is in one of the layers."""
    library: str = ""
    """Path of the shared library on the device that the runtime is; "" for others."""

    @property
    def socket(self) -> str:
        """Where it listens."""
        if not self.library:
            return wire.socket_name(self.layers, self.runtime)
        parts = repr((self.layers, self.library)).encode()
        return wire.socket_name((hashlib.sha256(parts).hexdigest()[:16],), self.runtime)

    def header(self) -> dict[str, Any]:
        """The request for it."""
        return {
            "op": wire.Op.WARM,
            "layers": list(self.layers),
            "runtime": self.runtime,
            "agent_sha256": self.agent_sha256,
            "library": self.library,
            "socket": self.socket,
        }


@dataclass(frozen=True, kw_only=True)
class LoadRequest:
    """One model to be loaded by one runtime: what ``device.load``, ``edge-harness latency``,
    ``compare`` and ``calibrate`` hand on to worker, clock and bundle. The content decides, not
    where the file lies or what is written to that path meanwhile."""

    content: bytes = field(repr=False)
    file_name: str = field(compare=False)
    """The path it was read from, for messages."""
    format: Format
    runtime: Runtime
    requirement: str
    """Of the runtime, as ``tflite-runtime==2.14.0``."""
    threads: int = 1
    options: tuple[tuple[str, Value], ...] = ()
    """As :meth:`Runtime.checked` keeps them."""
    shapes: tuple[tuple[str, tuple[int, ...]], ...] = ()
    """Given to inputs after loading, where they are not the file's."""

    @cached_property
    def sha256(self) -> str:
        """Of the content."""
        return hashlib.sha256(self.content).hexdigest()

    @property
    def path(self) -> PurePath:
        return PurePath(self.file_name)

    def header(self) -> dict[str, Any]:
        """What a worker is told: threads and every option of its runtime, defaults included."""
        defaults = {each.name: each.default for each in self.runtime.options}
        return {"threads": self.threads, **defaults, **dict(self.options)}

    def off_cores(self) -> dict[str, list[str]]:
        """Options that may run the model elsewhere than on the board's own cores, with the values
        that do."""
        found: dict[str, list[str]] = {}
        for name, value in self.options:
            option = self.runtime.option(name)
            if option is None or option.on_cores is None or not isinstance(value, tuple):
                continue
            words = [str(each[0] if isinstance(each, tuple) else each) for each in value]
            if elsewhere := [word for word in words if word not in option.on_cores]:
                found[name] = elsewhere
        return found

    def as_json(self) -> dict[str, Any]:
        """Plain JSON values that say what was loaded; the content by its hash."""
        return {
            "file_name": self.path.name,
            "sha256": self.sha256,
            "format": self.format.name,
            "runtime": self.runtime.name,
            "requirement": self.requirement,
            "agent_sha256": self.runtime.agent_sha256,
            "threads": self.threads,
            "options": {name: _listed(value) for name, value in self.options},
            "shapes": {name: list(shape) for name, shape in self.shapes},
        }


def _listed(value: Value) -> Any:
    return [_listed(each) for each in value] if isinstance(value, tuple) else value
