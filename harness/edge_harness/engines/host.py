"""The ``host`` engine: this machine's own processor, no emulation; for reference runs only.

It runs the Debian tree of the host's own architecture, so that the runtime is the pinned one
and not whatever the tests' Python has installed.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from edge_harness.engines import Availability, StartSpec
from edge_harness.engines.launch import agent_argv
from edge_harness.engines.user import (
    ProcessMachine,
    bare_argv,
    boxed_argv,
    isolation,
    start_process,
)
from edge_harness.errors import EdgeError

if TYPE_CHECKING:
    from edge_harness.profiles import Profile


class HostEngine:
    """Native processes on this machine."""

    name = "host"

    def image_arch(self, profile: Profile) -> str:
        from edge_harness.image.tools import host_arch

        return host_arch()

    def probe(self, profile: Profile) -> Availability:
        try:
            arch = self.image_arch(profile)
        except EdgeError as error:
            return Availability(
                engine=self.name, available=False, reason=error.message, fix=error.next_step
            )
        return Availability(
            engine=self.name,
            available=True,
            reason=f"this machine's own {arch} processor: proves nothing about {profile.name}, "
            "for reference runs only",
            capabilities=frozenset({"crash"}),
            figure_kind="native",
        )

    def start(self, spec: StartSpec) -> ProcessMachine:
        from edge_harness.image import agent_dir, layers_dir
        from edge_harness.image.tools import ensure_tools, loader_argv

        bwrap = ensure_tools().bwrap
        mode, _ = isolation(tuple(bwrap) if bwrap else None)
        if mode == "none" or bwrap is None:
            argv, env = bare_argv(
                spec, loader_argv(spec.image.root, spec.image.arch), agent_dir(), layers_dir()
            )
        else:
            boxed = boxed_argv(spec, bwrap, mode, agent_dir(), layers_dir(), [], None)
            argv, env = [*boxed, *agent_argv(spec)], {"PATH": os.defpath}
        return start_process(argv, spec=spec, engine=self.name, env=env)

    def attach(self, record: Mapping[str, Any]) -> ProcessMachine:
        return ProcessMachine(record)
