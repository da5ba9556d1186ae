"""The layers that bring a runtime into a device, and the agent's half that finds its file there."""

from dataclasses import replace

import pytest
from edge_harness.agent import runtimes as agent_runtimes
from edge_harness.image import runtime_layers
from edge_harness.image.build import Layer
from edge_harness.image.environment import Environment
from edge_harness.runtimes import FORMATS, RUNTIMES, Runtime, WarmParent

ARM64 = Environment(arch="arm64", python="3.11", glibc=36, suite="bookworm")
ARMHF = replace(ARM64, arch="armhf")
FILE = b"def warm():\n    return {}\n\nclass Session:\n"
OUTSIDE = Runtime(
    name="npy",
    distribution="numpy",
    imports="numpy",
    formats=(FORMATS["tflite"],),
    agent_source=FILE,
    origin="npy-runtime 1.0",
)


@pytest.fixture(autouse=True)
def wheels(monkeypatch, tmp_path):
    """Wheels are not fetched; the cache is a folder of this test's."""
    fetched = []

    def ensure(environment, requirements, progress=None):
        key = f"wheels-{environment.arch}-{requirements[0]}"
        fetched.append(key)
        return Layer(key=key, path=tmp_path / key, requirements=tuple(requirements), lock={})

    monkeypatch.setattr(runtime_layers, "ensure_layer", ensure)
    monkeypatch.setattr(runtime_layers, "layer_key", lambda env, r: f"wheels-{env.arch}-{r[0]}")
    monkeypatch.setattr(runtime_layers, "layers_dir", lambda: tmp_path / "layers")
    monkeypatch.setenv("EDGE_HARNESS_CACHE", str(tmp_path / "cache"))
    return fetched


def parent(runtime=OUTSIDE, requirement="numpy", environment=ARM64):
    layers = runtime_layers.ensure_runtime_layers(environment, runtime, requirement)
    return runtime_layers.warm_parent(runtime, requirement, layers)


def test_a_runtime_of_this_package_has_the_layer_of_its_wheels_alone():
    row = RUNTIMES["tflite"]
    assert parent(row, "tflite-runtime==2.14.0") == WarmParent(
        layers=("wheels-arm64-tflite-runtime==2.14.0",), runtime="tflite"
    )


def test_the_file_of_another_is_a_layer_above_its_wheels():
    layers = runtime_layers.ensure_runtime_layers(ARM64, OUTSIDE, "numpy")
    assert layers[0].key == "wheels-arm64-numpy"
    assert (layers[1].path / "agent" / "npy.py").read_bytes() == FILE
    assert layers[1].what == "runtime npy of npy-runtime 1.0"
    assert layers[1].lock["arch"] == "arm64"  # engines bring layers by it


@pytest.mark.parametrize(
    "other",
    [
        {"runtime": replace(OUTSIDE, agent_source=FILE + b"\n")},
        {"runtime": replace(OUTSIDE, name="npz")},
        {"requirement": "numpy==1.26.4"},
        {"environment": ARMHF},
    ],
)
def test_the_file_and_its_requirements_are_part_of_every_key(other):
    assert parent(**other).layers[-1] != parent().layers[-1]
    assert parent(**other).socket != parent().socket
    assert parent() == parent()


def test_an_edited_file_fetches_no_wheels_anew(wheels):
    parent()
    parent(replace(OUTSIDE, agent_source=FILE + b"\n"))
    assert set(wheels) == {"wheels-arm64-numpy"}


DEBIAN = replace(OUTSIDE, distribution="python3-yaml", brought="debian")
LIBRARY = replace(OUTSIDE, distribution="libm.so.6", brought="library")


