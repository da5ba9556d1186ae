"""What only containers do: limits that hold, the real OOM killer, leases by label, the relay."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest
from edge_harness.engines import Limits
from edge_harness.engines.choose import choose_engine
from edge_harness.engines.docker import (
    engine as docker,
)
from edge_harness.engines.docker import (
    image as docker_image,
)
from edge_harness.engines.docker import stale
from edge_harness.engines.docker.machine import LEASE_LABEL
from edge_harness.errors import EdgeError, OptionError, OutOfMemory, ProcessDied, RuntimeFailed
from edge_harness.profiles import default_registry
from edge_harness.system import docker_client

#: Touches ARGV MiB, a tenth at a time, and says how far it came.
EAT = """
import sys
kept = []
for step in range(10):
    kept.append(b"x" * (int(sys.argv[1]) * 2**20 // 10))
    print(step, flush=True)
"""

KILL_SOON = """
import sys, time, docker
time.sleep(1.5)
docker.DockerClient(sys.argv[1]).api.kill(sys.argv[2])
"""


@pytest.fixture(scope="module", autouse=True)
def _docker_is_here():
    try:
        choose_engine(default_registry().get("rpi4"), "docker")
    except EdgeError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def api():
    return docker_client.connect().api


@pytest.fixture(scope="module")
def rpi4(open_on):
    with open_on("rpi4", "docker") as device:
        yield device


@pytest.fixture
def small(open_on):
    """An rpi4 with 200 MiB and half a core."""
    with open_on("rpi4", "docker", limits=Limits(memory_mib=200, cpus=0.5)) as device:
        yield device


def container(device):
    return device.hold.machine.container_id


def first_line(device, *paths):
    """The first line of the first of ``paths`` that is there, read on the device."""
    script = "import sys, os; print(open([p for p in sys.argv[1:] if os.path.exists(p)][0]).read())"
    return device.run(["python3", "-c", script, *paths]).check().stdout.splitlines()[0]


def test_the_limits_are_the_kernels_own_seen_from_inside(small):
    memory = first_line(
        small, "/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"
    )
    assert int(memory) == 200 << 20
    quota = first_line(small, "/sys/fs/cgroup/cpu.max", "/sys/fs/cgroup/cpu/cpu.cfs_quota_us")
    assert quota.split()[0] == "50000"
    assert small.info.memory_mib == 200


def test_swap_is_not_a_way_around_the_memory_limit(small, api):
    host = api.inspect_container(container(small))["HostConfig"]
    assert host["Memory"] == host["MemorySwap"] == 200 << 20
    assert host["NanoCpus"] == 500_000_000


def test_without_limits_of_ones_own_the_board_has_its_memory(rpi4, api):
    host = api.inspect_container(container(rpi4))["HostConfig"]
    machine_mib = docker_client.daemon().memory_mib
    expected = min(rpi4.profile.memory.usable_mib, machine_mib)
    assert host["Memory"] >> 20 == rpi4.info.memory_mib == expected


def test_the_oom_killer_is_told_apart_and_the_device_lives_on(small):
    result = small.run(["python3", "-c", EAT, "400"])
    assert result.signal == signal.SIGKILL
    with pytest.raises(OutOfMemory, match=r"ran out of memory(?s:.*)limit 200 MiB, peak"):
        result.check()
    assert result.error.details["limit_mib"] == 200
    assert small.run(["python3", "-c", EAT, "10"]).check().stdout.split()[-1] == "9"


def test_a_kill_is_no_lack_of_memory(small):
    result = small.run(["sh", "-c", "kill -9 $$"])
    with pytest.raises(ProcessDied, match="killed from outside: no memory limit was hit"):
        result.check()


def test_limits_change_while_the_device_runs(open_on):
    with open_on("rpi4", "docker", limits=Limits(memory_mib=600)) as device:
        device.run(["python3", "-c", EAT, "300"]).check()
        device.limit(memory_mib=200, cpus=0.25)
        with pytest.raises(OutOfMemory, match="limit 200 MiB"):
            device.run(["python3", "-c", EAT, "300"]).check()
        quota = first_line(device, "/sys/fs/cgroup/cpu.max", "/sys/fs/cgroup/cpu/cpu.cfs_quota_us")
        assert quota.split()[0] == "25000"
        device.limit(memory_mib=600)
        device.run(["python3", "-c", EAT, "300"]).check()


@pytest.mark.parametrize("limits", [{"memory_mib": 1}, {"cpus": 1000}])
def test_a_limit_nobody_can_have_is_refused_and_the_device_lives_on(rpi4, limits):
    with pytest.raises(OptionError):
        rpi4.limit(**limits)
    assert rpi4.run(["true"]).returncode == 0


def test_a_container_killed_from_outside_says_so(open_on, api):
    with open_on("rpi4", "docker") as device:
        machine = device.hold.machine
        api.kill(container(device))
        deadline = time.monotonic() + 10
        while machine.alive() and time.monotonic() < deadline:
            time.sleep(0.02)
        assert machine.end_reason() == (
            "its first process was ended by SIGKILL from outside; no memory limit was hit"
        )
        assert machine.memory_events().get("oom_kills", 0) == 0
        assert device.run(["true"]).returncode == 0, "it is started again"


def test_a_death_in_the_middle_of_something_names_its_reason(open_on, api):
    with open_on("rpi4", "docker") as device:
        killer = subprocess.Popen(
            [
                *(sys.executable, "-c"),
                KILL_SOON,
                docker_client.daemon_url(),
                container(device),
            ]
        )
        with pytest.raises(RuntimeFailed, match="ended by SIGKILL from outside"):
            device.run(["python3", "-c", "import time; time.sleep(30)"])
        killer.wait(20)


def test_a_device_whose_first_process_is_out_of_memory_says_so(small):
    machine = small.hold.machine
    # The killer takes the largest process, unless another is volunteered. The program that
    # eats was forked from that one, so it takes its own name off the list.
    small.run(["sh", "-c", "echo 1000 > /proc/1/oom_score_adj"]).check()
    modest = 'open("/proc/self/oom_score_adj", "w").write("0")\n' + EAT
    with pytest.raises(OutOfMemory, match="the OOM killer ended it"):
        small.run(["python3", "-c", modest, "400"]).check()
    assert not machine.alive()
    assert machine.memory_events()["oom_kills"] == 1


def test_root_on_the_device_has_no_power_over_the_host(rpi4):
    status = rpi4.run(["cat", "/proc/self/status"]).check().stdout
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert fields["CapEff"] == fields["CapBnd"] == "0" * 16
    assert fields["NoNewPrivs"] == "1"
    assert rpi4.run(["sh", "-c", "echo x > /opt/edge/agent/x"]).returncode != 0


def test_the_pinned_processor_holds_for_programs_that_programs_start(rpi4):
    command = "sh -c 'sh -c \"grep -m1 Features /proc/cpuinfo\"'"
    features = rpi4.run(["sh", "-c", command]).check().stdout.split()
    assert "asimd" in features
    assert "atomics" not in features


def test_argv_0_is_what_the_program_was_called_by(rpi4):
    script = 'import sys; print(open("/proc/self/cmdline").read().split(chr(0))[0])'
    result = rpi4.run(["bash", "-c", f"exec -a another-name python3 -c '{script}'"])
    assert result.stdout.strip() == "another-name"


def test_there_is_no_interface_but_loopback_and_no_network_in_docker(rpi4, api):
    assert rpi4.info.interfaces == ("lo",)
    networks = api.inspect_container(container(rpi4))["NetworkSettings"]["Networks"]
    assert set(networks) == {"none"}


def test_the_image_in_docker_has_the_devices_architecture_and_root_owns_it(rpi4, api):
    tag = docker_image.tag_of(rpi4.image)
    found = api.inspect_image(tag)
    assert (found["Architecture"], found["Os"]) == ("arm64", "linux")
    script = "import os; print({os.stat(p)[4:6] for p in ('/', '/bin/bash', '/etc/passwd')})"
    assert rpi4.run(["python3", "-c", script]).check().stdout.strip() == "{(0, 0)}"


def test_an_image_is_loaded_once(rpi4, api):
    tag = docker_image.tag_of(rpi4.image)
    before = api.inspect_image(tag)["Id"]
    said = []
    assert docker_image.ensure(rpi4.image, docker_client.daemon_url(), said.append) == tag
    assert said == []
    assert api.inspect_image(tag)["Id"] == before


def test_a_32_bit_board_is_32_bit_in_docker_too(open_on, api):
    with open_on("rpi2", "docker") as device:
        assert (device.info.machine, device.info.bits) == ("armv7l", 32)
        found = api.inspect_image(docker_image.tag_of(device.image))
        assert (found["Architecture"], found["Variant"]) == ("arm", "v7")


def test_the_log_is_kept_when_the_device_is_gone(open_on):
    device = open_on("rpi4", "docker")
    device.run(["sh", "-c", "echo for the log > /proc/1/fd/2"])
    device.close()
    assert "for the log" in device.log()


def test_nothing_is_left_in_docker_after_a_device_was_closed(open_on, api):
    device = open_on("rpi4", "docker")
    identity = container(device)
    device.close()
    left = api.containers(all=True, filters={"id": identity})
    assert left == []


def test_a_start_that_was_killed_half_way_is_found_by_its_label(open_on, api):
    device = open_on("rpi4", "docker")
    try:
        state_dir = device.hold._lease.state_dir
        # All that is on disk at that moment: neither the container's name nor its id.
        half = docker.DockerEngine().attach({"engine": "docker", "state_dir": str(state_dir)})
        half.stop()
        assert api.containers(all=True, filters={"label": f"{LEASE_LABEL}={state_dir}"}) == []
    finally:
        device.close()


def test_containers_that_nobody_holds_are_removed_and_others_are_not(rpi4, open_on, api, tmp_path):
    script = textwrap.dedent(
        """
        import os
        from edge_harness.opening import open_device
        from edge_harness.profiles import default_registry
        device = open_device(default_registry().get("rpi4"), engine="docker")
        print(device.hold.machine.container_id, flush=True)
        os.kill(os.getpid(), 9)
        """
    )
    # A cache of its own, that is then lost: no lease is left to sweep by.
    cache = tmp_path / "cache"
    cache.mkdir()
    for name in ("images", "layers", "tools"):
        from edge_harness.cache import cache_dir

        (cache / name).symlink_to(cache_dir() / name)
    environment = {**os.environ, "EDGE_HARNESS_CACHE": str(cache)}
    child = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env=environment
    )
    assert child.returncode == -signal.SIGKILL
    orphan = child.stdout.strip()
    assert stale.remove_stale() == 1
    assert api.containers(all=True, filters={"id": orphan}) == []
    assert rpi4.run(["true"]).returncode == 0


def test_a_model_runs_through_the_relay_to_a_daemon_elsewhere(open_on, models, golden, monkeypatch):
    monkeypatch.setenv(docker_client.RELAY_VARIABLE, "1")
    wanted = golden("digits_int8")
    with open_on("rpi4", "docker") as device:
        record = device.hold.machine.record()
        assert record["relay"] is True
        mounts = docker_client.connect().api.inspect_container(container(device))["Mounts"]
        assert {mount["Type"] for mount in mounts} == {"volume"}, "no file of this machine"
        assert device.info.cpu_count == 4
        assert device.run(["cat"], input="through").check().stdout == "through"
        with device.load(models / "digits_int8.tflite", kernels="reference") as session:
            outputs = [session.run(image[np.newaxis])[0][0] for image in wanted["inputs"][:4]]
        assert np.array_equal(np.stack(outputs), wanted["outputs"][:4])
        with pytest.raises(OSError, match=r"no stream to 'nothing\.sock'"):
            device.hold.machine.connect("nothing.sock", timeout_s=20)


def edge(*arguments, **options):
    return subprocess.run(
        [sys.executable, "-m", "edge_harness.cli", *arguments],
        capture_output=True,
        text=True,
        **options,
    )


def test_the_command_runs_a_program_and_ends_as_it_did():
    result = edge(
        "run", "--device", "rpi4", "--engine", "docker", "--", "sh", "-c", "cat; exit 7", input="in"
    )
    assert (result.returncode, result.stdout) == (7, "in")
    result = edge(
        "run",
        "--device",
        "rpi4",
        "--engine",
        "docker",
        "--",
        "python3",
        "-c",
        "import ctypes; ctypes.string_at(0)",
    )
    assert result.returncode == 128 + signal.SIGSEGV
    assert "edge-harness: rpi4 died of SIGSEGV" in result.stderr


def test_doctor_finds_the_engine_and_says_so_to_programs():
    result = edge("doctor", "--engine", "docker", "--json")
    assert result.returncode == 0
    *rests_on, check = json.loads(result.stdout)["checks"]
    assert {each["group"] for each in rests_on} == {"docker"}
    assert check["status"] == "ok"
    assert "memory_limit" in check["found"]
