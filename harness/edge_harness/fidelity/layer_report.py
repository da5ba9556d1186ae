"""What a walk through two graphs found: rows, table, picture."""

from __future__ import annotations

import io
import math
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_harness.errors import MissingTool, OptionError
from edge_harness.evidence import Figure, FigureKind, Verdict

if TYPE_CHECKING:
    from rich.table import Table


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One operator. Errors are in quantization steps of its output (``in_steps``), or as a share
    of the greatest value of the reference's output."""

    position: int
    op: str
    name: str
    """Of its output on the device."""
    reference_name: str
    dtype: str
    in_steps: bool
    error: float
    """Greatest absolute error of its output, whatever caused it."""
    introduced: float | None
    """Greatest absolute error on the reference's inputs: what it adds itself. None where it was
    not run by itself, because it is within tolerance as it is, or cannot be."""
    mean: float
    """Mean signed error."""
    sqnr_db: float
    over: bool
    """Whether what it adds (or, where that is not known, its error) is over tolerance."""
    cause: str
    """Likely cause; empty where the errors follow no known pattern, or are within tolerance."""

    @property
    def propagated(self) -> bool:
        """Whether it is off by more than it adds."""
        return self.introduced is not None and self.error > self.introduced

    def _amount(self, value: float | None) -> str:
        if value is None:
            return "–"
        if not self.in_steps:
            return f"{value:.1e}" if value else "0"
        return f"{value:.3g}"


