"""Grid search of patch sizes and their weights, best on a validation half (the paper's 4.5).

All sets of one, two or three square sizes from 1 to 10, weights in steps of 1/20. Scores of a
size are computed once, so that the whole grid is a few matrix products.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from placerec.evaluation.scoring.metrics import RECALL_AT
from placerec.method.fusion import PUBLISHED_WEIGHTS, standardise
from placerec.method.ranking import best_first
from placerec.records import Array
from placerec.reproduce.folder import Row
from placerec.reproduce.plots import TextRow, bars
from placerec.reproduce.scores import MULTI, Scores
from placerec.reproduce.sizes import SQUARES
from placerec.reproduce.study import Study
from placerec.reproduce.table import RECALLS, Table, size_label
from placerec.settings import Size

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SCORERS = ("spatial", "ransac", "displacement")
STEPS = 20
TOP = 10
MOST_SIZES = 3
Point = tuple[tuple[Size, ...], tuple[float, ...], Array]  # sizes, weights, recalls

NOTE = (
    "Rank 1 is the best; points with the same three recalls share a rank. Sizes and weights are "
    "chosen and measured on the same queries: what is best here must show elsewhere."
)


def rows(study: Study) -> list[Row]:
    """For each scorer the best weights of the ten best sizes, and the published point."""
    dim = study.dim
    scores = study.scores([(size, dim) for size in SQUARES])
    for size in SQUARES:
        for scorer in SCORERS:
            scores.of_size(scorer, (size, dim))
        scores.drop()
    asked, correct = _correct(study, scores)
    found = []
    for scorer in SCORERS:
        points = list(_points(scores, scorer, dim, asked, correct))
        keys = np.round(np.array([point[2] for point in points]), 9)
        published = next(
            i for i, p in enumerate(points) if p[0] == MULTI and p[1] == PUBLISHED_WEIGHTS
        )
        order = np.lexsort((np.arange(len(keys)), *(-keys.T[::-1])))
        for number in [*_first_of_each_sizes(points, order.tolist())[:TOP], published]:
            sizes, weights, recalls = points[number]
            found.append({
                **study.label(), "scorer": scorer, "dim": dim, "sizes": size_label(sizes),
                "weights": " ".join(f"{w:.2f}" for w in weights),
                "published": "yes" if number == published else "",
                "rank": _rank(keys, number), "points": len(points),
                **dict(zip(RECALLS, recalls.tolist(), strict=True)),
            })  # fmt: skip
    return found


def _first_of_each_sizes(points: list[Point], order: list[int]) -> list[int]:
    """The points of ``order`` (best first) whose sizes come for the first time."""
    first: dict[tuple[Size, ...], int] = {}
    for number in order:
        first.setdefault(points[number][0], number)
    return list(first.values())


def _rank(keys: Array, number: int) -> int:
    """1 + how many points are better: by recall@1, then @5, then @10."""
    better = np.zeros(len(keys), bool)
    same = np.ones(len(keys), bool)
    for column in keys.T:
        better |= same & (column > column[number])
        same &= column == column[number]
    return 1 + int(better.sum())


def _correct(study: Study, scores: Scores) -> tuple[Array, Array]:
    """The queries (A,) that have a positive, and whether each of their candidates is one (A, C)."""
    positives = [study.data.answers[name] for name in study.queries]
    asked = np.array([number for number, known in enumerate(positives) if known], int)
    found = [[study.database[row] in positives[q] for row in scores.lists[q]] for q in asked]
    return asked, np.array(found, bool).reshape(len(asked), study.candidates)


def _points(scores: Scores, scorer: str, dim: int, asked: Array, correct: Array) -> Iterator[Point]:
    """Every point of the grid with its recalls; the weights of a set at once."""
    single = [scores.of_size(scorer, (size, dim))[asked] for size in SQUARES]
    standard = np.stack([standardise(one.T).T for one in single], axis=2)  # (A, C, sizes)
    for count in range(1, MOST_SIZES + 1):
        weights = _weights(count)
        for chosen in combinations(range(len(SQUARES)), count):
            sizes = tuple(SQUARES[i] for i in chosen)
            fused = standard[:, :, list(chosen)] @ weights.T  # (A, C, W)
            order = best_first(fused, axis=1)
            hits = np.take_along_axis(correct[:, :, None], order, axis=1)
            found = [hits[:, :n].any(axis=1).sum(axis=0) for n in RECALL_AT]
            recalls = np.stack(found, axis=1) / max(len(asked), 1)  # (W, recalls)
            yield from (
                (sizes, tuple(w), r) for w, r in zip(weights.tolist(), recalls, strict=True)
            )


def _weights(count: int) -> Array:
    """All weights of ``count`` sizes in steps of 1/20, each above 0, sum 1: (W, count)."""
    if count == 1:
        return np.ones((1, 1))
    first = np.arange(1, STEPS)
    grid = np.stack(np.meshgrid(*[first] * (count - 1), indexing="ij"), axis=-1)
    grid = grid.reshape(-1, count - 1)
    last = STEPS - grid.sum(axis=1, keepdims=True)
    found: Array = np.hstack((grid, last))[last[:, 0] >= 1] / STEPS
    return found


def notes(written: list[TextRow]) -> list[str]:
    """Where the published sizes and weights stand."""
    told = [NOTE]
    for row in written:
        if row["published"]:
            best = next(r for r in written if r["rank"] == "1" and r["set"] == row["set"]
                        and r["scorer"] == row["scorer"])  # fmt: skip
            told.append(
                f"{row['set']}, {row['scorer']}: the published 2,5,8 with .45 .15 .40 has rank "
                f"{row['rank']} of {row['points']} (recall@1 {row['recall@1']}); the best is "
                f"{best['sizes']} with {best['weights']} (recall@1 {best['recall@1']})."
            )
    return told


def panel(axes: Axes, mine: list[TextRow]) -> None:
    """recall@1 of the best point and of the published one, by scorer."""
    known = list(dict.fromkeys(row["scorer"] for row in mine))

    def of(scorer: str, key: str, value: str) -> float:
        return next(float(r["recall@1"]) for r in mine if (r["scorer"], r[key]) == (scorer, value))

    bars(
        axes, known,
        {"best of the grid": [of(scorer, "rank", "1") for scorer in known],
         "published 2,5,8": [of(scorer, "published", "yes") for scorer in known]},
        "recall@1 (share of queries)",
    )  # fmt: skip
    axes.set_xlabel("scorer")


TABLE = Table(
    ("scorer", "dim", "sizes", "weights", "published", "rank", "points", *RECALLS),
    rows, notes, panel, SQUARES,
)  # fmt: skip
