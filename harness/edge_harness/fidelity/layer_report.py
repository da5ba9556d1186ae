"""What a walk through two graphs found: rows, table, picture."""

from __future__ import annotations

import io
import math
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_harness.evidence import Figure, FigureKind, Verdict
from edge_harness.fidelity.layer_picture import draw
from edge_harness.fidelity.layer_rows import Layer

if TYPE_CHECKING:
    from rich.table import Table


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
                        layer.amount(layer.error),
                        layer.amount(layer.introduced),
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
        return draw(self.layers, self.first, Path(path))

    def svg(self) -> str:
        """The picture as SVG text, to put into a page of one's own; raises as :meth:`plot`."""
        with tempfile.TemporaryDirectory() as folder:
            path = draw(self.layers, self.first, Path(folder) / "layers.svg")
            return path.read_text(encoding="utf-8")

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
