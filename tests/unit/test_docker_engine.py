"""The docker engine without a daemon: what it would ask for, and what it makes of answers.

Answers come from a small HTTP server on a Unix socket, through the real SDK."""

import json
import os
import platform
import socket
import socketserver
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from edge_harness.engines import StartSpec
from edge_harness.engines.docker import (
    engine as docker,
)
from edge_harness.engines.docker import execution as docker_execution
from edge_harness.engines.docker import (
    machine as docker_machine,
)
from edge_harness.engines.docker import stale
from edge_harness.engines.docker.limits import Applied
from edge_harness.engines.launch import agent_argv, agent_env
from edge_harness.errors import InfrastructureError, MissingTool, OptionError
from edge_harness.image import Image
from edge_harness.processes import process_start_time
from edge_harness.profiles import default_registry
from edge_harness.system import binfmt, docker_client

INFO = {
    "ServerVersion": "20.10.24",
    "Architecture": "x86_64",
    "NCPU": 8,
    "MemTotal": 16 << 30,
    "SecurityOptions": ["name=seccomp,profile=default"],
    "CgroupVersion": "2",
    "MemoryLimit": True,
    "SwapLimit": True,
    "CpuCfsQuota": True,
    "OSType": "linux",
    "OperatingSystem": "Debian GNU/Linux 12",
    "Name": socket.gethostname(),
    "KernelVersion": platform.release(),
}


@pytest.fixture
def answers():
    """``{path: (status, JSON)}`` of the small daemon."""
    return {
        "/version": (200, {"ApiVersion": "1.41", "Version": "20.10.24"}),
        "/v1.41/info": (200, dict(INFO)),
    }


