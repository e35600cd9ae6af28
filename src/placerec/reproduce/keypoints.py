"""A keypoint re-ranker beside ours, on the same candidates, where its weights are at hand.

The paper compares with SuperPoint + SuperGlue, whose weights are not free; ALIKED + LightGlue
stands for its kind.
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
    """The re-ranker; ``None`` where its weights were not converted or its package is missing."""
    if not (cache_folder() / f"{NAME}.safetensors").is_file():
        return None
    try:
        return RERANKERS[NAME].make(threads=threads)
    except MissingExtra:
        return None


def keypoint_rows(study: Study, reranker: Reranker) -> list[Row]:
    """One row: recall on the query list, and the times of its first query.

    ``trunk_ms`` is the detector, ``match_ms`` matcher and verification of all candidates together.
    """
    verifier = LocalVerifier.open(study.data, reranker, study.cache, study.options.threads)
    lists, orders = study.lists(study.model, study.query_maps), []
    photos = list(study.query_photos.values())
    for done, (photo, rows) in enumerate(zip(photos, lists, strict=True), start=1):
        verifier.prepare(rows.tolist())
        found = verifier.verify(verifier.encode(photo), rows.tolist())
        orders.append(rows[rerank(np.array([one.score for one in found]), len(rows))[0]])
        study.progress(f"matching by {NAME}", done, len(photos))
    query, first = verifier.encode(photos[0]), lists[0].tolist()
    spent = {
        "trunk_ms": fastest_ms(lambda: verifier.encode(photos[0])), "describe_ms": 0.0,
        "match_ms": fastest_ms(lambda: verifier.verify(query, first)), "verify_ms": 0.0,
    }  # fmt: skip
    cells = {"method": NAME, "threads": study.options.threads, **spent}
    return [study.row(study.ranked(orders), **cells, total_ms=sum(spent.values()))]
