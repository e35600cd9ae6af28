"""Every number of a training in one frozen record, and the published schedules by name.

Sources: the published Patch-NetVLAD program (preset ``mapillary``); NetVLAD, CVPR 2016, and the
PyTorch program that the Patch-NetVLAD program extends (preset ``pittsburgh``).
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

from placerec.settings import require

CHOICES: dict[str, tuple[Any, ...]] = {
    "avoid": ("portion", "query"),
    "mining": ("ours", "published"),
    "best_by": (1, 5, 10),
    "precision": ("float32", "tf32", "bf16", "fp16"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """The numbers of a training. An unknown name or an invalid value raises ``UsageError``."""

    # What is learned.
    clusters: int = 16  # K; the paper uses 16 for Mapillary and 64 for Pittsburgh
    image_size: tuple[int, int] = (480, 640)  # height, width in pixels; as in the paper
    pca_dim: int = 512  # dimensions of the model; the "speed" setting of the paper
    pca_photos: int = 10_000  # database photos that the PCA is fitted on; as published

    # Which photos show the same place.
    positive_metres: float = 10.0  # at most; GPS errors leave too few photos below this
    negative_metres: float = 25.0  # more than; the tolerance of the recall
    heading_degrees: float = 40.0  # maximum turn between a query and a positive, if known

    # Mining.
    queries: int = 0  # queries per epoch; 0 = all queries of the set, as published
    portion: int = 1000  # queries between two updates of the descriptors; as published
    pool: int = 1000  # random database photos that the negatives come from; as published
    avoid: str = "portion"  # the pool omits photos near any query of the portion, or its own query
    negatives: int = 5  # hardest negatives per query; more need more memory (NetVLAD: 10)
    mining: str = "ours"  # "published" is the violation test of the program, with mixed signs

    # Gradient descent.
    batch: int = 4  # queries per step; 28 photos with 5 negatives
    margin: float = math.sqrt(0.1)  # NetVLAD: .1 for squared distances; these are not squared
    learning_rate: float = 1e-4  # small, because the trunk starts from trained weights
    momentum: float = 0.9
    weight_decay: float = 1e-3
    halve_every: int = 5  # epochs after which the learning rate is halved
    epochs: int = 30  # at most; the published run stopped after 22
    patience: int = 10  # epochs in a row that may pass without a better recall
    best_by: int = 5  # N of the validation recall@N that selects the best epoch
    precision: str = "float32"  # tf32, bf16, fp16 are faster on a GPU; NetVLAD stays float32
    seed: int = 123  # of clusters, queries and pools; as published

    def __post_init__(self) -> None:
        for name in ("negatives", "batch", "portion", "pool", "epochs", "halve_every", "pca_dim"):
            require(getattr(self, name) >= 1, name, "at least 1")
        for name in ("queries", "patience", "seed", "momentum", "weight_decay"):
            require(getattr(self, name) >= 0, name, "at least 0")
        for name in ("learning_rate", "margin", "positive_metres"):
            require(getattr(self, name) > 0, name, "more than 0")
        for name, choices in CHOICES.items():
            require(getattr(self, name) in choices, name, " or ".join(map(str, choices)))
        require(self.clusters >= 2, "clusters", "at least 2")
        require(min(self.image_size) >= 16, "image_size", "at least 16 pixels on each side")
        near = self.positive_metres <= self.negative_metres
        require(near, "positive_metres", "at most negative_metres")

    def learning_rate_at(self, epoch: int) -> float:
        """Return the learning rate of an epoch (from 0), halved after every ``halve_every``."""
        return float(self.learning_rate * 0.5 ** (epoch // self.halve_every))

    def replace(self, **changes: Any) -> Schedule:
        """Return a schedule with ``changes``; an unknown name raises ``UsageError``."""
        names = {field.name for field in dataclasses.fields(self)}
        for name in changes:
            require(name in names, name, f"one of {', '.join(sorted(names))}")
        return dataclasses.replace(self, **changes)


MAPILLARY = Schedule()
PRESETS: dict[str, Schedule] = {
    "mapillary": MAPILLARY,
    # NetVLAD mines in the whole database. Each query omits only the photos near itself.
    "pittsburgh": MAPILLARY.replace(clusters=64, negatives=10, pool=10_000, avoid="query"),
    # A set of one neighbourhood: the photos near a portion of queries would be the whole set.
    "photos": MAPILLARY.replace(avoid="query"),
}