@pytest.fixture
def small_daemon(answers, tmp_path, monkeypatch):
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            length = int(self.headers.get("Content-Length") or 0)
            self.rfile.read(length)
            status, body = answers.get(self.path.split("?")[0], (404, {"message": "no such page"}))
            data = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_POST = do_DELETE = do_GET  # noqa: N815

        def log_message(self, *_):
            pass

    class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
        daemon_threads = True

        def get_request(self):
            request, _ = super().get_request()
            return request, ("local", 0)

    path = tmp_path / "docker.sock"
    url = f"unix://{path}"
    monkeypatch.setenv("DOCKER_HOST", url)
    monkeypatch.delenv(docker_client.RELAY_VARIABLE, raising=False)
    server = Server(str(path), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield url
    finally:
        docker_client.connect(url).close()
        docker_client._client.cache_clear()
        docker_client._daemon.cache_clear()
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def handlers(tmp_path, monkeypatch):
    """Writes entries into a folder that stands for binfmt_misc."""
    folder = tmp_path / "binfmt_misc"
    folder.mkdir()
    (folder / "status").write_text("enabled\n")
    monkeypatch.setattr(binfmt, "FOLDER", folder)

    def write(name="qemu-aarch64", flags="POF", arch="arm64", interpreter="/nowhere/qemu"):
        magic, mask = binfmt.elf_header(arch).hex(), "ff" * 7 + "00" + "ff" * 8 + "feffffff"
        (folder / name).write_text(
            f"enabled\ninterpreter {interpreter}\nflags: {flags}\noffset 0\n"
            f"magic {magic}\nmask {mask}\n"
        )

    return write


@pytest.fixture
def rpi4():
    return default_registry().get("rpi4")


@pytest.fixture
def spec(tmp_path, rpi4):
    image = Image(key="bookworm-arm64-0", arch="arm64", suite="bookworm", path=tmp_path, lock={})
    return StartSpec(profile=rpi4, image=image, state_dir=tmp_path / "rpi4-docker-1")


def options(spec, tmp_path, **changes):
    return docker.container_options(
        spec,
        image="edge-harness/x:1",
        applied=Applied(memory_mib=3788, cpus=4.0),
        daemon=changes.pop("daemon"),
        binds={"/run/edge": (tmp_path / "run", True), "/opt/edge/agent": (tmp_path / "a", False)},
    )


def test_the_whole_container(spec, tmp_path, small_daemon):
    found = options(spec, tmp_path, daemon=docker_client.daemon())
    assert found.pop("name").startswith("edge-rpi4-docker-1-")
    assert found["environment"]["QEMU_CPU"] == "cortex-a72"
    assert found == {
        "image": "edge-harness/x:1",
        "command": agent_argv(spec),
        "environment": agent_env(spec),
        "hostname": "rpi4",
        "platform": "linux/arm64",
        "network_mode": "none",
        "mounts": [
            {
                "Target": "/opt/edge/agent",
                "Source": str(tmp_path / "a"),
                "Type": "bind",
                "ReadOnly": True,
            },
            {
                "Target": "/run/edge",
                "Source": str(tmp_path / "run"),
                "Type": "bind",
                "ReadOnly": False,
            },
        ],
        "labels": {
            "edge-harness": "1",
            "edge-harness.device": "rpi4",
            "edge-harness.lease": str(tmp_path / "rpi4-docker-1"),
            "edge-harness.starter": f"{os.getpid()}-{process_start_time(os.getpid())}",
            "edge-harness.host": socket.gethostname(),
        },
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges", "label=disable"],
        "auto_remove": False,
        "ulimits": [{"Name": "core", "Soft": -1, "Hard": -1}],
        "log_config": {"Type": "json-file", "Config": {"max-size": "32m"}},
        "mem_limit": 3788 << 20,
        "memswap_limit": 3788 << 20,
        "nano_cpus": 4_000_000_000,
    }


def test_limits_a_daemon_does_not_have_are_not_asked_for(spec, tmp_path, answers, small_daemon):
    answers["/v1.41/info"][1].update(
        MemoryLimit=False, CpuCfsQuota=False, SecurityOptions=["name=rootless"]
    )
    found = options(spec, tmp_path, daemon=docker_client.daemon())
    assert not {"mem_limit", "memswap_limit", "nano_cpus", "ulimits"} & found.keys()


def test_with_everything_there_the_engine_proves_everything(rpi4, handlers, small_daemon):
    handlers()
    seen = docker.DockerEngine().probe(rpi4)
    assert seen.available
    assert seen.reason == "Docker 20.10.24, QEMU of unknown version -cpu cortex-a72 through binfmt"
    assert seen.abilities == {
        *("isa", "numerics", "crash", "offline", "rootfs", "cpu_quota", "memory_limit"),
    }


def test_without_binfmt_it_cannot_run_and_says_how_to_change_that(rpi4, handlers, small_daemon):
    seen = docker.DockerEngine().probe(rpi4)
    assert not seen.available
    assert "containers cannot run arm64 programs here: nothing is registered" in seen.reason
    assert "edge-harness setup --system" in seen.fix


def test_an_entry_without_the_f_flag_is_of_no_use_in_containers(rpi4, handlers, small_daemon):
    handlers(flags="PO")
    seen = docker.DockerEngine().probe(rpi4)
    assert not seen.available
    assert "'qemu-aarch64' lacks the F flag" in seen.reason


def test_an_entry_for_another_processor_does_not_count(rpi4, handlers, small_daemon):
    handlers(arch="armhf")
    assert not docker.DockerEngine().probe(rpi4).available


def test_an_old_emulator_is_refused(rpi4, handlers, small_daemon, tmp_path):
    old = tmp_path / "qemu-old"
    old.write_text("#!/bin/sh\necho 'qemu-aarch64 version 7.2.0 (Debian)'\n")
    old.chmod(0o755)
    handlers(interpreter=str(old))
    seen = docker.DockerEngine().probe(rpi4)
    assert not seen.available
    assert "is QEMU 7.2.0, older than 8.2" in seen.reason


def test_on_an_arm_host_nothing_is_emulated_and_the_cpu_is_compared(
    rpi4, handlers, answers, small_daemon, monkeypatch
):
    answers["/v1.41/info"][1]["Architecture"] = "aarch64"
    monkeypatch.setattr(
        docker_execution, "host_features", lambda: ["fp", "asimd", "crc32", "atomics"]
    )
    seen = docker.DockerEngine().probe(rpi4)
    assert seen.available
    assert (
        "this machine's own arm64 processor, no emulation, which is not the board's" in seen.reason
    )
    assert not {"isa", "numerics"} & seen.abilities
    assert seen.figure_kind == "native"
    monkeypatch.setattr(docker_execution, "host_features", lambda: ["fp", "asimd", "crc32"])
    assert {"isa", "numerics"} <= docker.DockerEngine().probe(rpi4).abilities


def test_a_daemon_without_limits_proves_none(rpi4, handlers, answers, small_daemon):
    handlers()
    answers["/v1.41/info"][1].update(MemoryLimit=False, CpuCfsQuota=False)
    seen = docker.DockerEngine().probe(rpi4)
    assert seen.available
    assert not {"cpu_quota", "memory_limit"} & seen.abilities
    assert "no memory limits" in seen.reason


def test_windows_containers_are_refused(rpi4, answers, small_daemon):
    answers["/v1.41/info"][1]["OSType"] = "windows"
    seen = docker.DockerEngine().probe(rpi4)
    assert not seen.available
    assert "Linux containers" in seen.fix


@pytest.mark.parametrize("changes", [{"Name": "elsewhere"}, {"KernelVersion": "5.10.0-linuxkit"}])
def test_a_daemon_on_another_machine_is_not_local(answers, small_daemon, changes):
    answers["/v1.41/info"][1].update(changes)
    assert docker_client.daemon().local is False


def test_a_daemon_on_this_machine_is_local(small_daemon):
    assert docker_client.daemon().local is True


def test_a_missing_socket_is_a_daemon_that_does_not_run(monkeypatch, tmp_path, rpi4):
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    with pytest.raises(MissingTool, match="no Docker daemon runs here") as caught:
        docker_client.connect()
    assert "edge-harness setup --system" in caught.value.next_step
    seen = docker.DockerEngine().probe(rpi4)
    assert (seen.available, seen.reason) == (False, caught.value.message)


def test_a_socket_nobody_listens_at_is_a_daemon_that_does_not_run(monkeypatch, tmp_path):
    path = tmp_path / "docker.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    monkeypatch.setenv("DOCKER_HOST", f"unix://{path}")
    with pytest.raises(MissingTool, match="the Docker daemon does not run"):
        docker_client.connect()


def test_a_daemon_that_refuses_this_user_is_told_apart():
    error = docker_client.unreachable("unix:///x", PermissionError(13, "Permission denied"))
    assert "this user may not use Docker" in error.message
    assert "usermod -aG docker" in error.next_step
    assert error.details["cause"] == "permission"


def test_an_address_that_makes_no_sense_is_quoted(monkeypatch):
    monkeypatch.setenv("DOCKER_HOST", "gopher://docker")
    with pytest.raises(MissingTool, match=r"'gopher://docker' cannot be reached") as caught:
        docker_client.connect()
    assert "DOCKER_HOST" in caught.value.next_step


def test_what_the_daemon_says_is_in_the_error(small_daemon, answers):
    answers["/v1.41/containers/json"] = (500, {"message": "disk on fire"})
    with pytest.raises(InfrastructureError, match="Docker could not list containers: disk on fire"):
        stale.remove_stale()


STATE = {
    "Running": False,
    "OOMKilled": False,
    "ExitCode": 0,
    "Error": "",
    "Pid": 0,
}


@pytest.fixture
def ended(answers, small_daemon, tmp_path):
    """``ended(**State)``: a machine whose container ended like that."""

    def make(**state):
        inspected = {"State": {**STATE, **state}, "HostConfig": {"Memory": 256 << 20}}
        answers["/v1.41/containers/abc/json"] = (200, inspected)
        return docker_machine.DockerMachine(
            {
                "engine": "docker",
                "state_dir": str(tmp_path),
                "url": small_daemon,
                "container": "abc",
            }
        )

    return make


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        ({"Running": True}, ""),
        ({"ExitCode": 0}, "its first process ended with exit status 0"),
        ({"ExitCode": 1, "OOMKilled": True}, "its first process ended with exit status 1"),
        (
            {"ExitCode": 137},
            "its first process was ended by SIGKILL from outside; no memory limit was hit",
        ),
        ({"ExitCode": 139}, "its first process was ended by SIGSEGV"),
        (
            {"ExitCode": 137, "OOMKilled": True},
            "the OOM killer ended it (limit 256 MiB, peak 256 MiB)",
        ),
        ({"ExitCode": 128, "Error": "no such file"}, "no such file"),
    ],
)
def test_why_a_device_ended(ended, state, reason):
    assert ended(**state).end_reason() == reason


