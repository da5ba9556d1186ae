"""Runtimes on their way into a device: whose layers they have, and what the agent says of them."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from edge_harness.device import loading
from edge_harness.errors import DeviceTimeout, UnsupportedModel
from edge_harness.image import Environment
from edge_harness.image.build import Layer
from edge_harness.runtimes import FORMATS, Runtime

ARM64 = Environment(arch="arm64", python="3.11", glibc=36, suite="bookworm")
MATRIX = Runtime(
    name="matrix",
    distribution="python3-yaml",
    imports="yaml",
    formats=(FORMATS["tflite"],),
    brought="debian",
    agent_source=b"file",
    origin="matrix 1.0",
)


@pytest.fixture
def bring(monkeypatch):
    """The layers of a device, over an agent that answers ``bring.answer``."""
    made = SimpleNamespace(answer={"ok": True}, asked=[])

    def ask(header, *, timeout_s):
        made.asked.append(header)
        if isinstance(made.answer, Exception):
            raise made.answer
        return made.answer

    def ensure(environment, runtime, requirement, progress):
        packages = [{"name": "libyaml-0-2", "version": "0.2"}, {"name": "python3-yaml"}]
        packages[1]["version"] = "6.0-3"
        keys = (f"packages-{requirement}", f"file-{runtime.name}")
        return tuple(
            Layer(key=key, path=Path("/l"), requirements=(), lock=lock)
            for key, lock in ((keys[0], {"packages": packages}), (keys[1], {}))
        )

    monkeypatch.setattr(loading, "ensure_runtime_layers", ensure)
    monkeypatch.setattr(loading, "bound", lambda machine, ability: None)
    hold = SimpleNamespace(
        name="rpi4",
        machine=None,
        generation=1,
        revive=lambda: None,
        ask=ask,
        log_mark=lambda: None,
    )
    hold.log_tail = lambda: "--- log of rpi4 ---"
    made.loading = loading.Loading(
        profile=None, environment=ARM64, hold=hold, endings=None, pins=(), progress=None
    )
    return made


def test_two_runtimes_of_one_requirement_have_each_its_own_file(bring):
    other = replace(MATRIX, name="other")
    assert bring.loading.parent(MATRIX, "python3-yaml").layers[-1] == "file-matrix"
    assert bring.loading.parent(other, "python3-yaml").layers[-1] == "file-other"
    assert list(bring.loading.layers) == ["python3-yaml for matrix", "python3-yaml for other"]


def test_a_debian_package_is_pinned_by_what_was_brought(bring):
    bring.loading.parent(MATRIX, "python3-yaml")
    assert bring.loading.taken(MATRIX, "python3-yaml") == "python3-yaml=6.0-3"
    assert bring.loading.taken(MATRIX, "python3") == "python3"  # it is in the image


def test_a_library_that_the_device_has_not_is_named_with_its_path(bring):
    row = replace(MATRIX, distribution="libm.so.6", brought="library")
    bring.answer = {"ok": False, "kind": "missing", "path": "/opt/libm.so.6"}
    with pytest.raises(UnsupportedModel) as caught:
        bring.loading.parent(row, "/opt/libm.so.6")
    assert bring.asked[0]["library"] == "/opt/libm.so.6"
    assert caught.value.message == (
        "rpi4 has no '/opt/libm.so.6', the shared library that the runtime 'matrix' is"
    )
    assert "matrix = '/PATH' in the table [runtimes]" in caught.value.next_step
    assert caught.value.details["path"] == "/opt/libm.so.6"


def test_a_runtime_that_is_never_warm_is_named_with_the_limit(bring):
    bring.answer = DeviceTimeout("rpi4 did not answer 'warm' within 180 s")
    with pytest.raises(DeviceTimeout) as caught:
        bring.loading.parent(MATRIX, "python3-yaml")
    assert caught.value.message == (
        "the runtime 'matrix' (python3-yaml, of matrix 1.0) was not imported on rpi4 "
        "within 180 s: that is the limit for its import and its warm(), whatever timeout_s of a "
        "load says\n--- log of rpi4 ---"
    )
    assert "endless loop in warm()" in caught.value.next_step
    assert caught.value.details == {"device": "rpi4", "runtime": "matrix", "timeout_s": 180.0}
