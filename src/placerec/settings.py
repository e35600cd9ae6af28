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
PATCH_SUMS = ("direct", "integral")
FORMS = ("program", "paper", "paper-absolute")  # of the rapid spatial score
FIXED_BY_INDEX = (
    "image_size", "pooling", "image_centring", "local_dim", "local_whitening", "clusters", "bands",
    "global_dim", "whitening", "patch_sizes", "stride", "k_patch", "pca_dim", "patch_whitening",
    "shared_pca", "patch_sums",
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
    ``shared_pca`` is the published form: patches take vocabulary and PCA of the global descriptor,
    so ``k_patch`` is ``clusters`` and ``pca_dim`` is ``global_dim`` (0 there: no PCA at all).
    ``patch_sums`` is direct, or, to be compared only, the published float32 integral image.

    Chosen at query time: ``scorer`` (ransac, spatial, displacement), ``scale_weights`` (one a
    patch size, sum 1; none = the default rule), ``fusion`` (raw, z-score), ``spatial_form``,
    ``box`` (cells, odd: width of the displacement peak), ``candidates`` (how many photos of the
    shortlist are re-ranked; 0 = retrieval only).

    ``trunk`` is what ``--model auto`` means with these settings; a fitted model has its own.
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
    shared_pca: bool = False
    patch_sums: str = "direct"

    scorer: str = "displacement"
    scale_weights: tuple[float, ...] | None = None
    fusion: str = "raw"
    spatial_form: str = "program"
    box: int = 7
    candidates: int = 100

    trunk: str = "efficientnet-lite0"

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
            ("patch_sums", PATCH_SUMS),
        ):  # fmt: skip
            _require(getattr(self, name) in known, name, " or ".join(known))
        if self.shared_pca:
            self._check_shared()
        weights = self.scale_weights
        if weights is not None:
            _require(
                len(weights) == len(sizes), "scale_weights", f"one a patch size, {len(sizes)} here"
            )
            _require(min(weights, default=0.0) >= 0.0, "scale_weights", "at least 0")
            _require(abs(sum(weights) - 1.0) < 1e-6, "scale_weights", "of sum 1")

    def _check_shared(self) -> None:
        _require(self.k_patch == self.clusters, "k_patch", "equal to clusters with shared_pca")
        same = self.pca_dim == (self.global_dim or self.pca_dim)
        _require(same, "pca_dim", "equal to global_dim with shared_pca")
        for name, plain in (
            ("pooling", 1),
            ("image_centring", 0.0),
            ("local_dim", 0),
            ("bands", 1),
        ):
            _require(getattr(self, name) == plain, name, f"{plain} with shared_pca")

    @property
    def reranks(self) -> bool:
        """Whether answers are re-ranked by their patches."""
        return bool(self.candidates and self.patch_sizes)

    def replace(self, **changes: Any) -> Settings:
        """These settings with ``changes``; an unknown name is a ``UsageError``.

        With ``shared_pca`` a change of ``pca_dim`` or ``k_patch`` is one of ``global_dim`` or
        ``clusters`` too.
        """
        known = {field.name for field in dataclasses.fields(self)}
        for name in changes:
            _require(name in known, name, f"one of {', '.join(sorted(known))}")
        if self.shared_pca and changes.get("shared_pca", True):
            for mine, theirs in (("pca_dim", "global_dim"), ("k_patch", "clusters")):
                if mine in changes:
                    changes.setdefault(theirs, changes[mine])
                elif changes.get(theirs):
                    changes[mine] = changes[theirs]
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
PAPER = NETVLAD.replace(
    clusters=16, k_patch=16, pca_dim=512, shared_pca=True, patch_sizes=((5, 5),), candidates=100,
    scorer="spatial", fusion="z-score", trunk="vgg16",
)  # fmt: skip
METHODS: dict[str, Settings] = {
    "default": Settings(),
    "netvlad": NETVLAD,
    "patch-netvlad": NETVLAD.replace(
        patch_sizes=((2, 2), (5, 5), (8, 8)), k_patch=64, pca_dim=128, patch_whitening=1.0,
        candidates=100, scorer="ransac", fusion="z-score",
    ),
    "paper-performance": PAPER.replace(
        global_dim=4096, patch_sizes=((2, 2), (5, 5), (8, 8)), scale_weights=(0.45, 0.15, 0.4),
        scorer="ransac",
    ),
    "paper-speed": PAPER,
    "paper-storage": PAPER.replace(global_dim=128),
}  # fmt: skip


def named_settings(method: str) -> Settings:
    """The settings of a method by name."""
    _require(method in METHODS, f"method {method!r}", f"one of {', '.join(METHODS)}")
    return METHODS[method]
