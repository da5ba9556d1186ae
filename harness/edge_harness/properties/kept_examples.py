"""Failing inputs kept in Hypothesis' example database, so that the next run tries them first."""

from __future__ import annotations

import hashlib
import io
import os
import re
from collections.abc import Iterable

import numpy as np
from hypothesis import settings as hypothesis_settings
from hypothesis.database import ExampleDatabase

from edge_harness.models.archives import Unreadable, read_arrays
from edge_harness.models.tensors import Array
from edge_harness.properties.smallest import Inputs
from edge_harness.strategies.values import Span

#: Greater inputs (compressed) are not kept: the database is often committed or cached.
_MOST_BYTES = 4 << 20


class Named(ExampleDatabase):
    """A part of another database: the functions that Hypothesis sees here are all the same, and
    one model's failing inputs are of no use to another."""

    def __init__(self, whole: ExampleDatabase, name: str) -> None:
        super().__init__()
        self._whole = whole
        self._name = name.encode()

    def _key(self, key: bytes) -> bytes:
        # Hypothesis keeps related examples under its key with a suffix.
        return hashlib.sha256(self._name + b"\0" + key).digest()[:16]

    def save(self, key: bytes, value: bytes) -> None:
        self._whole.save(self._key(key), value)

    def fetch(self, key: bytes) -> Iterable[bytes]:
        return self._whole.fetch(self._key(key))

    def delete(self, key: bytes, value: bytes) -> None:
        self._whole.delete(self._key(key), value)


def database_of(model: str, name: str) -> Named | None:
    """The part of the profile's example database for one property of one model in the running
    test; None where the profile has no database."""
    whole = hypothesis_settings().database
    return None if whole is None else Named(whole, f"{_test_id()} {model} {name}")


def _test_id() -> str:
    """The running pytest test; its parameters, and so its device, are part of the id."""
    current = os.environ.get("PYTEST_CURRENT_TEST", "")
    return re.sub(r" \((setup|call|teardown)\)$", "", current)


_KEY = b"smallest failing inputs"


def keep(database: Named | None, inputs: Inputs) -> None:
    """Remember ``inputs``."""
    if database is not None:
        data = _encoded(inputs)
        if len(data) <= _MOST_BYTES:
            database.save(_KEY, data)


def kept(database: Named | None, spans: Iterable[Span]) -> list[Inputs]:
    """What failed before and may be drawn now; what no longer fits the model is forgotten."""
    if database is None:
        return []
    known = list(spans)
    found = []
    for data in sorted(database.fetch(_KEY), key=len):
        inputs = _decoded(data)
        if inputs is None or not all(_fits(inputs, span) for span in known):
            database.delete(_KEY, data)
        elif all(_in_range(inputs[span.tensor.name], span) for span in known):
            found.append({span.tensor.name: inputs[span.tensor.name] for span in known})
    return found


def forget(database: Named | None, inputs: Inputs) -> None:
    """``inputs`` no longer fail."""
    if database is not None:
        database.delete(_KEY, _encoded(inputs))


def _encoded(inputs: Inputs) -> bytes:
    # Names as data: not every tensor name is one of a file in an archive.
    file = io.BytesIO()
    arrays = {f"input{i}": array for i, array in enumerate(inputs.values())}
    np.savez_compressed(file, names=np.array(list(inputs)), **arrays)
    return file.getvalue()


def _decoded(data: bytes) -> Inputs | None:
    try:
        archive = read_arrays(data)
        names = [str(name) for name in archive["names"]]
        return {name: archive[f"input{i}"] for i, name in enumerate(names)}
    except (Unreadable, KeyError, TypeError):
        return None


def _fits(inputs: Inputs, span: Span) -> bool:
    array = inputs.get(span.tensor.name)
    return (
        array is not None
        and array.dtype == span.tensor.dtype
        and array.ndim == len(span.tensor.shape_signature)
        and all(
            wanted in (-1, size)
            for size, wanted in zip(array.shape, span.tensor.shape_signature, strict=True)
        )
    )


def _in_range(array: Array, span: Span) -> bool:
    if array.dtype.kind in "bc" or not array.size:
        return True
    return bool(array.min() >= span.low and array.max() <= span.high)
