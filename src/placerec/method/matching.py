"""Mutual nearest neighbours between the patch sets of two photos.

Source: Patch-NetVLAD, section 3.4, equation 3. Patches are matched within one size only. The
arg-max of the cosine is the published arg-min of the distance, without its square root (which is
NaN where rounding makes a cosine exceed 1).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from placerec.records import Array, Grid, Match, PatchSet


@dataclass(frozen=True, slots=True)
class Matched:
    """The mutual matches of two patch sets of one size.

    Of the sets only the grids are kept: descriptors of 100 candidates may take gigabytes.
    ``pairs`` (M, 2) int64: query patch, database patch, ascending database patch. ``similarity``
    (M,) float32 cosines. ``best`` (P,) float32: the cosine of each query patch, matched or not, to
    its nearest database patch.
    """

    query: Grid
    database: Grid
    pairs: Array = field(repr=False)
    similarity: Array = field(repr=False)
    best: Array = field(repr=False)

    def displacements(self) -> Array:
        """Database minus query position of each match: (M, 2) int64, x then y, in cells."""
        mine = self.query.corners(self.pairs[:, 0])
        return self.database.corners(self.pairs[:, 1]) - mine

    def scored(self, score: float, inliers: Array) -> Match:
        """A scorer's verdict: its score, and which matches (M,) bool agree."""
        return Match(score, self.pairs[inliers], self.query, self.database)

    def unscored(self) -> Match:
        """The verdict on matches that say nothing: score 0, no inlier."""
        return self.scored(0.0, np.zeros(len(self.pairs), bool))


def mutual_nearest(query: PatchSet, database: PatchSet) -> Matched:
    """Matches (i, j) where i is the nearest of j and j the nearest of i.

    Of equally near patches the one with the lower number counts, so every patch is in at most one
    match.
    """
    similarity = query.descriptors @ database.descriptors.T
    nearest = similarity.argmax(axis=1)
    best = similarity[np.arange(len(nearest)), nearest]
    candidates = np.flatnonzero(best >= similarity.max(axis=0)[nearest])[::-1]
    owner = np.full(similarity.shape[1], -1)
    owner[nearest[candidates]] = candidates  # of equals the lowest, which is written last
    partners = np.flatnonzero(owner >= 0)
    chosen = owner[partners]
    pairs = np.stack((chosen, partners), axis=1)
    return Matched(query.grid, database.grid, pairs, best[chosen], best)
