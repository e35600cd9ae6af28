"""The shortlist: exact nearest neighbours of the global descriptor.

Source: Patch-NetVLAD, section 3.1 (the first 100 by NetVLAD are re-ranked).
"""

from __future__ import annotations

import numpy as np

from placerec.records import Array


def shortlist(query: Array, database: Array, count: int) -> tuple[Array, Array]:
    """The ``count`` rows of ``database`` (N, G) most similar to ``query`` (G,), best first.

    Returns row numbers (n,) int64 and cosines (n,) float64, n = min(count, N). Of equal
    similarities the lower row comes first; rows are in the order of the photos' paths.
    """
    # einsum, not a matrix product: it sums every row alike, so equal photos stay exactly equal.
    similarity = np.einsum("ng,g->n", database, query).astype(np.float64)
    order = np.argsort(-similarity, kind="stable")[:count]
    return order, similarity[order]
