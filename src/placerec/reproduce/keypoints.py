"""A keypoint re-ranker on the same candidates as ours, if its weights are in the cache folder.

The paper compares with SuperPoint + SuperGlue, whose weights are not free. ALIKED + LightGlue is
a free method of the same kind.
"""

from __future__ import annotations

import numpy as np

from placerec.baselines import RERANKERS
from placerec.baselines.contract import Reranker
from placerec.errors import MissingExtra
from placerec.evaluation.searchers import LocalVerifier
from placerec.files import cache_folder
from placerec.method.ranking import rerank
from placerec.reproduce.folder import Row
from placerec.reproduce.study import Study
from placerec.reproduce.timing import fastest_ms

NAME = "aliked-lightglue"


def keypoint_reranker(threads: int) -> Reranker | None:
    """Return the re-ranker; ``None`` without its converted weights or its package."""
    if not (cache_folder() / f"{NAME}.safetensors").is_file():
        return None
    try:
        return RERANKERS[NAME].make(threads=threads)
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
        study.runtime.progress(f"matching by {NAME}", len(orders), len(photos))
    query, first = verifier.encode(photos[0]), lists[0].tolist()
    times = {
        "trunk_ms": fastest_ms(lambda: verifier.encode(photos[0])), "describe_ms": 0.0,
        "match_ms": fastest_ms(lambda: verifier.verify(query, first)), "verify_ms": 0.0,
    }  # fmt: skip
    return [study.row(orders, method=NAME, threads=threads, **times, total_ms=sum(times.values()))]
