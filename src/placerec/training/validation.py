"""Recall of the network as it is: global descriptors, no PCA, no re-ranking.

As published: every query searches the database of its own city; the queries of all cities are
counted together. Queries without a positive are left out (``evaluation.metrics``).
"""

from __future__ import annotations

from collections.abc import Sequence

from placerec.evaluation.dataset import Search
from placerec.evaluation.scoring.metrics import RECALL_AT, recalls
from placerec.method.ranking import best_first
from placerec.training.mining import Describe


def validate(searches: Sequence[Search], describe: Describe) -> dict[str, float]:
    """``recall@1``, ``recall@5`` and ``recall@10`` over the queries of all ``searches``.

    Equally similar photos rank in the order of the database.
    """
    ranked: dict[str, list[str]] = {}
    positives: dict[str, frozenset[str]] = {}
    for part, search in enumerate(searches):
        database = describe(search.database.paths)
        similarity = describe(search.queries.paths) @ database.T
        order = best_first(similarity, axis=1)[:, : max(RECALL_AT)]
        for query, found in enumerate(order.tolist()):
            name = f"{part} {query}"
            ranked[name] = [str(number) for number in found]
            positives[name] = frozenset(str(number) for number in search.positives[query])
    return recalls(ranked, positives)
