"""The one ranking: by global similarity, then by the scores of the candidates.

``query`` serves this ranking, ``evaluate`` measures it, and ``reproduce`` tabulates it.

Source: Patch-NetVLAD, section 3.1 (the 100 photos nearest to the query are re-ranked).
"""

from __future__ import annotations

import numpy as np

from placerec.records import Array


def best_first(scores: Array, axis: int = -1) -> Array:
    """Return the order of ``scores`` along ``axis``, largest first, as int64 indices.

    Equal scores keep their order.
    """
    order: Array = np.argsort(-np.asarray(scores), axis=axis, kind="stable")
    return order


def similarities(query: Array, database: Array) -> Array:
    """Return the cosines (N,) float64 of the rows of ``database`` (N, G) to ``query`` (G,)."""
    # einsum, not a matrix product: it sums every row alike, so equal photos stay exactly equal.
    # It sums a lone row of many numbers in another order, so a lone row has company.
    rows = np.repeat(database, 2, axis=0) if len(database) == 1 else database
    similar: Array = np.einsum("ng,g->n", rows, query)[: len(database)].astype(np.float64)
    return similar


def shortlist(
    query: Array, database: Array, count: int, preferred: Array | None = None
) -> tuple[Array, Array]:
    """Return the ``count`` rows of ``database`` (N, G) most similar to ``query`` (G,).

    Returns row numbers (n,) int64, best first, and their cosines (n,) float64; n = min(count, N).
    Of rows of equal similarity the ``preferred`` ones (N,) bool come first; else they keep their
    order.
    """
    similarity = similarities(query, database)
    order = nearest(similarity, count, preferred)
    return order, similarity[order]


def nearest(similarity: Array, count: int, preferred: Array | None = None) -> Array:
    """Return the ``count`` rows (n,) int64 of the largest ``similarity`` (N,), best first.

    Equal ones have the order of ``shortlist``.
    """
    rows = np.arange(len(similarity))
    if 0 < count < len(similarity):  # only these are sorted: the best ones, and all that equal them
        least = np.partition(similarity, len(similarity) - count)[len(similarity) - count]
        rows = np.flatnonzero(similarity >= least)
    behind = np.zeros(len(rows)) if preferred is None else ~preferred[rows]
    order: Array = rows[np.lexsort((behind, -similarity[rows]))][:count]
    return order


def rerank(scores: Array, length: int) -> tuple[Array, Array]:
    """Return the final order of a shortlist of ``length`` photos, and the final scores.

    ``scores`` (c,) are those of its first c photos, the candidates; larger is better.
    The candidates come first, best first. The other photos follow in their global order, each
    with the lowest candidate score, or 0 if that is lower. Equal scores keep the global order.

    Returns positions in the shortlist (length,) int64 and scores (length,) float64.
    """
    scores = np.asarray(scores, np.float64)
    order = best_first(scores)
    rest = np.arange(len(scores), length)
    lowest = min(0.0, float(scores.min(initial=0.0)))
    return np.concatenate((order, rest)), np.concatenate(
        (scores[order], np.full(len(rest), lowest))
    )
