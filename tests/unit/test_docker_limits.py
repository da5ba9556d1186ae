from pathlib import Path

import pytest
from edge_harness.engines import Limits
from edge_harness.engines.docker.limits import ControlGroup, memory_notes, wanted
from edge_harness.errors import OptionError
from edge_harness.profiles import default_registry
from edge_harness.system.docker_client import Daemon

MIB = 1 << 20


def daemon(**changes):
    facts = {
        "url": "unix:///var/run/docker.sock",
        "version": "20.10.24",
        "arch": "amd64",
        "cpus": 8,
        "memory_mib": 16_000,
        "local": True,
        "rootless": False,
        "cgroup": "2",
        "memory_limit": True,
        "swap_limit": True,
        "cpu_quota": True,
        "containers": "linux",
        "system": "Debian GNU/Linux 12",
    }
    return Daemon(**{**facts, **changes})


@pytest.fixture
def rpi4():
    return default_registry().get("rpi4")


def write(root: Path, **files: str) -> None:
    root.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (root / name.replace("__", ".")).write_text(text)


@pytest.fixture
def version_2(tmp_path):
    write(tmp_path / "proc/7", cgroup="0::/system.slice/docker-ab.scope\n")
    folder = tmp_path / "cg/system.slice/docker-ab.scope"
    write(folder, memory__max=f"{256 * MIB}\n", memory__events="oom 3\noom_kill 2\n")
    write(folder, memory__peak=f"{200 * MIB}\n", cpu__max="400000 100000\n")
    (folder / "memory.swap.max").write_text("0\n")
    return ControlGroup.of(7, proc=tmp_path / "proc", root=tmp_path / "cg"), folder


@pytest.fixture
def version_1(tmp_path):
    lines = "5:memory:/docker/ab\n3:cpu,cpuacct:/docker/ab\n0::/\n"
    write(tmp_path / "proc/7", cgroup=lines)
    folder = tmp_path / "cg/memory/docker/ab"
    write(folder, memory__limit_in_bytes=f"{256 * MIB}\n")
    (folder / "memory.memsw.limit_in_bytes").write_text(f"{256 * MIB}\n")
    (folder / "memory.max_usage_in_bytes").write_text(f"{255 * MIB}\n")
    (folder / "memory.oom_control").write_text("oom_kill_disable 0\nunder_oom 0\noom_kill 1\n")
    write(
        tmp_path / "cg/cpu/docker/ab", cpu__cfs_quota_us="200000\n", cpu__cfs_period_us="100000\n"
    )
    return ControlGroup.of(7, proc=tmp_path / "proc", root=tmp_path / "cg"), folder


def test_a_device_gets_the_boards_cores_and_memory(rpi4):
    applied = wanted(rpi4, Limits(), daemon())
    assert (applied.memory_mib, applied.nano_cpus, applied.notes) == (3788, 4_000_000_000, ())


def test_what_this_machine_lacks_is_noted_and_not_pretended(rpi4):
    applied = wanted(rpi4, Limits(), daemon(cpus=2, memory_mib=2000))
    assert (applied.memory_mib, applied.cpus) == (2000, 2.0)
    assert applied.notes == (
        "2000 MiB of RAM instead of 3788: this machine's",
        "the CPU time of 2 cores instead of 4: this machine's",
    )


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        (Limits(memory_mib=3), "memory_mib=3 is less than Docker allows"),
        (Limits(cpus=9), "cpus=9, but Docker's machine has 8"),
        (Limits(cpus=0), "cpus=0, but Docker's machine has 8"),
    ],
)
def test_impossible_limits_are_refused(rpi4, limits, message):
    with pytest.raises(OptionError, match=message):
        wanted(rpi4, limits, daemon())


def test_the_figures_of_control_group_version_2(version_2):
    group, _ = version_2
    assert group.memory_events() == {"oom_kills": 2, "peak_mib": 200, "limit_mib": 256}
    assert group.differences(256, 4.0) == []


def test_the_figures_of_control_group_version_1(version_1):
    group, _ = version_1
    assert group.memory_events() == {"oom_kills": 1, "peak_mib": 255, "limit_mib": 256}
    assert group.differences(256, 2.0) == []


def test_a_limit_that_did_not_take_effect_is_named(version_2):
    group, folder = version_2
    (folder / "memory.max").write_text("max\n")
    (folder / "memory.swap.max").write_text(f"{256 * MIB}\n")
    (folder / "cpu.max").write_text("max 100000\n")
    assert group.differences(256, 4.0) == [
        "the memory limit is none, not 256 MiB",
        "the swap limit is 256 MiB, not 0 MiB",
        "the CPU limit is none, not 4 cores",
    ]


def test_version_1_counts_swap_together_with_memory(version_1):
    group, folder = version_1
    (folder / "memory.memsw.limit_in_bytes").write_text(f"{512 * MIB}\n")
    assert group.differences(256, None) == ["the swap limit is 512 MiB, not 256 MiB"]


def test_a_group_that_cannot_be_seen_from_here_is_none(tmp_path):
    write(tmp_path / "proc/7", cgroup="0::/../other\n")
    assert ControlGroup.of(7, proc=tmp_path / "proc", root=tmp_path / "cg") is None
    assert ControlGroup.of(8, proc=tmp_path / "proc", root=tmp_path / "cg") is None


def test_figures_in_words():
    assert memory_notes({"limit_mib": 64, "peak_mib": 63}) == "limit 64 MiB, peak 63 MiB"
    assert memory_notes({}) == ""
