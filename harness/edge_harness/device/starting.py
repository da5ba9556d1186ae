"""From what somebody wants to a running device: the engine is chosen, what it needs is made."""

from __future__ import annotations

import uuid

from edge_harness.device.device import Device
from edge_harness.device.lease import Lease
from edge_harness.device.loading import likely_parents, wanted_parent
from edge_harness.device.request import DeviceRequest
from edge_harness.engines import Requirements, StartSpec
from edge_harness.engines.choose import choose_engine
from edge_harness.engines.registry import blaming, broken


def start_device(request: DeviceRequest) -> Device:
    """Bring up what ``request`` asks for.

    Raises:
        MissingAbility: the engine cannot prove what is needed.
        MissingTool: no engine can run here; the message has the fix.
        BrokenExtension: the engine is another distribution's, and cannot be had.
        ImageBuildFailed, CacheError, BootFailed: it did not come up, and why.
    """
    profile, progress = request.profile, request.progress
    choice = request.choice or choose_engine(profile, request.engine, request.all_needs())
    with blaming(choice.engine.name, "requirements"):
        wanted = choice.engine.requirements(profile)
    if not isinstance(wanted, Requirements):
        raise broken(
            choice.engine.name,
            f"is broken: requirements() gives {wanted!r} and no Requirements",
            next_step="have it return edge_harness.engines.Requirements",
        )
    image = kernel = None
    if wanted.image is not None:
        from edge_harness.image import ensure_image

        image = ensure_image(wanted.image.arch, wanted.image.suite, progress)
    if wanted.kernel is not None:
        from edge_harness.image.kernel import ensure_kernel

        kernel = ensure_kernel(wanted.kernel.arch, wanted.kernel.page_size_kib, progress)
    environment = wanted.environment or (image.environment if image is not None else None)
    if environment is None:
        raise broken(
            choice.engine.name,
            "asks for no image and names no environment",
            next_step="say in its requirements() which wheels fit: Requirements(environment=…)",
        )
    key = f"{profile.name}-{choice.engine.name}"
    suffix = uuid.uuid4().hex[:12]
    if request.share is not None:
        import hashlib

        limits = request.limits
        text = repr((request.share, key, limits.memory_mib, limits.cpus, profile.source_file))
        suffix = hashlib.sha256(text.encode()).hexdigest()[:12]
    lease = Lease(f"{key}-{suffix}")
    spec = StartSpec(
        profile=profile,
        image=image,
        kernel=kernel,
        state_dir=lease.state_dir,
        limits=request.limits,
        warm=(wanted_parent(environment, *request.warm, progress),)
        if request.warm
        else likely_parents(
            profile, environment, request.runtimes, fetch=wanted.runtime, progress=progress
        ),
        progress=progress,
        instrumentation=request.instrumentation,
    )
    return Device(request, choice=choice, lease=lease, spec=spec, environment=environment)


__all__ = ["start_device"]
