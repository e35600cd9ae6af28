"""All numbers of the method in one frozen record, and the named methods.

The first group is fixed by an index when it is built, because it decides what is stored; the
second can be chosen anew at every query. Defaults rest on measurements on validation halves
(docs/ARCHITECTURE.md, "Measured choices").
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import Any

from placerec.errors import UsageError

Size = tuple[int, int]

SCORER_NAMES = ("displacement", "spatial", "ransac")
FUSIONS = ("raw", "z-score")
FORMS = ("program", "paper", "paper-absolute")  # of the rapid spatial score
FIXED_BY_INDEX = (
    "image_size", "pooling", "image_centring", "local_dim", "local_whitening", "clusters", "bands",
    "global_dim", "whitening", "patch_sizes", "stride", "k_patch", "pca_dim", "patch_whitening",
)  # fmt: skip


def _require(holds: bool, name: str, what: str) -> None:
    if not holds:
        raise UsageError(f"{name}: must be {what}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Every setting of the method; an unknown or impossible one is a ``UsageError``.

    Fixed by an index: ``image_size`` (height, width in pixels, aspect not kept).

    Of the global descriptor: ``pooling`` (side in cells of the mean around each feature, 1 = none),
    ``image_centring`` (share of a photo's own mean feature that is subtracted, 0..1),
    ``local_dim`` and ``local_whitening`` (PCA of the local features, 0 = none), ``clusters`` (K),
    ``bands`` (horizontal bands with a VLAD each, 1 = the whole photo), ``global_dim`` (dimensions
    after PCA, 0 = none) and ``whitening`` (its power 0..1).

    Of the patches: ``patch_sizes`` ((height, width) in cells; none = global only), ``stride``
    (cells between the patches of a database photo; those of a query are 1 apart), ``k_patch``
    (their clusters, 1 = pooled features), ``pca_dim`` (their dimensions), ``patch_whitening``.

    Chosen at query time: ``scorer`` (ransac, spatial, displacement), ``scale_weights`` (one a
    patch size, sum 1; none = the default rule), ``fusion`` (raw, z-score), ``spatial_form``,
    ``box`` (cells, odd: width of the displacement peak), ``candidates`` (how many photos of the
    shortlist are re-ranked; 0 = retrieval only).
    """

    image_size: Size = (480, 640)
    pooling: int = 3
    image_centring: float = 0.5
    local_dim: int = 64
    local_whitening: float = 0.5
    clusters: int = 64
    bands: int = 3
    global_dim: int = 0
    whitening: float = 0.5
    patch_sizes: tuple[Size, ...] = ((2, 2),)
    stride: int = 2
    k_patch: int = 1
    pca_dim: int = 64
    patch_whitening: float = 0.5

    scorer: str = "displacement"
    scale_weights: tuple[float, ...] | None = None
    fusion: str = "raw"
    spatial_form: str = "program"
    box: int = 7
    candidates: int = 100

    def __post_init__(self) -> None:
        _require(len(self.image_size) == 2, "image_size", "two numbers, height and width")
        for name in ("pooling", "clusters", "bands", "stride", "k_patch", "pca_dim"):
            _require(getattr(self, name) >= 1, name, "at least 1")
        for name in ("local_dim", "global_dim", "candidates"):
            _require(getattr(self, name) >= 0, name, "at least 0")
        for name in ("image_centring", "local_whitening", "whitening", "patch_whitening"):
            _require(0.0 <= getattr(self, name) <= 1.0, name, "between 0 and 1")
        _require(self.box >= 1 and self.box % 2 == 1, "box", "an odd number of cells")
        sizes = self.patch_sizes
        _require(all(min(size) >= 1 for size in sizes), "patch_sizes", "at least 1 cell")
        _require(len(set(sizes)) == len(sizes), "patch_sizes", "different from each other")
        for name, known in (
            ("scorer", SCORER_NAMES), ("fusion", FUSIONS), ("spatial_form", FORMS),
        ):  # fmt: skip
            _require(getattr(self, name) in known, name, " or ".join(known))
        weights = self.scale_weights
        if weights is not None:
            _require(
                len(weights) == len(sizes), "scale_weights", f"one a patch size, {len(sizes)} here"
            )
            _require(min(weights, default=0.0) >= 0.0, "scale_weights", "at least 0")
            _require(abs(sum(weights) - 1.0) < 1e-6, "scale_weights", "of sum 1")

    @property
    def reranks(self) -> bool:
        """Whether answers are re-ranked by their patches."""
        return bool(self.candidates and self.patch_sizes)

    def replace(self, **changes: Any) -> Settings:
        """These settings with ``changes``; an unknown name is a ``UsageError``."""
        known = {field.name for field in dataclasses.fields(self)}
        for name in changes:
            _require(name in known, name, f"one of {', '.join(sorted(known))}")
        return dataclasses.replace(self, **changes)

    def to_json(self) -> str:
        """These settings as one line of JSON, keys sorted."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Settings:
        """The settings that ``to_json`` wrote."""
        values = json.loads(text)
        for name in ("image_size", "scale_weights"):
            values[name] = values[name] and tuple(values[name])
        values["patch_sizes"] = tuple(tuple(size) for size in values["patch_sizes"])
        return cls().replace(**values)


NETVLAD = Settings(
    pooling=1, image_centring=0.0, local_dim=0, bands=1, global_dim=512, whitening=1.0,
    patch_sizes=(), stride=1, candidates=0,
)  # fmt: skip
METHODS: dict[str, Settings] = {
    "default": Settings(),
    "netvlad": NETVLAD,
    "patch-netvlad": NETVLAD.replace(
        patch_sizes=((2, 2), (5, 5), (8, 8)), k_patch=64, pca_dim=128, patch_whitening=1.0,
        candidates=100, scorer="ransac", fusion="z-score",
    ),
}  # fmt: skip


def named_settings(method: str) -> Settings:
    """The settings of a method by name."""
    _require(method in METHODS, f"method {method!r}", f"one of {', '.join(METHODS)}")
    return METHODS[method]
