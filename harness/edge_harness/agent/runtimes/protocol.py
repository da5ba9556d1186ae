"""What a file of this folder defines, so that the agent can load models with its runtime.

Nothing imports this inside a device: it is for readers and for the type checker. Arrays come and
go as :mod:`edge_harness.agent.runtimes.arrays` packs them; most runtimes need no more than its
:class:`~edge_harness.agent.runtimes.arrays.ArraySession`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from edge_harness import wire


class RuntimeSession(Protocol):
    """One model, loaded. What raises here is an error of the runtime and ends no worker."""

    def describe(self) -> dict[str, Any]:
        """What is known of the loaded model, as plain JSON values.

        ``inputs`` and ``outputs``: for each tensor ``name``, ``dtype`` (numpy's name), ``shape``,
        ``shape_signature`` (-1 for free dimensions), ``scales``, ``zero_points`` and ``axis``
        (empty and 0 where it is not quantized); ``signatures`` (``{}`` for none), ``kernels``,
        ``delegates``, ``threads``.
        """

    def resize(self, shapes: dict[str, list[int]]) -> None:
        """Give inputs other shapes, by name."""

    def run(self, header: wire.Header, payload: bytes) -> tuple[Any, ...]:
        """One inference: the head of the answer and its buffers. ``header["tensors"]`` describes
        the payload; with ``header["signature"]`` and ``header["names"]`` it is for a signature."""

    def run_batch(self, header: wire.Header, payload: bytes) -> tuple[Any, ...]:
        """``header["count"]`` inferences; inputs and outputs are stacked along a new first axis."""

    def invoker(self, header: wire.Header, payload: bytes) -> Callable[[], Any]:
        """One inference and nothing else, for the device clock: inputs are set here, before."""

    def bench(self, header: wire.Header, payload: bytes) -> dict[str, Any]:
        """``seconds`` of each of ``header["repeats"]`` inferences in a bare loop, without frames:
        what ``session.run`` is measured against."""


class RuntimeFile(Protocol):
    """A module of this folder, or the file of another distribution's runtime. It may define
    ``REHEARSAL`` too: a small model, as bytes or as the name of a file in this folder, to be
    loaded once before any worker is forked; see ``parent.rehearse``.

    Of a runtime that is a shared library of the device, ``os.environ["EDGE_LIBRARY"]`` is its
    absolute path; it is there. Shared libraries of Debian packages that were brought are loaded
    before the file is imported."""

    def warm(self) -> dict[str, Any]:
        """Import the runtime: once, before workers are forked. Returns ``runtime`` (the
        distribution that carries it), its ``version`` and other facts."""

    def Session(self, header: wire.Header, payload: bytes) -> RuntimeSession:  # noqa: N802
        """Load the model in ``payload``; ``header`` has ``threads`` and the runtime's options. A
        class, most of the time."""