def test_only_the_oom_killers_own_kill_counts_after_the_end(ended):
    assert ended(ExitCode=137, OOMKilled=True).memory_events() == {
        "limit_mib": 256,
        "peak_mib": 256,
        "oom_kills": 1,
    }
    assert "oom_kills" not in ended(ExitCode=137).memory_events()


def test_a_device_whose_container_was_removed_is_not_alive(small_daemon, tmp_path):
    machine = docker_machine.DockerMachine(
        {"engine": "docker", "state_dir": str(tmp_path), "url": small_daemon, "container": "gone"}
    )
    assert machine.alive() is False
    assert machine.end_reason() == "its container is gone"
    assert machine.log() == ""
    machine.stop()
    machine.stop()


def test_the_log_outlives_the_container(small_daemon, tmp_path):
    (tmp_path / "device.log").write_text("last words\n")
    machine = docker_machine.DockerMachine(
        {"engine": "docker", "state_dir": str(tmp_path), "url": small_daemon, "container": "gone"}
    )
    assert machine.log() == "last words\n"


def test_stopping_without_a_daemon_is_no_error(tmp_path):
    record = {"state_dir": str(tmp_path), "url": f"unix://{tmp_path}/none", "container": "abc"}
    docker_machine.DockerMachine(record).stop()


