"""Fit a model on photos, without labels: k-means, alpha, PCA.

What is fitted decides how well a photo is told from its neighbours: a vocabulary and PCA of the
photos at hand beat foreign ones (docs/ARCHITECTURE.md). Everything is seeded, so the same photos in
any order, with any number of threads, give the same model.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from placerec.errors import UsageError
from placerec.method.local import local_features
from placerec.method.patches import patch_vlad
from placerec.method.pca import Projection, fit_pca
from placerec.method.vlad import Vocabulary, fit_vocabulary, normalise
from placerec.models.model import Fitted, Model, global_descriptor
from placerec.records import Array
from placerec.trunks.convert import SOURCES
from placerec.version import __version__

if TYPE_CHECKING:
    from placerec.settings import Settings
    from placerec.trunks import Trunk

FEWEST_PHOTOS = 50
MOST_PHOTOS = 1000
VOCABULARY_SAMPLES = 50_000
PATCH_SAMPLES = 4096
SEED = 0
STEPS = 3
# Of the published form: its PCA takes up to as many photos as the program's, and is fitted on at
# least a quarter more vectors than it has dimensions.
MOST_PHOTOS_FOR_PCA = 10_000
VECTORS_A_DIMENSION = 1.25
MOST_WINDOWS = 64  # of one photo
SMALLEST_WINDOW = 0.4  # of the map's height and width


class FeatureMaps(Sequence[Array]):
    """Feature maps (h, w, C) float32, one a photo, all of one shape, kept in a temporary file."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile(prefix="placerec-")  # noqa: SIM115 - kept open
        self._count, self._shape = 0, (0,)

    def append(self, features: Array) -> int:
        """Keep one map and return its number."""
        if self._count and features.shape != self._shape:
            raise UsageError("the photos give feature maps of different sizes: set an image size")
        self._shape = features.shape
        self._file.seek(0, 2)
        self._file.write(np.ascontiguousarray(features, np.float32).tobytes())
        self._file.flush()
        self._count += 1
        return self._count - 1

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> Array:  # type: ignore[override]
        if not 0 <= index < self._count:
            raise IndexError(index)
        size = int(np.prod(self._shape)) * 4
        return np.memmap(self._file, np.float32, "r", offset=index * size, shape=self._shape)

    def together(self) -> Array:
        """All of them (n, h, w, C), read from the file where they are needed, even after close."""
        shape = (self._count, *self._shape)
        return np.asarray(np.memmap(self._file, np.float32, "r", shape=shape))

    def close(self) -> None:
        """Drop the temporary file."""
        self._file.close()
        self._count = 0


