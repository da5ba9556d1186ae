"""A running container as a device."""

from __future__ import annotations

import signal
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_harness.engines import Limits
from edge_harness.engines.docker import relay as docker_relay
from edge_harness.engines.docker.image import put_folders
from edge_harness.engines.docker.limits import ControlGroup, check, memory_notes
from edge_harness.engines.launch import LAYERS_DIR, connect_unix
from edge_harness.engines.log_mark import LogMark
from edge_harness.errors import EdgeError, InfrastructureError, MissingAbility, OptionError
from edge_harness.processes import signal_name
from edge_harness.system import docker_client

if TYPE_CHECKING:
    from docker.models.containers import Container

#: On every container of ours.
LABEL = "edge-harness"
LEASE_LABEL = "edge-harness.lease"


class DockerMachine:
    """A device that is a container; safe to use from several processes."""

    engine = "docker"
    layers_dir = LAYERS_DIR

    def __init__(self, record: Mapping[str, Any]) -> None:
        self._record = dict(record)
        self._state_dir = Path(record["state_dir"])
        self._url: str = record.get("url") or docker_client.daemon_url()
        self._id: str = record.get("container", "")
        self._memory: dict[str, int] = {}
        self._group: ControlGroup | None = None

    def record(self) -> dict[str, Any]:
        return dict(self._record)

    @property
    def container_id(self) -> str:
        """Docker's id of it, as ``docker exec`` takes it."""
        return self._id

    @property
    def url(self) -> str:
        """Where its daemon listens, as ``docker --host`` takes it."""
        return self._url

    def state(self) -> dict[str, Any] | None:
        """``State`` of ``docker inspect``; None once the container is removed."""
        inspected = self._inspect()
        return None if inspected is None else inspected["State"]

    def _inspect(self) -> dict[str, Any] | None:
        from docker.errors import NotFound

        if not self._id:
            return None
        with docker_client.explained("look at the device's container", self._url):
            try:
                found: dict[str, Any] = docker_client.connect(self._url).api.inspect_container(
                    self._id
                )
            except NotFound:
                return None
            return found

    def connect(self, name: str, *, timeout_s: float) -> socket.socket:
        name = name if name != "agent" else "agent.sock"
        if not self._record.get("relay"):
            return connect_unix(self._state_dir / "run", name, timeout_s=timeout_s)
        self._copy_layers()
        return docker_relay.connect(
            self._url, self._id, self._record["python"], name, timeout_s=timeout_s
        )

    def bring_layer(self, key: str) -> None:
        """Copy runtime layers that were made since, ``key`` among them, into a container that
        cannot see them; nothing to do where it sees this machine's files."""
        if self._record.get("relay"):
            self._copy_layers()

    def _copy_layers(self) -> None:
        from edge_harness.image import layers_dir

        known = set(self._record["layers"])
        wanted = docker_relay.layers_for(layers_dir(), self._record["arch"])
        fresh = {key: path for key, path in wanted.items() if key not in known}
        if fresh:
            client = docker_client.connect(self._url)
            with docker_client.explained("copy runtimes into the container", self._url):
                put_folders(client, self._id, LAYERS_DIR, fresh)
            self._record["layers"] = sorted({*known, *fresh})

    def alive(self) -> bool:
        state = self.state()
        return state is not None and bool(state["Running"])

    def end_reason(self) -> str:
        state = self.state()
        if state is None:
            return "its container is gone"
        if state["Running"]:
            return ""
        if state.get("Error"):
            return str(state["Error"])
        code = int(state["ExitCode"])
        if state["OOMKilled"] and code == 128 + signal.SIGKILL:
            figures = memory_notes(self.memory_events())
            return f"the OOM killer ended it ({figures or 'limit unknown'})"
        if code > 128:
            name = signal_name(code - 128)
            outside = " from outside; no memory limit was hit" if name == "SIGKILL" else ""
            return f"its first process was ended by {name}{outside}"
        return f"its first process ended with exit status {code}"

    def log(self) -> str:
        said = self._said()
        if said is not None:
            return "".join(f"{note}\n" for note in self._notes()) + said
        try:
            return (self._state_dir / "device.log").read_text(errors="replace")
        except OSError:
            return ""

    def log_mark(self) -> LogMark | None:
        """The time, which Docker notes with each line. That of a daemon elsewhere is not known."""
        return None if self._record.get("relay") else ((time.time(),),)

    def log_since(self, mark: LogMark) -> str:
        said = self._said(since=mark[0][0])
        return self.log() if said is None else said

    def _said(self, since: float | None = None) -> str | None:
        """What Docker's log has; None once the container is removed."""
        from docker.errors import NotFound

        if not self._id:
            return None
        with docker_client.explained("read the device's log", self._url):
            try:
                data: bytes = docker_client.connect(self._url).api.logs(
                    self._id, stdout=True, stderr=True, since=since
                )
            except NotFound:
                return None
            return data.decode(errors="replace")

    def _notes(self) -> list[str]:
        return [f"edge-harness: {note}" for note in self._record.get("notes", ())]

    def limit_memory(self, memory_mib: int) -> None:
        self._limit(Limits(memory_mib=memory_mib))

    def limit_cpus(self, cpus: float) -> None:
        self._limit(Limits(cpus=cpus))

    def _limit(self, limits: Limits) -> None:
        """Change a limit of the running container, and see that the kernel has taken it.

        Raises:
            OptionError: Docker or the kernel cannot have that limit.
            MissingAbility: the daemon's kernel has no such limit.
        """
        from docker.errors import APIError

        daemon = docker_client.daemon(self._url)
        check(limits, daemon)
        change: dict[str, int] = {}
        if limits.memory_mib is not None:
            if not daemon.memory_limit:
                raise MissingAbility(
                    "Docker's kernel here cannot limit memory",
                    next_step="edge-harness doctor shows its control groups",
                )
            change["Memory"] = change["MemorySwap"] = limits.memory_mib << 20
        if limits.cpus is not None:
            change["NanoCpus"] = round(limits.cpus * 1e9)
        api = docker_client.connect(self._url).api
        # The SDK's update_container knows no NanoCpus, and Docker refuses a quota beside it.
        address = f"{api.base_url}/v{api.api_version}/containers/{self._id}/update"
        try:
            with docker_client.explained(f"set {change}", self._url):
                response = api.post(address, json=change, timeout=docker_client.TIMEOUT_S)
                if not response.ok:
                    raise APIError(str(response), response, str(response.json()["message"]))
        except InfrastructureError as error:
            if "said" not in error.details:
                raise
            raise OptionError(
                f"the limits {limits} cannot be set on the running device: {error.details['said']}",
                next_step="give it another limit, or open a fresh device with limits=…",
            ) from error
        self.verify(limits.memory_mib, limits.cpus)

    def verify(self, memory_mib: int | None, cpus: float | None) -> None:
        """Compare with what Docker and the kernel say the limits are.

        Raises:
            InfrastructureError: they are not these.
        """
        inspected = self._inspect()
        if inspected is None:
            return
        host = inspected["HostConfig"]
        found = []
        if memory_mib is not None:
            for key in ("Memory", "MemorySwap"):
                if host[key] != memory_mib << 20:
                    found.append(f"Docker's {key} is {host[key] >> 20} MiB, not {memory_mib} MiB")
        if cpus is not None and host["NanoCpus"] != round(cpus * 1e9):
            found.append(f"Docker's NanoCpus is {host['NanoCpus']}, not {cpus:g} cores")
        group = self._control_group(inspected["State"])
        if group is not None:
            found += group.differences(memory_mib, cpus)
        if found:
            raise InfrastructureError(
                "the device's limits did not take effect: " + "; ".join(found),
                next_step="see 'edge-harness doctor' (control groups), or leave limits out",
            )

    def _control_group(self, state: Mapping[str, Any]) -> ControlGroup | None:
        if self._record.get("relay") or not state.get("Pid"):
            return None
        if self._group is None:
            self._group = ControlGroup.of(int(state["Pid"]))
        return self._group

    def memory_events(self) -> Mapping[str, int]:
        """The control group's figures; after the container's death the last ones known."""
        inspected = self._inspect()
        if inspected is None:
            return dict(self._memory)
        state = inspected["State"]
        facts: Mapping[str, int] = {}
        if state["Running"]:
            group = self._control_group(state)
            facts = group.memory_events() if group is not None else self._ask_agent()
            self._memory.update(facts)
            return dict(self._memory)
        limit = int(inspected["HostConfig"]["Memory"]) >> 20
        last = {"limit_mib": limit, **self._memory}
        if state["OOMKilled"] and state["ExitCode"] == 128 + signal.SIGKILL:
            # The group is gone with the process; this kill is not among the ones counted.
            last["oom_kills"] = last.get("oom_kills", 0) + 1
            last["peak_mib"] = max(last.get("peak_mib", 0), limit)
        return last

    def _ask_agent(self) -> Mapping[str, int]:
        from edge_harness import wire

        try:
            stream = wire.Stream(self.connect("agent", timeout_s=10.0))
            try:
                answer, _ = stream.ask({"op": wire.Op.MEMORY})
            finally:
                stream.close()
        except (wire.WireError, OSError, EdgeError):
            return {}
        return {key: answer[key] for key in ("oom_kills", "peak_mib", "limit_mib") if key in answer}

    # -- what programs see -------------------------------------------------------------------

    def pinned_core(self) -> str:
        return str(self._record["core"])

    def program_arch(self) -> str:
        return str(self._record["arch"])

    def interfaces(self) -> frozenset[str]:
        return frozenset({"lo"})

    def root(self) -> Path:
        return Path(self._record["root"])

    def core_dumps(self, into: Path) -> None:
        """The agent leaves them in the folder for sockets, which is ``into``. A daemon elsewhere
        keeps them: a death there is reported without a diagnosis."""

    def stop(self) -> None:
        """Kill and remove the container; its log stays in the state folder."""
        from docker.errors import APIError, NotFound

        try:
            for container in self._mine():
                try:
                    self._save_log()
                    # Nothing in the device is worth an orderly end; v: its anonymous volumes too.
                    container.remove(force=True, v=True)
                except NotFound:
                    continue
                except APIError as error:
                    if error.status_code != 409:  # somebody else is removing it
                        raise InfrastructureError(
                            f"Docker could not remove {container.name}: {error.explanation}",
                            next_step=f"remove it by hand: docker rm -f {container.name}",
                        ) from error
        except EdgeError as error:
            # With the daemon its containers end; what it leaves is swept at a later start.
            if "cause" not in error.details:
                raise

    def _mine(self) -> list[Container]:
        """Its container; also that of a start which was killed before it was noted down."""
        from docker.errors import NotFound

        client = docker_client.connect(self._url)
        with docker_client.explained("find the device's container", self._url):
            if self._id:
                try:
                    return [client.containers.get(self._id)]
                except NotFound:
                    return []
            label = f"{LEASE_LABEL}={self._state_dir}"
            return client.containers.list(all=True, filters={"label": label})

    def _save_log(self) -> None:
        if self._id and self._state_dir.is_dir():
            text = self.log()
            try:
                (self._state_dir / "device.log").write_text(text)
            except OSError:
                pass


def container_held(labels: Mapping[str, str]) -> bool:
    """Whether a living process of this machine, or anybody elsewhere, uses the container.

    Goes by the holders that ``edge_harness.device.lease`` notes below the device's state folder.
    """
    from edge_harness.processes import process_start_time

    if labels.get("edge-harness.host") != socket.gethostname():
        return True
    holders = Path(labels.get(LEASE_LABEL, "/nonexistent")) / "holders"
    try:
        names = [path.name for path in holders.iterdir()]
    except FileNotFoundError:
        names = []
    except OSError:
        return True  # another user's: not ours to judge
    for name in [*names, labels.get("edge-harness.starter", "")]:
        pid, _, started = name.partition("-")
        if pid.isdigit() and process_start_time(int(pid)) == started:
            return True
    return False
