"""The ``user`` engine: QEMU user-mode emulation in namespaces of its own; no root, no Docker.

The device is one ``bubblewrap`` call (:mod:`edge_harness.engines.sandbox`). Where the host
forbids user namespaces the agent runs with ``-L ROOT`` instead, and the abilities that rest on
namespaces are gone.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_harness.engines import (
    Availability,
    ImageNeed,
    Limits,
    Machine,
    Requirements,
    StartSpec,
)
from edge_harness.engines.abilities import (
    CpuQuota,
    MemoryLimit,
    Offline,
    OwnFiles,
    ShellCommand,
    abilities_of,
    word_of,
)
from edge_harness.engines.launch import agent_argv, plain_process
from edge_harness.engines.process_machine import ProcessMachine, start_process
from edge_harness.engines.sandbox import EMULATOR, boxed_argv, isolation
from edge_harness.errors import EdgeError, MissingAbility
from edge_harness.processes import tail

if TYPE_CHECKING:
    from edge_harness.image.tools import Tools
    from edge_harness.profiles import Profile
    from edge_harness.system.checks import Check

#: What rests on namespaces.
_NAMESPACES = frozenset({word_of(Offline), word_of(OwnFiles)})
_NO_LIMITS = (
    "user-mode emulation needs about 2.4 times the memory of the board, so a limit would mean "
    "nothing"
)
_WITHOUT = {word_of(MemoryLimit): _NO_LIMITS, word_of(CpuQuota): "it has no control group"}
_ALLOW_NAMESPACES = (
    "allow unprivileged user namespaces (kernel.unprivileged_userns_clone=1; on Ubuntu 24.04 "
    "kernel.apparmor_restrict_unprivileged_userns=0)"
)
# Long options go first, bash(1).
_BASH = ("/bin/bash", "--norc", "-i")


class UserMachine(ProcessMachine):
    """Emulated processes of this host."""

    def pinned_core(self) -> str:
        return str(self.facts["core"])

    def program_arch(self) -> str:
        return str(self.facts["arch"])

    def interfaces(self) -> frozenset[str]:
        return frozenset({"lo"})

    def root(self) -> Path:
        return Path(self.facts["root"])


class UserEngine:
    """QEMU user-mode emulation."""

    name = "user"
    auto_rank = 10
    machine_type = UserMachine
    shell_rank = 20

    def requirements(self, profile: Profile) -> Requirements:
        return Requirements(image=ImageNeed(arch=profile.os.arch, suite=profile.os.suite))

    def probe(self, profile: Profile) -> Availability:
        from edge_harness.image.tools import installed_tools

        abilities = abilities_of(self.machine_type)
        tools = installed_tools()
        if tools is None:
            import shutil

            if shutil.which("apt-get") is None:
                return Availability(
                    engine=self.name,
                    available=False,
                    reason="QEMU is not here and there is no apt-get to fetch it with",
                    fix="install qemu-user 8.2 or newer, or use --engine=docker",
                )
            # Namespaces are tried when the parts are here; nothing is fetched by a probe.
            return Availability(
                engine=self.name,
                available=True,
                reason="QEMU will be fetched into the cache",
                abilities=abilities,
                without=_WITHOUT,
            )
        try:
            tools.qemu_user(profile.os.arch)
        except EdgeError as error:
            return Availability(
                engine=self.name, available=False, reason=error.message, fix=error.next_step
            )
        mode, why = isolation(tuple(tools.bwrap) if tools.bwrap else None)
        version = tools.versions.get("qemu-user", "?")
        if mode == "none":
            return Availability(
                engine=self.name,
                available=True,
                reason=f"QEMU {version}, without namespaces ({tail(why, 1)}): the host's network "
                "and files stay visible",
                fix=_ALLOW_NAMESPACES,
                abilities=abilities - _NAMESPACES,
                without={**_WITHOUT, **dict.fromkeys(_NAMESPACES, "there are no namespaces here")},
            )
        return Availability(
            engine=self.name,
            available=True,
            reason=f"QEMU {version} -cpu {profile.emulation.qemu_cpu}, own namespaces",
            abilities=abilities,
            without=_WITHOUT,
        )

    def checks(self, profile: Profile) -> list[Check]:
        from edge_harness.engines.user_checks import emulator, namespaces

        return [*emulator(), *namespaces()]

    def start(self, spec: StartSpec) -> UserMachine:
        from edge_harness.image import layers_dir
        from edge_harness.image.tools import ensure_tools

        if spec.limits != Limits():
            raise MissingAbility(
                f"the {self.name} engine cannot limit memory or CPU time: {_NO_LIMITS}",
                next_step="use --engine=docker, or mark the test needs={'memory_limit'}",
            )
        tools = ensure_tools()
        image = spec.tree
        core = spec.profile.emulation.qemu_cpu
        facts = {"root": str(image.root), "core": core, "arch": image.arch}
        bwrap = tools.bwrap
        mode, _ = isolation(tuple(bwrap) if bwrap else None)
        if mode == "none" or bwrap is None:
            qemu = str(tools.qemu_user(image.arch))
            argv, env = plain_process(
                spec,
                python=f"{image.root}{image.python}",
                emulator=[qemu, "-cpu", core, "-L", str(image.root)],
                root=image.root,
            )
            facts["layers_dir"] = str(layers_dir())
        else:
            argv = [*_emulated(spec, tools, bwrap, mode), *agent_argv(spec)]
            env = {"PATH": os.defpath}
        return start_process(
            argv,
            spec=spec,
            engine=self.name,
            env=env,
            machine_type=self.machine_type,
            facts=facts,
        )

    def attach(self, record: Mapping[str, Any]) -> UserMachine:
        return UserMachine(record)

    def shell(
        self,
        profile: Profile,
        folder: Path,
        *,
        running: Callable[..., Machine],
        say: Callable[[str], None],
    ) -> ShellCommand:
        """A shell in namespaces of its own, beside any device that runs."""
        from edge_harness.image import ensure_image
        from edge_harness.image.tools import ensure_tools
        from edge_harness.system import binfmt

        tools = ensure_tools(say)
        bwrap = tools.bwrap
        mode, why = isolation(tuple(bwrap) if bwrap else None)
        if mode == "none" or bwrap is None:
            raise MissingAbility(
                f"a shell without namespaces would be one on this machine's own files ({why})",
                next_step="edge-harness doctor shows how to allow user namespaces; or "
                "--engine=docker",
            )
        if binfmt.handler_for(profile.os.arch, binfmt.handlers()) is None:
            say(
                "note: this shell has its built-in commands only, as the kernel cannot start "
                f"{profile.os.arch} programs; 'exec PROGRAM' works, and 'edge-harness setup "
                "--system' (root) helps"
            )
        spec = StartSpec(
            profile=profile,
            image=ensure_image(profile.os.arch, profile.os.suite, say),
            state_dir=folder,
            env={"PS1": f"{profile.name}:\\w# "},
        )
        env = {name: os.environ[name] for name in ("TERM", "PATH") if name in os.environ}
        return ShellCommand(argv=(*_emulated(spec, tools, bwrap, mode), *_BASH), env=env)


def _emulated(spec: StartSpec, tools: Tools, bwrap: list[str], mode: str) -> list[str]:
    """Namespaces and the emulator in them, up to the emulated program."""
    emulator = [EMULATOR, "-cpu", spec.profile.emulation.qemu_cpu]
    qemu = tools.qemu_user(spec.tree.arch)
    return [
        *boxed_argv(spec, bwrap=bwrap, mode=mode, emulator=emulator, qemu=qemu),
        *emulator,
    ]
