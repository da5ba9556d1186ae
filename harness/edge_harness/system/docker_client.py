"""Reaching a Docker daemon, and saying clearly why one cannot be reached."""

from __future__ import annotations

import functools
import os
import platform
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edge_harness.errors import InfrastructureError, MissingTool

if TYPE_CHECKING:
    from docker import DockerClient

DEFAULT_URL = "unix:///var/run/docker.sock"
TIMEOUT_S = 120
#: Set to anything to treat the daemon as one that does not see this machine's files.
RELAY_VARIABLE = "EDGE_HARNESS_DOCKER_RELAY"
_START = (
    "start it: 'sudo systemctl start docker', or 'edge-harness setup --system' (root), which "
    "also installs it; --engine=user needs no Docker"
)


@dataclass(frozen=True, kw_only=True)
class Daemon:
    """What a daemon says about itself and the machine it runs on."""

    url: str
    version: str
    arch: str
    """Debian architecture of its machine, or the kernel's own name where there is none."""
    cpus: int
    memory_mib: int
    local: bool
    """Whether it sees this machine's files, processes and control groups."""
    rootless: bool
    cgroup: str
    memory_limit: bool
    swap_limit: bool
    cpu_quota: bool
    containers: str
    """``linux`` or ``windows``."""
    system: str


def daemon_url() -> str:
    """Where the daemon listens: $DOCKER_HOST, the current context, or a usual place."""
    configured = os.environ.get("DOCKER_HOST")
    if configured:
        return configured
    if os.environ.get("DOCKER_CONTEXT") or (Path.home() / ".docker" / "config.json").exists():
        context = _context_url()
        if context:
            return context
    if not Path("/var/run/docker.sock").exists():
        runtime = os.environ.get("XDG_RUNTIME_DIR", f"/run/user/{os.getuid()}")
        for place in (
            Path(runtime) / "docker.sock",
            Path.home() / ".docker" / "run" / "docker.sock",
            Path.home() / ".colima" / "default" / "docker.sock",
        ):
            if place.exists():
                return f"unix://{place}"
    return DEFAULT_URL


def _context_url() -> str | None:
    from docker.context import ContextAPI
    from docker.errors import DockerException

    try:
        context = ContextAPI.get_current_context()
    except (DockerException, OSError, ValueError):
        return None
    if context is None or context.Name == "default":
        return None
    return str(context.Host) if context.Host else None


def connect(url: str | None = None) -> DockerClient:
    """A client of the daemon at ``url`` (default: :func:`daemon_url`), one per process.

    Raises:
        MissingTool: nothing answers there; ``details["cause"]`` is ``absent``, ``permission``
            or ``unreachable``.
    """
    url = url or daemon_url()
    if url.startswith("unix://"):
        _look_at_socket(Path(url.removeprefix("unix://")), url)
    return _client(url, os.getpid())


def _look_at_socket(path: Path, url: str) -> None:
    """Raise what is wrong with a daemon's socket, before anything heavy is imported.

    The SDK would leave a socket open that could not be connected.
    """
    if not path.exists():
        raise MissingTool(
            f"no Docker daemon runs here (there is no {str(path)!r})",
            next_step=_START,
            details={"cause": "absent", "url": url},
        )
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(10)
        try:
            probe.connect(str(path))
        except OSError as error:
            raise unreachable(url, error) from error


@functools.lru_cache(maxsize=8)
def _client(url: str, _process: int) -> DockerClient:
    import docker
    from docker.errors import DockerException

    try:
        return docker.from_env(
            version="auto",
            timeout=TIMEOUT_S,
            environment={**os.environ, "DOCKER_HOST": url},
            use_ssh_client=True,
        )
    except (DockerException, OSError, ValueError) as error:
        raise unreachable(url, error) from error


def unreachable(url: str, error: Exception) -> MissingTool:
    """The error for a daemon that does not answer."""
    text = str(error)
    if "Permission denied" in text or "PermissionError" in text:
        return MissingTool(
            f"this user may not use Docker ({url!r}: permission denied)",
            next_step="'sudo usermod -aG docker $USER', then log in again (members of that group "
            "are as good as root); or use --engine=user, which needs no Docker",
            details={"cause": "permission", "url": url},
        )
    if "Connection refused" in text or "No such file" in text or "FileNotFoundError" in text:
        return MissingTool(
            f"the Docker daemon does not run (nobody listens at {url!r})",
            next_step=_START,
            details={"cause": "absent", "url": url},
        )
    return MissingTool(
        f"the Docker daemon at {url!r} cannot be reached: {text}",
        next_step="check DOCKER_HOST and 'docker context ls'; --engine=user needs no Docker",
        details={"cause": "unreachable", "url": url},
    )


@contextmanager
def explained(doing: str, url: str) -> Iterator[None]:
    """Turn what the SDK raises while ``doing`` something into our errors."""
    import requests
    from docker.errors import APIError, DockerException

    try:
        yield
    except APIError as error:
        said = error.explanation or str(error)
        step = "see the daemon's log, and 'edge-harness doctor'"
        if "no space left" in str(said).lower():
            step = "free some space for Docker ('docker system df'), then run again"
        raise InfrastructureError(
            f"Docker could not {doing}: {said}", next_step=step, details={"said": str(said)}
        ) from error
    except (requests.ConnectionError, requests.Timeout) as error:
        raise unreachable(url, error) from error
    except DockerException as error:
        raise InfrastructureError(
            f"Docker could not {doing}: {error}", next_step="see 'edge-harness doctor'"
        ) from error


_ARCH = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "armhf", "armv6l": "armel"}


def daemon(url: str | None = None) -> Daemon:
    """Ask the daemon what it is; once per process.

    Raises:
        MissingTool: as :func:`connect`.
    """
    return _daemon(url or daemon_url(), os.getpid(), bool(os.environ.get(RELAY_VARIABLE)))


@functools.lru_cache(maxsize=8)
def _daemon(url: str, _process: int, relay: bool) -> Daemon:
    with explained("say what it is", url):
        info = connect(url).info()
    local = (
        not relay
        and url.startswith("unix://")
        and sys.platform == "linux"
        # A socket that was passed into a container or comes from a virtual machine (Docker
        # Desktop, Colima) belongs to a daemon with other files.
        and info.get("Name") == socket.gethostname()
        and info.get("KernelVersion") == platform.release()
    )
    return Daemon(
        url=url,
        version=str(info.get("ServerVersion", "?")),
        arch=_ARCH.get(info.get("Architecture", ""), info.get("Architecture", "?")),
        cpus=int(info.get("NCPU") or 1),
        memory_mib=int(info.get("MemTotal") or 0) >> 20,
        local=local,
        rootless=any("rootless" in text for text in info.get("SecurityOptions") or ()),
        cgroup=str(info.get("CgroupVersion") or "1"),
        memory_limit=bool(info.get("MemoryLimit")),
        swap_limit=bool(info.get("SwapLimit")),
        cpu_quota=bool(info.get("CpuCfsQuota")),
        containers=str(info.get("OSType") or "linux"),
        system=str(info.get("OperatingSystem") or "?"),
    )
