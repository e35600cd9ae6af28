"""RANSAC scoring: the share of patches that one homography explains.

Source: Patch-NetVLAD, section 3.4; the published program's call of OpenCV, with its constants. The
result depends on the order of the matches, so the order is fixed: ascending database patch.

The scorer ``usac`` asks OpenCV's newer estimator the same: it drops a bad sample after a few
matches, and improves a good one. It is many times faster, and its inliers differ (docs/SPEED.md;
Raguram et al., USAC: A Universal Framework for Random Sample Consensus, PAMI 2013).
"""

from __future__ import annotations

import numpy as np

from placerec.errors import MissingExtra
from placerec.method.matching import Matched
from placerec.records import Array, Grid, Match

CELL = 16
TOLERANCE_PIXELS = 1.5 * CELL
FEWEST_MATCHES = 4


def ransac_score(matched: Matched, *, fast: bool = False) -> Match:
    """Return the inliers of a homography from database to query, over the query's patches.

    The estimator is that of the published program, or with ``fast`` USAC. The reprojection
    tolerance is 24 pixels. The score is 0 if there are fewer than 4 matches or no
    homography. Raises ``MissingExtra`` if OpenCV (extra ``paper``) is not installed.
    """
    try:
        import cv2
    except ImportError as error:
        raise MissingExtra(f"scorer {'usac' if fast else 'ransac'}", "paper") from error
    if len(matched.pairs) < FEWEST_MATCHES:
        return matched.unscored()
    source = patch_centres(matched.database)[matched.pairs[:, 1]]
    target = patch_centres(matched.query)[matched.pairs[:, 0]]
    method = cv2.USAC_FAST if fast else cv2.RANSAC
    mask: Array | None = cv2.findHomography(source, target, method, TOLERANCE_PIXELS)[1]
    if mask is None:
        return matched.unscored()
    inliers = mask.ravel().astype(bool)
    return matched.scored(int(inliers.sum()) / len(matched.query), inliers)


def patch_centres(grid: Grid) -> Array:
    """Return pixel centres (P, 2) int64, x then y, truncated to whole pixels as published.

    A cell is 16 pixels wide, and its receptive field is centred 7.5 pixels after its corner.
    """
    size = np.array(grid.size[::-1])
    corners = grid.corners(np.arange(len(grid)))
    centres: Array = CELL * corners + CELL // 2 * (size - 1) + 7
    return centres
