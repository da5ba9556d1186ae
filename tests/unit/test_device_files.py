import os

import pytest
from edge_harness.diagnose import DeviceFiles


@pytest.fixture
def files(tmp_path):
    """An image with a library behind an absolute link, a layer over it, and a secret outside."""
    root, layers = tmp_path / "image" / "root", tmp_path / "layers"
    for path in ("usr/lib/libc.so.6", "usr/lib/openblas/libblas.so.3"):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(path)
    (root / "etc" / "alternatives").mkdir(parents=True)
    (root / "lib").symlink_to("usr/lib")
    (root / "usr/lib/libblas.so.3").symlink_to("/etc/alternatives/libblas.so.3")
    (root / "etc/alternatives/libblas.so.3").symlink_to("/usr/lib/openblas/libblas.so.3")
    (root / "usr/lib/out.so").symlink_to("../../../../secret")
    (root / "usr/lib/round.so").symlink_to("round.so")
    (layers / "k" / "site").mkdir(parents=True)
    (layers / "k" / "site" / "a.so").write_text("a")
    (layers / "k" / "site" / "out.so").symlink_to(tmp_path / "secret")
    (tmp_path / "secret").write_text("secret")
    return DeviceFiles(root=root, mounted={"/opt/edge/layers": layers})


def test_a_library_of_the_image_is_found_also_behind_links_as_the_device_follows_them(files):
    assert files.find("/usr/lib/libc.so.6").read_text() == "usr/lib/libc.so.6"
    assert files.find("/lib/libc.so.6").read_text() == "usr/lib/libc.so.6"
    assert files.find("/lib/libblas.so.3").read_text() == "usr/lib/openblas/libblas.so.3"
    assert files.find("/lib/../lib/./libc.so.6").read_text() == "usr/lib/libc.so.6"


def test_what_lies_over_the_image_is_found_where_this_machine_has_it(files):
    layers = files.mounted["/opt/edge/layers"]
    assert files.find("/opt/edge/layers/k/site/a.so") == layers / "k/site/a.so"
    assert files.find("/opt/edge/layers") == layers
    assert files.find("/opt/edge/layersx") is None


def test_without_namespaces_the_devices_paths_are_this_machines(files):
    layers = files.mounted["/opt/edge/layers"]
    assert files.find(f"{layers}/k/site/a.so") == layers / "k/site/a.so"
    assert files.find(f"{files.root}/lib/libc.so.6") == files.root / "usr/lib/libc.so.6"


@pytest.mark.parametrize(
    "path",
    [
        "/../../secret",
        "/usr/lib/../../../../secret",
        "/usr/lib/out.so",
        "/opt/edge/layers/../secret",
        "/opt/edge/layers/k/site/out.so",
        "/opt/edge/layers/k/../../../secret",
    ],
)
def test_no_path_of_a_device_leads_to_a_file_outside_it(files, path):
    assert files.find(path) is None


def test_a_path_that_can_be_none_is_no_file(files):
    for path in ("", "/nowhere", "/usr/lib/round.so", "/a\0b", "/" + 300 * "x"):
        found = files.find(path)
        assert found is None or found == files.root, path
    assert not os.path.lexists(files.root / "nowhere")
