"""The paper's claims, answered from a table's own rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from placerec.reproduce.plots import TextRow, series_of

EQUAL = 1e-9
Value = Callable[[Sequence[TextRow]], float]  # a number of one set's rows


def verdict(claim: str, rows: Sequence[TextRow], more: Value, less: Value) -> str:
    """``claim`` with the sets on which ``more`` is above ``less``, equal to it, or below."""
    found: dict[str, list[str]] = {"holds on": [], "a tie on": [], "not on": []}
    for name, mine in series_of(rows, "set").items():
        gap = more(mine) - less(mine)
        answer = "a tie on" if abs(gap) < EQUAL else "holds on" if gap > 0 else "not on"
        found[answer].append(name)
    parts = [f"{answer} {' and '.join(names)}" for answer, names in found.items() if names]
    return f"{claim}: {', '.join(parts)}."


def cell(column: str = "recall@1", **cells: str) -> Value:
    """The number in ``column`` of the one row with these ``cells``."""

    def value(mine: Sequence[TextRow]) -> float:
        (row,) = [r for r in mine if all(r[key] == text for key, text in cells.items())]
        return float(row[column])

    return value


def best(column: str = "recall@1", **cells: str) -> Value:
    """The largest number in ``column`` of the rows with these ``cells``."""

    def value(mine: Sequence[TextRow]) -> float:
        some = [r for r in mine if all(r[key] == text for key, text in cells.items())]
        return max(float(row[column]) for row in some)

    return value


def highest(*values: Value) -> Value:
    """The largest of several numbers."""
    return lambda mine: max(value(mine) for value in values)


def lowest(*values: Value) -> Value:
    """The smallest of several numbers."""
    return lambda mine: min(value(mine) for value in values)
