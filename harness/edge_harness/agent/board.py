"""What the agent does to the board it runs on, where that is a whole emulated one."""

from __future__ import annotations

import fcntl
import os
import socket
import struct
import subprocess
import time

from edge_harness.wire import Act

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from edge_harness import wire

BUSYBOX = "/opt/edge/bin/busybox"
GROUP = "/sys/fs/cgroup/edge"
STORAGE = "/opt/edge/storage"
FILLER = STORAGE + "/full"
MODULES = "/opt/edge/modules"
#: include/uapi/linux/random.h
RNDADDENTROPY, RNDRESEEDCRNG = 0x40085203, 0x5207


def act(stream: wire.Stream, header: wire.Header, payload: bytes) -> None:
    """Do ``header["act"]`` and answer."""
    body = b""
    try:
        work = ACTS[header["act"]]
        answer = work(header, payload) or {}
        body = answer.pop("payload", b"")
    except OSError as error:
        stream.send({"ok": False, "error": str(error), "errno": error.errno})
        return
    stream.send({"ok": True, **answer}, body)


def call(*argv: str) -> str:
    result = subprocess.run([BUSYBOX, *argv], capture_output=True, text=True)
    if result.returncode:
        words = result.stderr.strip() or f"{argv[0]} ended with status {result.returncode}"
        raise OSError(5, words)
    return result.stdout


def write(path: str, text: str) -> None:
    with open(path, "w") as file:
        file.write(text)


def refresh(header: wire.Header, payload: bytes) -> None:
    """A restored board must not repeat another's random numbers, time or identity."""
    with open("/dev/urandom", "wb") as random:
        data = payload[:64]
        fcntl.ioctl(random, RNDADDENTROPY, struct.pack("ii", len(data) * 8, len(data)) + data)
        fcntl.ioctl(random, RNDRESEEDCRNG)
    if header.get("time_s") is not None:
        time.clock_settime(time.CLOCK_REALTIME, header["time_s"])
    socket.sethostname(header["hostname"])
    write("/etc/machine-id", payload[64:80].hex() + "\n")


def clock(header: wire.Header, _: bytes) -> dict[str, Any]:
    now = time.time()
    target = header["time_s"] if header.get("time_s") is not None else now + header["by_s"]
    # Linux refuses a time of day before it was switched on: clock_settime(2), EINVAL.
    time.clock_settime(time.CLOCK_REALTIME, max(target, time.monotonic() + 1))
    return {"time_s": time.time()}


def mount_layer(header: wire.Header, _: bytes) -> None:
    """Mount a disk that was plugged in while the board ran."""
    place = "/opt/edge/layers/" + header["key"]
    if os.path.ismount(place):
        return
    folder = f"/sys/bus/scsi/devices/0:0:{header['disk']}:0/block"
    deadline = time.monotonic() + 30
    while not (os.path.isdir(folder) and os.listdir(folder)):
        if time.monotonic() > deadline:
            raise OSError(19, f"disk {header['disk']} did not appear")
        time.sleep(0.02)
    device = "/dev/" + os.listdir(folder)[0]
    os.makedirs(place, exist_ok=True)
    call("mount", "-t", "ext4", "-o", "ro,noatime", device, place)


def network(header: wire.Header, _: bytes) -> dict[str, Any]:
    names = [name for name in os.listdir("/sys/class/net") if name != "lo"]
    if header["up"]:
        if not names:
            for module in header["modules"]:
                name = module.partition(".")[0]
                if not os.path.isdir("/sys/module/" + name):
                    call("insmod", f"{MODULES}/{module}")
        deadline = time.monotonic() + 20
        while not names and time.monotonic() < deadline:
            time.sleep(0.02)
            names = [name for name in os.listdir("/sys/class/net") if name != "lo"]
        if not names:
            raise OSError(19, "no network interface appeared")
        call("ip", "addr", "replace", "10.0.2.15/24", "dev", names[0])
        call("ip", "link", "set", names[0], "up")
        call("ip", "route", "replace", "default", "via", "10.0.2.2")
        write("/etc/resolv.conf", "nameserver 10.0.2.3\n")
    elif names:
        call("rmmod", "virtio_net")
        write("/etc/resolv.conf", "")
    return {"interfaces": sorted(os.listdir("/sys/class/net"))}


