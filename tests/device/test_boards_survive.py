"""A whole board's harness is killed, or this machine's disk fills up: the next run works, and
nothing is left behind."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import edge_harness.cache
import pytest
from edge_harness.image.tools import ensure_tools

OPEN = """
import os, sys
from edge_harness.opening import open_device
from edge_harness.device.lease import sweep
from edge_harness.profiles import default_registry
sweep()
device = open_device(default_registry().get("rpi3b"), engine="vm")
"""
RUN = OPEN + "device.run(['true']).check()\ndevice.close()\nprint('works')\n"


@pytest.fixture
def own_cache(tmp_path, monkeypatch, open_on):
    """A cache that shares what took long to fetch, and has saved boards of its own: none."""
    open_on("rpi3b", "vm").close()
    shared, own = edge_harness.cache.cache_dir(), tmp_path / "cache"
    own.mkdir()
    link_shared(shared, own)
    monkeypatch.setenv("EDGE_HARNESS_CACHE", str(own))
    return own


def link_shared(shared, own):
    for name in ("agents", "disks", "images", "kernels", "layers", "tools"):
        (own / name).symlink_to(shared / name)


def python(code, **options):
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, **options
    )


def wait_for_one(folder, pattern):
    deadline = time.monotonic() + 60
    while not (found := [path for path in folder.glob(pattern) if path.stat().st_size]):
        assert time.monotonic() < deadline, f"no {pattern}"
        time.sleep(0.002)
    return found[0]


def emulators(cache):
    """Process ids of the emulators that run in ``cache``."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "cwd").readlink().is_relative_to(cache):
                found.append(int(process.name))
        except OSError:
            continue
    return found


def test_a_harness_killed_while_it_saves_or_restores_a_board(own_cache):
    for moment, sign, delay_s in (
        ("boot", "snapshots/.building-*/qemu.pid", 1.0),
        ("save", "snapshots/.building-*/state", 0.0),
        ("restore", "run/rpi3b-vm-*/qemu.pid", 0.0),
    ):
        if moment == "restore":
            assert python(RUN).stdout == "works\n"
        process = subprocess.Popen([sys.executable, "-c", OPEN])
        wait_for_one(own_cache, sign)
        time.sleep(delay_s)
        process.kill()
        process.wait()
        assert emulators(own_cache), f"killed too late at {moment}"
        swept = python("from edge_harness.device.lease import sweep; print(sweep())")
        assert swept.stdout == "1\n", (moment, swept.stderr)
        assert not emulators(own_cache), moment
        assert not list(own_cache.glob("snapshots/.building-*")), moment
    assert python(RUN).stdout == "works\n"


def test_ctrl_c_while_a_board_is_saved(own_cache):
    process = subprocess.Popen(
        [sys.executable, "-c", OPEN], stderr=subprocess.PIPE, start_new_session=True
    )
    wait_for_one(own_cache, "snapshots/.building-*/qemu.pid")
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    assert not emulators(own_cache)
    assert not list(own_cache.glob("snapshots/.building-*"))
    assert not list((own_cache / "run").iterdir())


FULL = """
import json, os, sys, threading, time
from pathlib import Path
from edge_harness.opening import open_device
from edge_harness.errors import CacheError
from edge_harness.device.lease import sweep
from edge_harness.profiles import default_registry

cache, moment, sign = Path(os.environ["EDGE_HARNESS_CACHE"]), sys.argv[1], sys.argv[2]
filler = cache / "filler"

def fill():
    with open(filler, "wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(1 << 20))
        except OSError:
            pass

def fill_later():
    while not list(cache.glob(sign)):
        time.sleep(0.002)
    fill()

rpi3b = default_registry().get("rpi3b")
write = ["sh", "-c", "head -c 8000000 /dev/urandom >/data/x && sync"]
if sign:
    threading.Thread(target=fill_later, daemon=True).start()
try:
    device = open_device(rpi3b, engine="vm")
    if moment == "run":
        fill()
    device.run(write).check()
except CacheError as error:
    print(error.message)
else:
    print("nothing happened")
if moment == "run":
    filler.unlink()
    device.run(write).check()  # the same device, started anew
    device.close()
filler.unlink(missing_ok=True)
with open_device(rpi3b, engine="vm") as device:
    device.run(write).check()
print(json.dumps([os.listdir(cache / "run"), sweep()]))
"""


@pytest.mark.parametrize(
    ("moment", "sign"),
    [("run", ""), ("boot", "snapshots/.building-*/qemu.pid")],
)
def test_a_full_disk_is_named_and_the_next_device_works(own_cache, moment, sign):
    bwrap = ensure_tools().bwrap
    shared = (own_cache / "disks").readlink().parent
    small = own_cache / "small"
    small.mkdir()
    # A file system of its own that needs no root: in the space of one process and its children.
    inside = [*(bwrap or ["bwrap"]), "--dev-bind", "/", "/", "--proc", "/proc", "--unshare-pid"]
    inside += ["--size", str(900 << 20), "--tmpfs", str(small), "--die-with-parent", "--"]
    if subprocess.run([*inside, "true"], capture_output=True).returncode:
        pytest.skip("this machine allows no user namespaces")
    code = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
    code += "from pathlib import Path\nfrom test_boards_survive import link_shared\n"
    code += f"link_shared(Path({str(shared)!r}), Path({str(small)!r}))\n"
    if moment == "run":  # with a saved board
        code += f"Path({str(small)!r}, 'snapshots').symlink_to({str(shared / 'snapshots')!r})\n"
    done = subprocess.run(
        [*inside, sys.executable, "-c", code + FULL, moment, sign],
        capture_output=True,
        text=True,
        timeout=180,
        env={**os.environ, "EDGE_HARNESS_CACHE": str(small)},
    )
    assert done.returncode == 0, done.stderr
    message, left = done.stdout.splitlines()
    assert "full" in message or "no space left" in message
    assert json.loads(left) == [[], 0]
