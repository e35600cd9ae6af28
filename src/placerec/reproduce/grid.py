"""Grid search of patch sizes and their weights, best on a validation half (the paper's 4.5).

The grid holds all sets of one, two or three square sizes from 1 to 10, with weights in steps of
1/20. Scores of a size are computed once, so the whole grid takes a few matrix products.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

import numpy as np

from placerec.evaluation.scoring.metrics import RECALL_AT
from placerec.method.fusion import PUBLISHED_WEIGHTS, standardise
from placerec.method.ranking import best_first
from placerec.records import Array
from placerec.reproduce.folder import Row, TextRow, size_label
from placerec.reproduce.matches import Matches
from placerec.reproduce.plots import Axes, bars, series_of
from placerec.reproduce.sizes import SQUARES
from placerec.reproduce.study import Study
from placerec.reproduce.table import MULTI, RECALLS, SCORERS, Table
from placerec.settings import Size

STEPS = 20
TOP = 10
MOST_SIZES = 3
Point = tuple[tuple[Size, ...], tuple[float, ...], Array]  # sizes, weights, recalls

NOTE = (
    "Rank 1 is the best; points with the same three recalls share a rank. Sizes and weights are "
    "chosen and measured on the same queries, so check the best point on other queries."
)


def rows(study: Study) -> list[Row]:
    """For each scorer: the best weights of the ten best sizes, and the published point."""
    dim = study.dim
    variants = [((size,), dim, scorer) for size in SQUARES for scorer in SCORERS]
    matches = study.matches(variants)
    answerable, correct = _correct(study, matches)
    table = []
    for scorer in SCORERS:
        points = list(_points(matches, scorer, dim, answerable, correct))
        keys = np.round(np.array([recalls for *_, recalls in points]), 9)
        first: dict[tuple[Size, ...], int] = {}  # the best point of each set of sizes
        for number in np.lexsort(-keys.T[::-1]).tolist():
            first.setdefault(points[number][0], number)
        published = next(
            n for n, point in enumerate(points) if point[:2] == (MULTI, PUBLISHED_WEIGHTS)
        )
        for number in [*list(first.values())[:TOP], published]:
            sizes, weights, recalls = points[number]
            table.append({
                **study.label, "scorer": scorer, "dim": dim, "sizes": size_label(sizes),
                "weights": " ".join(f"{w:.2f}" for w in weights),
                "published": "yes" if number == published else "",
                "rank": _rank(keys, number), "points": len(points),
                **dict(zip(RECALLS, recalls.tolist(), strict=True)),
            })  # fmt: skip
    return table


def _rank(keys: Array, number: int) -> int:
    """1 + the number of better points: by recall@1, then @5, then @10."""
    points: list[list[float]] = keys.tolist()
    return 1 + sum(point > points[number] for point in points)


def _correct(study: Study, matches: Matches) -> tuple[Array, Array]:
    """The queries (A,) that have a positive, and which of their candidates are one (A, C)."""
    positives = study.search.positives
    answerable = np.array([query for query, rows in enumerate(positives) if rows], int)
    correct = [[row in positives[q] for row in matches.lists[q].tolist()] for q in answerable]
    return answerable, np.array(correct, bool).reshape(len(answerable), study.candidates)


def _points(
    matches: Matches, scorer: str, dim: int, answerable: Array, correct: Array
) -> Iterator[Point]:
    """Every point of the grid with its recalls; all weights of a set of sizes at once."""
    single = [matches.scores(scorer, (size, dim))[answerable] for size in SQUARES]
    standard = np.stack([standardise(size.T).T for size in single], axis=2)  # (A, C, sizes)
    for count in range(1, MOST_SIZES + 1):
        weights = _weights(count)
        for chosen in combinations(range(len(SQUARES)), count):
            sizes = tuple(SQUARES[i] for i in chosen)
            fused = standard[:, :, list(chosen)] @ weights.T  # (A, C, W)
            order = best_first(fused, axis=1)
            hits = np.take_along_axis(correct[:, :, None], order, axis=1)
            sums = [hits[:, :n].any(axis=1).sum(axis=0) for n in RECALL_AT]
            recalls = np.stack(sums, axis=1) / max(len(answerable), 1)  # (W, recalls)
            for row, recall in zip(weights.tolist(), recalls, strict=True):
                yield sizes, tuple(row), recall


def _weights(count: int) -> Array:
    """All weights of ``count`` sizes in steps of 1/20, each above 0, sum 1: (W, count)."""
    # Each cut of the 20 steps into ``count`` parts gives one row of weights.
    cuts = np.array(list(combinations(range(1, STEPS), count - 1)), int)
    weights: Array = np.diff(cuts, prepend=0, append=STEPS) / STEPS
    return weights


def _best_and_published(rows: list[TextRow]) -> list[tuple[TextRow, TextRow]]:
    """The best point and the published one of each scorer, from the rows of one data set."""
    scorers = series_of(rows, "scorer").values()
    return [(points[0], next(r for r in points if r["published"])) for points in scorers]


def notes(written: list[TextRow]) -> list[str]:
    """State the rank of the published sizes and weights."""
    return [NOTE] + [
        f"{row['set']}, {row['scorer']}: the published 2,5,8 with .45 .15 .40 has rank "
        f"{row['rank']} of {row['points']} (recall@1 {row['recall@1']}); the best is "
        f"{best['sizes']} with {best['weights']} (recall@1 {best['recall@1']})."
        for rows in series_of(written, "set").values()
        for best, row in _best_and_published(rows)
    ]


def panel(axes: Axes, rows: list[TextRow]) -> None:
    """recall@1 of the best point and of the published one, by scorer."""
    pairs = _best_and_published(rows)
    recalls = [[float(row["recall@1"]) for row in side] for side in zip(*pairs, strict=True)]
    series = dict(zip(("best of the grid", "published 2,5,8"), recalls, strict=True))
    bars(axes, [best["scorer"] for best, _ in pairs], series, "scorer")


TABLE = Table(
    ("scorer", "dim", "sizes", "weights", "published", "rank", "points", *RECALLS),
    rows, notes, panel, SQUARES,
)  # fmt: skip
