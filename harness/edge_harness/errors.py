"""Every way a run can go wrong, drawn once.

::

    EdgeError
    ├── UserError              what was asked for cannot be right: fix the request
    │   ├── OptionError        a command-line option, ini value or marker
    │   ├── ProfileError       a device profile file
    │   ├── UnknownDevice      no profile of that name
    │   ├── ModelError         a model file: missing, truncated, wrong format
    │   │   └── UnsupportedModel   a sound file that this runtime cannot execute
    │   ├── InputError         tensors that do not fit the model
    │   ├── EvidenceError      a figure or verdict that cannot be one
    │   └── MissingAbility  the engine cannot prove what the test needs
    ├── DeviceFailed           the device did what the real board would do: a finding
    │   ├── IllegalInstruction
    │   ├── Segfault
    │   ├── BusError
    │   ├── OutOfMemory
    │   ├── ProcessDied        any other exit or signal of a process on the device
    │   ├── RuntimeFailed      the runtime on the device raised an error of its own
    │   └── DeviceTimeout
    ├── InfrastructureError    the machinery failed: says nothing about the model
    │   ├── MissingTool        QEMU, Docker, apt-get … is not there
    │   ├── CacheError         the cache folder is full, read-only or damaged
    │   ├── ImageBuildFailed
    │   ├── BrokenExtension    what another distribution adds by entry point cannot be had
    │   ├── BootFailed         the device did not come up, or is not the profile's
    │   └── EmulatorCrashed
    └── InternalError          a bug of ours: please report it

A test that ends in ``DeviceFailed`` or ``UserError`` is a failed test; one that ends in
``InfrastructureError`` is an error of the set-up and never a red model.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

_E = TypeVar("_E", bound="EdgeError")


class EdgeError(Exception):
    """Root of all errors raised by this package.

    ``message`` says what was given and why it is wrong, ``next_step`` what to do about it,
    ``details`` holds the facts as plain JSON values. All three survive pickling, which
    pytest-xdist and multiprocessing rely on.
    """

    def __init__(
        self, message: str, *, next_step: str = "", details: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.next_step = next_step
        self.details: dict[str, Any] = dict(details or {})

    def __str__(self) -> str:
        return f"{self.message}\n  next: {self.next_step}" if self.next_step else self.message

    def but(
        self: _E, *, message: str | None = None, details: Mapping[str, Any] | None = None
    ) -> _E:
        """The same error with another message, or with more ``details``; this one stays as it
        is, since whoever else holds it would find it changed. Where it is raised instead, the
        traceback goes on from there: ``raise error.but(…) from error.__cause__``."""
        changed = _rebuild(
            type(self),
            self.message if message is None else message,
            self.next_step,
            {**self.details, **(details or {})},
        )
        return changed.with_traceback(self.__traceback__)

    def __reduce__(self) -> tuple[Any, ...]:
        return (_rebuild, (type(self), self.message, self.next_step, self.details))


def _rebuild(cls: type[_E], message: str, next_step: str, details: dict[str, Any]) -> _E:
    return cls(message, next_step=next_step, details=details)


class UserError(EdgeError):
    """What was asked for cannot be right."""


class OptionError(UserError):
    """A command-line option, ini value, environment variable or marker argument is wrong."""


class ProfileError(UserError):
    """A device profile file is not valid."""


class UnknownDevice(UserError):
    """No profile has the requested name."""


class ModelError(UserError):
    """A model file is missing, truncated, or not what its name says."""


class UnsupportedModel(ModelError):
    """The model is sound, but this runtime on this device cannot execute it."""


class InputError(UserError):
    """Tensors that do not fit the model's inputs."""


class EvidenceError(UserError):
    """A figure or a verdict that cannot be one, or cannot be read."""


class MissingAbility(UserError):
    """The chosen engine cannot prove what the test needs."""


class DeviceFailed(EdgeError):
    """The device failed the way the real board would."""


class IllegalInstruction(DeviceFailed):
    """A process executed an instruction that the device's CPU does not have (SIGILL)."""


class Segfault(DeviceFailed):
    """A process touched memory it does not own (SIGSEGV)."""


class BusError(DeviceFailed):
    """A process made a misaligned or impossible access (SIGBUS)."""


class OutOfMemory(DeviceFailed):
    """A process needed more memory than the device has."""


class ProcessDied(DeviceFailed):
    """A process on the device ended by a signal or exit status that has no class of its own."""


class RuntimeFailed(DeviceFailed):
    """The runtime on the device reported an error while loading or running the model."""


class DeviceTimeout(DeviceFailed):
    """The device did not answer in time; the last lines of its log are in the message."""


class InfrastructureError(EdgeError):
    """The machinery failed; this says nothing about the model."""


class MissingTool(InfrastructureError):
    """A program or service this engine needs is not on this machine."""


class BrokenExtension(InfrastructureError):
    """An engine or runtime of another distribution cannot be loaded, or is not what it claims."""


class CacheError(InfrastructureError):
    """The cache folder is full, read-only or damaged."""


class ImageBuildFailed(InfrastructureError):
    """The device's root filesystem could not be put together."""


class BootFailed(InfrastructureError):
    """The device did not come up, or is not what its profile says."""


class EmulatorCrashed(InfrastructureError):
    """QEMU itself failed; the guest is not to blame."""


class InternalError(EdgeError):
    """A bug of ours."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """``; did you mean 'rpi4'?`` for the end of a message, or "" where nothing is near ``word``."""
    import difflib  # not before something is wrong

    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else ""
