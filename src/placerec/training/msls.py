"""What training adds to Mapillary SLS: which cities train, and which queries come more often.

Source: the published Patch-NetVLAD program. The layout is read by ``evaluation.layouts.msls``.
Each city has a map of its own, so photos of different cities never are neighbours.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from placerec.errors import NotFound
from placerec.evaluation.dataset import Search, joined
from placerec.evaluation.layouts.msls import (
    TRAIN_CITIES,
    VALIDATION_CITIES,
    city_search,
    read_side,
)
from placerec.records import Array
from placerec.training.sets import TrainingSet


def read_msls(folder: Path) -> tuple[TrainingSet, tuple[Search, ...]]:
    """The training cities below ``folder/train_val`` that are there, as one set; and validation.

    Night and sideways-looking queries are rare, so they are drawn more often: a query's weight is
    1, plus Q / #night for one by night, plus Q / #sideways for one that looks sideways. A positive
    is near, whatever its heading, as published.
    """
    root = folder / "train_val"
    cities = [city for city in TRAIN_CITIES if (root / city).is_dir()]
    if not cities:
        raise NotFound(root, "none of the 22 training cities is in it", "unpack at least one")
    queries, database = (
        [read_side(folder, city, side, region) for region, city in enumerate(cities)]
        for side in ("query", "database")
    )
    weights = _weights(
        np.concatenate([side.night for side in queries]),
        np.concatenate([side.sideways for side in queries]),
    )
    asked, known = (
        replace(joined([side.photos for side in sides]), headings=None)
        for sides in (queries, database)
    )
    name = f"Mapillary SLS, {len(cities)} of {len(TRAIN_CITIES)} training cities"
    held_out = [city for city in VALIDATION_CITIES if (root / city).is_dir()]
    return (
        TrainingSet(name, asked, known, weights),
        tuple(city_search(folder, city) for city in held_out),
    )


def _weights(night: Array, sideways: Array) -> Array:
    weights = np.ones(len(night))
    for rare in (night, sideways):
        if rare.any():
            weights[rare] += len(night) / np.count_nonzero(rare)
    return weights
