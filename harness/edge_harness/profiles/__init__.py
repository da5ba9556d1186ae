"""Device profiles: what a board is, read from ``device_profiles/*.toml``.

``shape`` says what a profile file may contain, ``file`` reads and checks one, ``registry`` finds
them by name, ``hwcap`` holds a started device against its profile.
"""

from __future__ import annotations

from edge_harness.profiles.hwcap import IGNORED_FEATURES, HwcapVerdict, hwcap_verdict
from edge_harness.profiles.registry import ProfileRegistry, builtin_dir, default_registry
from edge_harness.profiles.shape import (
    Cluster,
    Cpu,
    Emulation,
    Memory,
    Os,
    Profile,
    Runtimes,
)

__all__ = [
    "IGNORED_FEATURES",
    "Cluster",
    "Cpu",
    "Emulation",
    "HwcapVerdict",
    "Memory",
    "Os",
    "Profile",
    "ProfileRegistry",
    "Runtimes",
    "builtin_dir",
    "default_registry",
    "hwcap_verdict",
]
