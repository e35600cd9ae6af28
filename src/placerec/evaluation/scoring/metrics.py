"""How good the answers to many queries are: recall, precision, average precision, curves, poses.

Nearly every measure is the mean of one value a query, NaN where the query does not count. So
values, intervals (``intervals``) and paired differences (``compare``) are one piece of code:
``Measures`` takes a weight for each query and gives all measures at once.

Notation: P positives of a query; h(N) of them stand among its first N answers. A list that ends
before N found nothing further. A query without any positive cannot be answered: it is left out
except where said otherwise. The published program counts it as a miss (``recall_of_all``). Where
the owner keeps the truth, P is NaN, and so is every measure.
Sources: Patch-NetVLAD, section 4.3; the Mapillary SLS evaluator (mAP@N); Sattler et al., CVPR 2018
(pose thresholds).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from placerec.records import Array

RECALL_AT = (1, 5, 10)
CUTS = (1, 5, 10, 20, 50, 100)  # the N of all measures
POSE_WITHIN = ((0.25, 2.0), (0.5, 5.0), (5.0, 10.0))  # metres, degrees
AUC, FULL_PRECISION = "pr_auc", "recall_at_full_precision"


class Found(NamedTuple):
    """What one ranking of one query gave.

    ``ranks`` (ascending, from 1) are where the positives stand among the ``answers``.
    ``confidence`` is the score of the first answer; ``metres`` and ``degrees`` its distance from
    the query. ``None`` where unknown.
    """

    answers: int = 0
    ranks: tuple[int, ...] = ()
    confidence: float | None = None
    metres: float | None = None
    degrees: float | None = None


class Curve(NamedTuple):
    """A precision-recall curve: one point a distinct confidence, falling; three arrays (n,)."""

    confidence: Array
    precision: Array
    recall: Array


def recalls(
    ranked: Mapping[str, Sequence[str]], positives: Mapping[str, frozenset[str]]
) -> dict[str, float]:
    """``recall@N`` for N = 1, 5, 10 as fractions of the queries that have a positive."""
    answerable = [query for query in ranked if positives[query]]
    return {
        f"recall@{n}": sum(
            not positives[query].isdisjoint(ranked[query][:n]) for query in answerable
        ) / max(len(answerable), 1)
        for n in RECALL_AT
    }  # fmt: skip


def recall(hits: Array, positives: Array) -> Array:
    """``recall@N``: 1 if h(N) > 0, else 0. ``hits`` is h(N); all arrays here are (Q,)."""
    return _where_answerable(positives, hits > 0)


def recall_of_all(hits: Array, positives: Array) -> Array:
    """``recall_of_all@N``: the same, but a query without a positive is a miss."""
    return np.where(np.isnan(positives), np.nan, hits > 0)


def precision(hits: Array, positives: Array, n: int) -> Array:
    """``precision@N``: h(N) / N."""
    return _where_answerable(positives, hits / n)


def positives_found(hits: Array, positives: Array) -> Array:
    """``positives_found@N``: h(N) / P."""
    return _where_answerable(positives, hits / np.maximum(positives, 1))


def average_precision(ranks: Sequence[int], positives: float, n: int) -> float:
    """``mAP@N``: the mean of it. AP@N = (1 / min(P, N)) * sum of i / r_i over the r_i <= N.

    r_i is the rank of the i-th positive. Only the first N answers are looked at, and N positives
    among them are perfect, so a list that was cut at N loses nothing by the cut.
    """
    if not positives > 0:
        return np.nan
    return sum(i / r for i, r in enumerate(ranks, start=1) if r <= n) / min(positives, n)


def within(found: Iterable[Found], posed: Array, metres: float, degrees: float) -> Array:
    """1 if the first answer's pose is at most so far away; over the queries ``posed`` (Q,) bool."""
    near = [
        one.metres is not None and one.degrees is not None
        and one.metres <= metres and one.degrees <= degrees
        for one in found
    ]  # fmt: skip
    return np.where(posed, np.array(near, np.float64), np.nan)


def precision_recall(found: Sequence[Found], positives: Array) -> Curve | None:
    """Accept the first answers whose confidence is at least t, for each t that occurs.

    precision = right ones accepted / accepted; recall = right ones accepted / queries with a
    positive. So a query without a positive can only be a false answer, and one without an answer
    only lowers the recall. ``None`` where an answer has no confidence or no query a positive.
    """
    ordered = _Ordered.of(found, positives)
    if ordered is None or not np.any(positives > 0):
        return None
    precision, recall = ordered.curve(np.ones((1, len(found))))
    return Curve(ordered.confidence, precision[0], recall[0])


