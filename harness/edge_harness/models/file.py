"""Model files as the host sees them: read, recognised, and refused early where they are not
what their name says."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edge_harness.errors import ModelError
from edge_harness.runtimes import FORMATS, RUNTIMES, Format


@dataclass(frozen=True, kw_only=True)
class ModelFile:
    """A model read into memory."""

    path: Path
    content: bytes
    format: Format


def read_model(path: str | Path) -> ModelFile:
    """Read ``path`` and recognise its format.

    Raises:
        ModelError: it is missing, unreadable, empty, or not a model of a known format.
    """
    path = Path(path)
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise ModelError(
            f"there is no model file {str(path)!r}",
            next_step=f"check the path; the current folder is {str(Path.cwd())!r}",
        ) from None
    except IsADirectoryError:
        raise ModelError(
            f"{str(path)!r} is a folder, not a model file",
            next_step=f"name a {_endings()} file (convert a SavedModel first)",
        ) from None
    except OSError as error:
        raise ModelError(
            f"the model file {str(path)!r} cannot be read: {error.strerror}",
            next_step="check its permissions",
        ) from None
    if not content:
        raise ModelError(
            f"the model file {str(path)!r} is empty (0 bytes)",
            next_step="export or download it again; with Git LFS, run 'git lfs pull'",
        )
    if content.startswith(b"version https://git-lfs"):
        raise ModelError(
            f"{str(path)!r} is a Git LFS pointer, not the model itself",
            next_step="run 'git lfs pull'",
        )
    found = recognised(path, content)
    why = found.damage(content) if found.damage else ""
    if why:
        raise ModelError(
            f"the model file {str(path)!r} ({len(content)} bytes) is damaged or cut short: {why}",
            next_step="export or download it again and compare the size",
        )
    return ModelFile(path=path, content=content, format=found)


def recognised(path: Path, content: bytes) -> Format:
    """The format of a model file: by its signature where that is certain, whatever it is called;
    else by its name, which its bytes must bear out.

    Raises:
        ModelError: it is of no known format, or not what its name says.
    """
    suffix = path.suffix.lower()
    named = None
    for row in FORMATS.lazily():
        if row.certain and row.signed(content):
            return row
        if suffix in row.suffixes:
            named = named or row
        # Nothing after a name that its bytes bear out can be certain of another format.
        if named is not None and named.signed(content):
            return named
    if named is None:
        raise ModelError(
            f"{str(path)!r} is no model of a known format ({', '.join(_titles())}): it begins "
            f"with {content[:16]!r}{_not_registered()}",
            next_step=f"use a {_endings()} file{_or_mend()}",
            details={"broken": list(RUNTIMES.outside.broken)},
        )
    if not named.signatures:
        return named
    at = named.signatures[0][0]
    wanted = " or ".join(repr(mark) for _, mark in named.signatures)
    there = content[at : at + len(named.signatures[0][1])]
    raise ModelError(
        f"{str(path)!r} is not {_a(named.title)} model: at byte {at} it has {there!r}, not "
        f"{wanted}, and it begins with {content[:16]!r}",
        next_step=named.export,
    )


def _a(title: str) -> str:
    return f"{'an' if title[0] in 'AEIO' else 'a'} {title}"


def _titles() -> list[str]:
    return [row.title for row in FORMATS.values()]


def _endings() -> str:
    return " or ".join(row.suffixes[0] for row in FORMATS.values())


def _not_registered() -> str:
    troubles = RUNTIMES.outside.troubles
    return f"; and this could not be asked:\n{troubles}" if troubles else ""


def _or_mend() -> str:
    owners = sorted({error.details["distribution"] for error in RUNTIMES.outside.broken.values()})
    return f"; if it is one of theirs, mend or update {', '.join(owners)}" if owners else ""


__all__ = ["ModelFile", "read_model", "recognised"]
