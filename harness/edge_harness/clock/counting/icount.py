"""Count instructions where QEMU cannot load the clock's plugin.

``-icount shift=0`` makes the board's clock advance a nanosecond with each instruction, so that the
time of an inference on that clock is a count, the kernel's own work and the interpreter's included.
Which instructions they were and what memory did stays unknown; see
:mod:`edge_harness.clock.instruction_rate` for what becomes of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from edge_harness.clock.counting.count import counting_engine
from edge_harness.device.request import DeviceRequest
from edge_harness.device.starting import start_device
from edge_harness.engines import Instrumentation

if TYPE_CHECKING:
    from edge_harness.clock.counting.count import Progress
    from edge_harness.clock.counting.inference import Inference
    from edge_harness.profiles import Profile

#: Inferences to count; the fewest instructions are those of the one that was disturbed least.
_REPEATS = 4


class Number(NamedTuple):
    """How many instructions an inference took, and which code it was that ran."""

    instructions: int
    runtime: str
    kernels: str


def count_instructions(
    profile: Profile, inference: Inference, *, progress: Progress | None = None
) -> Number:
    """The number of instructions of ``inference`` on an emulated board of ``profile``.

    Raises:
        MissingAbility: no whole board of this profile can be emulated here.
        DeviceFailed: the model crashed, or ran out of memory or time.
    """
    with (
        start_device(
            DeviceRequest(
                profile=profile,
                choice=counting_engine(profile)[0],
                progress=progress,
                instrumentation=Instrumentation(icount=True),
                warm=(inference.request.runtime, inference.request.requirement),
            )
        ) as device,
        device.open_session(inference.on_one_thread) as session,
    ):
        seconds = session.bare_loop_s(list(inference.inputs), _REPEATS)
        return Number(round(min(seconds) * 1e9), session.runtime, session.kernels)