class Measures:
    """All measures of one ranking of Q queries, for any weights of the queries.

    ``posed`` (Q,) bool: the queries that count for the pose thresholds; without any there are none
    of these measures. ``values`` (Q, M) float64 are the values a query of the first M ``names``;
    the last names are the two of the precision-recall curve, which has no value a query.
    """

    def __init__(self, found: Sequence[Found], positives: Array, posed: Array) -> None:
        columns = _columns(found, positives, posed)
        self.names = (*columns, AUC, FULL_PRECISION)
        self.values = np.stack(list(columns.values()), axis=1)
        self._known = ~np.isnan(self.values)
        self._sums = np.where(self._known, self.values, 0.0)
        self._answerable = positives > 0
        self._ordered = _Ordered.of(found, positives)

    def counted(self, name: str) -> Array:
        """Which queries (Q,) bool count for this measure."""
        if name in (AUC, FULL_PRECISION):
            return np.ones(len(self.values), np.bool_)
        known: Array = self._known[:, self.names.index(name)]
        return known

    def of(self, weights: Array) -> Array:
        """(b, Q) weights of the queries to (b, M + 2) measures; NaN where none counts."""
        weights = np.asarray(weights, np.float64)
        with np.errstate(invalid="ignore"):
            means = weights @ self._sums / (weights @ self._known.astype(np.float64))
        return np.concatenate((means, self._of_curve(weights)), axis=1)

    def _of_curve(self, weights: Array) -> Array:
        """Area under the curve, as steps: sum of (recall_k - recall_{k-1}) * precision_k; and the
        largest recall at which all accepted answers are right (0 if the surest one is wrong).
        """
        if self._ordered is None:
            return np.full((len(weights), 2), np.nan)
        precision, recall = self._ordered.curve(weights)
        area = (np.diff(recall, axis=1, prepend=0.0) * precision).sum(axis=1)
        full = np.where(precision == 1.0, recall, 0.0).max(axis=1, initial=0.0)
        answerable = weights @ self._answerable > 0
        return np.where(answerable[:, None], np.stack((area, full), axis=1), np.nan)


class _Ordered(NamedTuple):
    """First answers by falling confidence; equal ones are accepted together."""

    order: Array  # numbers of the queries with an answer
    right: Array  # whether that answer is right
    ends: Array  # where in ``order`` a run of equal confidences ends
    confidence: Array  # at these ends
    answerable: Array  # (Q,): the query has a positive

    @classmethod
    def of(cls, found: Sequence[Found], positives: Array) -> _Ordered | None:
        answered = np.array([n for n, one in enumerate(found) if one.answers], np.int64)
        if any(found[n].confidence is None for n in answered):
            return None
        values = np.array([found[n].confidence for n in answered], np.float64)
        falling = np.argsort(-values, kind="stable")
        order, values = answered[falling], values[falling]
        right = np.array([found[n].ranks[:1] == (1,) for n in order], np.float64)
        ends = np.flatnonzero(np.diff(values, append=-np.inf) != 0)
        return cls(order, right, ends, values[ends], positives > 0)

    def curve(self, weights: Array) -> tuple[Array, Array]:
        """(b, Q) weights to precision and recall (b, n); precision 1 where nothing is accepted."""
        drawn = weights[:, self.order]
        accepted = np.cumsum(drawn, axis=1)[:, self.ends]
        right = np.cumsum(drawn * self.right, axis=1)[:, self.ends]
        total = (weights @ self.answerable)[:, None]
        precision = np.divide(right, accepted, out=np.ones_like(right), where=accepted > 0)
        return precision, np.divide(right, total, out=np.zeros_like(right), where=total > 0)


def _columns(found: Sequence[Found], positives: Array, posed: Array) -> dict[str, Array]:
    ranks = [np.array(one.ranks) for one in found]
    hits = {n: np.array([(one <= n).sum() for one in ranks], np.float64) for n in CUTS}
    columns = {f"recall@{n}": recall(hits[n], positives) for n in CUTS}
    columns |= {f"recall_of_all@{n}": recall_of_all(hits[n], positives) for n in CUTS}
    columns |= {f"precision@{n}": precision(hits[n], positives, n) for n in CUTS}
    columns |= {f"positives_found@{n}": positives_found(hits[n], positives) for n in CUTS}
    pairs = [(one.ranks, float(count)) for one, count in zip(found, positives, strict=True)]
    columns |= {
        f"mAP@{n}": np.array([average_precision(*pair, n) for pair in pairs], np.float64)
        for n in CUTS
    }
    if np.any(posed):
        columns |= {
            f"within_{metres:g}m_{degrees:g}deg": within(found, posed, metres, degrees)
            for metres, degrees in POSE_WITHIN
        }
    return columns


def _where_answerable(positives: Array, values: Array) -> Array:
    return np.where(positives > 0, values, np.nan)
