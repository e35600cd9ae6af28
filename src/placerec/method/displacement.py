"""Displacement voting: how many distinctive matches move by the same step?

This scorer is not in the paper; it is the default (docs/MEASUREMENTS.md has the measurements).
Every mutual match votes for its displacement (database minus query position, in feature cells). A
patch of sky or road has a similar patch in every photo, so its match says little. Therefore the
mean similarity that a query patch reaches in the other candidates, its background, lowers its vote.
The score is the largest sum of votes in a square box, as a multiple of the sum that patches of mean
distinctness would give if all of them agreed: about 1 for a copy of the query. The global cosine
then weighs the score: patches see the details of a place, and the cosine sees the whole.
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
GLOBAL_POWER = 5.0
LEAST_SCORE = 0.02  # so that the cosine still orders candidates whose patches agree nowhere


@dataclass(frozen=True, slots=True)
class Background:
    """How similar the patches of a query are to the other candidates.

    ``similarity`` (P,) float64 is the mean cosine of each query patch to its nearest patch in the
    other candidates. ``ceiling`` is the largest mean vote of a query patch in any candidate.
    """

    similarity: Array = field(repr=False)
    ceiling: float


def backgrounds(best: Array) -> list[Background]:
    """Return one background per candidate, from the ``Matched.best`` of all of them: (n, P).

    A candidate does not count in its own background. A single candidate has the background 0.
    """
    similarity = best.sum(axis=0, dtype=np.float64) - best
    similarity = np.clip(similarity / max(len(best) - 1, 1), 0.0, 1.0)
    ceiling = float(votes(np.ones_like(similarity), similarity).mean(axis=1).max())
    return [Background(row, ceiling) for row in similarity]


def votes(similarity: Array, background: Array) -> Array:
    """Return the weight of a match of cosine s and background b: max(0, s - 0.8 b) (1 - b)^3."""
    excess: Array = np.maximum(similarity - BACKGROUND_SHARE * background, 0.0)
    return excess * (1.0 - background) ** DISTINCTNESS_POWER


def displacement_score(
    matched: Matched,
    box: int = 7,
    background: Background | None = None,
    scales: tuple[float, ...] | None = None,
) -> Match:
    """Return the largest sum of votes with displacements in one ``box`` x ``box`` window.

    ``box`` is an odd number of cells. The query is zoomed about its middle by each of ``scales``
    before displacements are measured. The score is the sum divided by what it would be if every
    patch of the smaller grid voted with the background's ceiling, which is a mean over the patches;
    blank patches of the database do not count. The matched patches may be more distinctive than the
    mean. So the score is 0 without a match, about 1 for a copy, and at most the number of query
    patches divided by that of the smaller grid (about 4 with ``stride`` 2). The inliers are the
    voting matches in the best window. Of equal windows the first one counts, in the order of scale,
    row and column.
    """
    if not len(matched.pairs):
        return matched.unscored()
    # Rounded descriptors can have products above 1: those of a stored photo and its copy do.
    vote, ceiling = np.clip(matched.similarity.astype(np.float64), 0.0, 1.0), 1.0
    if background is not None:
        vote = votes(vote, background.similarity[matched.pairs[:, 0]])
        ceiling = background.ceiling
    grid = matched.query
    from_middle = grid.corners(matched.pairs[:, 0]) - grid.reach / 2
    zoom = np.array(scales or SCALES)[:, None, None] - 1.0
    step = np.floor(matched.displacements() - zoom * from_middle + 0.5).astype(np.int64)
    reach = np.maximum(grid.reach, matched.database.reach)
    peak, inside = _peak(step, vote, reach, box)
    largest = ceiling * min(len(matched.query), len(matched.database) - matched.blank)
    return matched.scored(peak / largest if largest else 0.0, inside & (vote > 0))


def with_global(scores: Array, cosines: Array) -> Array:
    """Return patch scores s (n, S) weighed by global cosines c (n,).

    That is the geometric mean of s + .02 and exp(5 (c - 1)). Its logarithm is a sum of both, as the
    log-odds of the confidence are. A copy has about 1.
    """
    weights = np.exp(GLOBAL_POWER * (np.minimum(cosines[:, None], 1.0) - 1.0))
    mean: Array = np.sqrt((scores + LEAST_SCORE) * weights)
    return mean


def _peak(step: Array, vote: Array, reach: Array, box: int) -> tuple[float, Array]:
    """Return the best window's sum of ``vote`` (M,) and which matches (M,) bool are in it.

    ``step`` (S, M, 2) holds the displacements at S scales; those beyond ``reach`` do not count. The
    vote maps of all scales are rows of one map, so far apart that no window covers two of them.
    """
    half = box // 2
    width, height = 2 * (reach + half) + 1
    within = (np.abs(step) <= reach).all(axis=2)
    column, row = np.moveaxis(step + reach + half, 2, 0)
    row = row + height * np.arange(len(step))[:, None]
    weights = np.broadcast_to(vote, within.shape)[within]
    cells = (row * width + column)[within]
    vote_map = np.bincount(cells, weights, minlength=len(step) * height * width)
    sums = box_sum(vote_map.reshape(-1, width, 1), (box, box))[:, :, 0]
    top, left = np.unravel_index(int(sums.argmax()), sums.shape)
    inside = (row >= top) & (row < top + box) & (column >= left) & (column < left + box)
    return float(sums[top, left]), (inside & within).any(axis=0)
