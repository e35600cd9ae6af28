"""What a training is given: queries, and the database of their positives and negatives."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

import numpy as np

from placerec.evaluation.dataset import Photos
from placerec.evaluation.geometry import positions_of
from placerec.records import Array


@dataclass(frozen=True, slots=True)
class TrainingSet:
    """Queries and the database that their positives and negatives come from, with positions.

    ``weights`` (Q,): queries are drawn with replacement in proportion to them; without, each
    comes once an epoch, in random order.
    """

    name: str
    queries: Photos
    database: Photos
    weights: Array | None = field(default=None, repr=False)

    @property
    def digest(self) -> str:
        """sha256 (hex) of names and positions: a resumed run must find the same photos."""
        digest = hashlib.sha256()
        for photos in (self.queries, self.database):
            for path in photos.paths:
                digest.update(path.name.encode("utf-8", "surrogateescape") + b"\0")
            digest.update(np.ascontiguousarray(positions_of(photos)).tobytes())
        return digest.hexdigest()