def test_a_limit_the_kernel_refuses_is_an_error_of_the_request(ended, answers):
    machine = ended(Running=True)
    answers["/v1.41/containers/abc/update"] = (500, {"message": "device or resource busy"})
    with pytest.raises(OptionError, match=r"memory_mib=64(?s:.*)device or resource busy"):
        machine.limit_memory(64)


def test_a_limit_that_docker_ignored_is_found_out(ended, answers):
    machine = ended(Running=True)
    answers["/v1.41/containers/abc/json"][1]["HostConfig"] = {"Memory": 0, "MemorySwap": -1}
    answers["/v1.41/containers/abc/update"] = (200, {"Warnings": ["discarded"]})
    with pytest.raises(InfrastructureError, match="Docker's Memory is 0 MiB, not 64 MiB"):
        machine.limit_memory(64)


@pytest.fixture
def labels(tmp_path):
    me = os.getpid()
    return {
        "edge-harness.host": socket.gethostname(),
        "edge-harness.lease": str(tmp_path),
        "edge-harness.starter": f"{me}-{process_start_time(me)}",
    }


def test_a_container_is_held_while_its_starter_lives(labels):
    assert docker_machine.container_held(labels)


def test_a_container_is_held_while_another_holder_lives(labels, tmp_path):
    holder = labels.pop("edge-harness.starter")
    assert not docker_machine.container_held(labels)
    (tmp_path / "holders").mkdir()
    (tmp_path / "holders" / holder).touch()
    assert docker_machine.container_held(labels)


def test_a_process_number_that_was_used_again_holds_nothing(labels):
    labels["edge-harness.starter"] = f"{os.getpid()}-1"
    assert not docker_machine.container_held(labels)


def test_containers_of_another_machine_are_not_ours_to_judge(labels):
    del labels["edge-harness.starter"]
    labels["edge-harness.host"] = "elsewhere"
    assert docker_machine.container_held(labels)


def test_features_are_read_from_both_kinds_of_cpuinfo(tmp_path):
    path = tmp_path / "cpuinfo"
    path.write_text("processor\t: 0\nFeatures\t: fp asimd\n\nFeatures\t: other\n")
    assert docker_execution.host_features(path) == ["fp", "asimd"]
    path.write_text("flags\t\t: fpu sse2\n")
    assert docker_execution.host_features(path) == ["fpu", "sse2"]
    assert docker_execution.host_features(Path("/nonexistent")) == []


def test_swap_is_seen(tmp_path):
    path = tmp_path / "meminfo"
    path.write_text("MemTotal: 1 kB\nSwapTotal:       1024 kB\n")
    assert docker_execution.host_swaps(path) is True
    path.write_text("SwapTotal:          0 kB\n")
    assert docker_execution.host_swaps(path) is False


def test_a_profile_of_the_hosts_own_kind_is_compared_with_its_flags(handlers, small_daemon, rpi4):
    profile = replace_arch(rpi4, "amd64")
    daemon = docker_client.daemon()
    how = docker_execution.execution(profile, daemon)
    assert how.possible
    assert not how.pinned
    assert "no emulation" in how.text


def replace_arch(profile, arch):
    import msgspec

    return msgspec.structs.replace(profile, os=msgspec.structs.replace(profile.os, arch=arch))


def test_a_remote_daemon_is_asked_when_the_device_starts(rpi4, small_daemon):
    remote = replace(docker_client.daemon(), local=False, system="Docker Desktop")
    how = docker_execution.execution(rpi4, remote)
    assert (how.possible, how.pinned) == (True, True)
    assert how.text == "QEMU of Docker Desktop with QEMU_CPU=cortex-a72"
