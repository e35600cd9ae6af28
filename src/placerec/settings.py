"""Every number of the method, in two frozen records, and the named methods.

``Settings`` is our form: the patches have a vocabulary and a PCA of their own.
``PublishedSettings`` is the published form: one vocabulary and one PCA for the whole photo and its
patches. The defaults rest on measurements on validation halves (docs/MEASUREMENTS.md).
"""

from __future__ import annotations

import dataclasses
import json
import math
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from placerec.errors import UsageError

Size = tuple[int, int]

CHOICES = {
    "scorer": ("displacement", "spatial", "ransac"),
    "fusion": ("raw", "z-score"),
    "spatial_form": ("program", "paper", "paper-absolute"),
    "patch_sums": ("direct", "integral"),
    "preset": ("exact", "int8", "default", "compact"),  # of the storage of an index
}

# A model file or an index may come from a stranger. Larger values would only use up memory.
MOST_PIXELS = 1 << 26
LARGEST = {"bands": 256, "box": 255}


def _setting(group: str, default: Any, *, learnt: bool = False, scorer: str = "") -> Any:
    """Return a field. Its ``group`` says what it decides, and when it can be changed.

    ``global`` (the shortlist) and ``patches`` are fixed by an index, ``query`` is free at every
    query, ``model`` names the trunk. A ``learnt`` setting is fixed when a model is fitted. With a
    ``scorer`` only this one uses the setting.
    """
    metadata = {"group": group, "learnt": learnt, "scorer": scorer}
    return dataclasses.field(default=default, metadata=metadata)


def require(holds: bool, name: str, what: str) -> None:
    """Raise ``UsageError`` unless the setting ``name`` holds what it must be."""
    if not holds:
        raise UsageError(f"{name}: must be {what}")


def require_choice(name: str, value: object) -> None:
    """Raise ``UsageError`` unless ``value`` is one of the ``CHOICES`` of the setting ``name``."""
    allowed = isinstance(value, str) and value in CHOICES[name]
    require(allowed, name, f"{' or '.join(CHOICES[name])}, not {value!r}")


def whole_number(value: object) -> int | None:
    """Return a whole number of Python or NumPy as an int, or ``None`` if it is not one."""
    try:
        return None if isinstance(value, bool) else operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        return None


def require_whole(name: str, value: object, least: int = 1) -> int:
    """Return ``value`` as an int; raise ``UsageError`` unless it is whole and ``least`` or more."""
    number = whole_number(value)
    what = f"a whole number of at least {least}, not {value!r:.60}"
    require(number is not None and number >= least, name, what)
    return number or 0


def as_written(value: object) -> str:
    """Return the value of a setting as the command line takes it: 480,640 or 2x2,5x5."""
    if not isinstance(value, tuple | list):
        return "none" if value is None else str(value)
    parts = ("x".join(map(str, v)) if isinstance(v, tuple | list) else str(v) for v in value)
    return ",".join(parts) or "none"


def _items(name: str, value: object, what: str) -> tuple[Any, ...]:
    require(isinstance(value, tuple | list), name, f"{what}, not {value!r:.60}")
    return tuple(value)  # type: ignore[arg-type]


def require_number(name: str, value: object) -> float:
    """Return ``value`` as a float; raise ``UsageError`` unless it is a finite number."""
    try:
        number = math.nan if isinstance(value, bool | str) else float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    require(math.isfinite(number), name, f"a number, not {value!r:.60}")
    return number


def _size(name: str, value: object) -> Size:
    sides = _items(name, value, "two numbers, height and width")
    require(len(sides) == 2, name, f"two numbers, height and width, not {value!r:.60}")
    return require_whole(name, sides[0]), require_whole(name, sides[1])


def _canonical(name: str, default: object, value: object, least: int) -> Any:
    """Return the value of a setting in its one form: int, float, str and tuples of them.

    ``least`` is for a whole number. Lists and numbers of NumPy are accepted. Raises ``UsageError``
    for a value of another kind.
    """
    if name in CHOICES:
        require_choice(name, value)
        return value
    if name == "image_size":
        return _size(name, value)
    if name == "patch_sizes":
        return tuple(_size(name, size) for size in _items(name, value, "pairs (height, width)"))
    if name == "scale_weights":
        weights = () if value is None else _items(name, value, "one number per patch size")
        return None if value is None else tuple(require_number(name, weight) for weight in weights)
    if isinstance(default, float):
        return require_number(name, value)
    if isinstance(default, int):
        return require_whole(name, value, least)
    require(isinstance(value, str), name, f"a name, not {value!r:.60}")
    return value


