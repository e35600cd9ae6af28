"""Homographies of 100 candidates by several estimators; a part of benchmarks/speed.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from speed_place import (
    THREADS,
    Place,
    drawn_patches,
    in_turn,
    milliseconds,
    patch_sets,
)

from placerec.method.matching import Matched
from placerec.method.ransac import TOLERANCE_PIXELS, patch_centres, ransac_score
from placerec.method.scores import match_candidates
from placerec.workers import map_in_order, single_threaded_blas

OURS = "RANSAC, ours"
ESTIMATORS = ("RANSAC", "USAC_DEFAULT", "USAC_FAST", "USAC_MAGSAC", "RHO")


def estimators(place: Place) -> dict[str, Any]:
    """OpenCV's estimators of a homography, and ours.

    They get the matches of all candidates and three sizes. ``inliers`` are those of all candidates
    that show the query, over those of RANSAC; ``equal`` is the share of all candidates and sizes
    that have as many inliers as with RANSAC.
    """
    sizes, count = (2, 5, 8), place.scale.published
    query, stored = drawn_patches(128, sizes, count)
    asked, shown = patch_sets(query), [patch_sets(one) for one in stored]
    with single_threaded_blas():
        matched = [one for photo in match_candidates(asked, shown, THREADS) for one in photo]
    inliers: dict[str, list[int]] = {}

    def opencv(name: str) -> Callable[[], None]:
        def estimate(one: Matched) -> int:
            source = patch_centres(one.database)[one.pairs[:, 1]]
            target = patch_centres(one.query)[one.pairs[:, 0]]
            method = getattr(cv2, name)
            mask = cv2.findHomography(source, target, method, TOLERANCE_PIXELS)[1]
            return 0 if mask is None else int(mask.sum())

        def work() -> None:
            inliers[name] = list(map_in_order(estimate, matched, THREADS))

        return work

    def ours() -> None:
        scored = map_in_order(ransac_score, matched, THREADS)
        inliers[OURS] = [one.inliers for one in scored]

    sides = {name: milliseconds(opencv(name)) for name in ESTIMATORS}
    sides[OURS] = milliseconds(ours)
    found = in_turn(sides, place.scale.few)
    showing, exact = count // 10 * len(sizes), inliers["RANSAC"]
    return {
        name: {
            **stages["ms"],
            "inliers": sum(inliers[name][:showing]) / max(1, sum(exact[:showing])),
            "equal": float(np.mean([a == b for a, b in zip(inliers[name], exact, strict=True)])),
        }
        for name, stages in found.items()
    }
