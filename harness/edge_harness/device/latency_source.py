"""Who knows how long an inference takes on the board: handed in when a device is opened.

A session is asked for a latency, but this layer cannot answer: whether the device clock predicts it
(``edge_harness.clock.counting``) or a board on the network measures it is decided by who opens the
device (``edge_harness.opening``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from edge_harness.clock.estimate import LatencyEstimate
    from edge_harness.models.tensors import Tensor
    from edge_harness.profiles import Profile
    from edge_harness.runtimes import LoadRequest


class LoadedModel(Protocol):
    """What a source is told of a session, and may do with it."""

    @property
    def profile(self) -> Profile:
        """The board."""

    @property
    def request(self) -> LoadRequest:
        """What was asked for: model, runtime, options."""

    @property
    def requirement(self) -> str:
        """The runtime that holds the model, as a pinned requirement."""

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        """Of the model, with the shapes they have now."""

    def bare_loop_s(self, inputs: Any, repeats: int) -> list[float]:
        """Seconds of so many invocations in a loop inside the device."""


class LatencySource(Protocol):
    """Answers for the sessions of one device."""

    def latency(
        self,
        model: LoadedModel,
        inputs: Any = None,
        *,
        threads: int | None = None,
        refresh: bool | None = None,
    ) -> LatencyEstimate:
        """The time of one inference, with its bounds.

        Args:
            model: the session; an answer may run it, and does not change it.
            inputs: as for :meth:`edge_harness.device.session.Session.run`; None for inputs made up
                by the source, the same each time.
            threads: of the runtime; None for the session's own.
            refresh: find out anew although the answer is known; None for what the source was
                made with.

        Raises:
            MissingAbility: the source cannot tell for this model, runtime or board.
            OptionError: more threads than the board has cores.
            InputError: inputs do not fit the model.
            DeviceFailed: the model crashed.
        """
