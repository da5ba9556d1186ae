"""Where profiles are found, and how the names a user types become profiles."""

from __future__ import annotations

import fnmatch
import functools
from collections.abc import Iterator, Sequence
from pathlib import Path

from edge_harness.errors import (
    InternalError,
    OptionError,
    ProfileError,
    UnknownDevice,
    did_you_mean,
)
from edge_harness.profiles.file import ProfileFile, build_profile, read_profile_file
from edge_harness.profiles.shape import Profile

_GLOB = frozenset("*?[")


def builtin_dir() -> Path:
    """The folder of the profiles that come with the package.

    Raises:
        InternalError: the installation has none.
    """
    package = Path(__file__).resolve().parents[1]
    # A wheel carries them inside the package; a checkout has them beside the source root.
    for folder in (package / "_device_profiles", package.parents[1] / "device_profiles"):
        if folder.is_dir():
            return folder
    raise InternalError(
        f"the device profiles are missing from the installation at {package}",
        next_step="install pytest-edge-harness again",
    )


def default_registry(
    extra_dirs: Sequence[str | Path] = (), rootdir: str | Path | None = None
) -> ProfileRegistry:
    """Built-in profiles, then ``rootdir/device_profiles`` if there is one, then ``extra_dirs``.

    A later folder overrides an earlier one profile by profile.

    Raises:
        OptionError: one of ``extra_dirs`` is not a folder.
    """
    folders = [builtin_dir()]
    if rootdir is not None:
        own = Path(rootdir) / "device_profiles"
        # In our own checkout the two are the same folder.
        if own.is_dir() and own.resolve() != folders[0].resolve():
            folders.append(own)
    folders.extend(Path(folder) for folder in extra_dirs)
    return ProfileRegistry(folders)


