"""What a device is and does, whatever model runs on it."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from edge_harness.errors import (
    DeviceTimeout,
    IllegalInstruction,
    InputError,
    MissingAbility,
    OptionError,
    ProcessDied,
    Segfault,
)


def test_it_is_the_board_seen_from_inside(rpi4):
    assert rpi4.info.machine == "aarch64"
    assert "asimd" in rpi4.info.features
    assert "atomics" not in rpi4.info.features
    assert rpi4.info.os.startswith("Debian GNU/Linux 12")
    assert rpi4.info.hostname == "rpi4"
    assert rpi4.info.cpu_count == 4


def test_programs_see_the_device_and_no_file_of_the_host(rpi4):
    script = "import os, platform; print(platform.machine(), os.path.exists('/work'), os.getuid())"
    result = rpi4.run(["python3", "-c", script]).check()
    assert result.stdout.split() == ["aarch64", "False", "0"]


def test_standard_input_environment_and_folder_reach_the_program(rpi4):
    script = "import os, sys; print(sys.stdin.read(), os.environ['MY'], os.getcwd())"
    result = rpi4.run(["python3", "-c", script], input="in", env={"MY": "variable"}, cwd="/opt")
    assert result.stdout.split() == ["in", "variable", "/opt"]


def test_an_exit_status_is_a_result_and_check_raises_it(rpi4):
    result = rpi4.run(["python3", "-c", "import sys; sys.stderr.write('why'); sys.exit(3)"])
    assert (result.returncode, result.signal, result.stderr) == (3, None, "why")
    with pytest.raises(ProcessDied, match=r"exit status 3(?s:.*)why"):
        result.check()


def test_shell_scripts_run(rpi4):
    result = rpi4.run(["sh", "-c", "echo $0 $((6 * 7))"])
    assert result.stdout == "sh 42\n"


def test_a_program_that_is_not_there_is_named(rpi4):
    with pytest.raises(InputError, match="'no-such-program' cannot be started on rpi4"):
        rpi4.run(["no-such-program"])
    with pytest.raises(OptionError, match="argv is 'ls'"):
        rpi4.run("ls")


def test_an_endless_program_is_ended_and_its_last_words_kept(rpi4):
    script = "print('still here', flush=True)\nwhile True: pass"
    with pytest.raises(DeviceTimeout, match="still here"):
        rpi4.run(["python3", "-c", script], timeout_s=2)
    assert rpi4.run(["true"]).returncode == 0


def test_a_null_pointer_is_a_segfault_and_the_device_lives_on(rpi4):
    result = rpi4.run(["python3", "-c", "import ctypes; ctypes.string_at(0)"])
    assert result.signal == signal.SIGSEGV
    with pytest.raises(Segfault, match="rpi4 died of SIGSEGV"):
        result.check()
    assert rpi4.run(["true"]).returncode == 0


def test_an_instruction_of_a_later_arm_is_illegal_here_and_runs_there(open_on, engine, rpi4):
    # LDADDAL w0, w1, [x2] of FEAT_LSE, then RET, called from Python.
    script = textwrap.dedent(
        """
        import ctypes, mmap
        page = mmap.mmap(-1, 4096, prot=7)
        page.write(bytes.fromhex('4100e0b8') + bytes.fromhex('c0035fd6'))
        cell = ctypes.c_int(1)
        code = ctypes.addressof(ctypes.c_char.from_buffer(page))
        call = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_void_p)(code)
        call(41, 0, ctypes.addressof(cell))
        print(cell.value)
        """
    )
    result = rpi4.run(["python3", "-c", script])
    assert result.signal == signal.SIGILL
    with pytest.raises(IllegalInstruction, match="FEAT_LSE"):
        result.check()
    with open_on("rpi5", engine) as rpi5:
        assert rpi5.run(["python3", "-c", script]).check().stdout == "42\n"


def test_there_is_no_network_and_no_interface(rpi4):
    assert rpi4.info.interfaces in ((), ("lo",))
    assert rpi4.can_connect("192.0.2.1", 443) is False
    script = "import socket; socket.create_connection(('192.0.2.1', 80), 2)"
    result = rpi4.run(["python3", "-c", script])
    assert "Network is unreachable" in result.stderr


def test_names_do_not_resolve(rpi4):
    result = rpi4.run(["python3", "-c", "import socket; socket.getaddrinfo('example.org', 80)"])
    assert "gaierror" in result.stderr


def test_egress_is_refused_and_not_an_empty_list(rpi4):
    with pytest.raises(MissingAbility, match=r"cannot list|no network was connected"):
        _ = rpi4.egress


def test_what_is_written_on_the_device_does_not_reach_the_image(open_on, engine):
    with open_on("rpi4", engine) as device:
        device.run(["sh", "-c", "echo changed > /etc/hostname; echo x > /usr/bin/marker"])
    with open_on("rpi4", engine) as device:
        assert device.run(["cat", "/usr/bin/marker"]).returncode != 0


def test_a_closed_device_says_so(open_on, engine):
    device = open_on("rpi4", engine)
    device.close()
    device.close()
    with pytest.raises(InputError, match="is closed"):
        device.run(["true"])


def test_a_device_that_was_killed_is_started_again(open_on, engine):
    with open_on("rpi4", engine) as device:
        device.hold.machine.stop()
        assert device.run(["true"]).returncode == 0


def test_devices_of_a_killed_test_run_are_gone_after_the_next_start(open_on, engine):
    open_on("rpi4", engine).close()
    script = textwrap.dedent(
        f"""
        from edge_harness.opening import open_device
        from edge_harness.profiles import default_registry
        device = open_device(default_registry().get("rpi4"), engine={engine!r})
        print(device.hold._lease.state_dir, flush=True)
        input()
        """
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    state_dir = process.stdout.readline().strip()
    assert Path(state_dir).is_dir()
    process.kill()
    process.communicate()
    from edge_harness.device.lease import sweep

    assert sweep() == 1
    assert not Path(state_dir).exists()


def test_two_processes_share_one_running_device(open_on, engine):
    share = f"test-{os.getpid()}"
    with open_on("rpi4", engine, share=share) as first:
        first.run(["sh", "-c", "echo shared > /tmp/mark"]).check()
        script = textwrap.dedent(
            f"""
            from edge_harness.opening import open_device
            from edge_harness.profiles import default_registry
            with open_device(
                default_registry().get("rpi4"), engine={engine!r}, share={share!r}
            ) as second:
                print(second.run(["cat", "/tmp/mark"]).stdout)
            """
        )
        other = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, check=True
        )
        assert other.stdout.split() == ["shared"]
        assert first.run(["true"]).returncode == 0


def test_a_device_without_holders_ends_by_itself(open_on):
    device = open_on("rpi4", "user")
    machine = device.hold.machine
    device.hold._hang_up()
    deadline = time.monotonic() + 15
    while machine.alive() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not machine.alive()
    device.close()


def test_a_program_cannot_change_the_hosts_kernel_settings(rpi4):
    # As root too: the file belongs to user 0, who needs no capability to write it.
    host = Path("/proc/sys/vm/swappiness")
    before = host.read_text()
    script = """
        import os
        print(open("/proc/sys/vm/swappiness").read().strip(), flush=True)
        try:
            with open("/proc/sys/vm/swappiness", "w") as file:
                file.write("13")
        except OSError as error:
            print(type(error).__name__, error.errno)
    """
    try:
        result = rpi4.run(["python3", "-c", textwrap.dedent(script)])
        assert result.stdout.split()[0].isdigit(), "the attempt was made"
        assert host.read_text() == before
        if "kernel" not in rpi4.abilities:
            assert result.stdout.split()[1] in ("OSError", "PermissionError")
    finally:
        if host.read_text() != before:
            host.write_text(before)


def test_programs_have_no_capability_of_the_host(rpi4):
    if "kernel" in rpi4.abilities:
        pytest.skip("its kernel is its own")
    status = rpi4.run(["cat", "/proc/self/status"]).check().stdout
    effective = next(line for line in status.splitlines() if line.startswith("CapEff"))
    assert int(effective.split()[1], 16) == 0


def test_no_other_user_of_this_machine_reaches_the_agent(rpi4):
    folder = rpi4.state_dir
    assert folder.stat().st_mode & 0o777 == 0o700
    assert folder.parent.stat().st_mode & 0o777 == 0o700
    sockets = [path for path in folder.rglob("*") if path.is_socket()]
    assert sockets
    if os.geteuid() == 0:  # as an ordinary user of Docker the agent is somebody else
        assert {path.stat().st_mode & 0o077 for path in sockets} == {0}


def test_files_that_programs_make_have_a_boards_usual_mode(rpi4):
    script = "import os; open('/tmp/made', 'w').close(); print(oct(os.stat('/tmp/made').st_mode))"
    assert rpi4.run(["python3", "-c", script]).check().stdout == "0o100644\n"
