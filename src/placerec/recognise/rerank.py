"""Re-ranking: the candidates of a shortlist in the order of their patch agreement.

Source: Patch-NetVLAD, sections 3.4 and 3.5. Adding a scorer is one file in ``method`` and one line
in ``SCORERS``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from placerec.method.displacement import backgrounds, displacement_score
from placerec.method.fusion import default_weights, fuse
from placerec.method.matching import Matched, mutual_nearest
from placerec.method.ransac import ransac_score
from placerec.method.spatial import spatial_score
from placerec.records import Array, Match, PatchSet
from placerec.settings import Settings
from placerec.workers import map_in_order

# A scorer gets one candidate's matches and what the query's patches find in the other candidates.
Scorer = Callable[[Matched, Array, Settings], Match]
SCORERS: dict[str, Scorer] = {
    "displacement": lambda one, others, s: displacement_score(one, s.box, others),
    "spatial": lambda one, _, s: spatial_score(one, s.spatial_form),
    "ransac": lambda one, *_: ransac_score(one),
}


def score_candidates(
    query: tuple[PatchSet, ...],
    candidates: Iterable[tuple[PatchSet, ...]],
    settings: Settings,
    threads: int = 1,
) -> tuple[Array, list[tuple[Match, ...]]]:
    """Fused score (n,) float64 of each candidate, larger is better, and its matches a size."""
    return score_matches(match_candidates(query, candidates, threads), settings, threads)


def match_candidates(
    query: tuple[PatchSet, ...], candidates: Iterable[tuple[PatchSet, ...]], threads: int = 1
) -> list[tuple[Matched, ...]]:
    """The mutual matches of the query with each candidate, one entry a patch size."""

    def match(candidate: tuple[PatchSet, ...]) -> tuple[Matched, ...]:
        return tuple(map(mutual_nearest, query, candidate))

    return list(map_in_order(match, candidates, threads))


def score_matches(
    matched: list[tuple[Matched, ...]], settings: Settings, threads: int = 1
) -> tuple[Array, list[tuple[Match, ...]]]:
    """As ``score_candidates``, from the matches of all candidates."""
    scorer = SCORERS[settings.scorer]

    def score(item: tuple[tuple[Matched, ...], list[Array]]) -> tuple[Match, ...]:
        return tuple(scorer(one, others, settings) for one, others in zip(*item, strict=True))

    background = [
        backgrounds(np.stack([one.best for one in size])) for size in zip(*matched, strict=True)
    ]
    items = [(sizes, [size[row] for size in background]) for row, sizes in enumerate(matched)]
    matches = list(map_in_order(score, items, threads))
    scores = np.array([[one.score for one in sizes] for sizes in matches])
    weights = settings.scale_weights or default_weights(settings.patch_sizes)
    return fuse(scores, weights, settings.fusion), matches
