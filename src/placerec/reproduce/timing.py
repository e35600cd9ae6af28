"""The time of one query, of ours and of a keypoint re-ranker, by the code that answers a query.

The first query of the list is timed with its candidates. The fastest of a few runs counts, because
other work on the machine disturbs it least. The time to read files and to describe database photos
is not included.

The paper compares with SuperPoint + SuperGlue, whose weights are not free. ALIKED + LightGlue is
a free method of the same kind. It takes part if its weights are in the cache folder.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import TYPE_CHECKING

import numpy as np

from placerec.baselines import RERANKERS
from placerec.baselines.contract import Reranker
from placerec.engine import engine_for
from placerec.errors import MissingExtra
from placerec.evaluation.searchers import LocalVerifier
from placerec.files import cache_folder
from placerec.method.ranking import rerank
from placerec.method.scores import PatchSets, match_candidates, score_matches
from placerec.models.model import Model
from placerec.models.resolve import resolve
from placerec.records import Array, PatchSet
from placerec.reproduce.folder import Row
from placerec.reproduce.matches import (
    FUSION,
    Kind,
    Variant,
    describe,
    kinds_of,
    map_reported,
    with_patches,
)
from placerec.reproduce.study import Study
from placerec.settings import AnySettings, Size

if TYPE_CHECKING:
    from placerec.engine.shortlist import Engine, Matching

REPEATS = 3
KEYPOINTS = "aliked-lightglue"


def query_times(
    study: Study, model: Model, rows: Array, variants: Sequence[Variant]
) -> list[dict[str, float]]:
    """Time the first query with its candidates ``rows`` for each variant, in milliseconds.

    ``describe_ms`` is the global vector and the patches of the query's feature map, on one thread.
    ``match_ms`` and ``verify_ms`` are for all candidates together; on a GPU, they are there before.
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
    engine = engine_for(study.runtime)
    times = []
    for sizes, dim, scorer in variants:
        settings = with_patches(model, sizes, dim).settings.replace(scorer=scorer, fusion=FUSION)
        query, *candidates = (tuple(patches[size, dim] for size in sizes) for patches in described)
        if engine:
            match, verify = _on_engine(engine, query, candidates, settings)
        else:
            match = partial(match_candidates, query, candidates, threads)
            verify = partial(score_matches, match(), settings, threads)
        times.append({"describe_ms": describe_ms(sizes, dim), "match_ms": fastest_ms(match),
                      "verify_ms": fastest_ms(verify)})  # fmt: skip
    return times


def _on_engine(
    engine: Engine, query: PatchSets, candidates: Sequence[PatchSets], settings: AnySettings
) -> tuple[Callable[[], object], Callable[[], object]]:
    """Return the two steps on a GPU, where the candidates already are."""
    there = [engine.put(patches) for patches in candidates]

    def match() -> Matching:
        matching = engine.match(query, there)
        engine.wait()
        return matching

    return match, partial(engine.verify, match(), settings)


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


def keypoint_reranker(threads: int) -> Reranker | None:
    """Return the re-ranker; ``None`` without its converted weights or its package."""
    if not (cache_folder() / f"{KEYPOINTS}.safetensors").is_file():
        return None
    try:
        return RERANKERS[KEYPOINTS].make(threads=threads)
    except MissingExtra:
        return None


def keypoint_rows(study: Study, reranker: Reranker) -> list[Row]:
    """Return one row: the recall on the query list, and the times of its first query.

    ``trunk_ms`` is the detector, ``match_ms`` matching and verification of all candidates.
    """
    threads = study.runtime.cores
    verifier = LocalVerifier(reranker, study.search.database.paths, study.cache, threads)
    lists, orders = study.shortlists(study.model, study.query_maps), []
    photos = study.search.queries.paths
    for photo, rows in zip(photos, lists, strict=True):
        verifier.prepare(rows.tolist())
        verified = verifier.verify(verifier.encode(photo), rows.tolist())
        order, _ = rerank(np.array([candidate.score for candidate in verified]), len(rows))
        orders.append(rows[order])
        study.runtime.progress(f"matching by {KEYPOINTS}", len(orders), len(photos))
    query, first = verifier.encode(photos[0]), lists[0].tolist()
    times = {
        "trunk_ms": fastest_ms(lambda: verifier.encode(photos[0])), "describe_ms": 0.0,
        "match_ms": fastest_ms(lambda: verifier.verify(query, first)), "verify_ms": 0.0,
    }  # fmt: skip
    return [
        study.row(orders, method=KEYPOINTS, threads=threads, **times, total_ms=sum(times.values()))
    ]
