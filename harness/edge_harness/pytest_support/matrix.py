"""Which test runs on which devices: the selection, narrowed by the ``edge`` marks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from edge_harness.pytest_support.marks import Wanted, marks_of

if TYPE_CHECKING:
    from edge_harness.pytest_support.pool import Pool


def parametrize(metafunc: pytest.Metafunc, pool: Pool | None) -> None:
    """Give the test one parameter for each selected device it is meant for; starts nothing.

    Raises:
        UserError: a mark is wrong.
    """
    marks = marks_of(metafunc.definition)
    if pool is None:
        return  # the test is skipped, but a wrong mark is an error all the same
    chosen = [profile.name for profile in pool.profiles]
    if marks.devices is not None:
        meant = pool.names(marks.devices)
        chosen = [name for name in chosen if name in meant]
    if chosen:
        parameters = [
            pytest.param(Wanted(name=name, needs=marks.needs, engine=marks.engine), id=name)
            for name in chosen
        ]
    else:
        # Skipped, not dropped: a test that vanishes is missed by nobody.
        reason = (
            f"meant for {', '.join(marks.devices or ())}; selected: "
            f"{', '.join(profile.name for profile in pool.profiles)}"
        )
        parameters = [pytest.param(None, id="no-device", marks=pytest.mark.skip(reason=reason))]
    metafunc.parametrize("_edge_wanted", parameters, indirect=True, scope="session")
