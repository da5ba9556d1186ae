"""QEMU's control socket, through QEMU's own client library."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from pathlib import Path
from typing import Any

from edge_harness.engines.launch import connect_unix
from edge_harness.errors import EmulatorCrashed

#: One after another within this process; among processes QEMU itself takes one at a time.
_LOCK = threading.Lock()


def execute(state_dir: Path, *commands: tuple[str, dict[str, Any]], timeout_s: float = 30) -> Any:
    """Give QEMU ``(command, arguments)`` one after another; the last one's answer.

    Raises:
        EmulatorCrashed: QEMU refused one, or does not answer.
    """
    result: list[Any] = []
    errors: list[BaseException] = []

    def work() -> None:
        try:
            result.append(asyncio.run(_execute(state_dir, commands, timeout_s)))
        except BaseException as error:
            errors.append(error)

    # In a thread of its own: the test may run inside an event loop.
    with _LOCK:
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    if errors:
        error = errors[0]
        if not isinstance(error, Exception):
            raise error
        names = ", ".join(command for command, _ in commands)
        said = str(error) or type(error).__name__
        raise EmulatorCrashed(
            f"QEMU could not {names}: {said}", next_step="look at device.log()"
        ) from error
    return result[0]


async def _execute(
    state_dir: Path, commands: tuple[tuple[str, dict[str, Any]], ...], timeout_s: float
) -> Any:
    from qemu.qmp import QMPClient

    client = QMPClient("edge-harness")
    client.logger.disabled = True
    sock = connect_unix(state_dir, "qmp.sock", timeout_s=timeout_s)
    sock.setblocking(False)
    async with asyncio.timeout(timeout_s) if hasattr(asyncio, "timeout") else _Untimed():
        await client.connect(sock)
        try:
            answer: Any = None
            for command, arguments in commands:
                answer = await client.execute(command, arguments or None)
            return answer
        finally:
            with contextlib.suppress(EOFError):  # told to quit, QEMU may hang up first
                await client.disconnect()


class _Untimed:
    """Python 3.10 has no ``asyncio.timeout``; the socket's own time-out has to do."""

    async def __aenter__(self) -> None:
        return None

    async def __aexit__(self, *_: object) -> None:
        return None
