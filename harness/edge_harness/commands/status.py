"""What the commands end with: one list for all of them (docs/cli.md shows the same)."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from enum import IntEnum
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from edge_harness.evidence import VerdictWord

#: Set to anything to see the traceback of a bug.
DEBUG_VARIABLE = "EDGE_HARNESS_DEBUG"


class Status(IntEnum):
    """Exit statuses. What a program under ``run`` or ``shell`` ended with is none of these but
    its own."""

    HELD = 0
    """What was asked for was done, and every check held."""
    FAILED = 1
    """A check failed, or the device died."""
    MISUSE = 2
    """The request cannot be right."""
    INFRASTRUCTURE = 3
    """This machine lacks something, or the machinery failed: no word about the model."""
    UNDECIDED = 4
    """Inconclusive or vacuous: looked at, and neither held nor failed. Skipped, too."""
    BUG = 5
    """A bug of ours."""
    OURS = 125
    """Of ``run`` and ``shell``: not the program's own, but any of the statuses 1 to 5. What
    ``docker run`` and ``env`` say this with."""
    INTERRUPTED = 130
    """Ctrl-C: 128 and the number of SIGINT, as a shell has it."""
    BROKEN_PIPE = 141
    """Whoever read the output has gone: 128 and the number of SIGPIPE."""


#: Which status a whole gets from its parts: the first of these that a part has. What failed on
#: one device stays failed whatever kept another from an answer; an answer is missing before it
#: is undecided.
_WORST_FIRST = (
    Status.BUG,
    Status.FAILED,
    Status.MISUSE,
    Status.INFRASTRUCTURE,
    Status.UNDECIDED,
)


def worst(statuses: Iterable[int]) -> Status:
    """The status of all together."""
    found = set(statuses)
    return next((status for status in _WORST_FIRST if status in found), Status.HELD)


def worst_of_programs(statuses: Iterable[int]) -> int:
    """The status of all together, where they are programs' own: where one could not be run at
    all that is the worst, else the highest."""
    found = set(statuses)
    return Status.OURS if Status.OURS in found else max(found, default=Status.HELD)


def of_error(error: BaseException) -> Status:
    """The status for an error of ours; any other exception is a bug."""
    from edge_harness.errors import DeviceFailed, InfrastructureError, UserError

    for kind, status in (
        (UserError, Status.MISUSE),
        (DeviceFailed, Status.FAILED),
        (InfrastructureError, Status.INFRASTRUCTURE),
    ):
        if isinstance(error, kind):
            return status
    return Status.BUG


def of_verdict(word: VerdictWord) -> Status:
    """The status for a verdict."""
    if word == "passed":
        return Status.HELD
    return Status.FAILED if word == "failed" else Status.UNDECIDED


def complain(error: object, *, about: str = "") -> None:
    """One message on standard error, with what to do next."""
    with contextlib.suppress(BrokenPipeError):  # nobody reads it: the status tells all the same
        click.echo(f"edge-harness: {f'{about}: ' if about else ''}{error}", err=True)


@contextmanager
def ending(ours: Status | None = None) -> Iterator[None]:
    """Turn whatever the block raises into one message and an exit status.

    Args:
        ours: What to end with instead of 1 to 5, where those are a program's own.
    """
    from edge_harness.errors import EdgeError, InternalError

    try:
        yield
    except KeyboardInterrupt:
        sys.exit(Status.INTERRUPTED)
    except click.Abort:
        raise
    except click.exceptions.Exit:
        raise
    except click.ClickException as error:
        if ours is None:
            raise
        error.show()
        sys.exit(ours)
    except BrokenPipeError:
        broken_pipe()
    except EdgeError as error:
        _show_traceback(isinstance(error, InternalError))
        complain(error)
        sys.exit(ours or of_error(error))
    except Exception as error:
        _show_traceback(True)
        complain(
            f"a bug of ours: {type(error).__name__}: {error}\n  next: please report it with what "
            f"{DEBUG_VARIABLE}=1 adds to the same command"
        )
        sys.exit(ours or Status.BUG)


def _show_traceback(is_bug: bool) -> None:
    if is_bug and os.environ.get(DEBUG_VARIABLE):
        import traceback

        traceback.print_exc()


def broken_pipe() -> None:
    """End as programs do whose output nobody reads on (``edge-harness devices | head``)."""
    # The interpreter must not complain of the same when it flushes at exit.
    devnull = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (BrokenPipeError, ValueError):
            os.dup2(devnull, stream.fileno())
        except AttributeError:  # closed by whoever started us
            pass
    sys.exit(Status.BROKEN_PIPE)
