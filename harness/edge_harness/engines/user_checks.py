"""What the ``user`` engine rests on, for ``edge-harness doctor``."""

from __future__ import annotations

from edge_harness.engines.sandbox import isolation
from edge_harness.system.checks import Check, Status, output_of

_SETUP = "edge-harness setup"


def emulator() -> list[Check]:
    """QEMU's user mode."""
    from edge_harness.image.tools import MINIMUM_QEMU, installed_tools, qemu_version

    least = ".".join(map(str, MINIMUM_QEMU))
    tools = installed_tools()
    if tools is None:
        return [
            Check(
                group="emulator",
                name="QEMU user mode",
                status="missing",
                found=f"neither fetched nor installed ({least} or newer is needed)",
                fix=_SETUP,
            )
        ]
    path = tools.qemu_user("arm64")
    plugin = "-plugin" in output_of([str(path), "-help"])
    return [
        Check(
            group="emulator",
            name="QEMU user mode",
            status="ok",
            found=f"{qemu_version(str(path)) or 'does not start'} ({path})",
        ),
        Check(
            group="emulator",
            name="QEMU user mode -plugin",
            status="ok" if plugin else "limited",
            found="supported" if plugin else "not in static builds; nothing here needs it",
            optional=True,
        ),
    ]


def namespaces() -> list[Check]:
    """What bubblewrap may do here; tried."""
    from edge_harness.image.tools import installed_tools

    tools = installed_tools()
    prefix = tools.bwrap if tools else None
    if prefix is None:
        return [
            Check(
                group="isolation",
                name="user namespaces",
                status="missing",
                found="bubblewrap is neither fetched nor installed",
                fix=_SETUP,
            )
        ]
    mode, why = isolation(tuple(prefix))
    status: Status
    if mode == "overlay":
        status, found = "ok", "bubblewrap makes namespaces and overlays (tried)"
    elif mode == "read-only":
        status, found = "limited", f"bubblewrap makes namespaces (tried), no overlays: {why}"
    else:
        status, found = "missing", f"bubblewrap cannot make namespaces (tried): {why}"
    fix = ""
    if status == "missing":
        fix = (
            "sudo sysctl kernel.unprivileged_userns_clone=1; on Ubuntu 24.04 and later sudo "
            "sysctl kernel.apparmor_restrict_unprivileged_userns=0"
        )
    return [Check(group="isolation", name="user namespaces", status=status, found=found, fix=fix)]