def throttle(header: wire.Header, _: bytes) -> None:
    """Give the device's programs ``cpus`` processors' worth of time from now on, and ``then``.

    A period of 10 ms: with the usual 100 ms a program runs at full speed and then not at all.
    """

    def quota(cpus: float | None) -> None:
        text = "max" if cpus is None else str(max(1000, int(cpus * 10000)))
        write(GROUP + "/cpu.max", text + " 10000")

    # What an earlier call planned is void.
    if os.path.exists("throttle.pid"):
        with open("throttle.pid") as file:
            try:
                os.kill(int(file.read()), 9)
            except (OSError, ValueError):
                pass
        os.unlink("throttle.pid")
    quota(header["cpus"])
    if header.get("then") and os.fork() == 0:
        try:
            write("throttle.pid", str(os.getpid()))
            write("/sys/fs/cgroup/cgroup.procs", "0")  # or it would slow itself down
            os.closerange(3, 256)
            for seconds, cpus in header["then"]:
                time.sleep(seconds)
                quota(cpus)
        finally:
            os._exit(0)


def limit_memory(header: wire.Header, _: bytes) -> None:
    """Give the device's programs, the agent's own included, so much memory and no more."""
    limit = header["memory_mib"]
    write(GROUP + "/memory.max", "max" if limit is None else str(limit << 20))


def storage(header: wire.Header, _: bytes) -> dict[str, Any]:
    do = header["do"]
    if do == "fill":
        os.sync()
        facts = os.statvfs(STORAGE)
        size = facts.f_bavail * facts.f_frsize - header["keep_kib"] * 1024
        if size > 0:
            descriptor = os.open(FILLER, os.O_WRONLY | os.O_CREAT)
            try:
                old = os.fstat(descriptor).st_size
                # In ever smaller pieces: what the file system needs to describe the file is
                # part of the free space.
                piece = size
                while size > 0 and piece >= 4096:
                    try:
                        os.posix_fallocate(descriptor, old, min(piece, size))
                    except OSError as error:
                        if error.errno != 28:
                            raise
                        piece //= 2
                        old = max(old, os.fstat(descriptor).st_size)
                        continue
                    old += min(piece, size)
                    size -= min(piece, size)
            finally:
                os.close(descriptor)
            os.sync()
    elif do == "free":
        if os.path.exists(FILLER):
            os.unlink(FILLER)
            os.sync()
    elif do in ("ro", "rw"):
        call("mount", "-o", f"remount,{do}", "/")
    elif do == "drop_caches":
        os.sync()
        write("/proc/sys/vm/drop_caches", "3")
    facts = os.statvfs("/")
    return {"free_kib": facts.f_bavail * facts.f_frsize // 1024}


def cores(header: wire.Header, _: bytes) -> dict[str, Any]:
    """The core dumps in the run folder, handed over and removed."""
    found: list[list[Any]] = []
    payload = b""
    for name in sorted(os.listdir(".")):
        if name.startswith("core."):
            with open(name, "rb") as file:
                data = file.read()
            found.append([name, len(data)])
            payload += data
            os.unlink(name)
    return {"cores": found, "payload": payload}


def sync(header: wire.Header, _: bytes) -> None:
    os.sync()


ACTS: dict[str, Callable[[Any, bytes], Any]] = {
    Act.REFRESH: refresh,
    Act.CLOCK: clock,
    Act.MOUNT_LAYER: mount_layer,
    Act.NETWORK: network,
    Act.THROTTLE: throttle,
    Act.LIMIT_MEMORY: limit_memory,
    Act.STORAGE: storage,
    Act.CORES: cores,
    Act.SYNC: sync,
}


def terminal(stream: wire.Stream, header: wire.Header) -> None:
    """An interactive shell: after this answer the stream carries raw bytes both ways."""
    import pty
    import select
    import termios

    pid, terminal_fd = pty.fork()
    if pid == 0:
        os.environ.update(header.get("env") or {})
        os.umask(0o022)
        os.chdir("/root")
        os.execvp(header["argv"][0], header["argv"])
    rows, columns = header["size"]
    fcntl.ioctl(terminal_fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    stream.send({"ok": True})
    sock = stream.sock
    while True:
        ready, _, _ = select.select([terminal_fd, sock.fileno()], [], [])
        if sock.fileno() in ready:
            data = sock.recv(4096)
            if not data:
                os.kill(pid, 1)
                break
            os.write(terminal_fd, data)
        if terminal_fd in ready:
            try:
                data = os.read(terminal_fd, 65536)
            except OSError:
                data = b""
            if not data:
                break
            sock.sendall(data)
    os.waitpid(pid, 0)
