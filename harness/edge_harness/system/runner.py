"""System commands: printed beforehand, run as root or through sudo, quoted when they fail."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from dataclasses import dataclass

from edge_harness.errors import InfrastructureError, MissingTool


@dataclass(frozen=True, kw_only=True)
class Step:
    """One change of the system."""

    key: str
    """``update``, ``install``, ``dockerd``, ``modprobe``, ``mount`` or ``binfmt``."""
    why: str
    argv: tuple[str, ...]
    stdin: str = ""
    subject: str = ""
    """What it adds: a package, a mount point, the name of an entry."""

    def command(self, prefix: tuple[str, ...] = ()) -> str:
        """The step as one would type it into a shell."""
        line = shlex.join([*prefix, *self.argv])
        return f"printf %s {shlex.quote(self.stdin)} | {line}" if self.stdin else line


def privilege() -> tuple[str, ...] | None:
    """What to put before a command that needs root; None if root is out of reach."""
    if os.geteuid() == 0:
        return ()
    sudo = shutil.which("sudo")
    if sudo is None:
        return None
    # -n: never ask for a password in the middle of something.
    try:
        result = subprocess.run([sudo, "-n", "true"], capture_output=True, check=False, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return (sudo, "-n") if result.returncode == 0 else None


def needed_privilege() -> tuple[str, ...]:
    """As :func:`privilege`.

    Raises:
        MissingTool: neither root nor a sudo that needs no password.
    """
    prefix = privilege()
    if prefix is None:
        raise MissingTool(
            "system changes need root, and 'sudo -n true' does not work here",
            next_step="run 'sudo edge-harness setup --system', or the commands that "
            "'edge-harness setup' prints; without them --engine=user needs no root",
        )
    return prefix


def run_step(step: Step, prefix: tuple[str, ...], *, timeout_s: float = 900.0) -> str:
    """Carry out ``step``; what it printed.

    Raises:
        InfrastructureError: it failed; the message ends with its last words.
    """
    env = {**os.environ, "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"}
    command = step.command(prefix)
    try:
        result = subprocess.run(
            [*prefix, *step.argv],
            input=step.stdin,
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout_s,
            env=env,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise InfrastructureError(
            f"could not {step.why}: {error}", next_step=f"try it by hand: {command}"
        ) from error
    output = (result.stdout + result.stderr).strip()
    if result.returncode:
        last = "\n".join(output.splitlines()[-8:])
        raise InfrastructureError(
            f"could not {step.why}: {command!r} ended with exit status {result.returncode}\n{last}",
            next_step="fix what it says, then run 'edge-harness setup --system' again",
            details={"command": command, "output": output},
        )
    return output
