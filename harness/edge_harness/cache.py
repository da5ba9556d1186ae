"""The one folder this project writes to outside a checkout: its locks, and what is built in it.

:func:`built` is how anything gets there: made once by one of all the processes that want it,
seen whole or not at all, and made again where it was damaged.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_harness.errors import CacheError

#: How long somebody may hold a lock: what is built under one takes minutes.
LOCK_TIMEOUT_S = 3600.0


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


def refuse_full(said: str, path: Path) -> None:
    """Raise what :func:`explained` would, where a program that wrote to ``path`` ``said`` that the
    disk is full.

    Raises:
        CacheError: it did.
    """
    if any(words in said for words in ("No space left", "enough free space")):
        with explained(path):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))


@contextmanager
def locked(name: str) -> Iterator[None]:
    """Hold the lock ``name`` among all processes that share the cache.

    Waits for whoever holds it: the kernel takes it from a process that was killed, and what is
    done under it takes minutes at most.

    Raises:
        CacheError: somebody held it for an hour.
    """
    from filelock import FileLock, Timeout

    folder = cache_dir() / "locks"
    with explained(folder):
        folder.mkdir(exist_ok=True)
        lock = FileLock(folder / f"{name}.lock")
        try:
            lock.acquire(timeout=LOCK_TIMEOUT_S)
        except Timeout:
            raise CacheError(
                f"another process has held the lock {str(lock.lock_file)!r} for more than "
                f"{LOCK_TIMEOUT_S / 60:.0f} minutes",
                next_step="end that process (fuser names it), then run the same command again",
            ) from None
    try:
        yield
    finally:
        lock.release()


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A folder of the cache that :func:`built` made."""

    path: Path
    content: dict[str, Any]
    """What its maker said about it, as plain JSON values."""


def built(final: Path, build: Callable[[Path], Mapping[str, Any]], *, renew: bool = False) -> Entry:
    """The entry at ``final``, made by ``build`` if it is not there or is damaged.

    ``build`` fills the folder it is given and returns what is to be known about it. All of it
    appears at once, when ``build`` has come to its end: one that is killed half way, or finds the
    disk full, leaves nothing that looks finished. Of several processes one builds and the others
    wait. ``renew`` builds anew although there is an entry, which stays until then.

    Raises:
        CacheError: the cache is full, read-only, or locked by somebody for too long.
    """
    entry = None if renew else found(final)
    if entry is None:
        with locked(_lock_of(final)):
            entry = None if renew else found(final)  # another process may have built it meanwhile
            if entry is None:
                with staged(final) as folder:
                    content = dict(build(folder))
                    text = json.dumps({**content, _PARTS: _parts(folder)}, indent=1)
                    (folder / _LOCK).write_text(text)
                entry = Entry(path=final, content=content)
    return entry


def found(final: Path) -> Entry | None:
    """The entry at ``final`` if it is there and whole; builds nothing. It counts as used now."""
    lock = final / _LOCK
    try:
        content = json.loads(lock.read_text())
        parts = content.pop(_PARTS, {})
        whole = all(_size(final / name) == size for name, size in parts.items())
    except (OSError, ValueError, TypeError, AttributeError):  # gone, or not what was written
        return None
    if not whole:
        return None
    try:
        os.utime(lock)  # what is let go of first is what was not used for longest
    except FileNotFoundError:
        return None  # removed by another process just now
    except OSError:  # somebody else's, who lets us read it
        pass
    return Entry(path=final, content=content)


def discard(final: Path) -> None:
    """Remove the entry at ``final``, not while somebody builds it."""
    with locked(_lock_of(final)):
        remove_tree(final)


#: Written last, into every entry: what its maker said, and its parts.
_LOCK = "lock.json"
_PARTS = "parts"


def _parts(folder: Path) -> dict[str, int]:
    """Names at the top of ``folder`` and their sizes in bytes; a folder's is -1.

    What lies deeper is not looked at again: an image has thousands of files.
    """
    return {path.name: _size(path) for path in sorted(folder.iterdir())}


def _size(path: Path) -> int:
    return -1 if path.is_dir() else path.stat().st_size


def _lock_of(final: Path) -> str:
    return f"{final.parent.name}-{final.name}"


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
