"""The one folder this project writes to outside a checkout, and the locks in it."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edge_harness.errors import CacheError


def cache_dir() -> Path:
    """The user's cache folder: ``$EDGE_HARNESS_CACHE``, else the platform's own place.

    Raises:
        CacheError: it cannot be created or written to.
    """
    configured = os.environ.get("EDGE_HARNESS_CACHE")
    if configured:
        path = Path(configured).expanduser().absolute()
    else:
        import platformdirs

        path = Path(platformdirs.user_cache_dir("edge-harness"))
    try:
        with explained(path):
            path.mkdir(parents=True, exist_ok=True)
    except OSError as error:  # a link that leads nowhere, a mount that is gone, a name too long
        raise CacheError(
            f"the cache folder {str(path)!r} cannot be made ({error.strerror})",
            next_step="name another with EDGE_HARNESS_CACHE=DIR",
        ) from error
    if not os.access(path, os.W_OK | os.X_OK):
        raise CacheError(
            f"the cache folder {str(path)!r} is not writable",
            next_step="make it writable, or name another with EDGE_HARNESS_CACHE=DIR",
        )
    return path


def private_folder(path: Path) -> Path:
    """Make ``path`` (and what is above it) and close it to everybody but this user.

    Raises:
        CacheError: it cannot be made, or belongs to somebody else.
    """
    with explained(path):
        path.mkdir(parents=True, exist_ok=True)
        path.chmod(0o700)  # also where an earlier run left it open
    return path


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn the operating system's complaints about ``path`` into a :class:`CacheError`."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise CacheError(
                f"no space left for {str(path)!r} ({error.strerror})",
                next_step="free some space (edge-harness image gc removes unused images), or "
                "name a folder on another disk with EDGE_HARNESS_CACHE=DIR",
            ) from error
        if error.errno in (errno.EEXIST, errno.ENOTDIR):
            raise CacheError(
                f"the cache folder {str(path)!r} cannot be used: a file is in its way",
                next_step="move the file, or name another folder with EDGE_HARNESS_CACHE=DIR",
            ) from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise CacheError(
                f"the cache folder cannot be written: {error.filename or str(path)!r} "
                f"({error.strerror})",
                next_step="make it writable, or name another with EDGE_HARNESS_CACHE=DIR",
            ) from error
        raise


@contextmanager
def locked(name: str) -> Iterator[None]:
    """Hold the lock ``name`` among all processes that share the cache."""
    from filelock import FileLock

    folder = cache_dir() / "locks"
    with explained(folder):
        folder.mkdir(exist_ok=True)
        lock = FileLock(folder / f"{name}.lock")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


@contextmanager
def staged(final: Path) -> Iterator[Path]:
    """A folder that becomes ``final`` by one rename, only when the block ends well.

    So a build that is killed half way, or finds the disk full, never looks finished.
    """
    with explained(final):
        final.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=".building-", dir=final.parent))
        staging.chmod(0o755)
    try:
        with explained(final):
            yield staging
            if final.exists():
                remove_tree(final)
            staging.rename(final)
    except BaseException:
        remove_tree(staging)
        raise


def remove_tree(path: Path) -> None:
    """Delete ``path``, also where an unpacked package made a folder read-only."""

    def make_writable(function: object, name: str, _info: object) -> None:
        Path(name).parent.chmod(0o700)
        if Path(name).is_dir() and not Path(name).is_symlink():
            Path(name).chmod(0o700)
            shutil.rmtree(name, ignore_errors=True)
        else:
            Path(name).unlink(missing_ok=True)

    if path.exists():
        shutil.rmtree(path, onerror=make_writable)
