"""The score of each candidate of a shortlist, by its patches.

Source: Patch-NetVLAD, sections 3.4 and 3.5. Adding a scorer is one file in ``method`` and one line
in ``SCORERS``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from placerec.method.displacement import displacement_scores, with_global
from placerec.method.fusion import default_weights, fuse
from placerec.method.matching import Matched, mutual_nearest
from placerec.method.ransac import ransac_score
from placerec.method.spatial import spatial_score
from placerec.records import Array, Match, PatchSet
from placerec.settings import AnySettings
from placerec.workers import map_all, prepare_small_products

# A scorer gets the matches of all candidates at one patch size, and a number of threads.
Scorer = Callable[[Sequence[Matched], AnySettings, int], list[Match]]
SCORERS: dict[str, Scorer] = {
    "displacement": lambda matched, s, _: displacement_scores(matched, s.box),
    "spatial": lambda matched, s, _: [spatial_score(one, s.spatial_form) for one in matched],
    # Only RANSAC releases the interpreter lock for long, so only it is faster on several threads.
    "ransac": lambda matched, _, threads: map_all(ransac_score, matched, threads),
}
PatchSets = tuple[PatchSet, ...]  # the patches of a photo, one set per size


def match_candidates(
    query: PatchSets,
    candidates: Iterable[Any],
    threads: int = 1,
    decode: Callable[[Any], PatchSets] = lambda patches: patches,
) -> list[tuple[Matched, ...]]:
    """Return the mutual matches of the query with each candidate, one entry per patch size.

    ``decode`` turns a candidate into its patches; the threads run it together with the matching.
    """
    prepare_small_products(threads)

    def match(candidate: Any) -> tuple[Matched, ...]:
        return tuple(map(mutual_nearest, query, decode(candidate)))

    return map_all(match, candidates, threads)


def score_matches(
    matched: list[tuple[Matched, ...]],
    settings: AnySettings,
    threads: int = 1,
    cosines: Array | None = None,
) -> tuple[Array, list[tuple[Match, ...]]]:
    """Return the fused score (n,) float64 of each candidate, and its matches, one per patch size.

    A larger score is a better agreement. The displacement scorer weighs it by the global
    ``cosines`` (n,), unless there are none; the score of each match is that of the patches alone.
    """
    if not matched:
        return np.zeros(0), []
    scorer = SCORERS[settings.scorer]
    sizes = [scorer(size, settings, threads) for size in zip(*matched, strict=True)]
    matches = list(zip(*sizes, strict=True))
    scores = np.array([[match.score for match in sizes] for sizes in matches])
    return fused(scores, settings, cosines), matches


def fused(scores: Array, settings: AnySettings, cosines: Array | None) -> Array:
    """Return one score (n,) float64 from ``scores`` (n, S), one per patch size."""
    if cosines is not None and settings.scorer == "displacement":
        scores = with_global(scores, cosines)
    weights = settings.scale_weights or default_weights(settings.patch_sizes)
    return fuse(scores, weights, settings.fusion)
