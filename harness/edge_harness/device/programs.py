"""Programs on a running device."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from edge_harness import wire
from edge_harness.device.endings import Endings
from edge_harness.device.hold import Hold
from edge_harness.device.results import RunResult, Said
from edge_harness.errors import DeviceTimeout, EdgeError, InputError, OptionError

if TYPE_CHECKING:
    from edge_harness.image import Layer


class Programs:
    """Runs programs on one device.

    Args:
        hold: the machine.
        endings: explains how they end.
        layer: brings wheels to the device; the layer they are in.
    """

    def __init__(
        self, *, hold: Hold, endings: Endings, layer: Callable[[Sequence[str]], Layer]
    ) -> None:
        self._hold = hold
        self._endings = endings
        self._layer = layer

    def run(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None,
        cwd: str | None,
        input: bytes | str,
        timeout_s: float,
        requirements: Sequence[str],
    ) -> RunResult:
        """See :meth:`edge_harness.device.device.Device.run`."""
        if isinstance(argv, str) or not argv:
            raise OptionError(
                f"argv is {argv!r}", next_step="pass a list such as ['python3', 'app.py']"
            )
        words = [str(word) for word in argv]
        extra = dict(env or {})
        if requirements:
            site = f"{self._hold.machine.layers_dir}/{self._layer(tuple(requirements)).key}/site"
            extra["PYTHONPATH"] = ":".join(filter(None, (site, extra.get("PYTHONPATH", ""))))
        data = input.encode() if isinstance(input, str) else input
        header = {
            "op": wire.Op.EXEC,
            "argv": words,
            "env": extra,
            "cwd": cwd,
            "timeout_s": timeout_s,
        }
        self._hold.revive()
        try:
            stream = self._hold.connect("agent", timeout_s=timeout_s + 30)
        except OSError:
            raise self._endings.machine_death(f"starting {words!r}") from None
        try:
            answer, payload = stream.ask(header, data)
        except TimeoutError:
            raise DeviceTimeout(
                f"{self._hold.name} did not say how {words!r} ended\n{self._hold.log_tail()}",
                next_step="look at device.log()",
            ) from None
        except (wire.WireError, OSError):
            raise self._endings.machine_death(f"running {words!r}") from None
        finally:
            stream.close()
        return self._result(words, answer, payload, timeout_s)

    def _result(
        self, words: list[str], answer: Mapping[str, Any], payload: bytes, timeout_s: float
    ) -> RunResult:
        if not answer["ok"]:
            raise InputError(
                f"{words[0]!r} cannot be started on {self._hold.name}: {answer['error']}",
                next_step=f"{self._hold.program_hint}; packages can be given as requirements=[…]",
            )
        split = answer["stdout_bytes"]
        out = payload[:split].decode(errors="replace")
        err = payload[split:].decode(errors="replace")
        if answer["timed_out"]:
            raise self._endings.timed_out(
                repr(words[0]),
                f"running {words!r}",
                timeout_s,
                said=Said(text=out + err, alone=True),
                details={"stdout": out, "stderr": err},
            )
        number = answer["signal"]
        code = -number if number else answer["code"]
        error: EdgeError | None = None
        diagnosis = None
        host = self._endings.host_failed(f"running {words!r}", ended_well=code == 0)
        if host is not None:
            raise host
        if code:
            error, diagnosis = self._endings.program_death(answer, f"running {words!r}", log=err)
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


__all__ = ["Programs"]
