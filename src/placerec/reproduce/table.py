"""The parts of a table: its columns, its rows for one data set, its notes and its plot."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from placerec.evaluation.scoring.metrics import RECALL_AT
from placerec.reproduce.folder import Row, TextRow
from placerec.reproduce.plots import Axes
from placerec.settings import Size

if TYPE_CHECKING:
    from placerec.reproduce.study import Study

LABEL_COLUMNS = ("set", "queries", "candidates", "list")
RECALLS = tuple(f"recall@{n}" for n in RECALL_AT)
PUBLISHED_SCORERS = ("spatial", "ransac")
SCORERS = (*PUBLISHED_SCORERS, "displacement")
SINGLE: tuple[Size, ...] = ((5, 5),)
MULTI: tuple[Size, ...] = ((2, 2), (5, 5), (8, 8))


@dataclass(frozen=True, slots=True)
class Table:
    """One entry of the registry; ``columns`` follow ``LABEL_COLUMNS``.

    ``notes`` checks the paper's claims on the written rows of all data sets. ``panel`` draws the
    rows of one data set. ``sizes`` are the patch sizes that the table needs. ``model`` and
    ``queries`` are the defaults of the parameters. ``published``: a model file must have the
    published form.
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
    """Return ``2,5,8`` or ``2x5``: one number for a square size."""
    return ",".join(str(h) if h == w else f"{h}x{w}" for h, w in sizes)


ONE, THREE = size_label(SINGLE), size_label(MULTI)
