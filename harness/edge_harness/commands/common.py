"""What all commands share: options spelt one way, the boards they mean, and how they answer."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from edge_harness.commands.status import Status, broken_pipe, complain, ending, of_error, worst

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from edge_harness.commands.project import Project
    from edge_harness.profiles import Profile, ProfileRegistry

_F = TypeVar("_F", bound=Callable[..., Any])
#: Where neither the command line nor the project names a board.
DEFAULT_DEVICE = "rpi4"
#: Characters that make a name one for several devices.
_SEVERAL = frozenset(",*?[")


# -- options ---------------------------------------------------------------------------------------


if TYPE_CHECKING:
    _TextType = click.ParamType[str]
else:
    _TextType = click.ParamType  # generic from click 8.2 on


class OneOf(_TextType):
    """A name from a registry, which is asked when it is needed and not before."""

    def __init__(self, what: str, names: Callable[[], Iterable[str]]) -> None:
        self.name = what
        self._names = names

    def get_metavar(self, param: click.Parameter, ctx: click.Context | None = None) -> str:
        return f"[{'|'.join(self._names())}]"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        known = tuple(self._names())
        if value not in known:
            self.fail(f"there is no {self.name} {value!r}; use one of: {', '.join(known)}")
        return str(value)


class RuntimeName(_TextType):
    """A runtime, by name or pinned, as the table of runtimes takes it."""

    name = "runtime"

    def get_metavar(self, param: click.Parameter, ctx: click.Context | None = None) -> str:
        from edge_harness.runtimes import RUNTIMES

        return f"[{'|'.join(RUNTIMES)}|PACKAGE==VERSION]"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        from edge_harness.errors import OptionError
        from edge_harness.runtimes import named

        try:
            named(str(value))
        except OptionError as error:
            self.fail(f"{error.message}; {error.next_step}")
        return str(value)


def _engines() -> Iterable[str]:
    from edge_harness.engines.registry import engine_choices

    return engine_choices()


def _kernels() -> Iterable[str]:
    from edge_harness.runtimes import RUNTIMES

    options = [option for row in RUNTIMES.values() for option in row.options]
    return dict.fromkeys(word for o in options if o.name == "kernels" for word in o.allowed)


ENGINE = OneOf("engine", _engines)


def device_option(
    text: str = "Board to take: a name, an alias, a comma list, a glob or 'all'; may be repeated. "
    f"Default: the project's (ini value edge_devices), else {DEFAULT_DEVICE}.",
) -> Callable[[_F], _F]:
    """``--device``, as ``devices``; what it means says :func:`selected`."""
    return click.option("--device", "devices", multiple=True, metavar="NAME", help=text)


def engine_option(
    text: str = "What brings the board to life. Default: the project's (ini value edge_engine), "
    "else auto.",
) -> Callable[[_F], _F]:
    """``--engine``, as ``engine``; None where it was not given: :func:`engine_for`."""
    return click.option("--engine", type=ENGINE, help=text)


def runtime_option() -> Callable[[_F], _F]:
    """``--runtime``."""
    return click.option(
        "--runtime",
        type=RuntimeName(),
        help="Runtime to load models with. Default: the board's for the format.",
    )


def kernels_option() -> Callable[[_F], _F]:
    """``--kernels``."""
    return click.option(
        "--kernels",
        type=OneOf("set of kernels", _kernels),
        help="Kernels of the runtime, where it has several. Default: its own.",
    )


def threads_option() -> Callable[[_F], _F]:
    """``--threads``."""
    return click.option(
        "--threads",
        type=click.IntRange(min=1),
        default=1,
        show_default=True,
        help="Threads of the runtime.",
    )


def samples_option() -> Callable[[_F], _F]:
    """``--samples``."""
    return click.option(
        "--samples",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="Inputs of the model: an .npz file with an array for each, samples along the first "
        "axis; or .npy, where it has one.",
    )


def json_option() -> Callable[[_F], _F]:
    """``--json``, as ``as_json``."""
    return click.option("--json", "as_json", is_flag=True, help="One JSON document, for programs.")


# -- the project and its boards --------------------------------------------------------------------


def project() -> Project:
    """The project in the current folder, read once for a command."""
    from edge_harness.commands.project import project_at

    memory = click.get_current_context().meta
    name = f"{__name__}.project"
    if name not in memory:
        memory[name] = project_at(Path.cwd())
    found: Project = memory[name]
    return found


def registry() -> ProfileRegistry:
    """Built-in profiles, the project's and those in ``--edge-profiles``."""
    from edge_harness.commands.project import profile_folders
    from edge_harness.profiles import default_registry

    here = project()
    named: Sequence[str] = click.get_current_context().find_root().params.get("profile_dirs", ())
    extra = [Path(name) for name in named] or list(profile_folders(here))
    own = Path.cwd() / "device_profiles"
    if here.root != Path.cwd() and own.is_dir():
        extra.insert(0, own)
    return default_registry(extra_dirs=extra, rootdir=here.root)


@dataclass(frozen=True)
class Boards:
    """The devices a command is about."""

    profiles: tuple[Profile, ...]
    several: bool
    """Whether they were asked for as several: by a list, a glob or ``all``. Known from the
    request alone, so that a program knows which form of JSON it will get."""


