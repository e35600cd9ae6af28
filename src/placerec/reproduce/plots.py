"""Plots of a written table: one panel per data set, colours for colour-blind readers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from placerec.files import atomic_write
from placerec.reproduce.folder import TextRow

if TYPE_CHECKING:
    import matplotlib.axes

Axes: TypeAlias = "matplotlib.axes.Axes"  # only for annotations: matplotlib loads slowly
# Okabe and Ito's palette, ordered so that neighbours also differ in lightness.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#000000", "#777777")
MARKERS = "osD^vPX*"
PANEL = (5.2, 4.6)  # inches
DOTS_PER_INCH = 120
RECALL_1 = "recall@1 (share of queries)"


def draw(path: Path, rows: Sequence[TextRow], panel: Callable[[Axes, list[TextRow]], None]) -> None:
    """Write a PNG with one ``panel`` per data set, side by side."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    sets = series_of(rows, "set")
    figure = Figure(figsize=(PANEL[0] * len(sets), PANEL[1]), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(sets), squeeze=False)[0]
    for axes, (name, set_rows) in zip(panels, sets.items(), strict=True):
        panel(axes, set_rows)
        counts = {f"{row['queries']} queries" for row in set_rows}
        axes.set_title(f"{name}, {' / '.join(sorted(counts))}", fontsize=10)
        axes.grid(alpha=0.3)
        axes.set_axisbelow(True)
    legend = {label: handle for axes in panels
              for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)}  # fmt: skip
    if len(legend) > 1:
        figure.legend(legend.values(), legend.keys(), loc="outside lower center", fontsize=8,
                      ncols=min(len(legend), 2 * len(sets)))  # fmt: skip
    with atomic_write(path) as partial:
        figure.savefig(partial, format="png", dpi=DOTS_PER_INCH)


def style(number: int) -> dict[str, Any]:
    """Return the colour and the marker of series ``number``."""
    return {"color": COLOURS[number % len(COLOURS)], "marker": MARKERS[number % len(MARKERS)]}


def bars(
    axes: Axes, groups: Sequence[str], series: Mapping[str, Sequence[float | None]], label: str,
    unit: str = RECALL_1, top: float = 1.02,
) -> None:  # fmt: skip
    """Draw bars side by side: one group per name, one colour per series; ``None`` is a gap.

    ``label`` and ``unit`` are the labels of the axes. The axis starts at 0, so the length of a bar
    is its value, and ends at ``top``.
    """
    width = 0.8 / max(len(series), 1)
    for number, (name, values) in enumerate(series.items()):
        shift = (number - (len(series) - 1) / 2) * width
        heights = [float("nan") if value is None else value for value in values]
        places = [place + shift for place in range(len(groups))]
        axes.bar(places, heights, width, label=name, color=style(number)["color"])
    slanted = sum(map(len, groups)) > 30
    axes.set_xticks(range(len(groups)), groups, fontsize=8, rotation=35 if slanted else 0,
                    ha="right" if slanted else "center")  # fmt: skip
    axes.set_ylim(0.0, top)
    axes.set(xlabel=label, ylabel=unit)


def series_of(rows: Iterable[TextRow], key: str) -> dict[str, list[TextRow]]:
    """Return the rows by the value of a column, in the order of first appearance."""
    series: dict[str, list[TextRow]] = {}
    for row in rows:
        series.setdefault(row[key], []).append(row)
    return series