class ProfileRegistry:
    """The profiles of some folders. Files are read when first needed, so that a broken one
    hurts only whoever asks for it."""

    def __init__(self, dirs: Sequence[str | Path]) -> None:
        self.dirs: tuple[Path, ...] = tuple(Path(folder) for folder in dirs)
        #: All files of a name, lowest priority first.
        self._files: dict[str, list[Path]] = {}
        for folder in self.dirs:
            try:
                paths = sorted(folder.glob("*.toml")) if folder.is_dir() else None
            except OSError:
                paths = None
            if paths is None:
                raise OptionError(
                    f"there is no folder of device profiles at {str(folder)!r}",
                    next_step="give --edge-profiles an existing folder with *.toml files in it",
                )
            for path in paths:
                self._files.setdefault(path.stem, []).append(path)
        self._read = functools.lru_cache(maxsize=None)(read_profile_file)
        self._profiles: dict[str, Profile] = {}
        self._alias_table: dict[str, tuple[str, ...]] | None = None

    def names(self) -> list[str]:
        """All names (not aliases), sorted; broken files too."""
        return sorted(self._files)

    def get(self, name: str) -> Profile:
        """The profile called ``name``, by name or alias, in upper or lower case.

        Raises:
            UnknownDevice: there is none; the nearest name is in the message.
            ProfileError: its file is broken, or two profiles claim the alias.
        """
        found = self._find(name)
        if found is None:
            raise self._unknown(name)
        return self._load(found)

    def all(self) -> list[Profile]:
        """Every profile, sorted by name.

        Raises:
            ProfileError: one of the files is broken.
        """
        return [self._load(name) for name in self.names()]

    def working(self) -> tuple[list[Profile], list[ProfileError]]:
        """The profiles that load, and why the others do not. Never raises ProfileError."""
        good: list[Profile] = []
        bad: list[ProfileError] = []
        for name in self.names():
            try:
                good.append(self._load(name))
            except ProfileError as error:
                bad.append(error)
        return good, bad

    def select(self, patterns: Sequence[str]) -> list[Profile]:
        """Profiles for what a user typed: names, aliases, ``a,b`` lists, ``all`` and globs.

        In the order asked for, a glob's and ``all``'s own in order of name; each only once.

        Raises:
            UnknownDevice: a name or glob matches nothing.
            ProfileError: the file of a chosen profile is broken.
        """
        chosen: dict[str, None] = {}
        for pattern in _split(patterns):
            if _normal(pattern) == "all":
                names = self.names()
            elif _GLOB & set(pattern):
                names = self._glob(_normal(pattern))
            else:
                found = self._find(pattern)
                names = [] if found is None else [found]
            if not names:
                raise self._unknown(pattern)
            chosen.update(dict.fromkeys(names))
        return [self._load(name) for name in chosen]

    def _glob(self, pattern: str) -> list[str]:
        matched = {name for name in self._files if fnmatch.fnmatchcase(_normal(name), pattern)}
        for alias, owners in self._aliases().items():
            if fnmatch.fnmatchcase(alias, pattern):
                matched.update(owners)
        return sorted(matched)

    def _find(self, asked: str) -> str | None:
        if asked in self._files:
            return asked
        wanted = _normal(asked)
        for name in self._files:
            if _normal(name) == wanted:
                return name
        owners = self._aliases().get(wanted, ())
        if len(owners) > 1:
            raise self._clash(wanted, owners)
        return owners[0] if owners else None

    def _aliases(self) -> dict[str, tuple[str, ...]]:
        """``{alias: names that claim it}``, the one of highest priority last."""
        if self._alias_table is None:
            table: dict[str, tuple[str, ...]] = {}
            for name in sorted(self._files, key=self._priority):
                try:
                    aliases = self._claimed(name)
                except ProfileError:
                    continue  # reported when that profile itself is asked for
                for alias in aliases:
                    table[alias] = (*table.get(alias, ()), name)
            self._alias_table = table
        return self._alias_table

    def _claimed(self, name: str) -> list[str]:
        """Aliases that the file of ``name`` claims, read without what it extends."""
        for path in reversed(self._files[name]):
            file = self._read(path)
            aliases = file.table.get("aliases")
            if isinstance(aliases, list):
                return list(dict.fromkeys(_normal(a) for a in aliases if isinstance(a, str)))
            if file.table.get("extends") != name:
                break
        return []

    def _priority(self, name: str) -> tuple[int, str]:
        return self._folder(name), name

    def _folder(self, name: str) -> int:
        return self.dirs.index(self._files[name][-1].parent)

    def _clash(self, alias: str, owners: tuple[str, ...]) -> ProfileError:
        first, last = (self._files[owner][-1] for owner in (owners[0], owners[-1]))
        return ProfileError(
            f"{last}: alias {alias!r} is also an alias of {owners[0]!r} ({first})",
            next_step=f"remove {alias!r} from the aliases of one of them",
            details={"alias": alias, "profiles": list(owners)},
        )

    def _load(self, name: str) -> Profile:
        profile = self._profiles.get(name)
        if profile is None:
            profile = build_profile(self._chain(name))
            self._refuse_clashes(profile)
            self._profiles[name] = profile
        return profile

    def _refuse_clashes(self, profile: Profile) -> None:
        """Only the newcomer is refused: an added file must not break a profile that worked."""
        by_normal = {_normal(name): name for name in self._files}
        for alias in profile.aliases:
            other = by_normal.get(_normal(alias))
            if other is not None and self._folder(other) <= self._folder(profile.name):
                raise ProfileError(
                    f"{profile.source_file}: alias {alias!r} is the name of a profile "
                    f"({self._files[other][-1]})",
                    next_step=f"remove {alias!r} from its aliases",
                    details={"alias": alias, "profiles": [other, profile.name]},
                )
            owners = self._aliases().get(_normal(alias), ())
            if len(owners) > 1 and owners[0] != profile.name:
                raise self._clash(_normal(alias), (owners[0], profile.name))

    def _chain(self, name: str) -> list[ProfileFile]:
        """The file of ``name`` and all it extends, the most basic first.

        A file that extends its own name means the one it overrides.
        """
        path = self._files[name][-1]
        chain: list[ProfileFile] = []
        seen: dict[Path, None] = {}
        while True:
            if path in seen:
                loop = " -> ".join(p.stem for p in [*seen, path])
                raise ProfileError(
                    f"{path}: extends itself in a circle: {loop}",
                    next_step="remove one extends of that circle",
                )
            seen[path] = None
            file = self._read(path)
            chain.append(file)
            parent = file.table.get("extends", "")
            if not isinstance(parent, str):
                raise ProfileError(
                    f"{file.where('extends')} = {parent!r}: must be the name of one profile",
                    next_step='write it as extends = "rpi4"',
                )
            if not parent:
                return chain[::-1]
            path = self._parent(file, parent)

    def _parent(self, file: ProfileFile, parent: str) -> Path:
        if parent == file.name:
            paths = self._files[parent]
            below = paths[: paths.index(file.path)]
            if not below:
                raise ProfileError(
                    f"{file.where('extends')} = {parent!r}: a profile cannot extend itself, and "
                    "it overrides no other of that name",
                    next_step="name another profile, or remove extends",
                )
            return below[-1]
        found = self._find(parent)
        if found is None:
            names = [name for name in self.names() if name != file.name]
            raise ProfileError(
                f"{file.where('extends')} = {parent!r}: there is no profile of that name"
                f"{did_you_mean(parent, names)}",
                next_step=f"use one of: {', '.join(names)}",
            )
        return self._files[found][-1]

    def _unknown(self, asked: str) -> UnknownDevice:
        names = self.names()
        what = "no device matches" if _GLOB & set(asked) else "there is no device"
        broken = [str(error.message).partition(": ")[0] for error in self.working()[1]]
        hidden = f" (not readable, so not searched for aliases: {'; '.join(broken)})"
        return UnknownDevice(
            f"{what} {asked!r}{did_you_mean(_normal(asked), [*names, *self._aliases()])}"
            f"{hidden if broken else ''}",
            next_step=f"use one of: {', '.join(names)}; or put {_file_name(asked)} into a folder "
            "given by --edge-profiles",
            details={"asked": asked, "known": names},
        )


def _file_name(asked: str) -> str:
    return f"{asked}.toml" if asked and not _GLOB & set(asked) and "/" not in asked else "NAME.toml"


def _split(patterns: Sequence[str]) -> Iterator[str]:
    for text in patterns:
        parts = [part.strip() for part in text.split(",")]
        if not any(parts):
            raise OptionError(
                f"{text!r} names no device",
                next_step="write it as --device=rpi4, --device=rpi4,rpi5 or --device=all",
            )
        yield from (part for part in parts if part)


def _normal(name: str) -> str:
    return name.strip().lower().replace("_", "-")
