"""What the project in the current folder says in the ini file that pytest would read there, so
that a command means the same boards as ``pytest`` does."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edge_harness.errors import OptionError


@dataclass(frozen=True, kw_only=True)
class Project:
    """The root folder as pytest determines it, and the ini values there."""

    root: Path
    ini: Path | None = None
    values: Mapping[str, Any] = field(default_factory=dict)

    def words(self, name: str) -> tuple[str, ...]:
        """An ini value of pytest's type ``args``.

        Raises:
            OptionError: it is something else.
        """
        value = self._given(name)
        if isinstance(value, str):
            try:
                return tuple(shlex.split(value))
            except ValueError as error:
                raise self._wrong(name, value, str(error)) from None
        return self._texts(name, value)

    def lines(self, name: str) -> tuple[str, ...]:
        """An ini value of pytest's type ``linelist``."""
        value = self._given(name)
        if isinstance(value, str):
            return tuple(line.strip() for line in value.splitlines() if line.strip())
        return self._texts(name, value)

    def text(self, name: str) -> str:
        """An ini value of pytest's type ``string``."""
        value = self._given(name) or ""
        if not isinstance(value, str):
            raise self._wrong(name, value, "it is no text")
        return value.strip()

    def _given(self, name: str) -> Any:
        return self.values.get(name, ())

    def _texts(self, name: str, value: Any) -> tuple[str, ...]:
        if isinstance(value, (list, tuple)) and all(isinstance(each, str) for each in value):
            return tuple(value)
        raise self._wrong(name, value, "it is no list of texts")

    def _wrong(self, name: str, value: Any, why: str) -> OptionError:
        return OptionError(
            f"{self.ini}: the ini value {name} = {value!r} cannot be read: {why}",
            next_step="write it as pytest takes it; docs/pytest.md has examples",
        )


def project_at(folder: Path) -> Project:
    """The project that pytest would find from ``folder``.

    The same files in the same order: in each folder upwards ``pytest.toml``, ``pytest.ini``,
    ``pyproject.toml``, ``tox.ini``, ``setup.cfg`` (the first two also with a dot before), and the
    first that speaks of pytest is the one (pytest documentation, "Configuration file formats").

    Raises:
        OptionError: pytest could not read it either.
    """
    candidate: Path | None = None
    upwards = (folder, *folder.parents)
    for base in upwards:
        for name, read in _READERS.items():
            path = base / name
            if not path.is_file():
                continue
            if name == _PYPROJECT and candidate is None:
                candidate = path
            try:
                values = read(path)
            except (OSError, ValueError) as error:
                raise OptionError(
                    f"{path} cannot be read: {error}", next_step="correct it; pytest reads it too"
                ) from None
            if values is not None:
                return Project(root=base, ini=path, values=values)
    if candidate is not None:
        return Project(root=candidate.parent, ini=candidate)
    root = next((base for base in upwards if (base / "setup.py").is_file()), folder)
    return Project(root=root)


def asked_for(project: Project, environment: Mapping[str, str] = os.environ) -> tuple[str, ...]:
    """The devices to take where the command line names none: ``EDGE_DEVICE`` goes before the
    ini file; empty where neither says anything."""
    named = tuple(w.strip() for w in environment.get("EDGE_DEVICE", "").split(",") if w.strip())
    return named or project.words("edge_devices")


def engine_asked_for(
    project: Project, environment: Mapping[str, str] = os.environ
) -> tuple[str, str]:
    """The engine to take where the command line names none, and what says so; both may be
    empty."""
    named = environment.get("EDGE_ENGINE", "").strip()
    if named:
        return named, "environment variable EDGE_ENGINE"
    return project.text("edge_engine"), f"ini value edge_engine in {project.ini}"


def profile_folders(project: Project) -> tuple[Path, ...]:
    """Folders of the project's own profiles, relative to its ini file."""
    base = project.ini.parent if project.ini is not None else project.root
    return tuple(base / Path(line).expanduser() for line in project.lines("edge_profiles"))


# -- the files -------------------------------------------------------------------------------------

_Values = Mapping[str, Any]
_PYPROJECT = "pyproject.toml"


def _pytest_toml(path: Path) -> _Values | None:
    if not _pytest_reads_toml():
        return None
    return _table(_toml(path).get("pytest"))


def _pyproject(path: Path) -> _Values | None:
    tool = _table(_toml(path).get("tool"))
    ours = _table(tool.get("pytest"))
    native = {name: value for name, value in ours.items() if name != "ini_options"}
    if native and _pytest_reads_toml():
        return native
    classic = ours.get("ini_options")
    return None if classic is None else _table(classic)


def _ini(section: str, *, always: bool = False) -> Callable[[Path], _Values | None]:
    def read(path: Path) -> _Values | None:
        import iniconfig

        try:
            file = iniconfig.IniConfig(str(path))
        except iniconfig.ParseError as error:
            raise ValueError(str(error)) from None
        if section in file:
            return dict(file[section].items())
        return {} if always else None

    return read


#: Most important first, as in pytest's own order.
_READERS: Mapping[str, Callable[[Path], _Values | None]] = {
    "pytest.toml": _pytest_toml,
    ".pytest.toml": _pytest_toml,
    "pytest.ini": _ini("pytest", always=True),
    ".pytest.ini": _ini("pytest", always=True),
    _PYPROJECT: _pyproject,
    "tox.ini": _ini("pytest"),
    "setup.cfg": _ini("tool:pytest"),
}


def _table(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _toml(path: Path) -> Mapping[str, Any]:
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    found: Mapping[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    return found


def _pytest_reads_toml() -> bool:
    """Native TOML came with pytest 9; an older one passes over it."""
    from importlib.metadata import version

    return int(version("pytest").partition(".")[0]) >= 9
