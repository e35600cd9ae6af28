"""Plots of a written table: one panel a set, colours that colour-blind people can tell apart."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from placerec.errors import MissingExtra
from placerec.files import atomic_write

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TextRow = dict[str, str]
# Okabe and Ito's palette, in an order in which neighbours differ in lightness too.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#000000", "#777777")
MARKERS = "osD^vPX*"
PANEL = (5.2, 4.6)  # inches
DOTS_PER_INCH = 120


def draw(path: Path, rows: Sequence[TextRow], panel: Callable[[Axes, list[TextRow]], None]) -> None:
    """Write a PNG with what ``panel`` draws of each set's rows, side by side."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtra("a plot", "paper") from error
    sets = list(dict.fromkeys(row["set"] for row in rows))
    figure = Figure(figsize=(PANEL[0] * len(sets), PANEL[1]), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, name in zip(figure.subplots(1, len(sets), squeeze=False)[0], sets, strict=True):
        mine = [row for row in rows if row["set"] == name]
        panel(axes, mine)
        counts = {f"{row['queries']} queries" for row in mine}
        axes.set_title(f"{name}, {' / '.join(sorted(counts))}", fontsize=10)
        axes.grid(alpha=0.3)
        axes.set_axisbelow(True)
    known = {name: handle for axes in figure.axes
             for handle, name in zip(*axes.get_legend_handles_labels(), strict=True)}  # fmt: skip
    if len(known) > 1:
        figure.legend(known.values(), known.keys(), loc="outside lower center", fontsize=8,
                      ncols=min(len(known), 2 * len(sets)))  # fmt: skip
    with atomic_write(path) as partial:
        figure.savefig(partial, format="png", dpi=DOTS_PER_INCH)


def style(number: int) -> dict[str, str]:
    """Colour and marker of the series ``number``."""
    return {"color": COLOURS[number % len(COLOURS)], "marker": MARKERS[number % len(MARKERS)]}


def bars(
    axes: Axes,
    groups: Sequence[str],
    series: dict[str, Sequence[float | None]],
    unit: str,
    top: float = 1.02,
) -> None:
    """Bars side by side: a group a name, a colour a series; ``None`` leaves a gap.

    The axis goes from 0, so that the length of a bar is its value, to ``top`` (for shares).
    """
    width = 0.8 / max(len(series), 1)
    for number, (name, values) in enumerate(series.items()):
        known = [(i, value) for i, value in enumerate(values) if value is not None]
        places = [i + (number - (len(series) - 1) / 2) * width for i, _ in known]
        axes.bar(places, [v for _, v in known], width, label=name, color=style(number)["color"])
    slanted = sum(map(len, groups)) > 30
    axes.set_xticks(range(len(groups)), groups, fontsize=8, rotation=35 if slanted else 0,
                    ha="right" if slanted else "center")  # fmt: skip
    axes.set_ylim(0.0, top)
    axes.set_ylabel(unit)


def recall_limits(axes: Axes, values: Sequence[float]) -> None:
    """Let a recall axis end a little below its smallest and above its largest value."""
    axes.set_ylim(max(0.0, min(values) - 0.1), min(1.02, max(values) + 0.05))


def series_of(rows: Iterable[TextRow], key: str) -> dict[str, list[TextRow]]:
    """Rows by the value of a column, in the order in which the values come."""
    found: dict[str, list[TextRow]] = {}
    for row in rows:
        found.setdefault(row[key], []).append(row)
    return found
