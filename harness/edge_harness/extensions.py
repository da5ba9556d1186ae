"""What other distributions add by entry point: listed without importing any of it, loaded one by
one, so that one that is broken harms no other."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Collection
from dataclasses import dataclass
from importlib import metadata

from edge_harness.errors import BrokenExtension


@dataclass(frozen=True, kw_only=True)
class Extension:
    """One entry point."""

    group: str
    name: str
    target: str
    """``module:attribute``."""
    distribution: str
    """Name and version of the distribution that adds it."""
    trouble: str = ""
    """Why it cannot be had although it is listed."""
    rival: str = ""
    """Name and version of another distribution that adds one of the same name."""

    def broken(self, trouble: str) -> BrokenExtension:
        """The error for this extension, naming whose it is."""
        what = self.group.rpartition(".")[2].removesuffix("s")
        owner = self.distribution.partition(" ")[0]
        step = f"mend, update or uninstall {owner}; nothing else is touched by it"
        if self.rival:
            rival = self.rival.partition(" ")[0]
            step = (
                f"uninstall {rival} or {owner}: while both are here neither's {what} "
                f"{self.name!r} is to be had; nothing else is touched by it"
            )
        return BrokenExtension(
            f"the {what} {self.name!r} of {self.distribution} is broken: {trouble}",
            next_step=step,
            details={what: self.name, "distribution": self.distribution},
        )

    def load(self) -> object:
        """The object it names.

        Raises:
            BrokenExtension: it cannot be imported, or is not there.
        """
        if self.trouble:
            raise self.broken(self.trouble)
        module, _, attribute = self.target.partition(":")
        try:
            found: object = importlib.import_module(module)
            for part in attribute.split("."):
                found = getattr(found, part)
        except (Exception, SystemExit) as error:
            raise self.broken(
                f"{self.target} cannot be loaded: {type(error).__name__}: {error}"
            ) from error
        return found


@functools.lru_cache(maxsize=8)
def extensions(group: str, reserved: Collection[str] = ()) -> tuple[Extension, ...]:
    """Entry points of ``group``, one a name, sorted; imports none of them.

    Args:
        group: as ``edge_harness.engines``.
        reserved: names that no extension may take, as a tuple or frozenset: those of what is
            built in, whose meaning may not depend on what else is installed.
    """
    found: dict[str, Extension] = {}
    for point in metadata.entry_points(group=group):
        dist = point.dist
        owner = f"{dist.name} {dist.version}" if dist is not None else "an unknown distribution"
        earlier = found.get(point.name)
        trouble = f"the name {point.name!r} is taken" if point.name in reserved else ""
        rival = ""
        if earlier is not None:
            if (earlier.target, earlier.distribution) == (point.value, owner):
                continue  # one distribution, found twice on the path
            if not trouble:
                rival = earlier.distribution
                trouble = f"{rival} has one of the same name"
        found[point.name] = Extension(
            group=group,
            name=point.name,
            target=point.value,
            distribution=owner,
            trouble=trouble,
            rival=rival,
        )
    return tuple(found[name] for name in sorted(found))
