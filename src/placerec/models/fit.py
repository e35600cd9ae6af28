"""Fit a model on photos, without labels: k-means, alpha, PCA.

A vocabulary and a PCA fitted on the photos at hand find more than those of other photos
(docs/MEASUREMENTS.md). Everything is seeded: the same photos, in any order and with any number of
threads, give the same model.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing, suppress
from dataclasses import replace
from threading import Lock
from typing import TYPE_CHECKING

import numpy as np

from placerec.errors import UsageError
from placerec.files import writing
from placerec.method.local import local_features
from placerec.method.patches import patch_vlad
from placerec.method.pca import Projection, fit_pca
from placerec.method.vlad import Vocabulary, fit_vocabulary, normalise
from placerec.models.model import Fitted, Model, global_descriptor
from placerec.photos.find import evenly_spread
from placerec.records import Array
from placerec.settings import PublishedSettings, Settings
from placerec.trunks.convert import SOURCES
from placerec.version import __version__

if TYPE_CHECKING:
    from placerec.settings import AnySettings
    from placerec.trunks import Trunk

FEWEST_PHOTOS = 50  # below this number ``auto`` uses the generic model
MOST_PHOTOS = 1000
VOCABULARY_SAMPLES = 50_000
PATCH_SAMPLES = 4096
SEED = 0
STEPS = 3
# The published form: its PCA takes up to as many photos as the published program, and needs a
# quarter more vectors than it has dimensions.
MOST_PHOTOS_FOR_PCA = 10_000
VECTORS_PER_DIMENSION = 1.25
MOST_WINDOWS = 64  # per photo
SMALLEST_WINDOW = 0.4  # share of the map's height and width


class FeatureMaps(Sequence[Array]):
    """Feature maps (h, w, C) float32 of one shape, one per photo, in a temporary file.

    Raises ``NoRoom`` if the folder of temporary files is full.
    """

    def __init__(self) -> None:
        with writing(tempfile.gettempdir()):
            self._file = tempfile.TemporaryFile(prefix="placerec-")  # noqa: SIM115 - stays open
        self._lock, self._count, self._shape = Lock(), 0, (0,)

    def append(self, features: Array) -> int:
        """Store one map and return its number."""
        if self._count and features.shape != self._shape:
            raise UsageError("the photos give feature maps of different sizes: set image_size")
        self._shape = features.shape
        content = np.ascontiguousarray(features, np.float32).tobytes()
        with self._lock, writing(tempfile.gettempdir()):
            self._file.seek(self._count * len(content))
            self._file.write(content)
            self._file.flush()
            self._count += 1
        return self._count - 1

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> Array:  # type: ignore[override]
        if not 0 <= index < self._count:
            raise IndexError(index)
        size = 4 * math.prod(self._shape)
        with self._lock:  # read, not mapped: the pages of a mapping count as memory of this process
            self._file.seek(index * size)
            content = self._file.read(size)
        return np.frombuffer(content, np.float32).reshape(self._shape)

    def stacked(self) -> Array:
        """Return all maps (n, h, w, C), read from the file on demand, even after ``close``."""
        with self._lock:
            return np.asarray(
                np.memmap(self._file, np.float32, "r", shape=(self._count, *self._shape))
            )

    def close(self) -> None:
        """Delete the temporary file."""
        with suppress(OSError):  # on a full disk; what is not yet written is not needed
            self._file.close()
        self._count = 0


def photos_for_fit(names: Sequence[str]) -> list[str]:
    """Return at most 1000 of ``names``, evenly spread over their sorted order."""
    ordered = sorted(names)
    return [ordered[number] for number in evenly_spread(len(ordered), MOST_PHOTOS)]


def more_photos_for_pca(names: Sequence[str], chosen: Sequence[str]) -> list[str]:
    """Return which of ``names`` join ``chosen`` for the PCA of the published form, sorted.

    All of them if that is at most 10,000 in total, else a seeded choice.
    """
    others = sorted(set(names) - set(chosen))
    most = MOST_PHOTOS_FOR_PCA - len(chosen)
    if len(others) <= most:
        return others
    numbers = np.random.default_rng(SEED).choice(len(others), most, replace=False)
    return [others[number] for number in sorted(numbers.tolist())]


def fit_model(
    trunk: Trunk,
    settings: AnySettings,
    maps: Sequence[Array],
    *,
    name: str,
    training_data: str,
    vocabulary: Vocabulary | None = None,
    others: Iterable[Array] = (),
    mirrored: Iterable[Array] | None = None,
    progress: Callable[[int, int], None] = lambda *_: None,
) -> Model:
    """Return a model for ``trunk`` and ``settings`` from feature maps (h, w, C), one per photo.

    With too few photos for ``global_dim`` our form keeps as many dimensions as they allow.

    The published form may use a given ``vocabulary``. Its PCA also takes all of ``others``, the
    maps of further photos. If vectors are still missing, it takes windows of ``maps``, and then
    ``mirrored``, the maps of the mirrored photos, and windows of those. Both are read at most once,
    one map at a time.

    ``progress`` is called with the number of finished steps and of all steps.
    """
    rng = np.random.default_rng(SEED)
    progress(0, STEPS)
    if isinstance(settings, PublishedSettings):
        if vocabulary is None:
            vocabulary = _fit_clusters(_sample(maps, rng, local_features), settings.clusters)
        progress(1, STEPS)
        fitted = Fitted.shared(vocabulary, None)
        if settings.pca_dim:
            samples, added = _pca_samples(fitted, settings, maps, others, mirrored, rng)
            progress(2, STEPS)
            projection = fit_pca(samples, settings.pca_dim, settings.whitening)
            fitted = Fitted.shared(vocabulary, projection)
            training_data += added
    else:
        fitted = _fit_own(settings, maps, rng, progress)
    progress(STEPS, STEPS)
    source = None if getattr(trunk, "own", False) else SOURCES.get(trunk.name)
    licence = getattr(trunk, "licence", source.licence if source else "not stated")
    if trained_on := getattr(trunk, "training_data", ""):
        training_data = f"trunk: {trained_on}; fit: {training_data}"
    return Model(
        name, trunk, fitted, settings, training_data,
        f"fitted by placerec {__version__} with the trunk {trunk.name} {trunk.sha256[:12]}",
        f"the trunk's weights: {licence}; the fit belongs to its author",
    )  # fmt: skip


def _fit_own(
    settings: Settings,
    maps: Sequence[Array],
    rng: np.random.Generator,
    progress: Callable[[int, int], None],
) -> Fitted:
    """The tensors of our form: global descriptor first, then patches."""

    def prepare(features: Array) -> Array:
        return local_features(features, settings.pooling, settings.image_centring)

    samples = _sample(maps, rng, prepare)
    local = None
    if local_dim := min(settings.local_dim, samples.shape[1]):
        local = fit_pca(samples, local_dim, settings.local_whitening)
        samples = normalise(local(samples))
    vocabulary = _fit_clusters(samples, settings.clusters)
    fitted = Fitted(local, vocabulary, None, None, None)
    progress(1, STEPS)
    dimensions = min(settings.global_dim, len(maps) - 1)
    if dimensions >= 1:
        vectors = np.stack([global_descriptor(features, fitted, settings) for features in maps])
        projection = fit_pca(vectors, dimensions, settings.whitening)
        fitted = replace(fitted, projection=projection)
    progress(2, STEPS)
    if not settings.patch_sizes:
        return fitted
    fit_patches = _fit_pooled if settings.k_patch == 1 else _fit_patch_vlad
    patch_vocabulary, patch_projection = fit_patches(settings, maps, rng)
    return replace(fitted, patch_vocabulary=patch_vocabulary, patch_projection=patch_projection)


def _fit_clusters(samples: Array, clusters: int) -> Vocabulary:
    if len(samples) < clusters:
        raise UsageError(f"{clusters} clusters need as many features: give more photos")
    return fit_vocabulary(samples, clusters, SEED)


def _pca_samples(
    fitted: Fitted,
    settings: PublishedSettings,
    maps: Sequence[Array],
    others: Iterable[Array],
    mirrored: Iterable[Array] | None,
    rng: np.random.Generator,
) -> tuple[Array, str]:
    """Return vectors (n, K * C) for the published PCA, and what was added to the photos ``maps``.

    Source: Patch-NetVLAD, section 4.1, and the published program, which takes 10,000 photos. With
    too few photos, views of the same photos replace them, each kind only while vectors are missing:
    windows of a map in place of crops, then mirrored photos. A mirrored photo must pass through the
    trunk, because a mirrored map has the same NetVLAD vector as the map itself.
    """
    needed = round(VECTORS_PER_DIMENSION * settings.pca_dim) + 1
    width = len(fitted.vocabulary) * maps[0].shape[2]
    views = (MOST_WINDOWS + 1) * (1 if mirrored is None else 2)
    if settings.pca_dim > width or needed > views * len(maps):
        most = min(width, round(len(maps) * views / VECTORS_PER_DIMENSION) - 1)
        raise UsageError(
            f"PCA to {settings.pca_dim} dimensions: {len(maps)} photos and vectors of {width} "
            f"values allow at most {most}; give more photos, or a smaller pca_dim"
        )
    vectors = FeatureMaps()

    def describe(photos: Iterable[Array], windows: int) -> int:
        before = len(vectors)
        for features in photos:
            for view in (features, *_windows(np.asarray(features), windows, rng)):
                vectors.append(global_descriptor(view, fitted, settings))
        return len(vectors) - before

    with closing(vectors):
        further = describe(others, 0)
        per_photo = math.ceil((needed - further) / len(maps))
        windows = max(0, min(MOST_WINDOWS, per_photo - 1))
        crops = describe(maps, windows) - len(maps)
        missing = needed - len(vectors)
        flips = 0
        if missing > 0 and mirrored is not None:
            flips = describe(mirrored, math.ceil(missing / len(maps)) - 1)
        kinds = {
            "more photos": further,
            "windows of their feature maps": crops,
            "views of the mirrored photos": flips,
        }
        added = " and ".join(f"{count} {kind}" for kind, count in kinds.items() if count)
        return vectors.stacked(), f", {added} added for the PCA" if added else ""


def _windows(features: Array, count: int, rng: np.random.Generator) -> list[Array]:
    """Return ``count`` random windows of a map (h, w, C), in place of crops of the photo."""
    size = np.array(features.shape[:2])
    windows = []
    for _ in range(count):
        shape = np.ceil(size * rng.uniform(SMALLEST_WINDOW, 1.0, 2)).astype(int)
        top, left = rng.integers(0, size - shape + 1)
        windows.append(features[top : top + shape[0], left : left + shape[1]])
    return windows


def _fit_pooled(
    settings: Settings, maps: Sequence[Array], rng: np.random.Generator
) -> tuple[Vocabulary, Projection]:
    """K_patch = 1: the mean raw feature, and a PCA of the centred features, without bias."""
    cells = _sample(maps, rng, lambda features: features)
    vocabulary = fit_vocabulary(cells, 1)
    dimensions = min(settings.pca_dim, cells.shape[1])
    cells -= vocabulary.centres[0]
    projection = fit_pca(cells, dimensions, settings.patch_whitening)
    return vocabulary, replace(projection, bias=np.zeros_like(projection.bias))


def _fit_patch_vlad(
    settings: Settings, maps: Sequence[Array], rng: np.random.Generator
) -> tuple[Vocabulary, Projection]:
    """The paper's K: a vocabulary of unit features, and a PCA of patch descriptors of all sizes."""
    vocabulary = _fit_clusters(_sample(maps, rng, local_features), settings.k_patch)
    per_size = max(1, PATCH_SAMPLES // (len(maps) * len(settings.patch_sizes)))
    rows: list[Array] = []
    for features in maps:
        unit = normalise(features)
        for size in settings.patch_sizes:
            patches = patch_vlad(unit, vocabulary, None, size, settings.stride).descriptors
            count = min(per_size, len(patches))
            rows.append(patches[rng.choice(len(patches), count, replace=False)])
    samples = np.concatenate(rows)[:PATCH_SAMPLES]
    dimensions = min(settings.pca_dim, len(samples) - 1, samples.shape[1])
    return vocabulary, fit_pca(samples, dimensions, settings.patch_whitening)


def _sample(
    maps: Sequence[Array], rng: np.random.Generator, prepare: Callable[[Array], Array]
) -> Array:
    """Return about 50,000 features (N, D) of the prepared maps (h, w, D), equally many per map."""
    per_map = math.ceil(VOCABULARY_SAMPLES / len(maps))
    rows = []
    for features in maps:
        prepared = prepare(np.asarray(features))
        prepared = prepared.reshape(-1, prepared.shape[2])
        rows.append(prepared[rng.permutation(len(prepared))[:per_map]])
    return np.concatenate(rows)