def test_the_file_of_a_debian_packages_runtime_is_a_layer_above_it(monkeypatch, tmp_path):
    def ensure(environment, requirement, progress=None):
        key = f"debian-{requirement}"
        return Layer(key=key, path=tmp_path / key, requirements=(requirement,), lock={})

    monkeypatch.setattr(runtime_layers, "ensure_debian_layer", ensure)
    monkeypatch.setattr(runtime_layers, "debian_layer_key", lambda env, r: f"debian-{r}")
    made = parent(DEBIAN, "python3-yaml")
    assert made.layers[0] == "debian-python3-yaml"
    assert runtime_layers.cached_parent(ARM64, DEBIAN, "python3-yaml") == made
    other = parent(DEBIAN, "python3-yaml=6.0-3")
    assert other.layers[1] != made.layers[1]
    monkeypatch.setattr(runtime_layers, "debian_layer_key", lambda env, r: None)
    assert runtime_layers.cached_parent(ARM64, DEBIAN, "python3-yaml") is None


def test_of_a_library_nothing_is_fetched_and_its_path_tells_parents_apart(wheels):
    made = parent(LIBRARY, "/usr/lib/libm.so.6")
    assert (made.library, made.header()["library"]) == ("/usr/lib/libm.so.6",) * 2
    assert len(made.layers) == 1  # its file
    assert runtime_layers.cached_parent(ARM64, LIBRARY, "/usr/lib/libm.so.6") == made
    other = parent(LIBRARY, "/opt/libm.so.6")
    assert other != made
    assert other.socket != made.socket
    assert wheels == []
    assert parent().header()["library"] == ""


def test_a_runtime_without_wheels_is_its_file():
    row = replace(OUTSIDE, distribution="")
    assert len(parent(row, "").layers) == 1


def test_a_parent_is_known_beforehand_only_where_all_of_it_is_in_the_cache():
    assert runtime_layers.cached_parent(ARM64, OUTSIDE, "numpy") is None
    made = parent()
    assert runtime_layers.cached_parent(ARM64, OUTSIDE, "numpy") == made


def test_what_a_device_is_asked_for():
    asked = parent().header()
    assert asked["op"] == "warm"
    assert asked["runtime"] == "npy"
    assert asked["agent_sha256"] == OUTSIDE.agent_sha256
    assert asked["socket"] == f"{asked['layers'][-1]}-npy.sock"


# -- in the device -------------------------------------------------------------------------------

WHOLE = """
REHEARSAL = b"small"
def warm():
    return {"runtime": "x", "version": "1"}
class Session:
    describe = run = run_batch = resize = invoker = bench = None
"""


def layer_with(tmp_path, text, name="math"):
    (tmp_path / "agent").mkdir(exist_ok=True)
    (tmp_path / "agent" / f"{name}.py").write_text(text)
    return [str(tmp_path / "below"), str(tmp_path)]


def test_the_agent_finds_the_file_in_a_layer_whatever_it_is_called(tmp_path):
    found = agent_runtimes.named("math", layer_with(tmp_path, WHOLE))
    assert found.warm() == {"runtime": "x", "version": "1"}
    assert agent_runtimes.rehearsal(found) == b"small"


def test_a_file_that_lacks_something_says_what(tmp_path):
    with pytest.raises(TypeError, match="'math' defines no Session"):
        agent_runtimes.named("math", layer_with(tmp_path, "def warm(): return {}"))
    text = WHOLE.replace("run_batch = ", "").replace("bench = ", "")
    with pytest.raises(TypeError, match=r"defines no Session\.run_batch, no Session\.bench"):
        agent_runtimes.named("math", layer_with(tmp_path, text))


@pytest.mark.parametrize("name", list(RUNTIMES))
def test_every_row_has_its_file_in_the_agent(name):
    import ast
    from importlib import resources

    source = (resources.files("edge_harness.agent.runtimes") / f"{name}.py").read_text()
    defined = {n.name for n in ast.parse(source).body if hasattr(n, "name")}
    assert {"warm", "Session"} <= defined


def test_a_rehearsal_of_ours_is_a_file_beside_it():
    from types import SimpleNamespace

    assert agent_runtimes.rehearsal(SimpleNamespace(REHEARSAL="rehearsal.tflite"))[4:8] == b"TFL3"
    assert agent_runtimes.rehearsal(SimpleNamespace()) is None
