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

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from placerec.method.matching import Matched
from placerec.records import Array, Grid, Match

BACKGROUND_SHARE = 0.8
DISTINCTNESS_POWER = 3
SCALES = (1.0, 0.8, 1.25)
GLOBAL_POWER = 5.0
LEAST_SCORE = 0.02  # so that the cosine still orders candidates whose patches agree nowhere
TOGETHER = 10  # candidates, whose vote maps fit in the cache of a core
# Votes are added as whole numbers, so their sum does not depend on the order: this many are one
# ceiling. All votes of a query are at most one ceiling per patch, so their sum is exact.
WHOLE = 1 << 40


@dataclass(frozen=True, slots=True)
class Background:
    """How similar the patches of a query are to the other candidates.

    ``similarity`` (n, P) float64 holds, for each of n candidates, the mean cosine of each query
    patch to its nearest patch in the other candidates. ``ceiling`` is the largest mean vote of a
    query patch in any candidate.
    """

    similarity: Array = field(repr=False)
    ceiling: float

    @classmethod
    def of(cls, matched: Sequence[Matched]) -> Background:
        """Return the background of each candidate of a query.

        A candidate does not count in its own background. A single candidate has the background 0.
        """
        best = np.stack([one.best for one in matched])
        similarity = best.sum(axis=0, dtype=np.float64) - best
        similarity = np.clip(similarity / max(len(best) - 1, 1), 0.0, 1.0)
        return cls(similarity, float(votes(1.0, similarity).mean(axis=1).max()))


def votes(similarity: Array | float, background: Array) -> Array:
    """Return the weight of a match of cosine s and background b: max(0, s - 0.8 b) (1 - b)^3."""
    excess: Array = np.maximum(similarity - BACKGROUND_SHARE * background, 0.0)
    return excess * (1.0 - background) ** DISTINCTNESS_POWER


def displacement_scores(
    matched: Sequence[Matched],
    box: int = 7,
    background: Background | None = None,
    scales: tuple[float, ...] = SCALES,
) -> list[Match]:
    """Return for each candidate the largest sum of votes in one ``box`` x ``box`` window.

    ``matched`` are the candidates of one query, at one patch size; ``background`` is theirs, unless
    another one is given. ``box`` is an odd number of cells. The query is zoomed about its middle by
    each of ``scales`` before displacements are measured. The score is the sum divided by what it
    would be if every patch of the smaller grid voted with the background's ceiling, which is a mean
    over the patches; blank patches of the database do not count. The matched patches may be more
    distinctive than the mean. So the score is 0 without a match, about 1 for a copy, and at most
    the number of query patches divided by that of the smaller grid (about 4 with ``stride`` 2). The
    inliers are the voting matches in the best window. Of equal windows the first one counts, in the
    order of scale, row and column.
    """
    background = background or Background.of(matched)
    by_grid: dict[Grid, list[int]] = {}
    for number, one in enumerate(matched):
        by_grid.setdefault(one.database, []).append(number)
    results: dict[int, Match] = {}
    for numbers in by_grid.values():
        for first in range(0, len(numbers), TOGETHER):
            some = numbers[first : first + TOGETHER]
            own = Background(background.similarity[some], background.ceiling)
            scored = _of_one_grid([matched[n] for n in some], own, box, np.array(scales))
            results.update(zip(some, scored, strict=True))
    return [results[number] for number in range(len(matched))]


def with_global(scores: Array, cosines: Array) -> Array:
    """Return patch scores s (n, S) weighed by global cosines c (n,).

    That is the geometric mean of s + .02 and exp(5 (c - 1)). Its logarithm is a sum of both, as the
    log-odds of the confidence are. A copy has about 1.
    """
    weights = np.exp(GLOBAL_POWER * (np.minimum(cosines[:, None], 1.0) - 1.0))
    mean: Array = np.sqrt((scores + LEAST_SCORE) * weights)
    return mean


