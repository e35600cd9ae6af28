"""The time of one query: describe, match, verify, each by the code that answers a query.

The first query of the list is timed with its candidates. The fastest of a few runs counts, because
other work on the machine disturbs it least. The time to read files and to describe database photos
is not included.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import cache, partial

import numpy as np

from placerec.models.model import Model
from placerec.models.resolve import resolve
from placerec.recognise.scores import match_candidates, score_matches
from placerec.records import Array, PatchSet
from placerec.reproduce.feature_maps import map_reported
from placerec.reproduce.matches import FUSION, Kind, Variant, describe, kinds_of, with_patches
from placerec.reproduce.study import Study
from placerec.settings import Size

REPEATS = 3


def query_times(
    study: Study, model: Model, rows: Array, variants: Sequence[Variant]
) -> list[dict[str, float]]:
    """Time the first query with its candidates ``rows`` for each variant, in milliseconds.

    ``describe_ms`` is the global vector and the patches of the query's feature map, on one thread.
    ``match_ms`` and ``verify_ms`` are for all candidates together.
    """
    kinds, threads, features = kinds_of(variants), study.runtime.cores, study.query_maps[0]

    def candidate(row: int) -> dict[Kind, PatchSet]:
        return describe(model, study.database_maps[row], kinds, model.settings.stride)

    @cache
    def describe_ms(sizes: tuple[Size, ...], dim: int) -> float:
        return fastest_ms(partial(with_patches(model, sizes, dim).describe_map, features, 1))

    stage = "describing for the times"
    described = map_reported(candidate, rows.tolist(), stage, study.runtime)
    described.insert(0, describe(model, features, kinds, 1))
    times = []
    for sizes, dim, scorer in variants:
        settings = with_patches(model, sizes, dim).settings.replace(scorer=scorer, fusion=FUSION)
        query, *candidates = (tuple(patches[size, dim] for size in sizes) for patches in described)
        match = partial(match_candidates, query, candidates, threads)
        verify = partial(score_matches, match(), settings, threads)
        times.append({"describe_ms": describe_ms(sizes, dim), "match_ms": fastest_ms(match),
                      "verify_ms": fastest_ms(verify)})  # fmt: skip
    return times


def trunk_ms(study: Study) -> float:
    """Time the trunk on one photo, with all threads."""
    trunk = resolve(study.parameters.model, runtime=study.runtime).trunk
    image = np.zeros((1, 3, *study.parameters.image_size), np.float32)
    trunk(image)
    return fastest_ms(lambda: trunk(image))


def fastest_ms(work: Callable[[], object]) -> float:
    """Return the milliseconds of the fastest of a few runs of ``work``."""
    seconds = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return 1000 * min(seconds)
