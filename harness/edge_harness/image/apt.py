"""Debian packages without root and without touching the host's own package database.

``apt-get`` with a configuration of its own resolves, verifies and downloads; ``dpkg-deb``
unpacks. No maintainer script runs, nothing is emulated.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypedDict
from urllib.parse import unquote

from edge_harness.cache import built, cache_dir, explained, locked, refuse_full, remove_tree
from edge_harness.errors import ImageBuildFailed, MissingTool
from edge_harness.processes import completed

#: For all packages of an image, some 50 MB, over a slow line.
DOWNLOAD_TIMEOUT_S = 3600.0
MIRROR_VARIABLE = "EDGE_HARNESS_DEBIAN_MIRROR"
KEYRING_VARIABLE = "EDGE_HARNESS_DEBIAN_KEYRING"
_KEYRINGS = (
    "/usr/share/keyrings/debian-archive-keyring.gpg",
    "/usr/share/keyrings/debian-archive-keyring.pgp",
)
_IN_PACKAGE = "usr/share/keyrings/debian-archive-keyring.gpg"
#: Which of the host's settings the private configuration takes over: how to reach the mirror.
_TRANSPORT = re.compile(r"^Acquire::(https?|ftp|Retries|Check-|ForceIPv|Queue-)", re.IGNORECASE)

#: What apt says of a package or version that is not in the lists.
_UNKNOWN = ("Unable to locate package", "was not found", "has no installation candidate")


class Package(TypedDict):
    """One line of a lock."""

    name: str
    version: str
    sha256: str


def _tool(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        raise MissingTool(
            f"{name!r} is not on this machine, and the device's packages are fetched with it",
            next_step="use a Debian or Ubuntu machine or container, or run "
            "'edge-harness image build' there and copy the cache folder over",
        )
    return path


def mirror() -> str:
    """The Debian mirror: ``$EDGE_HARNESS_DEBIAN_MIRROR``, else the one this host itself uses.

    Raises:
        MissingTool: there is no apt-get.
        ImageBuildFailed: the host has no Debian mirror and none is set.
    """
    chosen = os.environ.get(MIRROR_VARIABLE)
    if chosen:
        return chosen.rstrip("/")
    listing = completed(
        [_tool("apt-get"), "update", "--print-uris", "-o", "Debug::NoLocking=1"],
        what="ask apt for this machine's mirrors",
        timeout_s=60,
        error=ImageBuildFailed,
    )
    found = mirror_in(listing.stdout)
    if found is None:
        raise ImageBuildFailed(
            "this machine's apt sources name no Debian mirror",
            next_step=f"set {MIRROR_VARIABLE} to the address of a Debian mirror "
            "(the folder that holds 'dists' and 'pool')",
        )
    return found


def mirror_in(print_uris: str) -> str | None:
    """The first Debian archive in what ``apt-get update --print-uris`` printed."""
    for match in re.finditer(r"^'([^']+)/dists/([^/']+)/[^']*InRelease'", print_uris, re.MULTILINE):
        base, suite = match[1], match[2]
        if re.match(r"(bullseye|bookworm|trixie|forky|sid|stable|testing)$", suite):
            return base
    return None


def keyring() -> Path:
    """The keys that sign the Debian archive.

    On a host that is not Debian, ``apt-get download`` brings the keyring package from the
    host's own (trusted) archive; Ubuntu carries it.
    """
    chosen = os.environ.get(KEYRING_VARIABLE)
    for name in (chosen,) if chosen else _KEYRINGS:
        if Path(name).is_file():
            return Path(name)
    missing = ImageBuildFailed(
        f"the Debian archive's keys are not here ({chosen or _KEYRINGS[0]!r})",
        next_step="install debian-archive-keyring, or name the file in " + KEYRING_VARIABLE,
    )
    if chosen:
        raise missing

    def build(folder: Path) -> dict[str, Any]:
        completed(
            [_tool("apt-get"), "download", "-q", "debian-archive-keyring"],
            what="fetch the Debian archive's keys",
            timeout_s=120,
            error=ImageBuildFailed,
            cwd=folder,
        )
        debs = sorted(folder.glob("*.deb"))
        packages = unpack(debs, folder)
        if not (folder / _IN_PACKAGE).is_file():
            raise missing
        return {"packages": packages}

    return built(cache_dir() / "tools" / "debian-archive-keyring", build).path / _IN_PACKAGE


def configuration(
    *, base: Path, arch: str, transport: str = "", keyring: Path, mirror: str, suite: str
) -> tuple[str, str]:
    """The private ``apt.conf`` and ``sources.list`` that live below ``base``."""
    conf = f"""\
