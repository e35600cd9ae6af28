"""What all tables share: the entry of the registry, constants, and checks of the paper's claims."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from placerec.evaluation.scoring.metrics import RECALL_AT
from placerec.reproduce.folder import Row, TextRow, size_label
from placerec.reproduce.plots import Axes, series_of
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


ONE, THREE = size_label(SINGLE), size_label(MULTI)
TIE = 1e-9  # differences up to this are ties
Value = Callable[[Sequence[TextRow]], float]  # a number from the rows of one data set


def verdict(claim: str, rows: Sequence[TextRow], more: Value, less: Value) -> str:
    """Return ``claim`` with the data sets where ``more`` is above, equal to or below ``less``."""
    sets: dict[str, list[str]] = {"holds on": [], "a tie on": [], "not on": []}
    for name, set_rows in series_of(rows, "set").items():
        gap = more(set_rows) - less(set_rows)
        answer = "a tie on" if abs(gap) < TIE else "holds on" if gap > 0 else "not on"
        sets[answer].append(name)
    parts = [f"{answer} {' and '.join(names)}" for answer, names in sets.items() if names]
    return f"{claim}: {', '.join(parts)}."


def verdicts(rows: Sequence[TextRow], claims: Iterable[tuple[str, Value, Value]]) -> list[str]:
    """Return the verdict on each claim (text, more, less)."""
    return [verdict(claim, rows, more, less) for claim, more, less in claims]


def cell(column: str = "recall@1", **cells: str) -> Value:
    """The number in ``column`` of the only row with these ``cells``."""

    def value(rows: Sequence[TextRow]) -> float:
        (number,) = _numbers(rows, column, cells)
        return number

    return value


def best(column: str = "recall@1", **cells: str) -> Value:
    """The largest number in ``column`` of the rows with these ``cells``."""
    return lambda rows: max(_numbers(rows, column, cells))


def highest(*values: Value) -> Value:
    """The largest of several numbers."""
    return lambda rows: max(value(rows) for value in values)


def lowest(*values: Value) -> Value:
    """The smallest of several numbers."""
    return lambda rows: min(value(rows) for value in values)


def _numbers(rows: Sequence[TextRow], column: str, cells: dict[str, str]) -> list[float]:
    return [float(row[column]) for row in rows if cells.items() <= row.items()]
