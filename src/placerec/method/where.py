"""Where a query was taken: the positions of the candidates that agree, as one position.

The candidates near the best one are averaged with the cube of their scores. A candidate far from
the best one does not count, so a wrong one moves nothing. docs/MEASUREMENTS.md has the error.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from placerec.photos.sphere import distance
from placerec.records import Array, Position

NEAR = 40.0  # metres
POWER = 3


def fused_position(positions: Sequence[Position | None], scores: Array) -> Position | None:
    """Return the position of a query from the positions and scores (n,) of its candidates.

    The first candidate is the best one; ``None`` if it has no position. The heading is unknown.
    """
    best = positions[0] if positions else None
    if best is None:
        return None
    rows = [
        (near.latitude, (near.longitude - best.longitude + 180.0) % 360.0 - 180.0, score)
        for near, score in zip(positions, np.maximum(scores, 0.0).tolist(), strict=True)
        if near and distance(near, best) <= NEAR
    ]
    latitudes, aside, weights = np.array(rows).T
    total = (weights**POWER).sum()
    if total <= 0.0:
        return Position(best.latitude, best.longitude)
    share = weights**POWER / total
    longitude = (best.longitude + float(share @ aside) + 180.0) % 360.0 - 180.0
    return Position(float(share @ latitudes), longitude)
