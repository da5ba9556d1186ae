"""What a runtime says of itself, of a model and of its outputs, held against what every runtime
has to say: a file from another distribution may say anything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from edge_harness.models.tensors import Tensor


def _text(value: object) -> bool:
    return isinstance(value, str)


def _list(value: object) -> bool:
    return isinstance(value, list)


def _mapping(value: object) -> bool:
    return isinstance(value, dict)


def _whole(value: object) -> bool:
    return type(value) is int


def _sizes(value: object) -> bool:
    return isinstance(value, list) and all(_whole(each) for each in value)


def _numbers(value: object) -> bool:
    return isinstance(value, list) and all(type(each) in (int, float) for each in value)


def _dtype(value: object) -> bool:
    try:
        kind = np.dtype(value) if isinstance(value, str) else None
    except (TypeError, ValueError, SyntaxError):
        return False
    return kind is not None and kind.name == value and kind.kind in "biufc"


#: By key: what there has to be, in words, and whether it is that.
_WARM = {"runtime": ("a text", _text), "version": ("a text", _text)}
_MODEL = {
    "inputs": ("a list", _list),
    "outputs": ("a list", _list),
    "signatures": ("a dictionary", _mapping),
    "kernels": ("a text", _text),
    "delegates": ("a list", _list),
    "threads": ("a whole number", _whole),
}
_TENSOR = {
    "name": ("a text", _text),
    "dtype": ("numpy's name of a type of numbers", _dtype),
    "shape": ("a list of whole numbers", _sizes),
    "shape_signature": ("a list of whole numbers", _sizes),
    "scales": ("a list of numbers", _numbers),
    "zero_points": ("a list of numbers", _numbers),
    "axis": ("a whole number", _whole),
}


def trouble_of_warm(said: Mapping[str, Any]) -> str:
    """What is wrong with the answer of ``warm()``; "" for nothing."""
    return _trouble(said, _WARM, "warm() gives")


def trouble_of_description(said: Mapping[str, Any]) -> str:
    """What is wrong with the answer of a session's ``describe()``; "" for nothing."""
    trouble = _trouble(said, _MODEL, "describe() gives")
    if trouble:
        return trouble
    for side in ("inputs", "outputs"):
        for index, fields in enumerate(said[side]):
            where = f"describe() gives {side}[{index}] with"
            if not isinstance(fields, dict):
                return f"describe() gives {side}[{index}]={_short(fields)}, not a dictionary"
            if trouble := _trouble(fields, _TENSOR, where):
                return trouble
    return ""


def _trouble(said: Mapping[str, Any], wanted: Mapping[str, tuple[str, Any]], who: str) -> str:
    missing = [key for key in wanted if key not in said]
    if missing:
        return f"{who} no {', no '.join(map(repr, missing))}"
    for key, (kind, fits) in wanted.items():
        if not fits(said[key]):
            return f"{who} {key}={_short(said[key])}, which is not {kind}"
    return ""


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:80]}…"


def misfit(
    outputs: Sequence[Tensor], came: Sequence[Sequence[Any]], *, stacked: int = 0, shapes: bool
) -> str:
    """Why ``came`` are not the outputs that were described; "" where they are.

    Args:
        outputs: as described.
        came: dtype and shape of each.
        stacked: how many examples they have along a new first axis; 0 for one that has none.
        shapes: whether to hold ranks and fixed sizes against the description too.
    """
    if len(came) != len(outputs):
        described = ", ".join(str(each) for each in outputs[:4]) or "none"
        more = ", …" if len(outputs) > 4 else ""
        return f"gave {len(came)} output(s), and {len(outputs)} are described: {described}{more}"
    for tensor, (dtype, shape) in zip(outputs, came, strict=True):
        mine = list(shape)
        fits = tensor.dtype.name == dtype
        if stacked:
            fits &= mine[:1] == [stacked]
            mine = mine[1:]
        if shapes:
            fits &= len(mine) == len(tensor.shape_signature) and all(
                free < 0 or size in (free, now)
                for size, free, now in zip(mine, tensor.shape_signature, tensor.shape, strict=True)
            )
        if not fits:
            sizes = "×".join(map(str, mine)) or "scalar"
            return f"gave {tensor.name!r} {dtype} [{sizes}], and described is {tensor}"
    return ""


__all__ = ["misfit", "trouble_of_description", "trouble_of_warm"]
