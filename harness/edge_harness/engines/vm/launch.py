"""Start QEMU for a board, save a board that is ready, and see a restored one through."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from collections.abc import Sequence
from typing import Any

from edge_harness.cache import explained, private_folder
from edge_harness.engines import StartSpec
from edge_harness.engines.vm.argv import Board, board_argv
from edge_harness.engines.vm.machine import VmMachine
from edge_harness.engines.vm.streams import PORTS, make_locks, port_name
from edge_harness.errors import EmulatorCrashed
from edge_harness.processes import process_start_time, wait_for, wait_until

TIMEOUT_S = 60.0
#: Memory that is a file already stays out of the saved state.
IGNORE_SHARED = [{"capability": "x-ignore-shared", "state": True}]


def clear_state(spec: StartSpec) -> None:
    """A state folder without the remains of an earlier start."""
    private_folder(spec.state_dir)
    with explained(spec.state_dir):
        run = spec.state_dir / "run"
        if run.exists():
            for stale in [*run.glob("p*"), *run.glob("core*")]:
                stale.unlink(missing_ok=True)
        private_folder(run)
        for name in (
            "qmp.sock",
            "qemu.pid",
            "saving",
            "faults",
            "console.log",
            "qemu.log",
            "network.pcap",
            "memory_mib",
        ):
            (spec.state_dir / name).unlink(missing_ok=True)


def launch(
    spec: StartSpec,
    board: Board,
    *,
    environment: dict[str, str],
    layers: Sequence[str],
    network_modules: Sequence[str],
) -> VmMachine:
    """Start QEMU and wait until it takes commands.

    Args:
        spec: whose state folder the board runs in.
        board: what QEMU is started with.
        environment: of QEMU, besides the least it needs.
        layers: keys of the runtime layers among the board's disks.
        network_modules: what a guest loads to get a network interface.

    Raises:
        EmulatorCrashed: it ended at once; its own words are in the message.
        CacheError: the disk of the cache is full.
    """
    state_dir = spec.state_dir
    record = {
        "engine": "vm",
        "state_dir": str(state_dir),
        "hostname": spec.profile.name,
        "arch": spec.tree.arch,
        "core": spec.profile.emulation.qemu_cpu,
        "page_size_kib": spec.profile.os.page_size_kib,
        "root": str(spec.tree.root),
        "usable_mib": spec.limits.memory_mib or spec.profile.memory.usable_mib,
        "network_modules": list(network_modules),
    }
    machine = VmMachine(record)
    try:
        with explained(state_dir):
            (state_dir / "layers.json").write_text(json.dumps(list(layers)))
            (state_dir / "qemu.log").touch()
            make_locks(state_dir / "run")
        with open(state_dir / "qemu.log", "wb") as log:
            process = subprocess.Popen(
                board_argv(board),
                cwd=state_dir,  # sockets have relative names: a path may have 107 bytes at most
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={"PATH": os.defpath, "HOME": str(state_dir), **environment},
                # Ctrl-C reaches pytest alone; the board outlives this process if others use it.
                start_new_session=True,
                umask=0o077,  # its sockets and logs are this user's alone
            )
        process.returncode = 0  # reaped by VmMachine, which other processes make from the record
        machine = VmMachine(
            {**record, "pid": process.pid, "started": process_start_time(process.pid)}
        )
        sockets = [state_dir / "qmp.sock", state_dir / "run" / port_name(PORTS)]
        vain = wait_for(
            "sockets of QEMU",
            lambda: all(path.exists() for path in sockets),
            alive=machine.alive,
            status=machine.end_reason,
            last_words=machine.log,
            deadline_s=TIMEOUT_S,
        )
        if vain:
            raise EmulatorCrashed(
                f"QEMU did not start {spec.profile.name}: {vain.reason}\n{vain.last_words}",
                next_step="run 'edge-harness doctor'",
            )
    except BaseException:  # Ctrl-C too: nobody else knows of it yet
        machine.stop()
        raise
    return machine


def save_state(machine: VmMachine) -> None:
    """Save all of a board but its memory, which is a file already, to ``state`` in its folder,
    and end it.

    Raises:
        EmulatorCrashed: QEMU could not, or did not end in order.
    """
    machine.qmp(
        ("stop", {}),
        ("migrate-set-capabilities", {"capabilities": IGNORE_SHARED}),
        ("migrate", {"uri": f"file:{machine.state_dir / 'state'}"}),
    )
    answer: dict[str, Any] = {}

    def ended() -> bool:
        answer.update(machine.qmp(("query-migrate", {})))
        return answer.get("status") in ("completed", "failed")

    vain = wait_for(
        "end of saving",
        ended,
        alive=machine.alive,
        status=lambda: machine.end_reason() or str(answer.get("status", "")),
        last_words=machine.log,
        deadline_s=TIMEOUT_S,
        step_s=0.02,
    )
    if vain or answer["status"] == "failed":
        why = vain.reason if vain else answer.get("error-desc", answer)
        raise EmulatorCrashed(
            f"the board's state could not be saved: {why}",
            next_step="free some space, then run the same command again",
        )
    with contextlib.suppress(EmulatorCrashed):
        machine.qmp(("quit", {}))  # it may be gone before it has answered
    wait_until(lambda: not machine.alive(), deadline_s=TIMEOUT_S, step_s=0.01)
    if not machine.ended_in_order():
        raise EmulatorCrashed(
            f"QEMU did not end in order after it saved the board: "
            f"{machine.end_reason() or 'it still runs'}",
            next_step="run the same command again",
        )


def wait_for_status(machine: VmMachine, wanted: str) -> None:
    """Wait until QEMU says that the board is ``wanted``.

    Raises:
        EmulatorCrashed: it ended, or says something else for too long.
    """
    said = ""

    def reached() -> bool:
        nonlocal said
        said = str(machine.qmp(("query-status", {}))["status"])
        return said == wanted

    vain = wait_for(
        f"status {wanted!r}",
        reached,
        alive=machine.alive,
        status=lambda: machine.end_reason() or f"it stayed {said!r}",
        last_words=machine.log,
        deadline_s=TIMEOUT_S,
        step_s=0.01,
    )
    if vain:
        raise EmulatorCrashed(f"QEMU could not restore the board: {vain.reason}")