def _of_one_grid(
    matched: Sequence[Matched], background: Background, box: int, scales: Array
) -> list[Match]:
    """Return the results of a few candidates with equal grids."""
    counts = [len(one.pairs) for one in matched]
    number = np.repeat(np.arange(len(matched)), counts)
    pairs = np.concatenate([one.pairs for one in matched])
    similarity = np.concatenate([one.similarity for one in matched]).astype(np.float64)
    # Rounded descriptors can have products above 1: those of a stored photo and its copy do.
    vote = votes(np.clip(similarity, 0.0, 1.0), background.similarity[number, pairs[:, 0]])
    if background.ceiling:
        vote /= background.ceiling
    query, database = matched[0].query, matched[0].database
    start, end = query.corners(pairs[:, 0]), database.corners(pairs[:, 1])
    zoomed = (scales[:, None, None] - 1.0) * (start - query.reach / 2)
    step = np.floor(end - start - zoomed + 0.5).astype(np.int64)
    reach = np.maximum(query.reach, database.reach)
    peaks, inside = _peaks(step, vote, (number, len(matched)), reach, box)
    voting = np.split(inside & (vote > 0), np.cumsum(counts)[:-1])
    patches = [max(1, min(len(query), len(database) - one.blank)) for one in matched]
    return [
        one.scored(score, inliers)
        for one, score, inliers in zip(matched, (peaks / patches).tolist(), voting, strict=True)
    ]


def _peaks(
    step: Array, vote: Array, candidate: tuple[Array, int], reach: Array, box: int
) -> tuple[Array, Array]:
    """Return the best window's sum of ``vote`` (n,), and which matches (M,) bool are in it.

    ``candidate`` has the number (M,) of each match's candidate, and how many candidates there are.
    ``step`` (S, M, 2) holds the displacements at S scales; those beyond ``reach`` do not count, nor
    windows whose middle is there. All vote maps follow each other, line by line, in one array.
    ``box`` - 1 empty cells before each line, and as many empty lines before each map, keep a window
    from two lines or maps at once.
    """
    (number, candidates), scales, half = candidate, len(step), box // 2
    width, height = 2 * reach + box
    column, row = np.ascontiguousarray(np.moveaxis(step + reach, 2, 0))
    within = (column >= 0) & (column <= 2 * reach[0]) & (row >= 0) & (row <= 2 * reach[1])
    vote_map = np.arange(scales)[:, None] + scales * number
    cells = ((vote_map * height + row + box - 1) * width + column + box - 1)[within]
    whole = np.broadcast_to(np.rint(vote * WHOLE), within.shape)[within]
    cell_count = candidates * scales * height * width
    vote_maps = np.bincount(cells, whole, minlength=cell_count + (box - 1) * (width + 1))
    sums = _window_sums(_window_sums(vote_maps, box, width), box, 1)
    by_middle = sums.reshape(-1, height, width)[:, half : height - half, half : width - half]
    sums = by_middle.reshape(candidates, -1)
    place = sums.argmax(axis=1)
    scale, middle_row, middle_column = np.unravel_index(place, (scales, *by_middle.shape[1:]))
    chosen = scale[number], np.arange(len(number))
    down, across = row[chosen] - middle_row[number], column[chosen] - middle_column[number]
    inside = within[chosen] & (np.abs(down) <= half) & (np.abs(across) <= half)
    return sums[np.arange(candidates), place] / WHOLE, inside


def _window_sums(values: Array, count: int, apart: int) -> Array:
    """Return, for each place, the sum of ``count`` values (N,), ``apart`` from each other.

    The sum of twice as many values is that of two such sums.
    """
    if count == 1:
        return values
    half = count // 2
    sums = _window_sums(values, half, apart)
    twice: Array = sums[: -half * apart] + sums[half * apart :]
    return twice[:-apart] + values[(count - 1) * apart :] if count % 2 else twice
