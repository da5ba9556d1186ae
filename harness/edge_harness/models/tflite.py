"""Whether a TFLite file holds together: every offset, length and index inside the file.

The runtimes' Python interpreters do not verify what they are given: of a truncated file they
read beyond the end and die of SIGSEGV (tflite-runtime 2.14, seen with files cut at any length).
Walking the file here costs a millisecond and gives a sentence instead. Accessors come from the
schema's own generated code (package ``tflite``).
"""

from __future__ import annotations

import struct
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edge_harness.runtimes import Model

#: How flatbuffers' Python reader complains about offsets that lead nowhere.
_BROKEN = (struct.error, IndexError, ValueError, TypeError, OverflowError, UnicodeDecodeError)
#: No model has more of anything; a damaged length is often a billion.
_MOST = 10_000_000
#: numpy's names for the schema's TensorType numbers.
_DTYPES = {
    0: "float32",
    1: "float16",
    2: "int32",
    3: "uint8",
    4: "int64",
    6: "bool",
    7: "int16",
    9: "int8",
    10: "float64",
    12: "uint64",
    15: "uint32",
    16: "uint16",
}


class Damaged(Exception):
    """The file contradicts itself; the message says where."""


def verify(content: bytes) -> None:
    """Walk all tables of a TFLite file.

    Raises:
        Damaged: something lies outside the file or points to what is not there.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the generated code warns of its own deprecations
        import tflite

        try:
            _model(tflite.Model.GetRootAs(content, 0), len(content))
        except _BROKEN as error:
            raise Damaged(
                f"an offset in it leads outside its {len(content)} bytes ({error})"
            ) from None


def damage(content: bytes) -> str:
    """How a TFLite file is damaged; "" where it holds together."""
    try:
        verify(content)
    except Damaged as error:
        return str(error)
    return ""


def inputs(model: Model) -> list[tuple[str, str, tuple[int, ...]]]:
    """Name, dtype and shape of each input of a TFLite file, free dimensions as 1; "" for a dtype
    that numpy arrays of a fixed size do not have."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # as above
        import tflite

        graph = tflite.Model.GetRootAs(model.content, 0).Subgraphs(0)
        found = []
        for position in range(graph.InputsLength()):
            tensor = graph.Tensors(graph.Inputs(position))
            name = (tensor.Name() or b"").decode(errors="replace")
            shape = tuple(max(1, tensor.Shape(i)) for i in range(tensor.ShapeLength()))
            found.append((name, _DTYPES.get(tensor.Type(), ""), shape))
        return found


def _model(model: Any, size: int) -> None:
    if model.Version() != 3:
        raise Damaged(f"its schema version is {model.Version()}, not 3")
    if model.SubgraphsLength() == 0:
        raise Damaged("it has no subgraph")
    buffers = model.BuffersLength()
    for index in range(_count(model.BuffersLength, size)):
        buffer = model.Buffers(index)
        length = buffer.DataLength()
        if length:
            # The first and the last byte: reading beyond the file's end raises.
            buffer.Data(0), buffer.Data(length - 1)
    codes = _count(model.OperatorCodesLength, size)
    for index in range(codes):
        model.OperatorCodes(index).BuiltinCode()
    for index in range(_count(model.SubgraphsLength, size)):
        _subgraph(model.Subgraphs(index), size, buffers, codes, index)


def _subgraph(graph: Any, size: int, buffers: int, codes: int, number: int) -> None:
    tensors = _count(graph.TensorsLength, size)
    for index in range(tensors):
        tensor = graph.Tensors(index)
        tensor.Name(), tensor.Type()
        for axis in range(_count(tensor.ShapeLength, size)):
            tensor.Shape(axis)
        if tensor.Buffer() >= max(buffers, 1):
            raise Damaged(
                f"tensor {index} of subgraph {number} uses buffer {tensor.Buffer()} of {buffers}"
            )
    for name, length, item in (
        ("input", graph.InputsLength, graph.Inputs),
        ("output", graph.OutputsLength, graph.Outputs),
    ):
        _indices(length, item, tensors, size, f"{name} of subgraph {number}")
    for index in range(_count(graph.OperatorsLength, size)):
        operator = graph.Operators(index)
        if operator.OpcodeIndex() >= codes:
            raise Damaged(f"operator {index} has code {operator.OpcodeIndex()} of {codes}")
        where = f"operator {index} of subgraph {number}"
        _indices(operator.InputsLength, operator.Inputs, tensors, size, where)
        _indices(operator.OutputsLength, operator.Outputs, tensors, size, where)


def _indices(
    length: Callable[[], int], item: Callable[[int], int], tensors: int, size: int, where: str
) -> None:
    for index in range(_count(length, size)):
        # -1 marks an optional input that is not there.
        if not -1 <= item(index) < tensors:
            raise Damaged(f"{where} names tensor {item(index)} of {tensors}")


def _count(length: Callable[[], int], size: int) -> int:
    count = length()
    if not 0 <= count <= min(size, _MOST):
        raise Damaged(f"it claims {count} entries in {size} bytes")
    return count
