"""VLAD and DenseVLAD: RootSIFT, each assigned to its nearest centre, residuals summed.

Source of VLAD: Jegou, Douze, Schmid and Perez, "Aggregating local descriptors into a compact image
representation", CVPR 2010, section 3. The vector is brought to unit length, and then there is
optionally a PCA. The signed square root (2012) and intra-normalisation (2013) are later. Ours:
RootSIFT in place of SIFT, OpenCV's keypoints in place of Hessian-affine ones, K = 64, and a
vocabulary that is fitted on the database photos.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from placerec.baselines.contract import Provenance
from placerec.baselines.rootsift import BIN_SIZES, DEPTH, dense_rootsift, keypoint_rootsift
from placerec.baselines.weights import read_weights, write_weights
from placerec.errors import UnsafeWeights, UsageError
from placerec.method.pca import Projection, fit_pca
from placerec.method.vlad import kmeans, normalise
from placerec.photos.find import evenly_spread
from placerec.records import Array
from placerec.runtime import Progress
from placerec.workers import map_all, map_in_order

SEED = 0
MOST_PHOTOS = 1000  # that the vocabulary is fitted on
SAMPLES = 50_000  # descriptors for k-means, equally many per photo
BLOCK = 8192  # descriptors that are assigned at once
REMEDY = "fit the method again and save it"


@dataclass(frozen=True, slots=True)
class Fit:
    """Fitted values: centres (K, 128) float32, an optional PCA, and the photos in words."""

    centres: Array = field(repr=False)
    projection: Projection | None = field(repr=False)
    training_data: str

    @property
    def tensors(self) -> dict[str, Array]:
        """The arrays by name."""
        pca = self.projection
        named = {} if pca is None else {"pca.weight": pca.weight, "pca.bias": pca.bias}
        return {"centres": self.centres, **named}


class Vlad:
    """The method ``vlad``, a ``Retriever``.

    ``clusters`` (default: 64) is K. ``dimensions`` (default: 0) is the size after the PCA; 0 means
    no PCA. The name shows the numbers that are not the default: ``vlad K=16 PCA=128``.
    ``weights`` is a file that ``save`` wrote, so that several data sets can share one fit. Then
    ``fit`` does nothing. A photo without descriptors becomes the zero vector.
    """

    method = "vlad"
    default_clusters = 64
    default_dimensions = 0
    whitening = 0.0
    photos_per_dimension = 1
    fewest_photos_for_pca = 2
    most_photos_for_pca = MOST_PHOTOS

    def __init__(
        self,
        clusters: int | None = None,
        dimensions: int | None = None,
        weights: str | Path | None = None,
        threads: int = 1,
    ) -> None:
        self.clusters = self.default_clusters if clusters is None else clusters
        self.dimensions = self.default_dimensions if dimensions is None else dimensions
        if self.clusters < 1 or self.dimensions < 0:
            raise UsageError(
                f"{self.method}: clusters is {self.clusters} and dimensions is {self.dimensions}; "
                f"they must be at least 1 and at least 0 (0 = no PCA)"
            )
        k = f" K={self.clusters}" if self.clusters != self.default_clusters else ""
        pca = f" PCA={self.dimensions}" if self.dimensions != self.default_dimensions else ""
        self.name = f"{self.method}{k}{pca}"
        self._threads, self._loaded = threads, weights is not None
        self._fit = None if weights is None else self._read(weights)
        self._fit_vectors: dict[bytes, Array] = {}  # of the PCA's photos, until they are described

    @property
    def provenance(self) -> Provenance:
        """The photos of the fit; there are no weights from elsewhere."""
        data = self._fit.training_data if self._fit else "the database photos, after the fit"
        return Provenance("no weights", data)

    @property
    def fingerprint(self) -> str:
        """The sha256 (hex) of the method, its numbers and the fitted arrays."""
        digest = hashlib.sha256(f"placerec-vlad-1 {self.name}".encode())
        for name, tensor in self._fitted.tensors.items():
            digest.update(f"{name}{tensor.shape}{tensor.dtype}".encode())
            digest.update(np.ascontiguousarray(tensor).tobytes())
        return digest.hexdigest()

    def fit(self, photos: Callable[[], Iterator[Array]], count: int, progress: Progress) -> None:
        """Run a seeded k-means on 50,000 descriptors of at most 1000 photos, then fit the PCA."""
        if self._loaded:
            return
        chosen = _chosen(photos(), count, MOST_PHOTOS, "vocabulary", progress)
        centres = self._centres(self._samples(chosen, min(count, MOST_PHOTOS)))
        data = f"the database photos ({min(count, MOST_PHOTOS)} of {count}), without labels"
        projection = None
        if self.dimensions and count < self.fewest_photos_for_pca:
            data += f"; no PCA, which needs {self.fewest_photos_for_pca} photos"
        elif self.dimensions:
            chosen = _chosen(photos(), count, self.most_photos_for_pca, "PCA", progress)

            def describe(pixels: Array) -> tuple[bytes, Array]:
                return _digest(pixels), self._vector(pixels, centres)

            vectors = map_all(describe, chosen, self._threads)
            self._fit_vectors = dict(vectors)
            projection = self._pca(np.stack([vector for _, vector in vectors]))
        self._fit = Fit(centres, projection, data)

    def describe(self, pixels: Array) -> Array:
        """Return (D,) float32 of unit length for (H, W, 3) uint8 RGB, or zeros."""
        fit = self._fitted
        vector = self._fit_vectors.pop(_digest(pixels), None) if self._fit_vectors else None
        if vector is None:
            vector = self._vector(pixels, fit.centres)
        if fit.projection is None:
            return vector
        if not vector.any():
            return np.zeros_like(fit.projection.bias)
        return normalise(fit.projection(vector))

    def save(self, path: str | Path) -> None:
        """Write the fit to ``path`` (.safetensors), to be given as ``weights``."""
        fit = self._fitted
        write_weights(self.name, fit.tensors, {"training_data": fit.training_data}, Path(path))

    @property
    def _fitted(self) -> Fit:
        if self._fit is None:
            raise UsageError(f"{self.method}: not fitted yet; call fit, or give weights")
        return self._fit

    def _read(self, path: str | Path) -> Fit:
        """Return what ``save`` wrote for the same method and numbers."""
        weights = read_weights(self.name, REMEDY, path)
        tensors = weights.tensors
        shapes: dict[str, tuple[int, ...]] = {"centres": (self.clusters, DEPTH)}
        if "pca.bias" in tensors:
            size = len(tensors["pca.bias"])
            shapes |= {"pca.weight": (size, self.clusters * DEPTH), "pca.bias": (size,)}
        valid = all(np.isfinite(tensor).all() for tensor in tensors.values())
        if not valid or {name: tensor.shape for name, tensor in tensors.items()} != shapes:
            raise UnsafeWeights(path, "its arrays are not those of a fit", REMEDY)
        pca = Projection(tensors["pca.weight"], tensors["pca.bias"]) if len(shapes) > 1 else None
        return Fit(tensors["centres"], pca, weights.metadata.get("training_data", ""))

    def _local(self, pixels: Array) -> Iterator[Array]:
        """Yield the descriptors (N, 128) of a photo in one or several parts."""
        yield keypoint_rootsift(pixels)

    def _vector(self, pixels: Array, centres: Array) -> Array:
        """Return the descriptor (K * 128,) float32 before the PCA."""
        return normalise(residual_sums(self._local(pixels), centres).reshape(-1)).astype(np.float32)

    def _samples(self, photos: Iterator[Array], count: int) -> Array:
        share = -(-SAMPLES // max(count, 1))

        def sample(numbered: tuple[int, Array]) -> Array:
            number, pixels = numbered
            local = np.concatenate(list(self._local(pixels)))
            return local[np.random.default_rng((SEED, number)).permutation(len(local))[:share]]

        samples = map_in_order(sample, enumerate(photos), self._threads)
        return np.concatenate([np.zeros((0, DEPTH), np.float32), *samples])

    def _centres(self, samples: Array) -> Array:
        if len(samples) < self.clusters:
            raise UsageError(
                f"{self.method}: {self.clusters} clusters need as many descriptors, but the photos "
                f"have {len(samples)}; give more photos, or photos with more contrast"
            )
        return kmeans(samples, self.clusters, SEED)

    def _pca(self, vectors: Array) -> Projection | None:
        allowed = (len(vectors) - 1) // self.photos_per_dimension
        dimensions = min(self.dimensions, allowed, vectors.shape[1])
        if dimensions < 1:
            return None
        pca = fit_pca(vectors, dimensions, self.whitening)
        # The memory layout is that of a saved fit, so both give the same bits.
        return Projection(np.ascontiguousarray(pca.weight), pca.bias)


class DenseVlad(Vlad):
    """The method ``densevlad``: dense RootSIFT, intra-normalisation, PCA with whitening.

    Source: Torii, Arandjelovic, Sivic, Okutomi and Pajdla, "24/7 place recognition by view
    synthesis", CVPR 2015, and the MATLAB program of its authors, which is no longer online. From
    the program: all numbers of the dense RootSIFT (``rootsift``); K = 128; centres of unit length;
    hard assignment; each cluster's sum and then the full vector to unit length (Arandjelovic and
    Zisserman, "All about VLAD", CVPR 2013); PCA with whitening to 4096; unit length. Photos have at
    most 640 pixels, as others report of the paper; the program halves every photo.

    Ours: vocabulary and PCA are fitted on the database, because those of the authors are not
    available. The PCA keeps at most one dimension per four photos. Whitening amplifies the smallest
    directions most, and with few photos they are noise (docs/BASELINES.md). With fewer than 33
    photos there is no PCA. The mean is subtracted before the PCA, which the program does not do.
    Patches without contrast are omitted; the program adds all of them to one cluster.

    ``clusters`` (default: 128), ``dimensions`` (default: 4096; 0 means no PCA, 16384 values),
    ``weights`` and ``threads`` as for ``Vlad``.
    """

    method = "densevlad"
    default_clusters = 128
    default_dimensions = 4096
    whitening = 1.0
    photos_per_dimension = 4
    fewest_photos_for_pca = 33  # fewer span less than 32 dimensions, which distinguish too little
    most_photos_for_pca = 4096  # 1024 dimensions at most; takes about 2 GB

    def _local(self, pixels: Array) -> Iterator[Array]:
        for bin_size in BIN_SIZES:
            yield dense_rootsift(pixels, bin_size)[0]

    def _centres(self, samples: Array) -> Array:
        return normalise(super()._centres(samples))

    def _vector(self, pixels: Array, centres: Array) -> Array:
        sums = normalise(residual_sums(self._local(pixels), centres))
        return normalise(sums.reshape(-1)).astype(np.float32)


def residual_sums(parts: Iterable[Array], centres: Array) -> Array:
    """Return the sum of x - c over the descriptors x nearest to each centre c: (K, D) float64.

    ``parts`` are descriptors (N, D) float32, ``centres`` (K, D). The first of equally near centres
    is the nearest.
    """
    counts = np.zeros(len(centres))
    sums = np.zeros(centres.shape)
    half_squares = 0.5 * np.einsum("kd,kd->k", centres, centres)
    for rows in parts:
        for start in range(0, len(rows), BLOCK):
            block = rows[start : start + BLOCK]
            nearest = (block @ centres.T - half_squares).argmax(axis=1)
            members = np.zeros((len(block), len(centres)), np.float32)
            members[np.arange(len(block)), nearest] = 1
            sums += members.T @ block
            counts += np.bincount(nearest, minlength=len(centres))
    residuals: Array = sums - counts[:, None] * centres
    return residuals


def _digest(pixels: Array) -> bytes:
    return hashlib.sha256(f"{pixels.shape}".encode() + pixels.tobytes()).digest()


def _chosen(
    photos: Iterator[Array], count: int, most: int, stage: str, progress: Progress
) -> Iterator[Array]:
    """Yield at most ``most`` of ``count`` photos, evenly spread."""
    numbers = set(evenly_spread(count, most))
    selected = (pixels for number, pixels in enumerate(photos) if number in numbers)
    for done, pixels in enumerate(selected, start=1):
        yield pixels
        progress(stage, done, len(numbers))
