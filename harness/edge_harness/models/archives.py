"""The one reader of ``.npy`` and ``.npz``: plain arrays, nothing unpickled, nothing trusted.

NumPy's own reader allocates what a header claims before it has seen the data, and raises what
its archive, decompressor or parser happens to raise. Here sizes are checked before memory is
taken, and whatever is wrong is an :class:`Unreadable` that names the array. The formats:
numpy.org/doc/stable/reference/generated/numpy.lib.format.html.
"""

from __future__ import annotations

import ast
import io
import lzma
import math
import stat
import struct
import zipfile
import zlib
from pathlib import Path
from typing import IO, Any

import numpy as np

from edge_harness.models.tensors import Array

#: The most bytes of arrays in one file, unpacked; a file of a few kilobytes can claim any number.
MOST_BYTES = 4 << 30
#: The most arrays in one file.
MOST_ARRAYS = 1024
NPY = b"\x93NUMPY"
ZIP = b"PK"
#: NumPy's own limit (``max_header_size``): what is longer is no header of plain numbers.
_MOST_HEADER = 10_000
_CHUNK = 1 << 20
#: Numbers, truth values and text; not structures, dates, raw bytes or Python objects.
_KINDS = "biufcU"
_TROUBLE = (
    OSError,
    EOFError,
    ValueError,
    SyntaxError,
    TypeError,
    OverflowError,
    MemoryError,
    RecursionError,
    NotImplementedError,  # a compression that Python does not know
    RuntimeError,  # an encrypted member
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
)


class Unreadable(Exception):
    """The file is no archive of plain arrays; the message says which array and why."""

    def __init__(self, why: str, *, objects: bool = False) -> None:
        super().__init__(why)
        self.objects = objects
        """Whether it holds Python objects, which are never loaded."""


def read_arrays(source: Path | bytes, *, most_bytes: int = MOST_BYTES) -> dict[str, Array]:
    """The arrays of an ``.npz`` by name; the array of an ``.npy`` under the name ``""``.

    Which of the two it is its first bytes say, not its name.

    Raises:
        FileNotFoundError: there is no such file.
        Unreadable: anything else that keeps the arrays from being read.
    """
    if isinstance(source, bytes):
        return _read(io.BytesIO(source), most_bytes)
    try:
        # A pipe or a device would be read for ever.
        if not stat.S_ISREG(source.stat().st_mode):
            raise Unreadable("it is not a regular file")
        with source.open("rb") as file:
            return _read(file, most_bytes)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise Unreadable(error.strerror or str(error)) from None


def _read(file: IO[bytes], most_bytes: int) -> dict[str, Array]:
    start = file.read(len(NPY))
    file.seek(0)
    if start == NPY:
        return {"": _guarded("the array", file, most_bytes)}
    if not start.startswith(ZIP):
        raise Unreadable(f"it begins with {start!r}")
    try:
        with zipfile.ZipFile(file) as archive:
            return _members(archive, most_bytes)
    except _TROUBLE as error:
        raise Unreadable(f"the archive is damaged: {error}") from None


def _members(archive: zipfile.ZipFile, most_bytes: int) -> dict[str, Array]:
    members = archive.infolist()
    if len(members) > MOST_ARRAYS:
        raise Unreadable(f"it has {len(members)} arrays, more than {MOST_ARRAYS}")
    total = sum(member.file_size for member in members)
    if total > most_bytes:
        raise Unreadable(f"unpacked it has {total} bytes, more than {most_bytes}")
    found: dict[str, Array] = {}
    for member in members:
        name = member.filename.removesuffix(".npy")
        if name == member.filename:
            raise Unreadable(f"its member {name!r} is no array (.npy)")
        if name in found:
            raise Unreadable(f"it has two arrays of the name {name!r}")
        try:
            with archive.open(member) as data:
                found[name] = _guarded(f"array {name!r}", data, member.file_size)
        except _TROUBLE as error:
            raise Unreadable(f"array {name!r} is damaged: {error}") from None
    return found


def _guarded(what: str, file: IO[bytes], size: int) -> Array:
    """One array; ``size`` is the most it may take."""
    try:
        return _array(what, file, size)
    except _TROUBLE as error:
        raise Unreadable(f"{what} is damaged: {error}") from None


def _array(what: str, file: IO[bytes], size: int) -> Array:
    dtype, fortran, shape = _header(what, file)
    count = math.prod(shape)
    wanted = count * dtype.itemsize
    if wanted > size:
        raise Unreadable(f"{what} claims {wanted} bytes, more than the {size} there may be")
    array: Array = np.empty(count, dtype)
    if wanted:
        view = array.view(np.uint8).data
        at = 0
        while at < wanted:
            chunk = file.read(min(_CHUNK, wanted - at))
            if not chunk:
                raise Unreadable(f"{what} is cut short: {at} of its {wanted} bytes are there")
            view[at : at + len(chunk)] = chunk
            at += len(chunk)
    # Reading on to the end is what has a checksum checked.
    if file.read(1):
        raise Unreadable(f"{what} has more bytes than its {wanted}")
    return array.reshape(shape[::-1]).T if fortran else array.reshape(shape)


def _header(what: str, file: IO[bytes]) -> tuple[np.dtype[Any], bool, tuple[int, ...]]:
    start = file.read(len(NPY) + 2)
    if start[: len(NPY)] != NPY or len(start) < len(NPY) + 2:
        raise Unreadable(f"{what} is no array (.npy): it begins with {start!r}")
    major, minor = start[-2:]
    if (major, minor) not in ((1, 0), (2, 0), (3, 0)):
        raise Unreadable(f"{what} is of format {major}.{minor}, which is not known")
    form = "<H" if major == 1 else "<I"
    (length,) = struct.unpack(form, file.read(struct.calcsize(form)))
    if length > _MOST_HEADER:
        raise Unreadable(f"{what} has a header of {length} bytes, more than {_MOST_HEADER}")
    text = file.read(length).decode("utf-8" if major == 3 else "latin-1")
    fields = ast.literal_eval(text)
    if not isinstance(fields, dict) or set(fields) != {"descr", "fortran_order", "shape"}:
        raise Unreadable(f"{what} has a header without descr, fortran_order and shape")
    descr, fortran, shape = fields["descr"], fields["fortran_order"], fields["shape"]
    if (
        not isinstance(fortran, bool)
        or not isinstance(shape, tuple)
        or not all(type(n) is int and n >= 0 for n in shape)
    ):
        raise Unreadable(f"{what} has no sensible shape: {shape!r:.80}")
    if not isinstance(descr, str):
        raise Unreadable(f"{what} is a table with fields, not an array of numbers")
    dtype = np.dtype(descr)
    if dtype.hasobject:
        raise Unreadable(f"{what} holds Python objects, which are never loaded", objects=True)
    if dtype.kind not in _KINDS:
        raise Unreadable(f"{what} holds {dtype.name}, not numbers")
    return dtype, fortran, shape


__all__ = ["MOST_ARRAYS", "MOST_BYTES", "Unreadable", "read_arrays"]
