"""How sure a measure is: bootstrap intervals that respect which queries belong together.

Percentile bootstrap (Efron, 1979) at 95 %. Several queries of one place succeed or fail together,
so not queries but places are drawn, with all their queries. A resample is a weight for each query
(how often its place was drawn), so one piece of code recomputes every measure, curves included.
Seeded: the same outcomes give the same interval.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from placerec.records import Array

LEVEL = 0.95
RESAMPLES = 2000
SEED = 0
FEW = 10  # independent places, below which an interval means little
BLOCK = 4_000_000  # weights held at once, 32 MB

Statistic = Callable[[Array], Array]  # weights (b, Q) float64 of the queries to (b, M) values


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value with its interval; ``None`` where it is not defined. ``doubt`` says why, or why the
    interval means little.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    doubt: str = ""


def groups(labels: Sequence[Hashable]) -> Array:
    """(Q,) int64: equal labels, equal numbers, from 0 in order of appearance."""
    numbers: dict[Hashable, int] = {}
    return np.array([numbers.setdefault(label, len(numbers)) for label in labels], np.int64)


def bootstrap(
    places: Array, statistic: Statistic, resamples: int = RESAMPLES, seed: int = SEED
) -> Array:
    """``statistic`` of so many resamples: (resamples, M).

    ``places`` (Q,) are the numbers of ``groups``. Of C places, C are drawn with replacement.
    """
    count = int(places.max()) + 1
    random = np.random.default_rng(seed)
    step = max(1, BLOCK // len(places))
    values = []
    for start in range(0, resamples, step):
        rows = min(step, resamples - start)
        drawn = random.integers(count, size=(rows, count)) + count * np.arange(rows)[:, None]
        times = np.bincount(drawn.ravel(), minlength=rows * count).reshape(rows, count)
        values.append(statistic(times[:, places].astype(np.float64)))
    return np.concatenate(values)


def estimates(
    places: Array, statistic: Statistic, counted: Sequence[Array], seed: int = SEED
) -> list[Estimate]:
    """The M values of ``statistic`` on all queries, with intervals.

    ``counted``: for each value which queries (Q,) bool it rests on. Resamples in which a value is
    not defined (no query with a positive was drawn) are left out of its interval.
    """
    if not len(places):
        return [Estimate(None, doubt="no queries") for _ in counted]
    values = statistic(np.ones((1, len(places))))[0]
    drawn = bootstrap(places, statistic, seed=seed)
    return [
        _estimate(value, column, len(np.unique(places[rows])))
        for value, column, rows in zip(values, drawn.T, counted, strict=True)
    ]


def _estimate(value: float, drawn: Array, places: int) -> Estimate:
    if np.isnan(value):
        return Estimate(None, doubt="not defined for these queries")
    tail = 50.0 * (1.0 - LEVEL)
    low, high = np.percentile(drawn[~np.isnan(drawn)], (tail, 100.0 - tail)).tolist()
    doubt = ""
    if places < FEW:
        doubt = f"rests on {places} independent places only"
    elif low == high:
        doubt = "no width: resampling cannot tell how sure this is"
    return Estimate(float(value), low, high, doubt)
