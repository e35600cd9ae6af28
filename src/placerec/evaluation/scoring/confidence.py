"""Measures of confidence: is it calibrated, and does it tell right answers from wrong ones?

The confidence of a first answer is a probability, 0..1. ``OwnMeasures`` are those of the queries of
a data set. ``OpenSetMeasures`` also have foreign photos: queries that show no place of the map, so
every answer to them is wrong. Both take a weight per answer, as ``metrics.Measures``, so that
values, intervals (``intervals``) and paired differences (``compare``) share their code.

Sources: Guo et al., On Calibration of Modern Neural Networks, ICML 2017 (calibration error, in bins
of equal width); Geifman and El-Yaniv, Selective Classification for Deep Neural Networks, NeurIPS
2017 (precision at a coverage).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from placerec.method.ranking import best_first
from placerec.records import Array

BINS = 10
COVERAGES = (1.0, 0.95, 0.9, 0.75, 0.5)
ERROR, AUC, REFUSED = "calibration_error", "auc_right_wrong", "right_refused"
AT_COVERAGE = tuple(f"precision_at_coverage_{share:g}" for share in COVERAGES)
FOREIGN_IN_MAP, AUC_FOREIGN = "foreign_in_map", "auc_right_foreign"
ERROR_WITH_FOREIGN = "calibration_error_with_foreign"


class Bin(NamedTuple):
    """The answers whose confidence is between ``low`` and ``low`` + .1.

    ``share`` of all answers is in it; ``right`` is the share of them that is right.
    """

    low: float
    share: float
    mean_confidence: float
    right: float


def bins(confidence: Array, right: Array) -> list[Bin]:
    """Return the bins that have answers, for confidences (n,) of answers, ``right`` (n,)."""
    number = _bin_numbers(confidence)
    return [
        Bin(b / BINS, float((number == b).mean()), float(confidence[number == b].mean()),
            float(right[number == b].mean()))
        for b in range(BINS) if (number == b).any()
    ]  # fmt: skip


def calibration_error(confidence: Array, right: Array) -> float:
    """Return the expected calibration error: the mean gap of confidence and precision, by bin."""
    return float(_calibration_errors(confidence, right, np.ones((1, len(confidence))))[0])


def auc(confidence: Array, right: Array) -> float:
    """Return the probability that a right answer has a higher confidence than a wrong one.

    Equal confidences count one half. NaN if all answers are right, or none is.
    """
    return float(_aucs(confidence, right, ~right, np.ones((1, len(confidence))))[0])


class OwnMeasures:
    """The measures of the first answers to n queries.

    ``confidence`` (n,) is NaN for a query without one; it does not count. ``right`` (n,) bool says
    which answers are right, and ``in_map`` (n,) bool which queries are called "in the map".
    """

    names = (ERROR, AUC, *AT_COVERAGE, REFUSED)

    def __init__(self, confidence: Array, right: Array, in_map: Array) -> None:
        self._counts = ~np.isnan(confidence)
        self._confidence = confidence[self._counts]
        self._right, self._in_map = right[self._counts], in_map[self._counts]

    def counted(self, name: str) -> Array:
        """Return which queries (n,) bool count for a measure."""
        counts: Array = self._counts.copy()
        if name == REFUSED:
            counts[self._counts] = self._right
        return counts

    def weighted(self, weights: Array) -> Array:
        """Return the measures (b, M) for weights (b, n); NaN if no query counts."""
        weights = weights[:, self._counts]
        confidence, right = self._confidence, self._right
        return np.column_stack((
            _calibration_errors(confidence, right, weights),
            _aucs(confidence, right, ~right, weights),
            _precisions(confidence, right, weights),
            _shares(~self._in_map, right, weights),
        ))  # fmt: skip


class OpenSetMeasures:
    """The measures of the first answers to the queries of a data set and to foreign photos.

    ``foreign`` (n,) bool says which are foreign; the other parameters are those of ``OwnMeasures``.
    """

    names = (FOREIGN_IN_MAP, AUC_FOREIGN, ERROR_WITH_FOREIGN)

    def __init__(self, confidence: Array, right: Array, in_map: Array, foreign: Array) -> None:
        self._counts = ~np.isnan(confidence)
        columns = (confidence, right, in_map, foreign)
        self._columns = tuple(column[self._counts] for column in columns)

    def counted(self, name: str) -> Array:
        """Return which answers (n,) bool count for a measure."""
        _, right, _, foreign = self._columns
        counts: Array = self._counts.copy()
        if name == FOREIGN_IN_MAP:
            counts[self._counts] = foreign
        elif name == AUC_FOREIGN:
            counts[self._counts] = foreign | right
        return counts

    def weighted(self, weights: Array) -> Array:
        """Return the measures (b, 3) for weights (b, n); NaN if no answer counts."""
        weights = weights[:, self._counts]
        confidence, right, in_map, foreign = self._columns
        return np.column_stack((
            _shares(in_map, foreign, weights),
            _aucs(confidence, right, foreign, weights),
            _calibration_errors(confidence, right, weights),
        ))  # fmt: skip


def _bin_numbers(confidence: Array) -> Array:
    numbers: Array = np.minimum((confidence * BINS).astype(np.int64), BINS - 1)
    return numbers


def _ratio(part: Array, whole: Array) -> Array:
    """Return part / whole; NaN if the whole is 0."""
    ratio: Array = np.full(part.shape, np.nan)
    return np.divide(part, whole, out=ratio, where=whole > 0)


def _shares(which: Array, of: Array, weights: Array) -> Array:
    """Return the weight (b,) of the answers ``of`` that are ``which``, as a share of them."""
    return _ratio(weights @ (which & of), weights @ of)


def _calibration_errors(confidence: Array, right: Array, weights: Array) -> Array:
    """Return the expected calibration error (b,); the share of a bin times its gap is a sum."""
    in_bin = _bin_numbers(confidence)[:, None] == np.arange(BINS)
    gaps = weights @ (in_bin * (confidence - right)[:, None])
    return _ratio(np.abs(gaps).sum(axis=1), weights.sum(axis=1))


def _aucs(confidence: Array, right: Array, wrong: Array, weights: Array) -> Array:
    """Return the probability (b,) that one of ``right`` is above one of ``wrong``."""
    order = np.argsort(confidence, kind="stable")
    rising, drawn = confidence[order], weights[:, order]
    wrongs = np.pad(np.cumsum(drawn * wrong[order], axis=1), ((0, 0), (1, 0)))
    # The wrong ones below each answer; of those with an equal confidence one half.
    below = sum(wrongs[:, np.searchsorted(rising, rising, side)] for side in ("left", "right")) / 2
    rights = drawn * right[order]
    return _ratio((rights * below).sum(axis=1), rights.sum(axis=1) * wrongs[:, -1])


def _precisions(confidence: Array, right: Array, weights: Array) -> Array:
    """Return the precision (b, C) of the answers with the highest confidence, at ``COVERAGES``.

    Answers of equal confidence are accepted together, as many parts of each as the coverage needs.
    """
    order = best_first(confidence)
    ends = np.flatnonzero(np.diff(confidence[order], append=-np.inf) != 0)
    drawn = weights[:, order]
    accepted = np.cumsum(drawn, axis=1)[:, ends]
    correct = np.cumsum(drawn * right[order], axis=1)[:, ends]
    rows = [
        np.interp(wanted, [0.0, *xs], [0.0, *ys])
        for wanted, xs, ys in zip(
            np.outer(weights.sum(1), COVERAGES), accepted, correct, strict=True
        )
    ]
    return _ratio(np.array(rows), np.outer(weights.sum(axis=1), COVERAGES))
