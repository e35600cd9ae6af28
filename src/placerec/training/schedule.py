"""Every number of a training in one frozen record, and the published schedules by name.

Sources: the published Patch-NetVLAD program (preset ``mapillary``); NetVLAD, CVPR 2016, and the
PyTorch program that Patch-NetVLAD's builds on (preset ``pittsburgh``).
"""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass
from typing import Any

from placerec.errors import UsageError

MINING = ("ours", "published")
AVOIDS = ("portion", "query")
PRECISIONS = ("float32", "bf16", "fp16")


def _require(holds: bool, name: str, what: str) -> None:
    if not holds:
        raise UsageError(f"{name}: must be {what}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """The numbers of a training; an impossible or unknown one is a ``UsageError``."""

    # What is learnt.
    clusters: int = 16  # K; the paper took 16 for Mapillary, 64 for Pittsburgh
    image_size: tuple[int, int] = (480, 640)  # height, width in pixels; the paper's input
    pca_dim: int = 512  # dimensions of the model; the paper's "speed" setting
    pca_photos: int = 10_000  # database photos that the PCA is fitted on; as published

    # Which photos show the same place.
    positive_metres: float = 10.0  # at most; nearer than GPS error would leave too few
    negative_metres: float = 25.0  # more than; the tolerance that recall is counted with
    heading_degrees: float = 40.0  # positives look the same way, where headings are known (MSLS)

    # Mining.
    queries: int = 0  # queries an epoch; 0 = as many as the set has, as published
    portion: int = 1000  # queries between two renewals of the descriptors; as published
    pool: int = 1000  # random database photos that a portion's negatives come from; as published
    avoid: str = "portion"  # no pool photo is near any query of the portion; "query": near its own
    negatives: int = 5  # hardest ones a query; more of them need more memory (NetVLAD: 10)
    mining: str = "ours"  # "published" has the program's violation test, which mixes signs

    # Descent.
    batch: int = 4  # queries a step; with 5 negatives 28 photos
    margin: float = math.sqrt(0.1)  # .1 is NetVLAD's for squared distances; here they are not
    learning_rate: float = 1e-4  # small, because the trunk starts from trained weights
    momentum: float = 0.9
    weight_decay: float = 1e-3
    halve_every: int = 5  # epochs after which the learning rate is halved
    epochs: int = 30  # at most; the published run stopped after 22
    patience: int = 10  # epochs in a row without a better recall that are borne
    best_by: int = 5  # N of the validation recall@N that chooses the best epoch
    precision: str = "float32"  # bf16 and fp16 are faster on a GPU; the NetVLAD layer stays float32
    seed: int = 123  # of clusters, queries and pools; the published one

    def __post_init__(self) -> None:
        for name in ("clusters", "negatives", "batch", "portion", "pool", "epochs", "halve_every"):
            _require(getattr(self, name) >= 1, name, "at least 1")
        for name in ("queries", "patience", "seed", "momentum", "weight_decay"):
            _require(getattr(self, name) >= 0, name, "at least 0")
        _require(self.clusters >= 2, "clusters", "at least 2")
        _require(self.pca_dim >= 1, "pca_dim", "at least 1")
        _require(min(self.image_size) >= 16, "image_size", "at least 16 pixels each way")
        _require(self.learning_rate > 0, "learning_rate", "more than 0")
        _require(self.margin > 0, "margin", "more than 0")
        _require(0 < self.positive_metres <= self.negative_metres, "positive_metres",
                 "more than 0 and at most negative_metres")  # fmt: skip
        _require(self.best_by in (1, 5, 10), "best_by", "1, 5 or 10")
        for name, known in (("mining", MINING), ("avoid", AVOIDS), ("precision", PRECISIONS)):
            _require(getattr(self, name) in known, name, " or ".join(known))

    def learning_rate_at(self, epoch: int) -> float:
        """The learning rate of an epoch, counted from 0: halved after every ``halve_every``."""
        return float(self.learning_rate * 0.5 ** (epoch // self.halve_every))

    def replace(self, **changes: Any) -> Schedule:
        """A schedule with ``changes``; an unknown name is a ``UsageError``."""
        known = {field.name for field in dataclasses.fields(self)}
        for name in changes:
            _require(name in known, name, f"one of {', '.join(sorted(known))}")
        return dataclasses.replace(self, **changes)

    def as_dict(self) -> dict[str, Any]:
        """Every number by name, as JSON would give it back."""
        values: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(self)))
        return values


MAPILLARY = Schedule()
PRESETS: dict[str, Schedule] = {
    "mapillary": MAPILLARY,
    # NetVLAD mines in the whole database, each query leaving out only its own surroundings.
    "pittsburgh": MAPILLARY.replace(clusters=64, negatives=10, pool=10_000, avoid="query"),
    # A few thousand photos of one neighbourhood: any portion's surroundings would be all of it.
    "photos": MAPILLARY.replace(avoid="query"),
}


def preset(name: str) -> Schedule:
    """The schedule called ``name``."""
    _require(name in PRESETS, f"preset {name!r}", f"one of {', '.join(PRESETS)}")
    return PRESETS[name]


def check_amounts(schedule: Schedule, database: int, descriptor: int) -> None:
    """Refuse before training what could only fail after it: a PCA of more than the samples."""
    samples = min(database, schedule.pca_photos)
    if schedule.pca_dim > min(samples - 1, descriptor):
        raise UsageError(
            f"pca_dim {schedule.pca_dim}: {samples} database photos with {descriptor} values each "
            f"allow at most {min(samples - 1, descriptor)}; choose fewer with --pca-dim"
        )