def selected(devices: Sequence[str]) -> Boards:
    """The boards for ``--device``, by default the project's.

    Raises:
        UnknownDevice, ProfileError, OptionError: as :meth:`ProfileRegistry.select`.
    """
    from edge_harness.commands.project import asked_for
    from edge_harness.errors import UserError

    known = registry()
    if devices:
        return Boards(tuple(known.select(devices)), _several(devices))
    names = asked_for(project())
    if not names:
        return Boards((known.get(DEFAULT_DEVICE),), several=False)
    try:
        return Boards(tuple(known.select(names)), _several(names))
    except UserError as error:
        where = f"the project's devices (EDGE_DEVICE, or edge_devices in {project().ini})"
        raise error.but(message=f"{where}: {error.message}") from None


def _several(names: Sequence[str]) -> bool:
    return len(names) > 1 or any(_SEVERAL & set(n) or n.strip().lower() == "all" for n in names)


def engine_for(engine: str | None) -> str:
    """The engine for ``--engine``, by default the project's, else ``auto``.

    Raises:
        OptionError: the project names one that does not exist.
    """
    if engine is not None:
        return engine
    from edge_harness.commands.project import engine_asked_for
    from edge_harness.engines.registry import AUTO
    from edge_harness.errors import OptionError

    name, source = engine_asked_for(project())
    try:
        return ENGINE.convert(name or AUTO, None, None)
    except click.BadParameter as error:
        raise OptionError(f"{source}: {error.message}", next_step="correct it there") from None


# -- answers ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Answer:
    """What a command has to say of one board."""

    status: Status
    show: Callable[[], None]
    """Prints it for people."""
    document: Any
    """The same as plain JSON values, for programs."""


def answer_for_each(boards: Boards, ask: Callable[[Profile], Answer], *, as_json: bool) -> int:
    """Ask about each board, show the answers, and return the worst status.

    An error concerns its board alone where there are several: the others are asked all the same.
    In JSON there is one document: the answer, or a list of them, in which a board without an
    answer has ``{"device": …, "error": …}``.

    Raises:
        EdgeError: about the only board.
    """
    statuses: list[int] = []
    documents: list[Any] = []
    for profile in boards.profiles:
        with one_of(boards, profile) as outcome:
            answer = ask(profile)
            statuses.append(answer.status)
            documents.append(answer.document)
            if not as_json:
                heading(boards, profile)
                answer.show()
        if outcome.error:
            statuses.append(outcome.status)
            documents.append({"device": profile.name, "error": outcome.error})
    if as_json:
        show_json(documents if boards.several else documents[0])
    return worst(statuses)


@dataclass
class Outcome:
    """How it went with one of several boards."""

    status: Status = Status.HELD
    error: str = ""


@contextmanager
def one_of(boards: Boards, profile: Profile, ours: Status | None = None) -> Iterator[Outcome]:
    """Keep an error about one of several boards from the others; it is told at once.

    Args:
        ours: The status of an error instead of its own.
    """
    from edge_harness.errors import EdgeError, InternalError

    outcome = Outcome()
    try:
        yield outcome
    except EdgeError as error:
        if len(boards.profiles) == 1 or isinstance(error, InternalError):
            raise
        complain(error, about=profile.name)
        outcome.status, outcome.error = ours or of_error(error), str(error)


def heading(boards: Boards, profile: Profile) -> None:
    """Say which of several boards what follows is about."""
    if boards.several:
        click.echo(f"== {profile.name} ==")


def show_json(document: Any) -> None:
    """The one document on standard output."""
    click.echo(json.dumps(document, indent=1))


class Program(click.Command):
    """A command that ends with the status of a program it started: whatever kept the program
    from having one ends with a status that says so."""

    def make_context(self, *arguments: Any, **options: Any) -> click.Context:
        with ending(Status.OURS):
            return super().make_context(*arguments, **options)

    def invoke(self, ctx: click.Context) -> Any:
        with ending(Status.OURS):
            return super().invoke(ctx)


# -- the screen ------------------------------------------------------------------------------------


@contextmanager
def progress() -> Iterator[Callable[[str], None]]:
    """Where to say what is going on: a moving line on a terminal, plain lines elsewhere."""
    if not sys.stderr.isatty():
        yield lambda text: click.echo(text, err=True)
        return
    from rich.console import Console

    with Console(stderr=True).status("…") as status:
        yield lambda text: status.update(text.replace("[", r"\["))


def results(say: Callable[[str], None]) -> Callable[[str], None]:
    """Where a long work tells its results: they stay on the screen, and on a terminal what is
    under way is shown by ``say`` while it lasts."""

    def show(text: str) -> None:
        if sys.stderr.isatty() and text.startswith(("fetching", "building")):
            say(text)
        else:
            click.echo(text)

    return show


def console() -> Console:
    """Standard output with colours where it is a terminal."""
    from rich.console import Console

    class Ours(Console):
        def on_broken_pipe(self) -> None:
            broken_pipe()  # rich itself would end with 1, which means something else here

    return Ours(highlight=False)


def print_table(table: Table, to: Console) -> None:
    """``table`` as wide as the terminal; in a pipe or file, a row is a line, however long, and
    has no blanks at its end."""
    if to.is_terminal:
        to.print(table)
        return
    width, to.width = to.width, _ANY
    try:
        with to.capture() as capture:
            to.print(table)
    finally:
        to.width = width
    for line in capture.get().splitlines():
        to.out(line.rstrip(), highlight=False)


_ANY = 10_000