@dataclass(frozen=True, kw_only=True, repr=False)
class LayerReport:
    """What :func:`edge_harness.fidelity.layers` found."""

    layers: tuple[Layer, ...]
    unmatched: tuple[str, ...]
    """Tensors of the device's graph without a counterpart."""
    device: str
    reference: str
    disturbed: bool | None
    """Whether watching changed the outputs (a runtime that fuses operators computes otherwise
    when it must show what is between them). None: nothing to fuse."""
    not_isolated: str = ""
    """Why operators could not be run by themselves, where they could not."""
    warnings: tuple[str, ...] = ()
    figure_kind: FigureKind = "emulated"
    """How the device's tensors came about."""

    @property
    def first(self) -> Layer | None:
        """The first layer over tolerance."""
        return next((layer for layer in self.layers if layer.over), None)

    @property
    def verdict(self) -> Verdict:
        """``failed`` where a layer is over tolerance, ``vacuous`` where none was compared."""
        if not self.layers:
            return Verdict(word="vacuous", reason="no layer was compared")
        first = self.first
        worst = first or max(self.layers, key=lambda layer: layer.error)
        figure = Figure(
            value=worst.error if worst.introduced is None else worst.introduced,
            unit="steps" if worst.in_steps else "of the output's greatest value",
            kind=self.figure_kind,
            source=f"#{worst.position} {worst.op}: {self.device}; reference: {self.reference}",
        )
        if first is None:
            return Verdict(word="passed", figures=(figure,))
        told = f": {first.cause}" if first.cause else ""
        return Verdict(
            word="failed",
            reason=f"first over tolerance: #{first.position} {first.op}{told}",
            figures=(figure,),
        )

    @property
    def passed(self) -> bool:
        """Whether layers were compared and none is over tolerance."""
        return self.verdict.word == "passed"

    def table(self, *, all_layers: bool = True) -> Table:
        """A row for each layer, or only for those that differ."""
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, pad_edge=False, header_style="bold")
        for title, justify in (
            ("", "left"),
            ("#", "right"),
            ("operator", "left"),
            ("tensor", "left"),
            ("error", "right"),
            ("introduced", "right"),
            ("unit", "left"),
            ("SQNR dB", "right"),
            ("likely cause", "left"),
        ):
            table.add_column(
                title,
                justify=justify,  # type: ignore[arg-type]
                overflow="fold",
                max_width={"tensor": 32, "likely cause": 60}.get(title),
            )
        first = self.first
        for layer in self.layers:
            if not all_layers and not layer.error and not layer.over:
                continue
            mark = "→" if layer is first else "!" if layer.over else ""
            table.add_row(
                *map(
                    Text,
                    (
                        mark,
                        str(layer.position),
                        layer.op,
                        layer.name.split(";")[0],
                        layer._amount(layer.error),
                        layer._amount(layer.introduced),
                        "steps" if layer.in_steps else "of max",
                        f"{layer.sqnr_db:.1f}" if math.isfinite(layer.sqnr_db) else "",
                        layer.cause,
                    ),
                ),
                style="bold red" if layer is first else None,
            )
        return table

    def explanation(self, *, all_layers: bool = True) -> str:
        """The walk in words and a table."""
        from rich.console import Console

        text = io.StringIO()
        console = Console(file=text, width=160, force_terminal=False, highlight=False)
        console.print(self.table(all_layers=all_layers))
        rows = "\n".join(line.rstrip() for line in text.getvalue().splitlines())
        return "\n".join(
            [f"device:    {self.device}", f"reference: {self.reference}", rows, *self._notes()]
        )

    def _notes(self) -> list[str]:
        notes = []
        first = self.first
        if first is not None:
            told = f": {first.cause}" if first.cause else ""
            notes.append(f"first over tolerance: #{first.position} {first.op}{told}")
            after = [layer for layer in self.layers if layer.position > first.position]
            carried = sum(layer.propagated and not layer.over for layer in after)
            if carried:
                plural = "layer" if carried == 1 else "layers"
                notes.append(f"{carried} {plural} after it only pass on what came before")
        elif any(layer.error for layer in self.layers):
            notes.append("no layer is over tolerance")
            hint = next((layer for layer in self.layers if layer.cause), None)
            if hint is not None:
                notes.append(f"the files differ, first at #{hint.position}: {hint.cause}")
        else:
            notes.append("all layers are equal")
        notes += [f"warning: {text}" for text in self.warnings]
        if self.disturbed:
            notes.append(
                "watching changed the result: the runtime fuses operators when it need not show "
                "what is between them, so this is not exactly what runs"
            )
        if self.not_isolated:
            notes.append(f"operators could not be run by themselves: {self.not_isolated}")
        if self.unmatched:
            notes.append(
                f"{len(self.unmatched)} tensors have no counterpart and were not compared: "
                + ", ".join(self.unmatched[:4])
                + (", …" if len(self.unmatched) > 4 else "")
            )
        return notes

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        first = self.first
        return {
            "passed": self.passed,
            "verdict": self.verdict.as_json(),
            "first": None if first is None else first.position,
            "device": self.device,
            "reference": self.reference,
            "disturbed": self.disturbed,
            "layers": [_plain(asdict(layer)) for layer in self.layers],
            "unmatched": list(self.unmatched),
        }

    def plot(self, path: str | Path) -> Path:
        """Draw the error of each layer to ``path`` (``.svg``, ``.png``, ``.pdf``).

        Raises:
            MissingTool: the package ``matplotlib`` is not installed (extra ``plot``).
            OptionError: the file's ending is not known.
        """
        return draw(self, Path(path))

    def svg(self) -> str:
        """The picture as SVG text, to put into a page of one's own; raises as :meth:`plot`."""
        with tempfile.TemporaryDirectory() as folder:
            return draw(self, Path(folder) / "layers.svg").read_text(encoding="utf-8")

    def __str__(self) -> str:
        return self.explanation()

    def __repr__(self) -> str:
        """Short: pytest shows it where ``assert report.passed`` fails, and cuts long ones."""
        first = self.first
        if first is None:
            return f"<LayerReport of {len(self.layers)} layers, none over tolerance>"
        told = f": {first.cause}" if first.cause else ""
        return f"<LayerReport, first over tolerance #{first.position} {first.op}{told}>"


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """JSON has no infinities."""
    return {
        key: None if isinstance(value, float) and not math.isfinite(value) else value
        for key, value in values.items()
    }


def draw(report: LayerReport, path: Path) -> Path:
    """See :meth:`LayerReport.plot`."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure as Picture
    except ImportError:
        raise MissingTool(
            "a picture of the layers needs the package matplotlib, which is not installed here",
            next_step="pip install 'pytest-edge-harness[plot]'",
        ) from None
    if path.suffix.lower() not in (".svg", ".png", ".pdf"):
        raise OptionError(
            f"{path.name!r} has no ending of a picture", next_step="use .svg, .png or .pdf"
        )
    rows = report.layers
    # Not through pyplot: that would choose a window system and keep the figure.
    figure = Picture(figsize=(max(6.0, 0.22 * len(rows) + 2), 4.5), layout="constrained")
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
    first = report.first
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