APT::Architecture "{arch}";
APT::Architectures {{ "{arch}"; }};
APT::Sandbox::User "";
APT::Install-Recommends "false";
APT::Get::AllowUnauthenticated "false";
Debug::NoLocking "true";
Dir::Etc "{base}/etc";
Dir::Etc::sourcelist "{base}/sources.list";
Dir::Etc::sourceparts "{base}/etc/sources.list.d";
Dir::State "{base}/state";
Dir::State::status "{base}/status";
Dir::Cache "{base}/cache";
Acquire::Languages "none";
Acquire::Retries "3";
DPkg::Use-Pty "false";
{transport}"""
    return conf, f"deb [arch={arch} signed-by={keyring}] {mirror} {suite} main\n"


def _host_transport() -> str:
    dump = completed(
        [_tool("apt-config"), "dump", "--format", '%F "%v";%n', "Acquire"],
        what="read apt's settings",
        timeout_s=30,
        error=ImageBuildFailed,
    )
    return "".join(
        line + "\n" for line in dump.stdout.splitlines() if _TRANSPORT.match(line.strip())
    )


def download(
    arch: str,
    suite: str,
    packages: Sequence[str],
    into: Path,
    *,
    without: Collection[str] = (),
) -> list[Path]:
    """Download ``packages`` and all they depend on for ``arch`` into ``into``, but for those whose
    names are among ``without``.

    Raises:
        ImageBuildFailed: apt could not resolve, reach or verify them; its own words follow.
    """
    base = cache_dir() / "apt" / f"{arch}-{suite}"
    with locked(f"apt-{arch}-{suite}"), explained(base):
        for folder in (
            "etc/apt.conf.d",
            "etc/preferences.d",
            "etc/sources.list.d",
            "state/lists/partial",
            "cache/archives/partial",
        ):
            (base / folder).mkdir(parents=True, exist_ok=True)
        (base / "status").touch()
        conf, sources = configuration(
            base=base,
            arch=arch,
            transport=_host_transport(),
            keyring=keyring(),
            mirror=mirror(),
            suite=suite,
        )
        (base / "apt.conf").write_text(conf)
        (base / "sources.list").write_text(sources)
        into.mkdir(parents=True, exist_ok=True)
        (into / "partial").mkdir(exist_ok=True)
        _apt(base, ["update"], f"read the package lists of {suite} for {arch}")
        if without:
            listing = _apt(
                base,
                ["install", "--print-uris", "--yes", *packages],
                f"find what {packages[-1]} needs on {arch}",
            )
            packages = beyond(listing, without)
            what = ["download"]  # into the folder that it runs in
        else:
            archives = f"Dir::Cache::archives={into}"
            what = ["install", "--download-only", "--yes", "-o", archives]
        if packages:
            _apt(
                base,
                [*what, *packages],
                f"download {' '.join(packages)} for {arch}",
                into=into,
            )
        # A later image of the same suite finds the lists, not yesterday's packages.
        remove_tree(base / "cache")
    return sorted(into.glob("*.deb"))


def beyond(print_uris: str, without: Collection[str]) -> list[str]:
    """``NAME=VERSION`` of what ``apt-get install --print-uris`` printed, less ``without``."""
    found = []
    for match in re.finditer(r"^'[^']+' (\S+)_(\S+)_\S+\.deb ", print_uris, re.MULTILINE):
        name, version = match[1], unquote(match[2])
        if name not in without:
            found.append(f"{name}={version}")
    return found


def _apt(base: Path, arguments: list[str], purpose: str, *, into: Path | None = None) -> str:
    """What ``apt-get`` printed; ``into`` is the folder that it runs in."""
    result = completed(
        [_tool("apt-get"), "-q", *arguments],
        what=purpose,
        timeout_s=DOWNLOAD_TIMEOUT_S,
        error=ImageBuildFailed,
        env={**os.environ, "APT_CONFIG": str(base / "apt.conf"), "LC_ALL": "C"},
        cwd=into,
    )
    if result.returncode:
        words = [
            line
            for line in (result.stdout + result.stderr).splitlines()
            if line.startswith(("E:", "W:", "Err:"))
        ]
        refuse_full("\n".join(words), base)
        unknown = any(said in line for line in words for said in _UNKNOWN)
        raise ImageBuildFailed(
            f"could not {purpose}: " + "; ".join(words[-4:] or result.stderr.splitlines()[-4:]),
            next_step="check the name and version of the package: the suite has no such one"
            if unknown
            else "check the network and the mirror (edge-harness doctor shows both), "
            "then run the same command again",
        )
    return result.stdout


def unpack(debs: Sequence[Path], root: Path) -> list[Package]:
    """Unpack ``debs`` into ``root``; what was unpacked, by name, version and SHA-256.

    Raises:
        ImageBuildFailed: a package is damaged.
        CacheError: the disk is full or read-only.
    """
    tool = _tool("dpkg-deb")

    def one(deb: Path) -> Package:
        fields = completed(
            [tool, "--show", "--showformat=${Package} ${Version}", str(deb)],
            what=f"read {deb.name}",
            timeout_s=60,
            error=ImageBuildFailed,
        )
        name, _, version = fields.stdout.partition(" ")
        return {
            "name": name,
            "version": version,
            "sha256": hashlib.sha256(deb.read_bytes()).hexdigest(),
        }

    with ThreadPoolExecutor(4) as pool:
        lock = list(pool.map(one, debs))
    for deb in debs:
        result = completed(
            [tool, "--extract", str(deb), str(root)],
            what=f"unpack {deb.name}",
            timeout_s=600,
            error=ImageBuildFailed,
        )
        if result.returncode:
            refuse_full(result.stderr, root)
            raise ImageBuildFailed(
                f"could not unpack {deb.name}: {result.stderr.strip()[-300:]}",
                next_step="run the same command again; it downloads the package anew",
            )
    return sorted(lock, key=lambda package: package["name"])
