"""How long one query takes: describe, match, verify, each by the code that answers a query.

The first query of the list with its candidates; the best of a few repeats, which other work on the
machine disturbs least. Reading files and describing database photos are not in it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np

from placerec.models.model import Model
from placerec.models.resolve import open_named, trunk_named
from placerec.recognise.rerank import match_candidates, score_matches
from placerec.records import Array, PatchSet
from placerec.reproduce.matches import Kind, at, describe
from placerec.reproduce.scores import FUSION
from placerec.reproduce.study import Study
from placerec.settings import Size
from placerec.workers import map_in_order

REPEATS = 3


class Stopwatch:
    """Times of the first query of ``study`` with its candidates ``rows``, in milliseconds."""

    def __init__(
        self, study: Study, model: Model, rows: Array, sizes: Sequence[Size], dims: Sequence[int]
    ) -> None:
        self._model, self._threads = model, study.options.threads
        self._features = study.query_maps[0]
        self._query = describe(model, self._features, sizes, dims, 1)

        def candidate(row: int) -> dict[Kind, PatchSet]:
            return describe(model, study.database_maps[row], sizes, dims, model.settings.stride)

        self._candidates = []
        for one in map_in_order(candidate, rows.tolist(), self._threads):
            self._candidates.append(one)
            study.progress("describing for the times", len(self._candidates), len(rows))

    def describe_ms(self, sizes: tuple[Size, ...], dim: int) -> float:
        """Global vector and patches of the query from its trunk map, on one thread."""
        model = at(self._model, sizes, dim)
        return fastest_ms(lambda: model.describe_map(self._features, 1))

    def spent(self, sizes: tuple[Size, ...], dim: int, scorer: str) -> dict[str, float]:
        """``match_ms`` and ``verify_ms``, all candidates together."""
        settings = at(self._model, sizes, dim).settings.replace(scorer=scorer, fusion=FUSION)
        query = tuple(self._query[size, dim] for size in sizes)
        candidates = [tuple(one[size, dim] for size in sizes) for one in self._candidates]
        matched = match_candidates(query, candidates, self._threads)
        return {
            "match_ms": fastest_ms(lambda: match_candidates(query, candidates, self._threads)),
            "verify_ms": fastest_ms(lambda: score_matches(matched, settings, self._threads)),
        }


def trunk_ms(study: Study) -> float:
    """The trunk on one photo, with all threads."""
    threads, name = study.options.threads, study.options.model
    trunk = trunk_named(name, threads)
    if trunk is None:
        model = open_named(name, threads)
        trunk = model.trunk if model else study.trunk
    image = np.zeros((1, 3, *study.options.image_size), np.float32)
    trunk(image)
    return fastest_ms(lambda: trunk(image))


def fastest_ms(work: Callable[[], object]) -> float:
    """Milliseconds of the fastest of a few runs of ``work``."""
    found = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        work()
        found.append(time.perf_counter() - start)
    return 1000 * min(found)
