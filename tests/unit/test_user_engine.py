from dataclasses import replace
from pathlib import Path

import pytest
from edge_harness.engines import Limits, StartSpec, launch, sandbox, user
from edge_harness.errors import MissingAbility
from edge_harness.image import Image, agent_dir, layers_dir
from edge_harness.profiles import default_registry
from edge_harness.runtimes import WarmParent

WARM = (
    '{"op":"warm","layers":["abc"],"runtime":"tflite","agent_sha256":"",'
    '"library":"","socket":"abc-tflite.sock"}'
)


@pytest.fixture
def spec(tmp_path):
    image = Image(
        key="bookworm-arm64-0", arch="arm64", suite="bookworm", path=tmp_path / "image", lock={}
    )
    return StartSpec(
        profile=default_registry().get("rpi4"),
        image=image,
        state_dir=tmp_path / "state",
        warm=(WarmParent(layers=("abc",), runtime="tflite"),),
    )


def test_the_agent_is_started_isolated_with_the_boards_cores(spec):
    assert launch.agent_argv(spec) == [
        "/usr/bin/python3.11",
        "-I",
        "-S",
        "-B",
        "/opt/edge/agent/edge_harness/agent/main.py",
        "--run-dir",
        "/run/edge",
        "--linger-s",
        "3",
        "--cpus",
        "4",
        "--warm",
        WARM,
    ]


def test_the_whole_bubblewrap_call():
    argv = sandbox.sandbox_argv(
        bwrap=["bwrap"],
        mode="overlay",
        root=Path("/cache/root"),
        hostname="rpi4",
        writable={"/run/edge": Path("/state/run")},
        readonly={"/proc/meminfo": Path("/state/meminfo")},
        env={"QEMU_CPU": "cortex-a72"},
    )
    assert argv == [
        "bwrap",
        *("--unshare-user", "--unshare-net", "--unshare-pid", "--unshare-ipc", "--unshare-uts"),
        *("--unshare-cgroup-try", "--cap-drop", "ALL"),
        *("--uid", "0", "--gid", "0", "--hostname", "rpi4"),
        *("--overlay-src", "/cache/root", "--tmp-overlay", "/"),
        *("--proc", "/proc", "--ro-bind", "/proc/sys", "/proc/sys"),
        *("--dev", "/dev", "--tmpfs", "/sys", "--tmpfs", "/opt/edge"),
        *("--ro-bind", "/state/meminfo", "/proc/meminfo"),
        *("--bind", "/state/run", "/run/edge"),
        *("--clearenv", "--setenv", "QEMU_CPU", "cortex-a72", "--chdir", "/"),
    ]


def test_without_overlays_the_image_is_read_only_and_temporary_folders_are_not():
    argv = sandbox.sandbox_argv(
        bwrap=["bwrap"],
        mode="read-only",
        root=Path("/cache/root"),
        hostname="rpi4",
        writable={},
        readonly={},
        env={},
    )
    assert "--tmp-overlay" not in argv
    assert argv[argv.index("--ro-bind") :][:3] == ["--ro-bind", "/cache/root", "/"]
    assert argv[argv.index("/tmp") - 1] == "--tmpfs"


def test_without_namespaces_the_cpu_is_pinned_all_the_same(spec):
    emulator = ["/tools/qemu-aarch64", "-cpu", "cortex-a72", "-L", str(spec.image.root)]
    root = spec.tree.root
    argv, env = launch.plain_process(
        spec, python=f"{root}/usr/bin/python3.11", emulator=emulator, root=root
    )
    assert argv[:5] == emulator
    assert argv[5] == f"{spec.image.root}/usr/bin/python3.11"
    assert env["QEMU_CPU"] == "cortex-a72"
    assert env["EDGE_EXEC_PREFIX"] == " ".join(emulator)
    assert env["EDGE_EXEC_ROOT"] == str(root)
    assert env["EDGE_LAYERS"] == str(layers_dir())


def test_a_process_on_this_hosts_own_files_keeps_out_of_the_persons_folders(spec):
    argv, env = launch.plain_process(replace(spec, image=None), python="/opt/py/bin/python3")
    run = str(spec.state_dir / "run")
    assert argv == [
        *("/opt/py/bin/python3", "-I", "-S", "-B"),
        f"{agent_dir()}/edge_harness/agent/main.py",
        *("--run-dir", run, "--linger-s", "3", "--cpus", "4", "--warm", WARM),
    ]
    assert env["HOME"] == run
    assert env["PATH"].startswith("/opt/py/bin:/usr/local/sbin:")
    assert env["EDGE_EXEC_PREFIX"] == ""
    assert env["EDGE_EXEC_ROOT"] == "/"


def test_every_process_on_the_device_gets_the_pinned_cpu(spec):
    assert launch.agent_env(spec)["QEMU_CPU"] == "cortex-a72"


def test_system_files_show_the_profile_and_not_the_host(spec, tmp_path):
    files = launch.system_files(spec, tmp_path / "system")
    cpus = files["/sys/devices/system/cpu"]
    assert (cpus / "online").read_text() == "0-3\n"
    assert (cpus / "cpu3/cpufreq/cpuinfo_max_freq").read_text() == "1500000\n"
    assert not (cpus / "cpu4").exists()
    total = files["/proc/meminfo"].read_text().splitlines()[0].split()
    assert total == ["MemTotal:", str(spec.profile.memory.usable_mib * 1024), "kB"]


def test_a_memory_limit_is_refused_and_not_pretended(spec):
    limited = replace(spec, limits=Limits(memory_mib=64))
    with pytest.raises(MissingAbility, match="cannot limit memory"):
        user.UserEngine().start(limited)


def test_a_socket_below_a_very_deep_folder_is_reached(tmp_path):
    import os
    import socket

    deep = tmp_path / ("d" * 100) / ("e" * 100)
    deep.mkdir(parents=True)
    here = Path.cwd()
    listener = socket.socket(socket.AF_UNIX)
    os.chdir(deep)
    try:
        listener.bind("agent.sock")
    finally:
        os.chdir(here)
    listener.listen()
    launch.connect_unix(deep, "agent.sock", timeout_s=1).close()
    listener.close()


def test_without_bubblewrap_there_is_no_isolation():
    assert sandbox.isolation(None) == ("none", "bubblewrap is neither fetched nor installed")


def test_a_bubblewrap_that_fails_is_quoted():
    mode, why = sandbox.isolation(("/bin/false",))
    assert mode == "none"
    assert why == "exit status 1"
