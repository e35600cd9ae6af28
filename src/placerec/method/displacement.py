"""Displacement voting: how many telling matches move by the same step?

Ours, in place of the paper's two scorers. Every mutual match votes for its displacement (database
minus query position, in feature cells), weighted by how much it tells this candidate from the
others: a patch of sky or road finds a good partner in every photo, so what a query patch finds on
average in the other candidates is its background, which counts against it. The score is the peak
of the vote map under a square box, as a share of the most there could be. Unlike the rapid spatial
score it does not average right and wrong matches, and unlike RANSAC it needs no fourth match to
agree, so it survives night photos in which only a tenth of the matches are right. It also tells
which matches to draw. The measurements are in docs/ARCHITECTURE.md.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from placerec.method.matching import Matched
from placerec.method.patches import box_sum
from placerec.records import Array, Match

BACKGROUND_SHARE = 0.8
DISTINCTNESS_POWER = 3
SCALES = (1.0, 0.8, 1.25)


@dataclass(frozen=True, slots=True)
class Background:
    """What a query's patches find elsewhere.

    ``others`` (P,) float64: the mean cosine of each patch to its nearest in the other candidates.
    ``ceiling``: the largest mean vote a query patch could cast in any candidate of the list.
    """

    others: Array = field(repr=False)
    ceiling: float


def backgrounds(best: Array) -> list[Background]:
    """One background a candidate, from ``Matched.best`` of all of them: (n, P).

    A candidate is left out of its own background; where there is no other, the background is 0.
    """
    others = best.sum(axis=0, dtype=np.float64) - best
    others = np.clip(others / max(len(best) - 1, 1), 0.0, 1.0)
    ceiling = float(votes(np.ones_like(others), others).mean(axis=1).max())
    return [Background(row, ceiling) for row in others]


def votes(similarity: Array, others: Array) -> Array:
    """Weight of a match of cosine s before background b: max(0, s - 0.8 b) (1 - b)^3."""
    told: Array = np.maximum(similarity - BACKGROUND_SHARE * others, 0.0)
    return told * (1.0 - others) ** DISTINCTNESS_POWER


def displacement_score(
    matched: Matched,
    box: int = 7,
    background: Background | None = None,
    scales: tuple[float, ...] | None = None,
) -> Match:
    """Largest sum of votes whose displacements lie in one ``box`` x ``box`` window (cells, odd).

    A displacement is counted after the query was zoomed about its middle by one of ``scales``. The
    sum is given as a share of what it would be if every patch of the smaller grid voted with the
    background's ceiling, so it lies between 0 and 1 and is 0 without a match. The inliers are the
    voting matches inside the best window; of equal windows the first, by scale, row and column,
    counts.
    """
    if not len(matched.pairs):
        return matched.unscored()
    vote, ceiling = np.maximum(matched.similarity.astype(np.float64), 0.0), 1.0
    if background is not None:
        vote = votes(vote, background.others[matched.pairs[:, 0]])
        ceiling = background.ceiling
    grid = matched.query
    from_middle = grid.corners(matched.pairs[:, 0]) - grid.reach / 2
    zoom = np.array(scales or SCALES)[:, None, None] - 1.0
    step = np.floor(matched.displacements() - zoom * from_middle + 0.5).astype(np.int64)
    reach = np.maximum(grid.reach, matched.database.reach)
    peak, inside = _peak(step, vote, reach, box)
    most = ceiling * min(len(matched.query), len(matched.database))
    return matched.scored(peak / most if most else 0.0, inside & (vote > 0))


def _peak(step: Array, vote: Array, reach: Array, box: int) -> tuple[float, Array]:
    """The best window's sum of ``vote`` (M,), and which matches lie in it.

    ``step`` (S, M, 2) at S scales; a step beyond ``reach`` is lost. The maps of the scales lie one
    below the other, so far apart that no window sees two of them.
    """
    half = box // 2
    width, height = 2 * (reach + half) + 1
    kept = (np.abs(step) <= reach).all(axis=2)
    column, row = np.moveaxis(step + reach + half, 2, 0)
    row = row + height * np.arange(len(step))[:, None]
    votes_kept = np.broadcast_to(vote, kept.shape)[kept]
    size = len(step) * height * width
    counted = np.bincount((row * width + column)[kept], votes_kept, minlength=size)
    sums = box_sum(counted.reshape(-1, width, 1), (box, box))[:, :, 0]
    top, left = np.unravel_index(int(sums.argmax()), sums.shape)
    inside = (row >= top) & (row < top + box) & (column >= left) & (column < left + box)
    return float(sums[top, left]), (inside & kept).any(axis=0)
