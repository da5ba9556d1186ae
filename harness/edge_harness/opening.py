"""Bring a board up: the one place where a device meets what answers for its latencies."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from edge_harness.clock.counting.device_clock import DeviceClock
from edge_harness.device.device import Device
from edge_harness.device.request import DeviceRequest, Progress
from edge_harness.device.starting import start_device
from edge_harness.engines import Limits
from edge_harness.profiles import default_registry

if TYPE_CHECKING:
    from edge_harness.profiles import Profile


def open_device(
    profile: Profile | str,
    *,
    profile_dirs: Sequence[str | Path] = (),
    engine: str = "auto",
    needs: Iterable[str] = (),
    share: str | None = None,
    limits: Limits | None = None,
    progress: Progress | None = None,
    runtimes: Sequence[str] = (),
) -> Device:
    """Bring ``profile`` up; its sessions' latencies are predicted by the device clock.

    Args:
        profile: what the board is, or its name or alias: of a built-in profile, or of one in
            ``device_profiles/`` of the current folder.
        profile_dirs: more folders with profiles, in which the name is looked up first.
        engine: the name of an engine, or ``auto`` for the first that proves ``needs``.
        needs: abilities the device must have; see
            :data:`edge_harness.engines.abilities.ABILITIES`.
        share: processes that give the same string share one running device.
        limits: instead of the profile's own memory (MiB) and CPUs.
        progress: called with a line of text while something slow happens.
        runtimes: instead of the profile's, where ``load`` names no version: pinned
            distributions such as ``onnxruntime==1.21.0``.

    Raises:
        UnknownDevice, ProfileError: no profile has that name, or it is not valid.
        MissingAbility: the engine cannot prove what ``needs`` asks for.
        MissingTool: no engine can run here; the message has the fix.
        ImageBuildFailed, CacheError, BootFailed: it did not come up, and why.
    """
    if isinstance(profile, str):
        profile = default_registry(profile_dirs, Path.cwd()).get(profile)
    return start_device(
        DeviceRequest(
            profile=profile,
            engine=engine,
            needs=frozenset(needs),
            share=share,
            limits=limits or Limits(),
            progress=progress,
            runtimes=tuple(runtimes),
            latency_source=DeviceClock(progress=progress),
        )
    )
