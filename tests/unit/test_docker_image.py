import hashlib
import io
import json
import os
import tarfile

import pytest
from edge_harness.engines.docker import image as docker_image
from edge_harness.image import Image


@pytest.fixture
def image(tmp_path):
    root = tmp_path / "image" / "root"
    (root / "usr/bin").mkdir(parents=True)
    (root / "usr/bin/tool").write_bytes(b"#!/bin/sh\n" * 100)
    (root / "usr/bin/tool").chmod(0o755)
    (root / "bin").symlink_to("usr/bin")
    os.link(root / "usr/bin/tool", root / "usr/bin/same")
    return Image(
        key="bookworm-armhf-0",
        arch="armhf",
        suite="bookworm",
        path=tmp_path / "image",
        lock={"packages": []},
    )


@pytest.fixture
def archive(image):
    file = io.BytesIO()
    docker_image.write_archive(image, file)
    file.seek(0)
    return tarfile.open(fileobj=file)


def read(archive, name):
    return archive.extractfile(name).read()


def test_the_archive_is_what_docker_load_takes(image, archive):
    [manifest] = json.loads(read(archive, "manifest.json"))
    assert manifest["RepoTags"] == [docker_image.tag_of(image)]
    config = read(archive, manifest["Config"])
    assert manifest["Config"] == hashlib.sha256(config).hexdigest() + ".json"
    [layer] = manifest["Layers"]
    digest = hashlib.sha256(read(archive, layer)).hexdigest()
    assert layer == f"{digest}/layer.tar"
    assert json.loads(config)["rootfs"] == {"type": "layers", "diff_ids": [f"sha256:{digest}"]}


def test_files_of_the_layer_belong_to_root_whoever_unpacked_them(archive):
    [manifest] = json.loads(read(archive, "manifest.json"))
    with tarfile.open(fileobj=io.BytesIO(read(archive, manifest["Layers"][0]))) as layer:
        assert {(m.uid, m.gid, m.uname, m.gname) for m in layer} == {(0, 0, "root", "root")}
        assert layer.getmember("usr/bin/tool").mode == 0o755
        assert layer.getmember("bin").linkname == "usr/bin"
        links = [m for m in layer if m.islnk()]
    assert len(links) == 1, "two names of one file are stored once"


def test_the_same_tree_gives_the_same_archive(image):
    first, second = io.BytesIO(), io.BytesIO()
    docker_image.write_archive(image, first)
    docker_image.write_archive(image, second)
    assert first.getvalue() == second.getvalue()


@pytest.mark.parametrize(
    ("arch", "architecture", "variant", "platform"),
    [
        ("arm64", "arm64", "v8", "linux/arm64"),
        ("armhf", "arm", "v7", "linux/arm/v7"),
        ("armel", "arm", "v5", "linux/arm/v5"),
        ("amd64", "amd64", None, "linux/amd64"),
    ],
)
def test_the_architecture_is_recorded_as_oci_names_it(image, arch, architecture, variant, platform):
    from dataclasses import replace

    config = docker_image.config_of(replace(image, arch=arch), "0" * 64)
    assert (config["architecture"], config.get("variant")) == (architecture, variant)
    assert docker_image.platform_of(arch) == platform


def test_another_content_of_the_same_recipe_has_another_tag(image):
    from dataclasses import replace

    changed = replace(image, lock={"packages": [{"name": "bash"}]})
    assert docker_image.tag_of(changed) != docker_image.tag_of(image)
    assert docker_image.tag_of(image).startswith("edge-harness/bookworm-armhf-0:")
