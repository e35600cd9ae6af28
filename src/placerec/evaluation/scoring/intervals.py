"""Uncertainty of a measure: bootstrap intervals that keep dependent queries together.

Percentile bootstrap (Efron, 1979) at 95 %. Several queries of one place succeed or fail together.
So places are drawn, not queries, and each place brings all its queries. A resample is a weight per
query (how often its place was drawn), so the same code computes every measure, curves included.
The draws are seeded: the same outcomes give the same interval.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from placerec.records import Array

LEVEL = 0.95
RESAMPLES = 2000
SEED = 0
SETTINGS = {"level": LEVEL, "resamples": RESAMPLES, "seed": SEED}
MIN_PLACES = 10  # with fewer independent places, an interval has little meaning
BLOCK = 4_000_000  # weights in memory at the same time, 32 MB

Statistic = Callable[[Array], Array]  # weights (b, Q) float64 of the queries to (b, M) values


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value with its interval; ``None`` if it is not defined.

    ``doubt`` says why there is no value, or why the interval has little meaning.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    doubt: str = ""


def groups(labels: Sequence[Hashable]) -> Array:
    """Number the labels: (Q,) int64, equal for equal labels, from 0 in order of appearance."""
    numbers: dict[Hashable, int] = {}
    return np.array([numbers.setdefault(label, len(numbers)) for label in labels], np.int64)


def bootstrap(
    places: Array, statistic: Statistic, resamples: int = RESAMPLES, seed: int = SEED
) -> Array:
    """Return ``statistic`` of each resample: (resamples, M).

    ``places`` (Q,) are the numbers that ``groups`` returns. Of C places, C are drawn with
    replacement.
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
    """Return the M values of ``statistic`` on all queries, with intervals.

    ``counted`` holds, for each value, the queries (Q,) bool that it depends on. A resample in which
    a value is not defined (none of its queries was drawn) does not enter its interval.
    """
    if not len(places):
        return [Estimate(None, doubt="no queries") for _ in counted]
    values = statistic(np.ones((1, len(places))))[0]
    resampled = bootstrap(places, statistic, seed=seed)
    return [
        _estimate(value, column, len(np.unique(places[rows])))
        for value, column, rows in zip(values, resampled.T, counted, strict=True)
    ]


def _estimate(value: float, resampled: Array, places: int) -> Estimate:
    if np.isnan(value):
        return Estimate(None, doubt="not defined for these queries")
    tail = 50.0 * (1.0 - LEVEL)
    low, high = np.percentile(resampled[~np.isnan(resampled)], (tail, 100.0 - tail)).tolist()
    doubt = ""
    if places < MIN_PLACES:
        doubt = f"rests on {places} independent places only"
    elif low == high:
        doubt = "no width: resampling cannot tell how sure this is"
    return Estimate(float(value), low, high, doubt)
