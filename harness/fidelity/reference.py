"""Reference runs: natively on this machine, with kernels that do not depend on its processor."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import EdgeError

if TYPE_CHECKING:
    from harness.session import Session


@contextmanager
def reference_session(session: Session, model: str | Path | None = None) -> Iterator[Session]:
    """``model`` (default: the session's own) under TFLite's reference kernels on this machine,
    in the same runtime version.

    x86 is no golden reference with its optimised kernels: they saturate and fuse otherwise than
    Arm's. The reference kernels are plain C++ and gave the same bits on both (65 of 65 layers
    of MobileNet v2 int8). ONNX Runtime has no such kernels; its sessions are the native default
    and the report names them.

    Raises:
        ImageBuildFailed: the runtime's version has no wheel for this machine's architecture.
    """
    from harness.device import open_device

    requirement = session.requirement
    with open_device(session.device.profile, engine="host") as host:
        path = model if model is not None else session.model.path
        try:
            loaded = host.load(path, runtime=requirement, kernels="reference")
        except EdgeError as error:
            error.details.setdefault("reference", str(path))
            raise
        with loaded:
            yield loaded
