"""The ``local`` engine: the agent as a plain process of this host, by the Python that runs the
tests. Nothing is emulated and nothing is kept apart; wheels of runtimes are those for this host.

A whole engine of another distribution: this file and one entry point.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from edge_harness.engines import Availability, Limits, Requirements, StartSpec
from edge_harness.engines.abilities import abilities_of
from edge_harness.engines.launch import plain_process
from edge_harness.engines.process_machine import ProcessMachine, start_process
from edge_harness.errors import EdgeError, MissingAbility
from edge_harness.image import host_environment, layers_dir
from edge_harness.profiles import Profile
from edge_harness.system.checks import Check


class LocalEngine:
    """A process of this host."""

    name = "local"
    auto_rank = None  # this host's processor says nothing about a board: on request alone
    machine_type = ProcessMachine

    def requirements(self, profile: Profile) -> Requirements:
        """No image, no kernel; wheels are those that this very Python can load."""
        return Requirements(environment=host_environment())

    def probe(self, profile: Profile) -> Availability:
        if not sys.platform.startswith("linux"):
            return Availability(
                engine=self.name,
                available=False,
                reason=f"the agent needs Linux, and this is {sys.platform}",
                fix="use --engine=docker",
            )
        try:
            environment = host_environment()
        except EdgeError as error:
            return Availability(
                engine=self.name, available=False, reason=error.message, fix=error.next_step
            )
        return Availability(
            engine=self.name,
            available=True,
            reason=f"a process of this host, {environment}",
            abilities=abilities_of(self.machine_type),
            figure_kind="native",
        )

    def checks(self, profile: Profile) -> list[Check]:
        return [Check(group="local", name="Python of the agent", status="ok", found=sys.executable)]

    def start(self, spec: StartSpec) -> ProcessMachine:
        if spec.limits != Limits():
            raise MissingAbility(
                f"the {self.name} engine limits nothing", next_step="use --engine=docker"
            )
        argv, env = plain_process(spec, python=sys.executable)
        return start_process(
            argv,
            spec=spec,
            engine=self.name,
            env=env,
            machine_type=self.machine_type,
            facts={"layers_dir": str(layers_dir())},
        )

    def attach(self, record: Mapping[str, Any]) -> ProcessMachine:
        return self.machine_type(record)
