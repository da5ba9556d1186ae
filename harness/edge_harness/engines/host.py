"""The ``host`` engine: this machine's own processor, no emulation; for reference runs only.

It runs the Debian tree of the host's own architecture, so that the runtime is the pinned one
and not whatever the tests' Python has installed.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from edge_harness.engines import Availability, ImageNeed, Requirements, StartSpec
from edge_harness.engines.abilities import abilities_of
from edge_harness.engines.launch import agent_argv, plain_process
from edge_harness.engines.process_machine import ProcessMachine, start_process
from edge_harness.engines.sandbox import boxed_argv, isolation
from edge_harness.errors import EdgeError

if TYPE_CHECKING:
    from edge_harness.profiles import Profile
    from edge_harness.system.checks import Check


class HostEngine:
    """Native processes on this machine."""

    name = "host"
    auto_rank = None  # this machine's own processor says nothing about a board
    machine_type = ProcessMachine

    def native_arch(self) -> str:
        from edge_harness.image.tools import host_arch

        return host_arch()

    def requirements(self, profile: Profile) -> Requirements:
        return Requirements(image=ImageNeed(arch=self.native_arch(), suite=profile.os.suite))

    def probe(self, profile: Profile) -> Availability:
        try:
            arch = self.native_arch()
        except EdgeError as error:
            return Availability(
                engine=self.name, available=False, reason=error.message, fix=error.next_step
            )
        return Availability(
            engine=self.name,
            available=True,
            reason=f"this machine's own {arch} processor: proves nothing about {profile.name}, "
            "for reference runs only",
            abilities=abilities_of(self.machine_type),
            figure_kind="native",
        )

    def checks(self, profile: Profile) -> list[Check]:
        return []

    def start(self, spec: StartSpec) -> ProcessMachine:
        from edge_harness.image import layers_dir
        from edge_harness.image.tools import ensure_tools, loader_argv

        image = spec.tree
        facts = {"root": str(image.root)}
        bwrap = ensure_tools().bwrap
        mode, _ = isolation(tuple(bwrap) if bwrap else None)
        if mode == "none" or bwrap is None:
            argv, env = plain_process(
                spec,
                python=f"{image.root}{image.python}",
                emulator=loader_argv(image.root, image.arch),
                root=image.root,
            )
            facts["layers_dir"] = str(layers_dir())
        else:
            boxed = boxed_argv(spec, bwrap=bwrap, mode=mode)
            argv, env = [*boxed, *agent_argv(spec)], {"PATH": os.defpath}
        return start_process(
            argv,
            spec=spec,
            engine=self.name,
            env=env,
            machine_type=self.machine_type,
            facts=facts,
        )

    def attach(self, record: Mapping[str, Any]) -> ProcessMachine:
        return ProcessMachine(record)
