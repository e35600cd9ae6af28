"""Mutual nearest neighbours between the patch sets of two photos.

Source: Patch-NetVLAD, section 3.4, equation 3. Only patches of one size are matched. The arg-max of
the cosine is the published arg-min of the distance, without its square root (which is NaN if
rounding makes a cosine exceed 1).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from placerec.records import Array, Grid, Match, PatchSet


@dataclass(frozen=True, slots=True)
class Matched:
    """The mutual matches of two patch sets of one size.

    ``query`` and ``database`` are only the grids of the sets, because the descriptors of 100
    candidates may need gigabytes. ``pairs`` (M, 2) int64 holds query patch and database patch, in
    ascending order of the database patch, ``similarity`` (M,) float32 their cosines. ``best`` (P,)
    float32 is the cosine of each query patch, matched or not, to its nearest database patch.
    ``blank`` is the number of database patches that are all zero, and so match nothing.
    """

    query: Grid
    database: Grid
    pairs: Array = field(repr=False)
    similarity: Array = field(repr=False)
    best: Array = field(repr=False)
    blank: int = 0

    def displacements(self) -> Array:
        """Return database minus query position of each match: (M, 2) int64, x, y in cells."""
        start = self.query.corners(self.pairs[:, 0])
        return self.database.corners(self.pairs[:, 1]) - start

    def scored(self, score: float, inliers: Array) -> Match:
        """Return the result of a scorer: the score, and which matches (M,) bool agree."""
        return Match(score, self.pairs[inliers], self.query, self.database)

    def unscored(self) -> Match:
        """Return the result without any agreement: score 0, no inlier."""
        return self.scored(0.0, np.zeros(len(self.pairs), bool))


def mutual_nearest(query: PatchSet, database: PatchSet) -> Matched:
    """Return the matches (i, j) where i is the nearest of j and j the nearest of i.

    Of equally near patches the one with the lowest number counts, so every patch is in at most one
    match. A blank patch (all zero) has no match.
    """
    similarity = query.descriptors @ database.descriptors.T
    nearest = similarity.argmax(axis=1)
    best = similarity[np.arange(len(nearest)), nearest]
    is_mutual = (best >= similarity.max(axis=0)[nearest]) & (best != 0)
    candidates = np.flatnonzero(is_mutual)[::-1]
    partner = np.full(similarity.shape[1], -1)
    partner[nearest[candidates]] = candidates  # the lowest of equal ones is written last
    matched = np.flatnonzero(partner >= 0)
    chosen = partner[matched]
    pairs = np.stack((chosen, matched), axis=1)
    return Matched(query.grid, database.grid, pairs, best[chosen], best, database.blank)
