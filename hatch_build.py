"""Platform wheels: with EDGE_HARNESS_PREBUILT=1 the device clock's plugin goes in compiled.

    EDGE_HARNESS_PREBUILT=1 python -m build --wheel

Without it the wheel is for every platform, and the plugin is compiled on first use.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from packaging.tags import platform_tags

SOURCE = Path("harness/edge_harness/clock/plugin/edge_clock.c")
#: Interfaces of QEMU 9.1 to 11.0 and of 11.1; see edge_harness.clock.counting.plugin_build.
INTERFACES = (3, 7)


class PrebuiltPlugin(BuildHookInterface):
    """Compiles the plugin with ``$CC`` (default ``cc``) for the machine that builds the wheel."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if self.target_name != "wheel" or os.environ.get("EDGE_HARNESS_PREBUILT") != "1":
            return
        self._folder = Path(tempfile.mkdtemp(prefix="edge-clock-"))
        compiler = os.environ.get("CC", "cc").split()
        for interface in INTERFACES:
            name = f"edge_clock-{interface}.so"
            subprocess.run(
                [
                    *(*compiler, "-shared", "-fPIC", "-O2", "-fvisibility=hidden"),
                    *(f"-DEDGE_PLUGIN_API={interface}", str(Path(self.root) / SOURCE)),
                    *("-o", str(self._folder / name)),
                ],
                check=True,
            )
            place = f"edge_harness/clock/plugin/prebuilt/{name}"
            build_data["force_include"][str(self._folder / name)] = place
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{next(iter(platform_tags()))}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        if hasattr(self, "_folder"):
            shutil.rmtree(self._folder, ignore_errors=True)
