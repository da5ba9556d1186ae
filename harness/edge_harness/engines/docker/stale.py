"""Containers of ours that nobody uses any more."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping

from edge_harness.engines.docker.machine import LABEL, container_held
from edge_harness.system import docker_client

#: Daemons whose leftovers this process has looked for.
_swept: set[tuple[str, int]] = set()


def sweep_once(url: str) -> None:
    """Leases are swept at the start of a run; this finds containers whose lease is lost too."""
    mark = url, os.getpid()
    if mark not in _swept:
        _swept.add(mark)
        remove_stale(url=url)


def remove_stale(
    keep: Callable[[Mapping[str, str]], bool] = container_held, *, url: str | None = None
) -> int:
    """Remove containers of ours that nobody uses any more; how many there were.

    Args:
        keep: says from a container's labels whether somebody does. Default: a process that
            holds the device's lease, or that started it, still lives.
        url: the daemon's address (default: the usual one).

    Raises:
        MissingTool: the daemon cannot be reached.
    """
    from docker.errors import APIError, NotFound

    url = url or docker_client.daemon_url()
    client = docker_client.connect(url)
    removed = 0
    with docker_client.explained("list containers", url):
        ours = client.containers.list(
            all=True, filters={"label": f"{LABEL}=1"}, ignore_removed=True
        )
    for container in ours:
        if keep(container.labels):
            continue
        try:
            container.remove(force=True, v=True)
        except (NotFound, APIError):
            continue  # somebody else is at it
        removed += 1
    return removed
