"""A runtime as a Debian package: what is asked of apt, where the agent finds it, what names it."""

import ctypes
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from edge_harness.agent import parent
from edge_harness.errors import ImageBuildFailed, UnsupportedModel
from edge_harness.image import apt, debian, recipe
from edge_harness.image.build import Image, Layer
from edge_harness.image.environment import Environment, host_environment

ARM64 = recipe.environment("arm64", "bookworm")
URIS = """\
Reading package lists...
'http://deb/pool/b/libblas3_3.11.0-2_arm64.deb' libblas3_3.11.0-2_arm64.deb 133464 MD5Sum:1
'http://deb/pool/l/libc6_2.36-9_arm64.deb' libc6_2.36-9_arm64.deb 2334520 SHA256:2
'http://deb/pool/n/python3-numpy_1%3a1.24.2-1_arm64.deb' python3-numpy_1%3a1.24.2-1_arm64.deb 9 S:3
"""


@pytest.fixture
def calls(monkeypatch, tmp_path):
    """Programs that would be run, and where; ``apt-get`` prints :data:`URIS`."""
    made = []

    def completed(argv, *, cwd=None, **others):
        made.append((argv[1:], cwd))
        return SimpleNamespace(stdout=URIS, stderr="", returncode=0)

    monkeypatch.setenv("EDGE_HARNESS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(apt, "completed", completed)
    monkeypatch.setattr(apt, "_tool", lambda name: name)
    monkeypatch.setattr(apt, "_host_transport", lambda: "")
    monkeypatch.setattr(apt, "keyring", lambda: Path("/keys.gpg"))
    monkeypatch.setattr(apt, "mirror", lambda: "http://deb")
    return made


def test_an_image_is_downloaded_with_all_it_depends_on(calls, tmp_path):
    apt.download("arm64", "bookworm", ["bash", "python3"], tmp_path)
    archives = f"Dir::Cache::archives={tmp_path}"
    install = ["-q", "install", "--download-only", "--yes", "-o", archives, "bash", "python3"]
    assert [argv for argv, _ in calls] == [["-q", "update"], install]


def test_of_what_a_package_needs_only_what_is_not_there_is_downloaded(calls, tmp_path):
    apt.download("arm64", "bookworm", ["bash", "python3-numpy"], tmp_path, without={"libc6"})
    assert calls[1:] == [
        (["-q", "install", "--print-uris", "--yes", "bash", "python3-numpy"], None),
        (["-q", "download", "libblas3=3.11.0-2", "python3-numpy=1:1.24.2-1"], tmp_path),
    ]


def test_where_all_is_there_nothing_is_downloaded(calls, tmp_path):
    there = {"libc6", "libblas3", "python3-numpy"}
    assert apt.download("arm64", "bookworm", ["python3-numpy"], tmp_path, without=there) == []
    assert len(calls) == 2


def test_a_package_that_the_suite_has_not_is_no_trouble_of_the_network(
    calls, monkeypatch, tmp_path
):
    said = "Reading package lists...\nE: Unable to locate package python3-nosuch\n"

    def completed(argv, **others):
        failed = "install" in argv
        return SimpleNamespace(stdout="", stderr=said if failed else "", returncode=100 * failed)

    monkeypatch.setattr(apt, "completed", completed)
    with pytest.raises(ImageBuildFailed, match="Unable to locate package python3-nosuch") as caught:
        apt.download("arm64", "bookworm", ["python3-nosuch"], tmp_path, without={"libc6"})
    assert caught.value.next_step.startswith("check the name and version of the package")


# -- the layer -----------------------------------------------------------------------------------


@pytest.fixture
def archive(monkeypatch, tmp_path):
    """Stands in for the Debian archive and for images; what was asked of it."""
    asked = []

    def image(arch, suite, progress=None):
        lock = {"packages": [{"name": "libc6", "version": "2", "sha256": "0"}]}
        return Image(key="image", arch=arch, suite=suite, path=tmp_path / "image", lock=lock)

    def download(arch, suite, packages, into, *, without):
        into.mkdir()
        asked.append((arch, suite, packages[-1], set(without)))
        return []

    def unpack(debs, root):
        modules = root / "usr/lib/python3/dist-packages/yaml"
        libraries = root / "usr/lib/aarch64-linux-gnu"
        for folder in (modules, libraries / "blas", root / "lib/aarch64-linux-gnu"):
            folder.mkdir(parents=True)
        (modules / "__init__.py").write_text("")
        (libraries / "blas/libblas.so.3").write_text("blas")
        (root / "lib/aarch64-linux-gnu/libz.so.1").write_text("z")
        return [{"name": "python3-yaml", "version": "6.0-3", "sha256": "1"}]

    compiled = []
    monkeypatch.setenv("EDGE_HARNESS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(debian, "ensure_image", image)
    monkeypatch.setattr(debian.apt, "download", download)
    monkeypatch.setattr(debian.apt, "unpack", unpack)
    monkeypatch.setattr(debian, "compile_python", lambda *arguments: compiled.extend(arguments[3]))
    return SimpleNamespace(asked=asked, compiled=compiled)


def test_modules_and_libraries_lie_where_the_agent_looks(archive):
    layer = debian.ensure_debian_layer(ARM64, "python3-yaml")
    assert (layer.path / "site/yaml/__init__.py").is_file()
    assert (layer.path / "lib/libz.so.1").read_text() == "z"
    # What update-alternatives would do, within the layer.
    assert (layer.path / "lib/libblas.so.3").read_text() == "blas"
    assert not (layer.path / "lib").readlink().is_absolute()
    assert layer.what == "python3-yaml 6.0-3"
    assert layer.lock["packages"][0]["sha256"] == "1"
    assert layer.lock["arch"] == "arm64"  # engines bring layers by it
    assert [path.name for path in archive.compiled] == ["site"]


def test_the_images_packages_are_left_out_unless_another_version_is_asked_for(archive):
    debian.ensure_debian_layer(ARM64, "libc6")
    debian.ensure_debian_layer(ARM64, "libc6=3")
    assert archive.asked == [
        ("arm64", "bookworm", "libc6", {"libc6"}),
        ("arm64", "bookworm", "libc6=3", set()),
    ]


def test_a_layer_that_is_there_is_not_fetched_again(archive):
    assert debian.debian_layer_key(ARM64, "python3-yaml") is None
    key = debian.ensure_debian_layer(ARM64, "python3-yaml").key
    assert debian.ensure_debian_layer(ARM64, "python3-yaml").key == key
    assert debian.debian_layer_key(ARM64, "python3-yaml") == key
    assert len(archive.asked) == 1


def test_package_version_architecture_and_suite_name_the_layer(archive):
    keys = [
        debian.ensure_debian_layer(environment, requirement).key
        for environment, requirement in (
            (ARM64, "python3-yaml"),
            (ARM64, "python3-yaml=6.0-3"),
            (recipe.environment("armhf", "bookworm"), "python3-yaml"),
            (recipe.environment("arm64", "trixie"), "python3-yaml"),
        )
    ]
    assert len(set(keys)) == 4


def test_another_image_is_another_layer(archive, monkeypatch):
    key = debian.ensure_debian_layer(ARM64, "python3-yaml").key
    monkeypatch.setattr(recipe, "VERSION", recipe.VERSION + 1)
    assert debian.ensure_debian_layer(ARM64, "python3-yaml").key != key


@pytest.mark.parametrize(
    "environment", [host_environment(), Environment(arch="armhf", python="3.9", glibc=31)]
)
@pytest.mark.parametrize("ask", [debian.ensure_debian_layer, debian.debian_layer_key])
def test_where_the_files_are_no_image_of_ours_a_package_is_refused(environment, ask):
    with pytest.raises(UnsupportedModel, match=r"'python3-yaml' cannot be brought to a") as caught:
        ask(environment, "python3-yaml")
    assert str(environment) in caught.value.message
    assert "engine that builds the image" in caught.value.next_step


def test_a_layer_says_what_is_in_it_whatever_that_is():
    layer = Layer(key="k", path=Path("/l"), requirements=(), lock={"packages": [], "what": "bash"})
    both = {"wheels": [{"name": "a", "version": "1"}], "packages": [{"name": "b", "version": "2"}]}
    assert layer.what == "bash"
    assert replace(layer, lock=both).what == "a 1, b 2"


# -- in the device -------------------------------------------------------------------------------


@pytest.fixture
def linker(monkeypatch):
    """Stands in for the dynamic linker: ``needs`` by file name; ``loaded`` in order."""
    needs, loaded = {}, []

    def load(path, mode):
        name = Path(path).name
        if not set(needs.get(name, ())) <= set(loaded):
            raise OSError("cannot open shared object file")
        loaded.append(name)

    monkeypatch.setattr(ctypes, "CDLL", load)
    return SimpleNamespace(needs=needs, loaded=loaded)


def test_libraries_are_loaded_after_those_they_need_and_once(linker, tmp_path):
    for name in ("liba.so.1.0", "libb.so.2", "libc.so.3", "notes.txt"):
        (tmp_path / name).write_text("")
    (tmp_path / "liba.so.1").symlink_to("liba.so.1.0")
    linker.needs.update({"liba.so.1.0": ["libb.so.2"], "libc.so.3": ["libelsewhere.so.1"]})
    parent.load_libraries(str(tmp_path))
    assert linker.loaded == ["libb.so.2", "liba.so.1.0"]


def test_a_layer_without_libraries_loads_none(linker, tmp_path):
    parent.load_libraries(str(tmp_path / "lib"))
    assert linker.loaded == []
