"""Programs on a running device."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from edge_harness import wire
from edge_harness.device.endings import Endings
from edge_harness.device.hold import Hold
from edge_harness.device.results import RunResult
from edge_harness.errors import DeviceTimeout, EdgeError, InputError, OptionError

if TYPE_CHECKING:
    from edge_harness.image import Layer


class Programs:
    """Methods of :class:`edge_harness.device.device.Device` that run programs on it."""

    hold: Hold
    endings: Endings

    if TYPE_CHECKING:

        @property
        def name(self) -> str: ...
        @property
        def capabilities(self) -> frozenset[str]: ...
        @property
        def engine(self) -> str: ...
        def _layer(self, requirements: Sequence[str]) -> Layer: ...

    def run(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        input: bytes | str = b"",
        timeout_s: float = 120.0,
        requirements: Sequence[str] = (),
    ) -> RunResult:
        """Run a program on the device to its end.

        Args:
            argv: the program and its arguments; paths are the device's.
            env: additions to the device's environment.
            cwd: working folder in the device (default ``/tmp``).
            input: what the program reads from standard input.
            timeout_s: wall time after which it is ended.
            requirements: wheels to have on its ``PYTHONPATH``, as pip takes them.

        Returns:
            How it ended, with a diagnosis where it crashed. A crash is a result here, not an
            exception; :meth:`RunResult.check` raises it.

        Raises:
            CacheError: this machine's disk is full, so the device could not go on.
            InputError: there is no such program on the device.
            DeviceTimeout: it was not done in time.
        """
        if isinstance(argv, str) or not argv:
            raise OptionError(
                f"argv is {argv!r}", next_step="pass a list such as ['python3', 'app.py']"
            )
        words = [str(word) for word in argv]
        extra = dict(env or {})
        if requirements:
            site = f"{self._layers_path()}/{self._layer(tuple(requirements)).key}/site"
            extra["PYTHONPATH"] = ":".join(filter(None, (site, extra.get("PYTHONPATH", ""))))
        data = input.encode() if isinstance(input, str) else input
        header = {"op": "exec", "argv": words, "env": extra, "cwd": cwd, "timeout_s": timeout_s}
        self.hold.revive()
        try:
            stream = self.hold.connect("agent", timeout_s=timeout_s + 30)
        except OSError:
            raise self.endings.machine_death(f"starting {words!r}") from None
        try:
            stream.send(header, data)
            answer, payload = stream.receive()
        except TimeoutError:
            raise DeviceTimeout(
                f"{self.name} did not say how {words!r} ended\n{self.hold.log_tail()}",
                next_step="look at device.log()",
            ) from None
        except (wire.WireError, OSError):
            raise self.endings.machine_death(f"running {words!r}") from None
        finally:
            stream.close()
        return self._result(words, answer, payload, timeout_s)

    def _result(
        self, words: list[str], answer: Mapping[str, Any], payload: bytes, timeout_s: float
    ) -> RunResult:
        if not answer["ok"]:
            raise InputError(
                f"{words[0]!r} cannot be started on {self.name}: {answer['error']}",
                next_step="name a program of the device's image; packages can be given as "
                "requirements=[…]",
            )
        split = answer["stdout_bytes"]
        out = payload[:split].decode(errors="replace")
        err = payload[split:].decode(errors="replace")
        if answer["timed_out"]:
            raise self.endings.timed_out(
                repr(words[0]),
                f"running {words!r}",
                timeout_s,
                said=out + err,
                details={"stdout": out, "stderr": err},
            )
        number = answer["signal"]
        code = -number if number else answer["code"]
        error: EdgeError | None = None
        diagnosis = None
        host = self.endings.host_failed(f"running {words!r}", ended_well=code == 0)
        if host is not None:
            raise host
        if code:
            error, diagnosis = self.endings.program_death(answer, f"running {words!r}", log=err)
        return RunResult(
            argv=tuple(words),
            returncode=code,
            signal=number,
            stdout=out,
            stderr=err,
            peak_rss_mib=answer["peak_rss_kib"] / 1024,
            diagnosis=diagnosis,
            error=error,
        )

    def _layers_path(self) -> str:
        from edge_harness.engines.launch import LAYERS_DIR
        from edge_harness.image import layers_dir

        return (
            LAYERS_DIR
            if "rootfs" in self.capabilities or self.engine == "host"
            else str(layers_dir())
        )


__all__ = ["Programs"]
