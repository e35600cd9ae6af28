"""Displacement voting: how many telling matches move by the same step?

Ours, in place of the paper's two scorers. Every mutual match votes for its displacement (database
minus query position, in feature cells) with the part of its cosine that tells this candidate from
the others: a patch of sky or road finds a good partner anywhere, so what it finds on average in the
other candidates is taken off. The score is the peak of the vote map under a square box, over the
number of query patches. Unlike the rapid spatial score it does not average right and wrong matches,
and unlike RANSAC it needs no fourth match to agree, so it survives night photos in which only a
tenth of the matches are right. It also tells which matches to draw.
"""

from __future__ import annotations

import numpy as np

from placerec.method.matching import Matched
from placerec.method.patches import box_sum
from placerec.records import Array, Match

BACKGROUND_SHARE = 0.8


def displacement_score(matched: Matched, box: int = 9, background: Array | None = None) -> Match:
    """Peak of the displacement votes under a ``box`` x ``box`` window (cells, odd).

    A match of query patch i votes with max(0, cosine - 0.8 b_i), b = ``background`` (P,), none = 0.
    Between 0 and 1; 0 without a match. The inliers are the voting matches inside the peak's box; of
    equal peaks the first, by row and column, counts.
    """
    if not len(matched.pairs):
        return matched.unscored()
    vote = matched.similarity.astype(np.float64)
    if background is not None:
        vote -= BACKGROUND_SHARE * background[matched.pairs[:, 0]]
    vote = np.maximum(vote, 0.0)
    query, database = matched.query, matched.database
    step = matched.displacements() * query.stride
    reach = np.array([
        max(query.columns, database.columns) - 1, max(query.rows, database.rows) - 1,
    ]) * query.stride  # fmt: skip
    half = box // 2
    column, row = (step + reach + half).T
    width, height = 2 * (reach + half) + 1
    votes = np.bincount(row * width + column, vote, minlength=height * width)
    sums = box_sum(votes.reshape(height, width, 1), (box, box))[:, :, 0]
    top, left = np.unravel_index(int(sums.argmax()), sums.shape)
    inside = (row >= top) & (row < top + box) & (column >= left) & (column < left + box)
    score = float(sums[top, left]) / len(query.descriptors)
    return matched.scored(score, inside & (vote > 0))


def backgrounds(best: Array) -> Array:
    """What each query patch finds in the other candidates: (n, P) from ``best`` (n, P).

    Row j is the mean of ``best`` over all candidates but j; 0 where there is no other.
    """
    others = best.sum(axis=0, dtype=np.float64) - best
    found: Array = np.maximum(others / max(len(best) - 1, 1), 0.0)
    return found
