"""The paper's claims, checked on the rows of a table."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from placerec.reproduce.folder import TextRow
from placerec.reproduce.plots import series_of

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