def chosen_for_fit(names: Sequence[str]) -> list[str]:
    """At most 1000 of ``names``, evenly spread over their sorted order."""
    ordered = sorted(names)
    if len(ordered) <= MOST_PHOTOS:
        return ordered
    return [ordered[i * len(ordered) // MOST_PHOTOS] for i in range(MOST_PHOTOS)]


def chosen_for_pca(names: Sequence[str], chosen: Sequence[str]) -> list[str]:
    """Which of ``names`` join ``chosen`` for the PCA of the published form: 10,000 with those.

    All the others where there are no more, else a seeded choice, sorted.
    """
    others = sorted(set(names) - set(chosen))
    most = MOST_PHOTOS_FOR_PCA - len(chosen)
    if len(others) <= most:
        return others
    picked = np.random.default_rng(SEED).choice(len(others), most, replace=False)
    return [others[number] for number in sorted(picked.tolist())]


def fit_model(
    trunk: Trunk,
    settings: Settings,
    maps: Sequence[Array],
    *,
    name: str,
    training_data: str,
    vocabulary: Vocabulary | None = None,
    others: Iterable[Array] = (),
    mirrored: Iterable[Array] | None = None,
    progress: Callable[[int, int], None] = lambda *_: None,
) -> Model:
    """A model for ``trunk`` and ``settings`` from feature maps (h, w, C), one a photo.

    Where there are too few photos for ``global_dim``, as many dimensions as they allow are kept.

    The published form (``shared_pca``) may take a ``vocabulary`` that is known, and its PCA all of
    ``others``, the maps of further photos. Where vectors are missing still, it takes windows of
    ``maps``, and then ``mirrored``, the maps of the same photos mirrored, and windows of those.
    Both are gone through at most once, and one map at a time.

    ``progress`` hears how many of the three steps are done.
    """
    rng = np.random.default_rng(SEED)
    progress(0, STEPS)
    if settings.shared_pca:
        if vocabulary is None:
            vocabulary = _shared_vocabulary(settings, maps, rng)
        progress(1, STEPS)
        fitted = Fitted.shared(vocabulary, None)
        if settings.global_dim:
            samples, added = _pca_samples(fitted, settings, maps, others, mirrored, rng)
            progress(2, STEPS)
            projection = fit_pca(samples, settings.global_dim, settings.whitening)
            fitted = Fitted.shared(vocabulary, projection)
            training_data += added
        progress(STEPS, STEPS)
        return _named(name, trunk, fitted, settings, training_data)
    local, vocabulary = _fit_local(settings, maps, rng)
    fitted = Fitted(local, vocabulary, None, None, None)
    progress(1, STEPS)
    dimensions = min(settings.global_dim, len(maps) - 1)
    if dimensions >= 1:
        vectors = np.stack([global_descriptor(one, fitted, settings) for one in maps])
        projection = fit_pca(vectors, dimensions, settings.whitening)
        fitted = replace(fitted, projection=projection)
    progress(2, STEPS)
    if settings.patch_sizes:
        fit_patches = _fit_pooled if settings.k_patch == 1 else _fit_patch_vlad
        patch_vocabulary, patch_projection = fit_patches(settings, maps, rng)
        fitted = replace(
            fitted, patch_vocabulary=patch_vocabulary, patch_projection=patch_projection
        )
    progress(STEPS, STEPS)
    return _named(name, trunk, fitted, settings, training_data)


def _named(
    name: str, trunk: Trunk, fitted: Fitted, settings: Settings, training_data: str
) -> Model:
    """The model, with where it comes from and whose it is."""
    source = None if getattr(trunk, "own", False) else SOURCES.get(trunk.name)
    licence = getattr(trunk, "licence", source.licence if source else "not stated")
    if trained_on := getattr(trunk, "training_data", ""):
        training_data = f"trunk: {trained_on}; fit: {training_data}"
    return Model(
        name, trunk, fitted, settings, training_data,
        f"fitted by placerec {__version__} with the trunk {trunk.name} {trunk.sha256[:12]}",
        f"the trunk's weights: {licence}; the fit belongs to who made it",
    )  # fmt: skip


def _shared_vocabulary(
    settings: Settings, maps: Sequence[Array], rng: np.random.Generator
) -> Vocabulary:
    """The published vocabulary: k-means of unit features. Source: Patch-NetVLAD, section 4.1."""
    samples = _sample(maps, rng, local_features)
    if len(samples) < settings.clusters:
        raise UsageError(f"{settings.clusters} clusters need as many features: more photos")
    return fit_vocabulary(samples, settings.clusters, SEED)


def _pca_samples(
    fitted: Fitted,
    settings: Settings,
    maps: Sequence[Array],
    others: Iterable[Array],
    mirrored: Iterable[Array] | None,
    rng: np.random.Generator,
) -> tuple[Array, str]:
    """Global vectors (n, K * C) for the published PCA, and what was added to the photos ``maps``.

    Source: Patch-NetVLAD, section 4.1, and the published program, which takes 10,000 photos. Where
    there are too few, views of the same photos stand in, each kind only while vectors are missing:
    windows of a map in place of crops; then mirrored photos. These must pass the trunk, because a
    mirrored map has the same NetVLAD vector as the map itself.
    """
    wanted = round(VECTORS_A_DIMENSION * settings.global_dim) + 1
    width = len(fitted.vocabulary) * maps[0].shape[2]
    views = (MOST_WINDOWS + 1) * (1 if mirrored is None else 2)
    if settings.global_dim > width or wanted > views * len(maps):
        most = min(width, round(len(maps) * views / VECTORS_A_DIMENSION) - 1)
        raise UsageError(
            f"PCA to {settings.global_dim} dimensions: {len(maps)} photos and vectors of {width} "
            f"values allow at most {most}; give more photos, or fewer dimensions with --pca-dim"
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
        windows = min(MOST_WINDOWS, _share(wanted - further, len(maps)) - 1)
        cut = describe(maps, windows) - len(maps)
        missing = wanted - len(vectors)
        flips = 0
        if missing > 0 and mirrored is not None:
            flips = describe(mirrored, _share(missing, len(maps)) - 1)
        kinds = {"more photos": further, "windows of their feature maps": cut,
                 "views of the mirrored photos": flips}  # fmt: skip
        added = " and ".join(f"{count} {kind}" for kind, count in kinds.items() if count)
        return vectors.together(), f", {added} added for the PCA" if added else ""


def _share(vectors: int, photos: int) -> int:
    """How many vectors each photo gives, so that they are ``vectors`` or a few more; at least 1."""
    return max(1, -(-vectors // photos))


def _windows(features: Array, count: int, rng: np.random.Generator) -> list[Array]:
    """``count`` random windows of a map (h, w, C), in place of crops of the photo."""
    size = np.array(features.shape[:2])
    windows = []
    for _ in range(count):
        shape = np.ceil(size * rng.uniform(SMALLEST_WINDOW, 1.0, 2)).astype(int)
        top, left = rng.integers(0, size - shape + 1)
        windows.append(features[top : top + shape[0], left : left + shape[1]])
    return windows


def _fit_local(
    settings: Settings, maps: Sequence[Array], rng: np.random.Generator
) -> tuple[Projection | None, Vocabulary]:
    """The PCA of the local features (where there is one) and the vocabulary behind it."""
    samples = _sample(
        maps, rng, lambda one: local_features(one, settings.pooling, settings.image_centring)
    )
    if len(samples) < settings.clusters:
        raise UsageError(f"{settings.clusters} clusters need as many features: give more photos")
    local = None
    dimensions = min(settings.local_dim, samples.shape[1])
    if dimensions:
        local = fit_pca(samples, dimensions, settings.local_whitening)
        samples = normalise(local(samples))
    return local, fit_vocabulary(samples, settings.clusters, SEED)


def _fit_pooled(
    settings: Settings, maps: Sequence[Array], rng: np.random.Generator
) -> tuple[Vocabulary, Projection]:
    """K_patch = 1: the mean raw feature, and a PCA of the centred ones, without bias."""
    cells = _sample(maps, rng, lambda one: one)
    vocabulary = fit_vocabulary(cells, 1)
    dimensions = min(settings.pca_dim, cells.shape[1])
    projection = fit_pca(cells - vocabulary.centres[0], dimensions, settings.patch_whitening)
    return vocabulary, replace(projection, bias=np.zeros_like(projection.bias))


def _fit_patch_vlad(
    settings: Settings, maps: Sequence[Array], rng: np.random.Generator
) -> tuple[Vocabulary, Projection]:
    """The paper's K: a vocabulary of unit features, and a PCA of patch descriptors of all sizes."""
    vocabulary = fit_vocabulary(_sample(maps, rng, local_features), settings.k_patch, SEED)
    each = max(1, PATCH_SAMPLES // (len(maps) * len(settings.patch_sizes)))
    rows: list[Array] = []
    for features in maps:
        unit = normalise(features)
        for size in settings.patch_sizes:
            patches = patch_vlad(unit, vocabulary, None, size, settings.stride).descriptors
            rows.append(patches[rng.choice(len(patches), min(each, len(patches)), replace=False)])
    samples = np.concatenate(rows)[:PATCH_SAMPLES]
    dimensions = min(settings.pca_dim, len(samples) - 1, samples.shape[1])
    return vocabulary, fit_pca(samples, dimensions, settings.patch_whitening)


def _sample(
    maps: Sequence[Array], rng: np.random.Generator, prepare: Callable[[Array], Array]
) -> Array:
    """About 50,000 features (N, D) of the prepared maps (h, w, D), equally many from each."""
    each = max(1, -(-VOCABULARY_SAMPLES // len(maps)))
    rows = []
    for features in maps:
        prepared = prepare(np.asarray(features))
        prepared = prepared.reshape(-1, prepared.shape[2])
        rows.append(prepared[rng.permutation(len(prepared))[:each]])
    return np.concatenate(rows)
