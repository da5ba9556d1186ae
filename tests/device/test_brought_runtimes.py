"""Runtimes that come as a Debian package or are a shared library of the device. They speak the
protocol without NumPy, which the device's image has not."""

import json
import re

import numpy as np
import pytest
from edge_harness.errors import UnsupportedModel
from edge_harness.runtimes import RUNTIMES, Format, Outside, Runtime

SESSION = """
import array
from edge_harness import wire

class Session:
    def __init__(self, header, payload):
        self.load(bytes(payload))

    def describe(self):
        def tensor(name, size):
            shape = {"shape": [size], "shape_signature": [size]}
            return {"name": name, "dtype": "float64", "scales": [], "zero_points": [], "axis": 0,
                    **shape}

        return {"inputs": [tensor("x", self.takes)], "outputs": [tensor("y", self.gives)],
                "signatures": {}, "kernels": "plain", "delegates": [], "threads": 1}

    def run(self, header, payload):
        y = array.array("d", self.infer(array.array("d", bytes(payload))))
        head = {"ok": True, "tensors": [["float64", [self.gives]]]}
        return wire.encode(head, 8 * self.gives), memoryview(y).cast("B")

    def run_batch(self, header, payload):
        raise NotImplementedError

    resize = invoker = bench = run_batch
"""
YAML = f"""
import yaml
{SESSION}
    def load(self, content):
        self.rows = yaml.load(content, Loader=yaml.CSafeLoader)
        self.takes, self.gives = len(self.rows), len(self.rows[0])

    def infer(self, x):
        return [sum(a * b for a, b in zip(x, column)) for column in zip(*self.rows)]

def warm():
    return {{"runtime": "python3-yaml", "version": yaml.__version__, "file": yaml._yaml.__file__}}
"""
LIBM = f"""
import ctypes
import os
{SESSION}
    def load(self, content):
        self.function = getattr(ctypes.CDLL(os.environ["EDGE_LIBRARY"]), content.decode().strip())
        self.function.argtypes = [ctypes.c_double]
        self.function.restype = ctypes.c_double
        self.takes = self.gives = 2

    def infer(self, x):
        return [self.function(each) for each in x]

def warm():
    return {{"runtime": "libm", "version": "6", "library": os.environ["EDGE_LIBRARY"]}}
"""
LIBRARY = "/lib/aarch64-linux-gnu/libm.so.6"
ROWS = (
    Runtime(
        name="yamlmat",
        distribution="python3-yaml",
        imports="yaml",
        formats=(Format(name="yamlmat", title="YAML matrix", suffixes=(".yamlmat",)),),
        requirement="python3-yaml",
        brought="debian",
        agent_source=YAML.encode(),
        origin="yaml-runtime 1.0",
    ),
    Runtime(
        name="libm",
        distribution="libm.so.6",
        imports="",
        formats=(Format(name="function", title="C function", suffixes=(".function",)),),
        requirement=LIBRARY,
        brought="library",
        agent_source=LIBM.encode(),
        origin="libm-runtime 1.0",
    ),
)


@pytest.fixture(autouse=True)
def _registered(monkeypatch):
    monkeypatch.setitem(
        RUNTIMES.__dict__, "outside", Outside(runtimes={row.name: row for row in ROWS})
    )


@pytest.mark.timeout(600)
def test_a_debian_package_brings_its_modules_and_its_shared_libraries(rpi4, tmp_path):
    path = tmp_path / "matrix.yamlmat"
    path.write_text(json.dumps([[1, 2, 3], [4, 5, 6]]))
    with rpi4.load(path) as session:
        assert session.run(np.array([1.0, 10.0]))["y"].tolist() == [41, 52, 63]
        # By the parser in C, whose library is another package.
        assert re.search(r"/site/yaml/_yaml\.cpython-\d+-aarch64", session.facts["file"])
        pinned = session.requirement
    assert re.fullmatch(r"python3-yaml=\d\S+", pinned)
    layers = [text for name, text in rpi4.describe().items() if name.startswith("layer python3-")]
    assert "libyaml-0-2 " in layers[0]
    assert "runtime yamlmat of yaml-runtime 1.0" in layers[0]
    with rpi4.load(path, runtime=pinned) as session:
        assert session.requirement == pinned


@pytest.mark.timeout(600)
def test_a_library_of_the_device_is_handed_to_its_runtime(rpi4, tmp_path):
    path = tmp_path / "model.function"
    path.write_text("sqrt")
    with rpi4.load(path) as session:
        assert session.run(np.array([4.0, 9.0]))["y"].tolist() == [2, 3]
        assert session.requirement == session.facts["library"] == LIBRARY
    with pytest.raises(UnsupportedModel, match=r"rpi4 has no '/opt/own/libm\.so\.6'.* 'libm' is"):
        rpi4.load(path, runtime="/opt/own/libm.so.6")
