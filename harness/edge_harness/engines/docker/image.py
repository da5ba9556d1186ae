"""A Docker image from a device's tree: one layer, loaded from an archive made here.

``docker import --platform`` records the host's architecture on Docker 20.10 whatever one asks
for; ``docker load`` takes it from the archive. No registry is involved.
"""

from __future__ import annotations

import hashlib
import json
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from edge_harness.cache import cache_dir, explained, locked
from edge_harness.system import docker_client

if TYPE_CHECKING:
    from docker import DockerClient

    from edge_harness.image import Image

#: Raised whenever archives of the same tree are made differently.
VERSION = 1
#: Debian architecture: (OCI architecture, variant)
_OCI = {
    "arm64": ("arm64", "v8"),
    "armhf": ("arm", "v7"),
    "armel": ("arm", "v5"),
    "amd64": ("amd64", ""),
}
_BLOCK = 512


def platform_of(arch: str) -> str:
    """Docker's name of Debian architecture ``arch``, as ``linux/arm/v7``."""
    architecture, variant = _OCI[arch]
    # arm64 has one variant only, and older Docker versions do not know its name.
    return f"linux/{architecture}" + (f"/{variant}" if architecture == "arm" else "")


def tag_of(image: Image) -> str:
    """The image's name in Docker; another content is another name."""
    return f"edge-harness/{image.key}:{image.digest[:16]}-{VERSION}"


def config_of(image: Image, layer_digest: str) -> dict[str, Any]:
    """The image's configuration, in the form of the OCI image specification."""
    architecture, variant = _OCI[image.arch]
    config: dict[str, Any] = {
        "architecture": architecture,
        "os": "linux",
        "created": "1970-01-01T00:00:00Z",
        "config": {
            "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
            "Cmd": ["/bin/sh"],
            "WorkingDir": "/",
            "Labels": {"edge-harness": "1", "edge-harness.image": image.key},
        },
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{layer_digest}"]},
        "history": [{"created": "1970-01-01T00:00:00Z", "created_by": "edge-harness"}],
    }
    if variant:
        config["variant"] = variant
    return config


def owned_by_root(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """``member`` as it would be on the device, whoever unpacked it here."""
    member.uid = member.gid = 0
    member.uname = member.gname = "root"
    member.mtime = int(member.mtime)
    return member


class _Hashed:
    """Counts and hashes what is written through it."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.sha256 = hashlib.sha256()
        self.size = 0

    def write(self, data: bytes) -> int:
        self.sha256.update(data)
        self.size += len(data)
        return self._file.write(data)


def write_archive(image: Image, file: IO[bytes]) -> None:
    """Write what ``docker load`` takes to ``file``, which must be seekable.

    The layer is written in place; its header, which needs its size, afterwards.
    """
    start = file.tell()
    file.seek(start + _BLOCK)
    hashed = _Hashed(file)
    with tarfile.open(mode="w|", fileobj=hashed, format=tarfile.GNU_FORMAT) as layer:  # type: ignore[call-overload]
        for path in sorted(image.root.iterdir()):
            layer.add(path, arcname=path.name, filter=owned_by_root)
    digest = hashed.sha256.hexdigest()
    name = f"{digest}/layer.tar"
    end = file.tell()
    file.seek(start)
    file.write(_header(name, hashed.size))
    file.seek(end)
    file.write(bytes(-hashed.size % _BLOCK))
    config = json.dumps(config_of(image, digest), sort_keys=True).encode()
    config_name = f"{hashlib.sha256(config).hexdigest()}.json"
    manifest = json.dumps([{"Config": config_name, "RepoTags": [tag_of(image)], "Layers": [name]}])
    for entry, data in ((config_name, config), ("manifest.json", manifest.encode())):
        file.write(_header(entry, len(data)) + data + bytes(-len(data) % _BLOCK))
    file.write(bytes(2 * _BLOCK))


def _header(name: str, size: int) -> bytes:
    member = tarfile.TarInfo(name)
    member.size = size
    return member.tobuf(tarfile.GNU_FORMAT)


def ensure(image: Image, url: str, say: Callable[[str], None] | None = None) -> str:
    """The tag of ``image`` in the daemon at ``url``, loaded if it is not there yet.

    Raises:
        CacheError: no space for the archive.
        InfrastructureError: the daemon refused it.
    """
    from docker.errors import ImageNotFound

    client = docker_client.connect(url)
    tag = tag_of(image)

    def present() -> bool:
        with docker_client.explained(f"look for the image {tag}", url):
            try:
                client.images.get(tag)
            except ImageNotFound:
                return False
            return True

    if not present():
        with locked(f"docker-{image.key}"):
            if not present():
                if say:
                    say(f"loading image {image.key} into Docker")
                _load(image, url)
    return tag


def _load(image: Image, url: str) -> None:
    client = docker_client.connect(url)
    with explained(cache_dir()), tempfile.TemporaryFile(dir=cache_dir()) as file:
        write_archive(image, file)
        file.seek(0)
        with docker_client.explained(f"load the image {image.key}", url):
            # The answer is a stream of progress; it must be read to its end.
            for _ in client.api.load_image(file):  # type: ignore[no-untyped-call]
                pass


def put_folders(client: DockerClient, container: str, place: str, folders: dict[str, Path]) -> None:
    """Copy ``{name: folder on the host}`` into ``place`` in ``container``, owned by root.

    Raises (from the SDK, to be explained by the caller): APIError.
    """
    with tempfile.TemporaryFile(dir=cache_dir()) as file:
        with tarfile.open(mode="w", fileobj=file, format=tarfile.GNU_FORMAT) as archive:
            for name, folder in folders.items():
                archive.add(folder, arcname=name, filter=owned_by_root)
        file.seek(0)
        client.api.put_archive(container, place, file)


def remove_unknown() -> list[str]:
    """Remove images of ours from Docker whose tree is no longer in the cache; their tags.

    Raises:
        MissingTool: no daemon can be reached.
    """
    from docker.errors import APIError

    from edge_harness.image import list_images

    url = docker_client.daemon_url()
    client = docker_client.connect(url)
    keys = {entry["key"] for entry in list_images()}
    removed = []
    with docker_client.explained("list images", url):
        ours = client.images.list(filters={"label": "edge-harness=1"})
    for found in ours:
        if found.labels.get("edge-harness.image") in keys:
            continue
        for tag in found.tags:
            try:
                client.images.remove(tag)
            except APIError:
                continue  # a device still runs on it
            removed.append(tag)
    return removed
