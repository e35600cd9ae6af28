"""Re-ranking: the candidates of a shortlist in the order of their patch agreement.

Source: Patch-NetVLAD, sections 3.4 and 3.5. Adding a scorer is one file in ``method`` and one line
in ``SCORERS``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from placerec.method import ranking
from placerec.method.displacement import Background, backgrounds, displacement_score
from placerec.method.fusion import default_weights, fuse
from placerec.method.matching import Matched, mutual_nearest
from placerec.method.ransac import ransac_score
from placerec.method.spatial import spatial_score
from placerec.records import Array, Match, PatchSet
from placerec.settings import Settings
from placerec.workers import map_in_order

# A scorer gets one candidate's matches and what the query's patches find in the other candidates.
Scorer = Callable[[Matched, Background, Settings], Match]
SCORERS: dict[str, Scorer] = {
    "displacement": lambda one, others, s: displacement_score(one, s.box, others),
    "spatial": lambda one, _, s: spatial_score(one, s.spatial_form),
    "ransac": lambda one, *_: ransac_score(one),
}


@dataclass(frozen=True, slots=True)
class Ranked:
    """A candidate by its number on the shortlist, with its final score and its matches a size."""

    candidate: int
    score: float
    matches: tuple[Match, ...] = ()


def rerank(
    query: tuple[PatchSet, ...],
    candidates: Iterable[tuple[PatchSet, ...]],
    similar: Array,
    settings: Settings,
    threads: int = 1,
) -> list[Ranked]:
    """The shortlist, whose global similarities are ``similar`` (n,), best first.

    ``candidates`` are the patches of its first photos. The others follow in their global order:
    with the lowest score (at most 0), or, where there are no candidates at all, with ``similar``.
    Equal scores keep the global order.
    """
    matched = match_candidates(query, candidates, threads)
    if not matched:
        return [Ranked(number, float(score)) for number, score in enumerate(similar)]
    scores, matches = score_matches(matched, settings, threads)
    order, final = ranking.rerank(scores, len(similar))
    return [
        Ranked(number, score, matches[number] if number < len(matches) else ())
        for number, score in zip(order.tolist(), final.tolist(), strict=True)
    ]


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
    """Fused score (n,) float64 of each candidate, larger is better, and its matches a size."""
    scorer = SCORERS[settings.scorer]
    # OpenCV frees the interpreter's lock; the small NumPy calls of the others only fight for it
    # (two threads took twice as long as one).
    threads = threads if settings.scorer == "ransac" else 1

    def score(item: tuple[tuple[Matched, ...], list[Background]]) -> tuple[Match, ...]:
        return tuple(scorer(one, others, settings) for one, others in zip(*item, strict=True))

    background = [
        backgrounds(np.stack([one.best for one in size])) for size in zip(*matched, strict=True)
    ]
    items = [(sizes, [size[row] for size in background]) for row, sizes in enumerate(matched)]
    matches = list(map_in_order(score, items, threads))
    scores = np.array([[one.score for one in sizes] for sizes in matches])
    weights = settings.scale_weights or default_weights(settings.patch_sizes)
    return fuse(scores, weights, settings.fusion), matches
