"""Every number of a training: one frozen record per recipe, and the published schedules by name.

``Schedule`` is the recipe ``published``: NetVLAD on VGG16 from photos with positions.
``InvarianceSchedule`` is the recipe ``invariance``: any trunk, from photos alone.

Sources of ``Schedule``: the published Patch-NetVLAD program (preset ``mapillary``); NetVLAD, CVPR
2016, and the PyTorch program that the Patch-NetVLAD program extends (preset ``pittsburgh``).
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from placerec.settings import require

Range = tuple[float, float]
Size = tuple[int, int]
CHOICES: dict[str, tuple[Any, ...]] = {
    "avoid": ("portion", "query"),
    "mining": ("ours", "published"),
    "best_by": (1, 5, 10),
    "precision": ("float32", "tf32", "bf16", "fp16"),
}


class _Numbers:
    """What the record of every recipe has."""

    recipe: ClassVar[str]

    def replace(self, **changes: Any) -> Self:
        """Return a schedule with ``changes``; an unknown name raises ``UsageError``."""
        names = {field.name for field in dataclasses.fields(self)}  # type: ignore[arg-type]
        for name in changes:
            require(name in names, name, f"one of {', '.join(sorted(names))}")
        return dataclasses.replace(self, **changes)  # type: ignore[type-var]


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule(_Numbers):
    """The numbers of a training. An unknown name or an invalid value raises ``UsageError``."""

    recipe: ClassVar[str] = "published"

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


MAPILLARY = Schedule()
PRESETS: dict[str, Schedule] = {
    "mapillary": MAPILLARY,
    # NetVLAD mines in the whole database. Each query omits only the photos near itself.
    "pittsburgh": MAPILLARY.replace(clusters=64, negatives=10, pool=10_000, avoid="query"),
    # A set of one neighbourhood: the photos near a portion of queries would be the whole set.
    "photos": MAPILLARY.replace(avoid="query"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class InvarianceSchedule(_Numbers):
    """The numbers of an invariance training, and of the random views that it learns from.

    An unknown name or an invalid value raises ``UsageError``. A pair is the range of a number that
    is drawn for each photo anew. Lengths of a view are in -1..1 from side to side.
    """

    recipe: ClassVar[str] = "invariance"

    # Gradient descent.
    image_size: Size = (480, 640)  # of a view; height, width in pixels, as photos are described
    steps: int = 400  # more did not help on 2212 photos
    batch: int = 32  # photos per step
    learning_rate: float = 3e-3  # of a tensor's root mean square per step; then a cosine to zero
    warm_up: int = 20  # steps of a rising learning rate, while Adam has no averages yet
    clip: float = 1.0  # largest norm of the gradient; a few dark views have a very large one
    keep: float = 1.0  # weight of "a clean photo has the teacher's features" against invariance
    precision: str = "float32"  # tf32 and bf16 are faster on a GPU; the loss stays float32
    seed: int = 123  # of photos, views and the held-back photos

    # The result: a mixture of the weights before and after, which keeps more of what was there.
    shares: tuple[float, ...] = (0.25, 0.5, 0.75, 1.0)  # of the trained weights

    # The judgement on held-back photos, which take no part in the training.
    held_back: int = 8  # one photo of so many; at most ``most_held_back``
    fewest_held_back: int = 10  # with fewer, one query is more than a tenth of the recall
    most_held_back: int = 200
    judged_views: int = 100  # at least so many queries; a photo may give several
    judged_photos: int = 1000  # database; as many as a fit uses
    judged_size: Size = (480, 640)  # height, width in pixels; the size of the default method

    # Views: a random quadrilateral of the photo fills the image.
    clean_side: Range = (0.75, 1.0)  # share of the photo's side that the teacher sees
    night_side: Range = (0.55, 1.0)  # a photo taken from elsewhere shows less in common
    aspect: Range = (0.88, 1.13)  # width / height of the quadrilateral, relative to the photo
    corner: float = 0.12  # each corner moves by at most this share of a side: turns, slants

    # Light of the night view. Some views stay days, so that the day is not forgotten.
    dark: float = 0.75  # share of views that are dark
    gamma: Range = (1.2, 3.2)  # of a dark view; day: day_gamma
    day_gamma: Range = (0.5, 1.6)
    exposure: Range = (0.12, 0.8)  # factor of a dark view; day: day_exposure
    day_exposure: Range = (0.7, 1.5)
    red: Range = (0.7, 1.4)  # lamps and cameras change the colour; blue most
    green: Range = (0.9, 1.1)
    blue: Range = (0.55, 1.3)
    lamps: int = 5  # glows in a dark view, each there with probability one half
    lamp_radius: Range = (0.02, 0.35)
    lamp_light: Range = (0.1, 0.9)
    shade: Range = (0.0, 0.6)  # logarithm; large soft shadows, as light comes from elsewhere

    # The camera at night.
    grey: float = 0.35  # share of views without colour
    blur: float = 0.4  # share of views that are out of focus or moved
    coarse: float = 0.3  # share of views of a third of the resolution
    noise: Range = (0.0, 0.09)  # deviation, of 1

    # The clean view that the student sees: only what a camera changes by day.
    mild_gamma: Range = (0.7, 1.5)
    mild_exposure: Range = (0.75, 1.25)
    mild_noise: Range = (0.0, 0.03)

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "held_back", "fewest_held_back", "judged_views"):
            require(getattr(self, name) >= 1, name, "at least 1")
        for name in ("warm_up", "seed", "keep"):
            require(getattr(self, name) >= 0, name, "at least 0")
        for name in ("learning_rate", "clip"):
            require(getattr(self, name) > 0, name, "more than 0")
        for name in ("image_size", "judged_size"):
            require(min(getattr(self, name)) >= 16, name, "at least 16 pixels on each side")
        choices = ("float32", "tf32", "bf16")
        require(self.precision in choices, "precision", " or ".join(choices))

    def learning_rate_at(self, step: int) -> float:
        """Return the share of ``learning_rate`` at a step (from 0): a rise, then a cosine."""
        rise = min(1.0, (step + 1) / (self.warm_up + 1))
        return rise * (0.5 + 0.5 * math.cos(math.pi * step / self.steps))


HALF_SIZE = (240, 320)  # height, width in pixels: a quarter of the work, for a CPU
INVARIANCE = InvarianceSchedule()
ADAPT = INVARIANCE.replace(steps=150, batch=16)  # a trained trunk starts close, on fewer photos
