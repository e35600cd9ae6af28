"""Displacement voting: how many telling matches move by the same step?

Ours, in place of the paper's two scorers. Every mutual match votes for its displacement (database
minus query position, in feature cells), weighted by how much it tells this candidate from the
others: a patch of sky or road finds a good partner in every photo, so what a query patch finds on
average in the other candidates is its background, which counts against it. The score is the peak
of the vote map under a square box, over the number of query patches. Unlike the rapid spatial
score it does not average right and wrong matches, and unlike RANSAC it needs no fourth match to
agree, so it survives night photos in which only a tenth of the matches are right. It also tells
which matches to draw. The measurements are in docs/ARCHITECTURE.md.
"""

from __future__ import annotations

import numpy as np

from placerec.method.matching import Matched
from placerec.method.patches import box_sum
from placerec.records import Array, Match

BACKGROUND_SHARE = 0.8
DISTINCTNESS_POWER = 3
SCALES = (1.0, 0.8, 1.25)


def displacement_score(
    matched: Matched,
    box: int = 7,
    background: Array | None = None,
    scales: tuple[float, ...] = SCALES,
) -> Match:
    """Largest sum of votes whose displacements lie in one ``box`` x ``box`` window (cells, odd).

    A match of query patch i votes with max(0, cosine - 0.8 b_i) (1 - b_i)^3, b = ``background``
    (P,) (none = 0), for its displacement after the query was zoomed about its middle by one of
    ``scales``. Over the number of query patches, so between 0 and 1; 0 without a match. The inliers
    are the voting matches inside the best window; of equal windows the first, by scale, row and
    column, counts.
    """
    if not len(matched.pairs):
        return matched.unscored()
    vote = np.maximum(matched.similarity.astype(np.float64), 0.0)
    if background is not None:
        behind = background[matched.pairs[:, 0]]
        vote = np.maximum(vote - BACKGROUND_SHARE * behind, 0.0)
        vote *= np.maximum(1.0 - behind, 0.0) ** DISTINCTNESS_POWER
    grid = matched.query.grid
    from_middle = grid.corners(matched.pairs[:, 0]) - grid.reach / 2
    step = matched.displacements()
    reach = np.maximum(grid.reach, matched.database.grid.reach)
    peaks = [
        _peak(np.floor(step - (scale - 1.0) * from_middle + 0.5).astype(np.int64), vote, reach, box)
        for scale in scales
    ]
    best, inside = max(peaks, key=lambda peak: peak[0])
    return matched.scored(best / len(matched.query.descriptors), inside & (vote > 0))


def _peak(step: Array, vote: Array, reach: Array, box: int) -> tuple[float, Array]:
    """The best window's sum, and which steps (M, 2) lie in it; a step beyond ``reach`` is lost."""
    half = box // 2
    valid = (np.abs(step) <= reach).all(axis=1)
    column, row = (step + reach + half).T
    width, height = 2 * (reach + half) + 1
    votes = np.bincount((row * width + column)[valid], vote[valid], minlength=height * width)
    sums = box_sum(votes.reshape(height, width, 1), (box, box))[:, :, 0]
    top, left = np.unravel_index(int(sums.argmax()), sums.shape)
    inside = valid & (np.abs(column - left - half) <= half) & (np.abs(row - top - half) <= half)
    return float(sums[top, left]), inside


def backgrounds(best: Array) -> Array:
    """What each query patch finds in the other candidates: (n, P) from ``best`` (n, P).

    Row j is the mean of ``best`` over all candidates but j; 0 where there is no other.
    """
    others = best.sum(axis=0, dtype=np.float64) - best
    found: Array = np.clip(others / max(len(best) - 1, 1), 0.0, 1.0)
    return found
