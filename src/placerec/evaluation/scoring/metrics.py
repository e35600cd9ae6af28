"""Measures of ranked answers: recall, precision, average precision, curves, poses.

Nearly every measure is the mean of one value per query; the value is NaN if the query does not
count. ``Measures`` takes a weight per query and returns all measures, so that values, intervals
(``intervals``) and paired differences (``compare``) share their code.

Notation: a query has P positives, and h(N) of them are among its first N answers. A list that ends
before N contains no further positives. A query with P = 0 cannot be answered and does not count,
unless a measure says otherwise. If the owner keeps the ground truth, P is NaN, and so is every
measure.

Sources: Patch-NetVLAD, section 4.3; the Mapillary SLS evaluator (mAP@N); Sattler et al., CVPR 2018
(pose thresholds).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from placerec.method.ranking import best_first
from placerec.records import Array

RECALL_AT = (1, 5, 10)
CUTS = (1, 5, 10, 20, 50, 100)  # the N of all measures
POSE_WITHIN = ((0.25, 2.0), (0.5, 5.0), (5.0, 10.0))  # metres, degrees
AUC, FULL_PRECISION = "pr_auc", "recall_at_full_precision"
POSE_NAMES = tuple(f"within_{metres:g}m_{degrees:g}deg" for metres, degrees in POSE_WITHIN)
MAIN = (*(f"recall@{n}" for n in RECALL_AT), *POSE_NAMES)  # the measures of a short output


class RankingResult(NamedTuple):
    """What one ranking of one query achieved.

    ``answers`` is the length of the ranking. ``ranks`` are the ranks of the positives in it,
    ascending, from 1. ``score`` is that of the first answer; ``metres`` and ``degrees``
    are its distance from the query. Unknown values are ``None``.
    """

    answers: int = 0
    ranks: tuple[int, ...] = ()
    score: float | None = None
    metres: float | None = None
    degrees: float | None = None

    @property
    def correct(self) -> bool:
        """Whether the first answer is a positive."""
        return self.ranks[:1] == (1,)


class Curve(NamedTuple):
    """A precision-recall curve: one point per distinct score, falling; three arrays (n,)."""

    score: Array
    precision: Array
    recall: Array


def recalls(
    ranked: Mapping[str, Sequence[str]], positives: Mapping[str, frozenset[str]]
) -> dict[str, float]:
    """Return ``recall@N`` for N = 1, 5, 10 as fractions of the queries that have a positive."""
    answerable = [query for query in ranked if positives[query]]
    return {
        f"recall@{n}": sum(
            not positives[query].isdisjoint(ranked[query][:n]) for query in answerable
        )
        / max(len(answerable), 1)
        for n in RECALL_AT
    }


def average_precision(ranks: Sequence[int], positives: float, n: int) -> float:
    """Return AP@N = (1 / min(P, N)) * sum of i / r_i over all r_i <= N; its mean is ``mAP@N``.

    r_i is the rank of the i-th positive. Only the first N answers count, and N positives among
    them are perfect. So a list that was cut at N has the same value as the full list.
    """
    if not positives > 0:
        return np.nan
    return sum(i / r for i, r in enumerate(ranks, start=1) if r <= n) / min(positives, n)


def values_per_query(
    results: Sequence[RankingResult], positives: Array, posed: Array
) -> dict[str, Array]:
    """Return the values (Q,) of every measure that is a mean; NaN if the query does not count.

    ``positives`` (Q,) float64 are the P; ``posed`` (Q,) bool are the queries with a known pose.
    ``recall_of_all@N`` counts a query without a positive as a miss, as the published program does.
    ``within_*`` is 1 if the pose of the first answer is at most so far from the query's; these
    measures exist only if a query is posed.
    """
    answerable = positives > 0
    cuts = np.array(CUTS)[:, None]
    ranks = [np.array(result.ranks) for result in results]
    hits = np.array([[(row <= n).sum() for row in ranks] for n in CUTS], np.float64)  # h(N)
    pairs = [(result.ranks, float(p)) for result, p in zip(results, positives, strict=True)]
    at_cuts = {
        "recall": np.where(answerable, hits > 0, np.nan),
        "recall_of_all": np.where(np.isnan(positives), np.nan, hits > 0),
        "precision": np.where(answerable, hits / cuts, np.nan),
        "positives_found": np.where(answerable, hits / np.maximum(positives, 1), np.nan),
        "mAP": np.array([[average_precision(*pair, n) for pair in pairs] for n in CUTS]),
    }
    values = {
        f"{name}@{n}": row
        for name, rows in at_cuts.items()
        for n, row in zip(CUTS, rows, strict=True)
    }
    if np.any(posed):
        # An unknown distance, None, becomes NaN, which is within no limit.
        apart = np.array([(result.metres, result.degrees) for result in results], np.float64)
        for name, limits in zip(POSE_NAMES, POSE_WITHIN, strict=True):
            near = (apart <= limits).all(axis=1)
            values[name] = np.where(posed, near, np.nan)
    return values


class Measures:
    """All measures of one ranking of Q queries, for any weights of the queries.

    ``values`` (Q, M) float64 are the values per query (``values_per_query``) of the first M
    ``names``. The last two names belong to the precision-recall curve, which has no value per
    query. Parameters are those of ``values_per_query``.
    """

    def __init__(self, results: Sequence[RankingResult], positives: Array, posed: Array) -> None:
        columns = values_per_query(results, positives, posed)
        self.names = (*columns, AUC, FULL_PRECISION)
        self.values = np.stack(list(columns.values()), axis=1)
        self._counted = ~np.isnan(self.values)
        self._summands = np.where(self._counted, self.values, 0.0)
        self._answerable = positives > 0
        rows = np.array([row for row, result in enumerate(results) if result.answers], np.int64)
        score = np.array([results[row].score for row in rows], np.float64)
        self._has_curve = not np.any(np.isnan(score))  # NaN stands for None
        falling = best_first(score)
        self._order, score = rows[falling], score[falling]
        self._correct = np.array([results[row].correct for row in self._order], np.float64)
        # The last position of each distinct score: equal ones are accepted together.
        self._ends = np.flatnonzero(np.diff(score, append=-np.inf) != 0)
        self._score = score[self._ends]

    def counted(self, name: str) -> Array:
        """Return which queries (Q,) bool count for a measure."""
        if name in (AUC, FULL_PRECISION):
            return np.ones(len(self.values), np.bool_)
        counted: Array = self._counted[:, self.names.index(name)]
        return counted

    def weighted(self, weights: Array) -> Array:
        """Return the measures (b, M + 2) for weights (b, Q); NaN if no query counts."""
        weights = np.asarray(weights, np.float64)
        with np.errstate(invalid="ignore"):
            means = weights @ self._summands / (weights @ self._counted.astype(np.float64))
        return np.concatenate((means, self._of_curve(weights)), axis=1)

    def curve(self) -> Curve | None:
        """Return the precision and recall of accepting the answers with score >= t.

        There is one point for each score t of a first answer. Precision is the correct accepted
        answers / the accepted answers; recall is the correct accepted answers / the queries with a
        positive. So the answer to a query without a positive is always false, and a query without
        an answer lowers the recall only. Return ``None`` if an answer has no score or no query has
        a positive.
        """
        if not self._has_curve or not np.any(self._answerable):
            return None
        precision, recall = self._precision_recall(np.ones((1, len(self.values))))
        return Curve(self._score, precision[0], recall[0])

    def _precision_recall(self, weights: Array) -> tuple[Array, Array]:
        """Return two arrays (b, n) for weights (b, Q); the precision is 1 if none is accepted."""
        drawn = weights[:, self._order]
        accepted = np.cumsum(drawn, axis=1)[:, self._ends]
        correct = np.cumsum(drawn * self._correct, axis=1)[:, self._ends]
        total = (weights @ self._answerable)[:, None]
        precision = np.divide(correct, accepted, out=np.ones_like(correct), where=accepted > 0)
        return precision, np.divide(correct, total, out=np.zeros_like(correct), where=total > 0)

    def _of_curve(self, weights: Array) -> Array:
        """Return the area under the curve, and the largest recall at precision 1, as (b, 2).

        The area is the sum of (recall_k - recall_{k-1}) * precision_k. The recall is 0 if the
        answer with the highest score is wrong.
        """
        if not self._has_curve:
            return np.full((len(weights), 2), np.nan)
        precision, recall = self._precision_recall(weights)
        area = (np.diff(recall, axis=1, prepend=0.0) * precision).sum(axis=1)
        full = np.where(precision == 1.0, recall, 0.0).max(axis=1, initial=0.0)
        answerable = weights @ self._answerable > 0
        return np.where(answerable[:, None], np.stack((area, full), axis=1), np.nan)
