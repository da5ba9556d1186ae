"""The wire to one worker: the process in the device that holds one model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from edge_harness import wire
from edge_harness.device.described import trouble_of_warm
from edge_harness.device.last_words import LastWords
from edge_harness.device.loading import Loading
from edge_harness.diagnose import FailedLoad
from edge_harness.errors import DeviceTimeout, EdgeError, InternalError, RuntimeFailed
from edge_harness.models.tensors import Array

if TYPE_CHECKING:
    from edge_harness.runtimes import LoadRequest, WarmParent


class Worker:
    """Asks a worker, makes a new one where that is gone, and explains why it went.

    Not shared between threads. A request that is interrupted, by Ctrl-C or a time-out in the
    middle of it, ends the worker: it would go on computing what nobody wants to know.

    Args:
        loading: of the device.
        request: what to load.
        timeout_s: for loading and for each request, in seconds of wall time.
        loaded: called with what a new worker says of its model.
    """

    def __init__(
        self,
        loading: Loading,
        request: LoadRequest,
        timeout_s: float,
        loaded: Callable[[wire.Header], None],
    ) -> None:
        self.facts: dict[str, Any] = {}
        """Runtime, version and more, as the worker said."""
        self._loading = loading
        self._request = request
        self._timeout_s = timeout_s
        self._loaded = loaded
        self._words = LastWords(loading.hold)
        self._stream: wire.Stream | None = None
        self._parent: WarmParent | None = None
        self._pid = 0
        self._generation = 0
        """Of the machine that the worker runs on; another one knows nothing of it."""
        self._given_up: tuple[str, int] | None = None

    @property
    def runtime(self) -> str:
        """Distribution and version, e.g. ``tflite-runtime 2.14.0``."""
        return f"{self.facts['runtime']} {self.facts['version']}"

    @property
    def called(self) -> str:
        """The runtime in messages: one from another distribution by its own name too."""
        row = self._request.runtime
        return f"{row.name} ({self.runtime})" if row.origin else self.runtime

    @property
    def pid(self) -> int:
        """In the device; 0 before the worker said."""
        return self._pid

    def ready(self) -> None:
        """Have a worker that has the model.

        Raises:
            UnsupportedModel, ModelError: the runtime cannot execute it.
            DeviceFailed: it crashed, or ran out of memory or time.
        """
        if self._stream is None or self._generation != self._loading.hold.generation:
            self._open()

    def ask(self, header: wire.Header, *arrays: Array) -> wire.Header:
        """The answer to ``header`` with ``arrays`` as its payload.

        Raises:
            DeviceFailed: the worker died (and how), ran out of time, or the runtime complained.
        """
        self.ready()
        return self.exchange(wire.encode(header, sum(a.nbytes for a in arrays)), list(arrays))[0]

    def exchange(self, head: wire.Head, arrays: list[Array]) -> tuple[wire.Header, bytes]:
        """As :meth:`ask`, of a worker that is ready, for a header made ready; with the answer's
        payload."""
        stream = self._stream
        assert stream is not None
        answered = False
        doing = "taking the inputs"
        self._words.asked()
        try:
            stream.request_encoded(
                # As bytes by numpy: memoryview cannot cast complex numbers.
                head,
                *[array.reshape(-1).view(np.uint8).data for array in arrays if array.nbytes],
            )
            doing = "answering"
            header, payload = stream.answer()
            answered = True
            self._words.answered()
        except TimeoutError:
            raise self._timed_out(doing) from None
        except (wire.WireError, OSError):
            self._died("running the model" if doing == "answering" else doing)
        finally:
            if not answered:
                self._give_up()
        if not header["ok"]:
            raise self._complaint(header)
        return header, payload

    def close(self) -> None:
        """Let the worker end. Idempotent."""
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.close()

    # -- a new one ---------------------------------------------------------------------------

    def _open(self) -> None:
        self.close()
        self._end_given_up()
        self._parent = self._loading.parent(self._request.runtime, self._request.requirement)
        self._generation = self._loading.hold.generation
        self._pid = 0
        self._words.loading()
        opened = False
        try:
            self._stream = stream = self._loading.hold.connect(
                self._parent.socket, timeout_s=self._timeout_s
            )
            stream.request({"op": wire.Op.LOAD, **self._request.header()}, self._request.content)
            hello, _ = stream.answer()
            if not hello["ok"]:
                raise InternalError(f"the agent's answer is not understood: {hello['error']}")
            self._pid = int(hello["pid"])
            if trouble := trouble_of_warm(hello):
                raise self._request.runtime.broken(trouble)
            self.facts.update(hello)
            answer, _ = stream.answer()
            opened = True
            self._words.answered()
        except TimeoutError:
            raise self._timed_out("loading") from None
        except wire.WrongProtocol as error:
            raise self._loading.hold.other_version(error) from None
        except (wire.Closed, OSError):
            self._died("loading the model")
        except wire.WireError as error:
            raise InternalError(f"the agent's answer is not understood: {error}") from error
        finally:
            if not opened:
                self._give_up()
        if not answer["ok"]:
            self.close()
            raise self._loading.endings.load_failed(self._failed_load(answer), answer)
        self.facts.update(answer)
        try:
            self._loaded(answer)
        except EdgeError:
            self.close()
            raise

    def _failed_load(self, answer: Mapping[str, Any]) -> FailedLoad:
        return FailedLoad(
            device=self._loading.hold.name,
            model=self._request.file_name,
            model_bytes=len(self._request.content),
            runtime=self.called,
            requirement=self._request.requirement,
            where=self._where(answer),
        )

    def _where(self, answer: Mapping[str, Any]) -> str:
        """Where in its own file a runtime of another distribution raised; that of ours says
        nobody anything."""
        return str(answer.get("where", "")) if self._request.runtime.origin else ""

    # -- what goes wrong ---------------------------------------------------------------------

    def _give_up(self) -> None:
        """Hang up in the middle of a request, and remember whom nobody will listen to."""
        if self._stream is not None and self._parent is not None and self._pid:
            self._given_up = (self._parent.socket, self._pid)
        self.close()

    def _end_given_up(self) -> None:
        """End the worker that was given up, now that there is time: it may compute for ever."""
        given_up, self._given_up = self._given_up, None
        if given_up is not None and self._generation == self._loading.hold.generation:
            self._loading.endings.end_worker(*given_up, kill=True)

    def _died(self, doing: str) -> NoReturn:
        """Raise what ended the worker."""
        self.close()
        assert self._parent is not None
        self._loading.forget(self._parent)
        raise self._loading.endings.worker_death(
            self._parent.socket,
            self._pid,
            f"{doing} {self._request.file_name!r}",
            said=self._words.since,
        ) from None

    def _timed_out(self, doing: str) -> DeviceTimeout:
        self.close()
        assert self._parent is not None
        self._loading.endings.end_worker(self._parent.socket, self._pid, kill=True)
        return self._loading.endings.timed_out(
            "the worker", doing, self._timeout_s, said=self._words.since()
        )

    def _complaint(self, header: Mapping[str, Any]) -> EdgeError:
        text = f"{header.get('type', 'error')}: {header['error']}"
        endings, device = self._loading.endings, self._loading.hold.name
        if header["kind"] == "memory":
            return endings.out_of_memory(f"running {self._request.file_name!r}", text)
        at = self._where(header)
        return RuntimeFailed(
            f"{self.called} on {device} failed: {text}" + (f" (at {at})" if at else ""),
            next_step=f"look there, in the file of {self._request.runtime.origin}"
            if at
            else "look at the device's log (device.log())",
            details={
                "runtime": self.runtime,
                "device": device,
                "where": str(header.get("where", "")),
            },
        )


__all__ = ["Worker"]
