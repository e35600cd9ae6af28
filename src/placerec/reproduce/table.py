"""What a table or figure is: its columns, its rows for one set, its notes and its plot."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from placerec.evaluation.scoring.metrics import RECALL_AT
from placerec.reproduce.folder import Row
from placerec.reproduce.plots import TextRow
from placerec.reproduce.study import Study
from placerec.settings import Size

if TYPE_CHECKING:
    from matplotlib.axes import Axes

OF = ("set", "queries", "candidates", "list")
RECALLS = tuple(f"recall@{n}" for n in RECALL_AT)


@dataclass(frozen=True, slots=True)
class Table:
    """One of the registry: ``columns`` come behind set, queries, candidates and list.

    ``notes`` answers the paper's claims from the written rows of all sets. ``sizes`` are the
    patch sizes that it needs. ``model`` and ``queries`` are the defaults of the options;
    ``published``: a model file must be of the published form.
    """

    columns: tuple[str, ...]
    rows: Callable[[Study], list[Row]]
    notes: Callable[[list[TextRow]], list[str]]
    panel: Callable[[Axes, list[TextRow]], None]
    sizes: tuple[Size, ...]
    model: str = "vgg16"
    queries: int = 100
    published: bool = True


def size_label(sizes: Sequence[Size]) -> str:
    """``2,5,8`` or ``2x5``: square sizes by one number."""
    return ",".join(str(h) if h == w else f"{h}x{w}" for h, w in sizes)


def recall_of(row: TextRow, at: int = 1) -> float | None:
    """A recall of a written row; ``None`` where the table has none."""
    text = row[f"recall@{at}"]
    return float(text) if text else None
