"""Scores of stored matches: every scorer at every size once, every fusion from them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np

from placerec.method.fusion import default_weights, fuse
from placerec.method.matching import Matched
from placerec.method.ranking import rerank
from placerec.recognise.rerank import score_matches
from placerec.records import Array, Match
from placerec.reproduce.matches import Kind, Matches
from placerec.runtime import Progress, no_progress
from placerec.settings import Settings, Size

SINGLE: tuple[Size, ...] = ((5, 5),)
MULTI: tuple[Size, ...] = ((2, 2), (5, 5), (8, 8))
FUSION = "z-score"  # the published program's, for every scorer


class Scores:
    """Orders of the candidates of every question by any scorer, sizes and weights.

    Equal scores keep the order of the shortlist. ``orders`` are of database rows.
    """

    def __init__(self, matches: Matches, threads: int, progress: Progress = no_progress) -> None:
        self.lists, self._threads, self._progress = matches.lists, threads, progress
        self._matched = cache(matches.of)
        self._scored = cache(self._score)

    def of_size(self, scorer: str, kind: Kind) -> Array:
        """Scores (Q, C) of one size, larger is better."""
        return self._scored(scorer, kind)

    def orders(
        self,
        scorer: str,
        sizes: Sequence[Size],
        dim: int,
        weights: tuple[float, ...] | None = None,
    ) -> list[Array]:
        """The database rows of each question's candidates, best first.

        Fused by z-scores with ``weights`` (none: the published ones, or equal ones).
        """
        single = np.stack([self.of_size(scorer, (size, dim)) for size in sizes], axis=2)
        weights = weights or default_weights(tuple(sizes))
        return [
            rows[rerank(fuse(scores, weights, FUSION), len(rows))[0]]
            for rows, scores in zip(self.lists, single, strict=True)
        ]

    def matches(
        self, scorer: str, sizes: Sequence[Size], dim: int, question: int
    ) -> list[tuple[Match, ...]]:
        """The scored matches of one question with each candidate, one a size."""
        found = [
            self._scorer(scorer, size, self._matched((size, dim))[question])[1] for size in sizes
        ]
        return [tuple(one[0] for one in sizes) for sizes in zip(*found, strict=True)]

    def drop(self) -> None:
        """Forget the matches that were read, not the scores."""
        self._matched.cache_clear()

    def _score(self, scorer: str, kind: Kind) -> Array:
        found, scores = self._matched(kind), []
        for candidates in found:
            scores.append(self._scorer(scorer, kind[0], candidates)[0])
            self._progress(f"scoring by {scorer}", len(scores), len(found))
        return np.stack(scores)

    def _scorer(
        self, scorer: str, size: Size, candidates: list[Matched]
    ) -> tuple[Array, list[tuple[Match, ...]]]:
        settings = Settings(patch_sizes=(size,), scorer=scorer)
        return score_matches([(one,) for one in candidates], settings, self._threads)
