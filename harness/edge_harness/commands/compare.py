"""``edge-harness compare``: one model on a device beside a reference."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from edge_harness.models.samples import DRAWN, SEED, arrange_samples, drawn, read_samples

if TYPE_CHECKING:
    from edge_harness.device.session import Session
    from edge_harness.fidelity import Report
    from edge_harness.profiles import Profile


def compare(
    model: str,
    reference: str | None,
    *,
    profile: Profile,
    engine: str,
    samples: str | None,
    kind: str | None,
    by: str,
    runtime: str | None,
    threads: int,
    kernels: str,
    tolerances: Sequence[str],
    layers: bool,
    plot: str | None,
    as_json: bool,
    say: Callable[[str], None],
    show: Callable[[str], None],
) -> bool:
    """Compare, print, and say whether it passed.

    Raises:
        EdgeError: something is wrong with the request, the device or the machinery.
    """
    from edge_harness import fidelity
    from edge_harness.device.device import sweep
    from edge_harness.fidelity.tolerances import parse_tolerances
    from edge_harness.opening import open_device

    limits = parse_tolerances(tolerances)
    fidelity.DEFAULTS.but(limits)
    given = None if samples is None else read_samples(samples)
    # What is wrong with the request was said before anything is started.
    sweep()
    with (
        open_device(profile, engine=engine, progress=say) as device,
        device.load(model, runtime=runtime, threads=threads, kernels=kernels) as session,
    ):
        if samples is None or given is None:
            arrays, labels = drawn(session.inputs), None
        else:
            arrays, labels = arrange_samples(given, session.inputs, samples)
        options: dict[str, Any] = {"by": by, "tolerances": limits}
        report = fidelity.compare(session, reference, arrays, kind=kind, labels=labels, **options)
        walk = _walk(session, reference, report, options) if layers or plot else None
    if walk is not None and plot:
        walk.plot(plot)
    if as_json:
        content = report.as_dict()
        content["samples_from"] = samples or f"{DRAWN} drawn at random, seed {SEED}"
        if walk is not None:
            content["layers"] = walk.as_dict()
        show(json.dumps(content, indent=1))
    else:
        show(str(report))
        if samples is None:
            show(
                f"  {DRAWN} samples were drawn at random (seed {SEED}): of quantization they say "
                "little; give real ones with --samples"
            )
        if walk is not None:
            show(f"\n{walk}")
    return report.passed


def _walk(
    session: Session, reference: str | None, report: Report, options: Mapping[str, Any]
) -> Any:
    """Through the layers, on the sample that was worst."""
    from edge_harness import fidelity

    assert report.worst is not None
    return fidelity.layers(session, reference, list(report.worst.inputs), **options)