@dataclass(frozen=True, slots=True, kw_only=True)
class _CommonSettings:
    """The settings that both forms have."""

    image_size: Size = _setting("global", (480, 640), learnt=True)
    clusters: int = _setting("global", 64, learnt=True)
    whitening: float = _setting("global", 0.5, learnt=True)

    patch_sizes: tuple[Size, ...] = _setting("patches", ((2, 2),))
    stride: int = _setting("patches", 2)
    patch_sums: str = _setting("patches", "direct")

    scorer: str = _setting("query", "displacement")
    scale_weights: tuple[float, ...] | None = _setting("query", None)
    fusion: str = _setting("query", "raw")
    spatial_form: str = _setting("query", "program", scorer="spatial")
    box: int = _setting("query", 7, scorer="displacement")
    candidates: int = _setting("query", 20)
    stop_at: float = _setting("query", 0.9)

    trunk: str = _setting("model", "efficientnet-lite0", learnt=True)

    form: ClassVar[str]
    may_be_zero: ClassVar[tuple[str, ...]]  # the whole numbers that may be 0
    aliases: ClassVar[dict[str, str]] = {}

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            name = field.name
            least = 0 if name in self.may_be_zero else 1
            value = _canonical(name, field.default, getattr(self, name), least)
            object.__setattr__(self, name, value)
            if isinstance(field.default, float):
                require(0.0 <= value <= 1.0, name, "between 0 and 1")
            elif isinstance(field.default, int):
                require(value <= LARGEST.get(name, value), name, f"at most {LARGEST.get(name)}")
        height, width = self.image_size
        require(height * width <= MOST_PIXELS, "image_size", f"at most {MOST_PIXELS} pixels")
        require(self.box % 2 == 1, "box", "an odd number of cells")
        sizes, weights = self.patch_sizes, self.scale_weights
        require(len(set(sizes)) == len(sizes), "patch_sizes", "different from each other")
        if weights is not None:
            per_size = f"one per patch size, {len(sizes)} here"
            require(len(weights) == len(sizes), "scale_weights", per_size)
            require(min(weights, default=0.0) >= 0.0, "scale_weights", "at least 0")
            require(abs(sum(weights) - 1.0) < 1e-6, "scale_weights", "of sum 1")

    @property
    def reranks(self) -> bool:
        """Whether patches re-rank the shortlist."""
        return bool(self.candidates and self.patch_sizes)

    def why_unused(self, name: str) -> str:
        """Return why the setting ``name`` changes no answer, or an empty text if it does."""
        fields = {field.name: field.metadata for field in dataclasses.fields(self)}
        needs = fields[self.aliases.get(name, name)]
        off = name == "candidates" and not self.candidates  # it turns the re-ranking off
        if needs["group"] not in ("patches", "query") or name == "patch_sizes" or off:
            return ""
        if not self.patch_sizes:
            return "the method compares no patches"
        if needs["group"] == "query" and not self.candidates:
            return "candidates is 0, so nothing is re-ranked"
        return f"the scorer is {self.scorer}" if needs["scorer"] not in ("", self.scorer) else ""

    def group(self, *groups: str) -> dict[str, Any]:
        """Return the settings of these groups by name, in a fixed order."""
        return self._values(lambda metadata: metadata["group"] in groups)

    def open_after_fit(self) -> dict[str, Any]:
        """Return the settings that can still be changed for a fitted model, by name."""
        return self._values(lambda metadata: not metadata["learnt"])

    def _values(self, wanted: Callable[[Mapping[str, Any]], bool]) -> dict[str, Any]:
        fields = dataclasses.fields(self)
        return {field.name: getattr(self, field.name) for field in fields if wanted(field.metadata)}

    def replace(self, **changes: Any) -> Self:
        """Return these settings with ``changes``; an unknown name is a ``UsageError``."""
        names = {field.name for field in dataclasses.fields(self)}
        values: dict[str, Any] = {}
        for given, value in changes.items():
            name = self.aliases.get(given, given)
            require(name in names, given, f"one of {', '.join(sorted(names))}")
            equal = name not in values or values[name] == value
            values[name] = value
            require(equal, given, f"equal to {name} in the published form")
        return dataclasses.replace(self, **values)

    def to_json(self) -> str:
        """Return these settings as one line of JSON with sorted keys."""
        return json.dumps({"form": self.form, **dataclasses.asdict(self)}, sort_keys=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(_CommonSettings):
    """Every setting of our method; an unknown or impossible value is a ``UsageError``.

    Fixed by an index: ``image_size`` (height, width in pixels; the aspect ratio is not kept).

    Of the global descriptor: ``pooling`` (side in cells of the mean around each feature, 1 = none),
    ``image_centring`` (share of the photo's mean feature that is subtracted, 0..1), ``local_dim``
    and ``local_whitening`` (PCA of the local features, 0 = none), ``clusters`` (K), ``bands``
    (horizontal bands with one VLAD each, 1 = the whole photo), ``global_dim`` (dimensions after the
    PCA, 0 = no PCA), ``whitening`` (its power, 0..1).

    Of the patches: ``patch_sizes`` ((height, width) in cells; none = global descriptor only),
    ``stride`` (cells between the patches of a database photo; a query always has stride 1),
    ``k_patch`` (clusters per patch, 1 = pooled features), ``pca_dim`` (dimensions of a patch
    descriptor), ``patch_whitening`` (power of their PCA). ``patch_sums`` is ``direct``, or
    ``integral`` for comparison: the published float32 integral image.

    Free at query time: ``scorer`` (ransac, spatial, displacement), ``scale_weights`` (one per
    patch size, sum 1; none = the default rule), ``fusion`` (raw, z-score), ``spatial_form`` (of the
    rapid spatial score), ``box`` (odd number of cells: width of the displacement peak),
    ``candidates`` (photos of the shortlist that are re-ranked; 0 = retrieval only), ``stop_at`` (no
    more candidates are compared once the best one has this confidence; 1 = all are compared).
    """

    pooling: int = _setting("global", 3, learnt=True)
    image_centring: float = _setting("global", 0.5, learnt=True)
    local_dim: int = _setting("global", 64, learnt=True)
    local_whitening: float = _setting("global", 0.5, learnt=True)
    bands: int = _setting("global", 3, learnt=True)
    global_dim: int = _setting("global", 0)
    k_patch: int = _setting("patches", 1, learnt=True)
    pca_dim: int = _setting("patches", 64)
    patch_whitening: float = _setting("patches", 0.5, learnt=True)

    form: ClassVar[str] = "own"
    may_be_zero: ClassVar[tuple[str, ...]] = ("candidates", "local_dim", "global_dim")


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedSettings(_CommonSettings):
    """The settings of the published form; the defaults are the paper's speed setting.

    Source: Patch-NetVLAD, section 4.1. ``clusters`` (K) and ``pca_dim`` (dimensions, 0 = no PCA)
    hold for the photo and for its patches, so ``k_patch`` and ``global_dim`` are other names of
    the same numbers. The other settings are those of ``Settings``.
    """

    clusters: int = _setting("global", 16, learnt=True)
    whitening: float = _setting("global", 1.0, learnt=True)
    pca_dim: int = _setting("global", 512)
    patch_sizes: tuple[Size, ...] = _setting("patches", ((5, 5),))
    stride: int = _setting("patches", 1)
    scorer: str = _setting("query", "spatial")
    fusion: str = _setting("query", "z-score")
    candidates: int = _setting("query", 100)
    stop_at: float = _setting("query", 1.0)
    trunk: str = _setting("model", "vgg16", learnt=True)

    form: ClassVar[str] = "published"
    aliases: ClassVar[dict[str, str]] = {"k_patch": "clusters", "global_dim": "pca_dim"}
    pooling: ClassVar[int] = 1
    image_centring: ClassVar[float] = 0.0
    bands: ClassVar[int] = 1
    may_be_zero: ClassVar[tuple[str, ...]] = ("candidates", "pca_dim")

    @property
    def k_patch(self) -> int:
        """The clusters per patch."""
        return self.clusters

    @property
    def global_dim(self) -> int:
        """The dimensions of the global descriptor after the PCA."""
        return self.pca_dim


AnySettings = Settings | PublishedSettings


def require_settings(settings: object) -> None:
    """Raise ``UsageError`` unless ``settings`` are ``Settings`` of one of the two forms."""
    require(isinstance(settings, AnySettings), "settings", f"Settings, not {settings!r:.60}")


FORMS: dict[str, type[AnySettings]] = {form.form: form for form in (Settings, PublishedSettings)}


def settings_from_json(text: str) -> AnySettings:
    """Return the settings that ``to_json`` wrote."""
    values = json.loads(text)
    return FORMS[values.pop("form")]().replace(**values)


NETVLAD = Settings(
    pooling=1, image_centring=0.0, local_dim=0, bands=1, global_dim=512, whitening=1.0,
    patch_sizes=(), stride=1, candidates=0, stop_at=1.0,
)  # fmt: skip
METHODS: dict[str, AnySettings] = {
    "default": Settings(),
    "netvlad": NETVLAD,
    "patch-netvlad": NETVLAD.replace(
        patch_sizes=((2, 2), (5, 5), (8, 8)), k_patch=64, pca_dim=128, patch_whitening=1.0,
        candidates=100, scorer="ransac", fusion="z-score",
    ),
    "paper-performance": PublishedSettings(
        pca_dim=4096, patch_sizes=((2, 2), (5, 5), (8, 8)), scale_weights=(0.45, 0.15, 0.4),
        scorer="ransac",
    ),
    "paper-speed": PublishedSettings(),
    "paper-storage": PublishedSettings(pca_dim=128),
}  # fmt: skip


def named_settings(method: str) -> AnySettings:
    """Return the settings of a named method."""
    require(
        isinstance(method, str) and method in METHODS,
        f"method {method!r}",
        f"one of {', '.join(METHODS)}",
    )
    return METHODS[method]
