"""What the ``vm`` engine rests on, for ``edge-harness doctor``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edge_harness.engines.vm.argv import host_acceleration
from edge_harness.image.board_tools import installed_board_tools
from edge_harness.system.checks import Check, output_of

if TYPE_CHECKING:
    from edge_harness.profiles import Profile


def emulator(profile: Profile) -> list[Check]:
    """QEMU's board emulator, and whether it takes the plugin of the device clock."""
    tools = installed_board_tools()
    if tools is None:
        return [
            Check(
                group="emulator",
                name="QEMU system mode",
                status="limited",
                found="neither fetched nor installed; fetched when a board is first asked for",
                fix="edge-harness run --engine vm --device " + f"{profile.name} -- true",
                optional=True,
            )
        ]
    argv = tools.qemu("arm64")
    plugin = "-plugin" in output_of([*argv, "-help"])
    return [
        Check(
            group="emulator",
            name="QEMU system mode",
            status="ok",
            found=f"{tools.version} ({tools.root or argv[0]}), "
            + host_acceleration(profile.emulation.qemu_cpu, profile.os.arch).why,
        ),
        Check(
            group="emulator",
            name="QEMU system mode -plugin",
            status="ok" if plugin else "limited",
            found="supported" if plugin else "missing: the device clock counts without it, roughly",
            optional=True,
        ),
    ]
