"""The parts of a format: what does something with its files on this machine, named by dotted path
so that nothing heavy is imported before a model asks for it."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from edge_harness.errors import BrokenExtension, EdgeError, UnsupportedModel


@dataclass(frozen=True, kw_only=True)
class Part:
    """A function or class that does something with models of one format, by dotted path; imported
    when it is first called. False where a format has none.

    What one from another distribution raises besides this package's errors, or gives that nobody
    can use, is a BrokenExtension that names whose it is.
    """

    path: str = ""
    """``module:attribute``; "" for none."""
    what: str = ""
    """Filled in by :class:`edge_harness.runtime_rows.Format`: which of its parts this is, and of
    which format."""
    role: str = ""
    """Likewise: the name of the part."""
    origin: str = field(default="", compare=False)
    """Likewise: the distribution that registered the format; "" for this package."""

    def __bool__(self) -> bool:
        return bool(self.path)

    def __call__(self, *arguments: Any) -> Any:
        if not self.path:
            raise UnsupportedModel(
                f"nothing is known here that does this with such models: {self.what}",
                next_step="use a model of another format for it, or what needs the file's outputs "
                "alone (run, compare with a session)",
            )
        if not self.origin:
            return self._found()(*arguments)
        try:
            found = self._found()(*arguments)
        except EdgeError:
            raise  # about the file: in this package's own words
        except Exception as error:  # whatever somebody else's function raises
            raise self._broken(_told(error)) from error
        kind, fits = _GIVES.get(self.role, _ANYTHING)
        if not _fits(fits, found):
            raise self._broken(f"gives {_short(found)}, which is not {kind}")
        return found

    def _found(self) -> Callable[..., Any]:
        module, _, name = self.path.partition(":")
        found: Callable[..., Any] = getattr(importlib.import_module(module), name)
        return found

    def _broken(self, trouble: str) -> BrokenExtension:
        owner = self.origin.partition(" ")[0]
        return BrokenExtension(
            f"the {self.what}, {self.path} of {self.origin}, cannot be used: {trouble}",
            next_step=f"mend, update or uninstall {owner}; nothing else is touched by it",
            details={"part": self.path, "distribution": self.origin},
        )


NO_PART = Part()


def _told(error: Exception) -> str:
    """What ``error`` says, with the innermost file and line that it came through."""
    text = f"{type(error).__name__}: {_short(error, repr_=False)}"
    trace, at = error.__traceback__, ""
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename
        if file != __file__ and not file.startswith("<frozen"):
            at = f" ({file.rpartition('/')[2]}:{trace.tb_lineno})"
        trace = trace.tb_next
    return text + at


def _short(value: object, *, repr_: bool = True) -> str:
    text = repr(value) if repr_ else str(value)
    return text if len(text) <= 200 else f"{text[:200]}…"


def _fits(fits: Callable[[Any], bool], found: Any) -> bool:
    try:
        return fits(found)
    except Exception:  # of an odd enough object anything can be raised
        return False


def _inputs(found: Any) -> bool:
    import numpy as np

    return isinstance(found, list | tuple) and all(
        isinstance(name, str)
        and np.dtype(dtype).kind in "biufc"
        and all(isinstance(size, int) and size >= 0 for size in shape)
        for name, dtype, shape in found
    )


def _operators(found: Any) -> bool:
    wanted = ("name", "kind", "macs", "activation_bytes", "integer")
    return isinstance(found, list | tuple) and all(
        hasattr(each, name) for each in found for name in wanted
    )


#: By part: what it gives in words, and whether something is that.
_GIVES: Mapping[str, tuple[str, Callable[[Any], bool]]] = {
    "damage": ("a text", lambda found: isinstance(found, str)),
    "inputs": ("a list of (name, dtype, shape)", _inputs),
    "operators": ("a list of edge_harness.clock.operators.Operator", _operators),
    "quantization": (
        "a pair of a dictionary and a text",
        lambda found: isinstance(found[0], Mapping) and isinstance(found[1], str) and not found[2:],
    ),
    "computes_in_integers": ("True or False", lambda found: isinstance(found, bool)),
    "output_steps": (
        "a dictionary of numbers",
        lambda found: all(isinstance(each, int | float) for each in found.values()),
    ),
}
_ANYTHING: tuple[str, Callable[[Any], bool]] = ("anything", lambda found: found is not None)
