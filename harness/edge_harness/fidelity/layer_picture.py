"""A walk through the layers as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edge_harness.errors import MissingTool, OptionError
from edge_harness.fidelity.layer_rows import Layer


def draw(rows: Sequence[Layer], first: Layer | None, path: Path) -> Path:
    """Draw the error of each of ``rows`` to ``path`` (``.svg``, ``.png``, ``.pdf``), and where the
    ``first`` over tolerance is.

    Raises:
        MissingTool: the package ``matplotlib`` is not installed (extra ``plot``).
        OptionError: the file's ending is not known.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingTool(
            "a picture of the layers needs the package matplotlib, which is not installed here",
            next_step="pip install 'pytest-edge-harness[plot]'",
        ) from None
    if path.suffix.lower() not in (".svg", ".png", ".pdf"):
        raise OptionError(
            f"{path.name!r} has no ending of a picture", next_step="use .svg, .png or .pdf"
        )
    # Not through pyplot: that would choose a window system and keep the figure.
    figure = Figure(figsize=(max(6.0, 0.22 * len(rows) + 2), 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    kinds = [kind for kind in (True, False) if any(r.in_steps is kind for r in rows)]
    axes = figure.subplots(len(kinds) or 1, 1, squeeze=False, sharex=True)[:, 0]
    for axis, in_steps in zip(axes, kinds, strict=False):
        chosen = [row for row in rows if row.in_steps is in_steps]
        axis.plot(
            [r.position for r in chosen], [r.error for r in chosen], "o-", ms=3, lw=1, label="error"
        )
        alone = [(r.position, r.introduced) for r in chosen if r.introduced is not None]
        if alone:
            places, values = zip(*alone, strict=True)
            label = "introduced by the operator"
            axis.vlines(places, 0, values, lw=3, alpha=0.4, color="tab:orange", label=label)
        axis.set_ylabel("quantization steps" if in_steps else "share of greatest value")
        if not in_steps and any(r.error > 0 for r in chosen):
            axis.set_yscale("symlog", linthresh=1e-7)
        axis.grid(visible=True, alpha=0.3)
    if first is not None:
        for axis in axes:
            axis.axvline(
                first.position, color="tab:red", lw=1, ls="--", label="first over tolerance"
            )
        axes[0].set_title(f"first over tolerance: #{first.position} {first.op}", fontsize=10)
    axes[-1].set_xlabel("operator")
    axes[0].legend(fontsize=8)
    figure.savefig(path)
    return path
