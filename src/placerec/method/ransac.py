"""RANSAC scoring: the share of patches that one homography explains.

Source: Patch-NetVLAD, section 3.4; the published program's call of OpenCV, with its constants. The
result depends on the order of the matches, so the order is fixed: ascending database patch.

With the package ``numba`` (extra ``paper``), ``consensus`` draws OpenCV's samples, and OpenCV fits
the homography to the inliers of the best one. OpenCV does both if Numba is missing or does not
work, if there are only 4 matches, and if no sample explains 4. The inliers are the same, but for
the cases that ``consensus`` names.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from types import ModuleType

import numpy as np

from placerec.errors import import_extra
from placerec.method.matching import Matched
from placerec.records import Array, Grid, Match

CELL = 16
TOLERANCE_PIXELS = 1.5 * CELL
FEWEST_MATCHES = 4


def ransac_score(matched: Matched) -> Match:
    """Return the inliers of a homography from database to query, over the query's patches.

    The reprojection tolerance is 24 pixels. The score is 0 if there are fewer than 4 matches or no
    homography. Raises ``MissingExtra`` if OpenCV (extra ``paper``) is not installed.
    """
    if len(matched.pairs) < FEWEST_MATCHES:
        return matched.unscored()
    source = patch_centres(matched.database)[matched.pairs[:, 1]]
    target = patch_centres(matched.query)[matched.pairs[:, 0]]
    inliers = homography_inliers(source, target)
    return matched.scored(int(inliers.sum()) / len(matched.query), inliers)


def homography_inliers(source: Array, target: Array) -> Array:
    """Return which matches (M,) bool OpenCV's homography from source to target explains.

    ``source`` and ``target`` (M, 2) are positions in pixels, and M is at least 4. The homography is
    the least-squares fit to the matches that the best sample explains.
    """
    cv2 = import_extra("cv2", "scorer ransac", "paper")
    compiled = _compiled_module() if len(source) > FEWEST_MATCHES else None
    if compiled is not None:
        ends = source.astype(float), target.astype(float)
        sampled = compiled.consensus(*ends, TOLERANCE_PIXELS)
        fit = cv2.findHomography(source[sampled], target[sampled])[0] if sampled.any() else None
        if fit is not None:
            inside: Array = compiled.inliers(fit.ravel() / fit[2, 2], *ends, TOLERANCE_PIXELS)
            return inside
    mask = cv2.findHomography(source, target, cv2.RANSAC, TOLERANCE_PIXELS)[1]
    return np.zeros(len(source), bool) if mask is None else mask.ravel().astype(bool)


@cache
def _compiled_module() -> ModuleType | None:
    """Return the module ``consensus`` after a trial, or ``None`` if Numba does not work here."""
    square = np.array([[0.0, 0.0], [0.0, 9.0], [9.0, 0.0], [9.0, 9.0], [4.0, 5.0]])
    try:
        module = import_module("placerec.method.consensus")
        module.inliers(np.eye(3).ravel(), square, square, TOLERANCE_PIXELS)
        agreed = module.consensus(square, square, TOLERANCE_PIXELS)
    # Numba may be missing or too old, its stored code damaged, or the disk too full to store it.
    except Exception:
        return None
    return module if agreed.all() else None


def patch_centres(grid: Grid) -> Array:
    """Return pixel centres (P, 2) int64, x then y, truncated to whole pixels as published.

    A cell is 16 pixels wide, and its receptive field is centred 7.5 pixels after its corner.
    """
    size = np.array(grid.size[::-1])
    corners = grid.corners(np.arange(len(grid)))
    centres: Array = CELL * corners + CELL // 2 * (size - 1) + 7
    return centres
