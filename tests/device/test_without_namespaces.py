"""Hosts that forbid user namespaces, and hosts that have nothing at all."""

import numpy as np
import pytest
from edge_harness.engines import user
from edge_harness.errors import MissingAbility, MissingTool
from edge_harness.opening import open_device
from edge_harness.profiles import default_registry

RPI4 = default_registry().get("rpi4")


@pytest.fixture
def bare(monkeypatch):
    monkeypatch.setattr(user, "isolation", lambda prefix: ("none", "forbidden here"))
    with open_device(RPI4, engine="user") as device:
        yield device


def test_models_run_on_the_pinned_core_all_the_same(bare, models, golden):
    data = golden("digits_int8")
    assert bare.abilities == {"isa", "numerics", "crash"}
    assert "atomics" not in bare.info.features
    with bare.load(models / "digits_int8.tflite", kernels="reference") as session:
        outputs = session.run_many([image[np.newaxis] for image in data["inputs"]])
    assert np.array_equal(np.stack([output[0][0] for output in outputs]), data["outputs"])


def test_programs_of_the_device_run_and_crashes_are_explained(bare):
    assert bare.run(["python3", "-c", "import os; print(os.uname().machine)"]).stdout == "aarch64\n"
    result = bare.run(["python3", "-c", "import ctypes; ctypes.string_at(0)"])
    assert "libc.so.6" in result.diagnosis.library


def test_the_network_is_not_claimed_to_be_cut(bare):
    with pytest.raises(MissingAbility, match="cannot prove offline"):
        bare.can_connect("192.0.2.1", 443)


def test_a_machine_with_nothing_says_what_it_lacks(monkeypatch, tmp_path):
    monkeypatch.setenv("EDGE_HARNESS_CACHE", str(tmp_path))
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/no.sock")
    with pytest.raises(MissingTool, match="QEMU is not here and there is no apt-get") as error:
        open_device(RPI4)
    assert "install qemu-user" in error.value.next_step
