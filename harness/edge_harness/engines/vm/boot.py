"""What a board runs before the agent: the archive its kernel unpacks, and the two scripts in it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from edge_harness.image.initrd import Archive
from edge_harness.image.kernel import Kernel

#: Places of the disks on the bus.
STORAGE, FIRST_LAYER = 1, 2
KERNEL_ARGUMENTS = (
    "console=ttyAMA0 quiet loglevel=4 panic=-1 rdinit=/init net.ifnames=0 swiotlb=noforce"
)

_INIT = """\
#!/bin/busybox sh
# First program of the board: modules, disks, an overlay of both as root, then the agent.
b=/bin/busybox
r=
$b mount -t proc proc /proc
$b mount -t sysfs sysfs /sys
$b mount -t devtmpfs dev /dev
for m in $($b cat /modules/boot); do $b insmod /modules/$m || echo "edge: no module $m"; done
fail() { echo "edge: boot failed: $1"; $b poweroff -f; }
disk() {
    n=0
    while [ $n -lt 1000 ]; do
        for d in $r/sys/bus/scsi/devices/0:0:$1:0/block/*; do
            [ -e $d ] && [ -b $r/dev/${d##*/} ] && { echo $r/dev/${d##*/}; return; }
        done
        n=$((n + 1)); $b usleep 10000
    done
}
$b mount -t ext4 -o ro,noatime $(disk 0) /base || fail "the image's disk cannot be mounted"
$b mount -t ext4 -o noatime $(disk 1) /rw || fail "the storage cannot be mounted"
$b mkdir -p /rw/upper /rw/work
$b mount -t overlay -o lowerdir=/base,upperdir=/rw/upper,workdir=/rw/work overlay /new ||
    fail "no overlay"
for f in proc sys dev; do $b mount --move /$f /new/$f; done
r=/new
cd /new
$b mkdir -p dev/pts dev/shm
$b mount -t devpts devpts dev/pts
$b mount -t tmpfs shm dev/shm
$b mount -t tmpfs -o mode=755 run run
$b mkdir -p run/edge opt/edge
$b mount -t tmpfs -o mode=755 edge opt/edge
$b cp -a /edge/. opt/edge/
$b mkdir -p opt/edge/storage opt/edge/layers
$b mount --move /rw opt/edge/storage
n=2
for key in $($b cat /layers); do
    $b mkdir -p opt/edge/layers/$key
    $b mount -t ext4 -o ro,noatime $(disk $n) opt/edge/layers/$key || fail "no layer $key"
    n=$((n + 1))
done
$b mount -t cgroup2 cgroup2 sys/fs/cgroup
echo "+cpu +memory" >sys/fs/cgroup/cgroup.subtree_control
$b mkdir -p sys/fs/cgroup/edge
echo 4 >proc/sys/kernel/core_pipe_limit
echo "|/opt/edge/bin/keep-core /run/edge/core.%p" >proc/sys/kernel/core_pattern
$b ip link set lo up
exec $b switch_root /new /opt/edge/bin/first
"""

_KEEP_CORE = """\
#!/opt/edge/bin/busybox sh
# The start of a core dump holds registers and mapped files; all of it may be hundreds of MiB.
exec /opt/edge/bin/busybox head -c 33554432 >"$1"
"""

_FIRST = """\
#!/opt/edge/bin/busybox sh
b=/opt/edge/bin/busybox
$b hostname {hostname}
cd /run/edge
(
    echo 0 >/sys/fs/cgroup/edge/cgroup.procs
    exec {agent}
)
echo "edge: the agent ended with status $?"
$b poweroff -f
"""


def initrd(
    *,
    kernel: Kernel,
    agent: Path,
    hostname: str,
    agent_argv: Sequence[str],
    env: Mapping[str, str],
    layers: Sequence[str],
) -> bytes:
    """The archive for one board; the same bytes for the same arguments."""
    archive = Archive()
    for folder in ("proc", "sys", "dev", "base", "rw", "new"):
        archive.folder(folder)
    busybox = kernel.busybox.read_bytes()
    archive.file("bin/busybox", busybox, mode=0o755)
    archive.file("init", _INIT.encode(), mode=0o755)
    archive.file("modules/boot", "\n".join(kernel.boot_modules).encode())
    archive.file("layers", "\n".join(layers).encode())
    for name in kernel.boot_modules:
        archive.file(f"modules/{name}", (kernel.modules / name).read_bytes())
    for name in kernel.network_modules:
        archive.file(f"edge/modules/{name}", (kernel.modules / name).read_bytes())
    archive.file("edge/bin/busybox", busybox, mode=0o755)
    archive.file("edge/bin/keep-core", _KEEP_CORE.encode(), mode=0o755)
    words = ["/usr/bin/env", "-i", *(f"{name}={value}" for name, value in env.items())]
    first = _FIRST.format(hostname=shlex.quote(hostname), agent=shlex.join([*words, *agent_argv]))
    archive.file("edge/bin/first", first.encode(), mode=0o755)
    archive.tree("edge/agent", agent)
    return archive.data()
