"""VLAD: RootSIFT at keypoints, each assigned to its nearest centre, residuals summed.

Source: Jegou, Douze, Schmid and Perez, "Aggregating local descriptors into a compact image
representation", CVPR 2010, section 3: the whole vector is brought to unit length and nothing else
(the signed square root came with the journal version of 2012, intra-normalisation in 2013), then
optionally a PCA. Ours: RootSIFT in place of SIFT, OpenCV's keypoints in place of Hessian-affine
ones, K = 64, a vocabulary of the database photos at hand.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from placerec.baselines.contract import Progress, Provenance
from placerec.baselines.rootsift import DEPTH, keypoint_rootsift
from placerec.errors import NotFound, UnsafeWeights, UsageError
from placerec.files import atomic_write
from placerec.method.pca import Projection, fit_pca
from placerec.method.vlad import kmeans, normalise
from placerec.records import Array
from placerec.workers import map_in_order

CLUSTERS = 64
SEED = 0
MOST_PHOTOS = 1000  # that a fit looks at, evenly spread over the database
SAMPLES = 50_000  # descriptors for k-means, equally many of each photo
BLOCK = 8192  # descriptors that are assigned at once
FORMAT = "placerec-vlad-1"


@dataclass(frozen=True, slots=True)
class Fit:
    """What is learnt: centres (K, 128) float32, a PCA or none, and of which photos, in words."""

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
    """The method ``vlad``, a ``Retriever``; ``dimensions`` after the PCA, 0 = no PCA.

    ``weights`` is a file that ``save`` wrote, so that several data sets can share one fit; then
    ``fit`` does nothing. A photo without any descriptor becomes the zero vector.
    """

    method = "vlad"
    whitening = 0.0
    photos_a_dimension = 1
    fewest_photos_for_pca = 2
    most_photos_for_pca = MOST_PHOTOS

    def __init__(
        self,
        clusters: int = CLUSTERS,
        dimensions: int = 0,
        weights: Path | None = None,
        threads: int = 1,
    ) -> None:
        if clusters < 1 or dimensions < 0:
            raise UsageError(
                f"{self.method}: {clusters} clusters, {dimensions} dimensions; give at least 1 and "
                f"0 (0 = no PCA)"
            )
        self.clusters, self.dimensions = clusters, dimensions
        self._weights, self._threads = weights, threads
        self._fit = None if weights is None else self._read(weights)
        self._known: dict[bytes, Array] = {}  # vectors of the PCA's photos until they are described

    @property
    def name(self) -> str:
        """The method with its numbers where they are not the usual ones: ``vlad K=16 PCA=128``."""
        usual = type(self)()
        k = f" K={self.clusters}" if self.clusters != usual.clusters else ""
        pca = f" PCA={self.dimensions}" if self.dimensions != usual.dimensions else ""
        return f"{self.method}{k}{pca}"

    @property
    def provenance(self) -> Provenance:
        """No weights of others; what the fit was made on."""
        what = self._fit.training_data if self._fit else "the database photos, when they are fitted"
        return Provenance("no weights", what)

    @property
    def fingerprint(self) -> str:
        """sha256 (hex) of the method, its numbers and the fitted arrays."""
        digest = hashlib.sha256(f"{FORMAT} {self.name}".encode())
        for name, tensor in self._fitted.tensors.items():
            digest.update(f"{name}{tensor.shape}{tensor.dtype}".encode())
            digest.update(np.ascontiguousarray(tensor).tobytes())
        return digest.hexdigest()

    def fit(self, photos: Callable[[], Iterator[Array]], count: int, progress: Progress) -> None:
        """K-means of 50,000 descriptors of at most 1000 photos, then the PCA; seeded."""
        if self._weights is not None:
            return
        few = _chosen(photos(), count, MOST_PHOTOS, "vocabulary", progress)
        centres = self._centres(self._samples(few, min(count, MOST_PHOTOS)))
        data = f"the database photos ({min(count, MOST_PHOTOS)} of {count}), without labels"
        self._fit = Fit(centres, None, data)
        if self.dimensions and count < self.fewest_photos_for_pca:
            told = f"; no PCA, which needs {self.fewest_photos_for_pca} photos"
            self._fit = Fit(centres, None, data + told)
        elif self.dimensions:
            few = _chosen(photos(), count, self.most_photos_for_pca, "PCA", progress)
            vectors = map_in_order(
                lambda pixels: (_digest(pixels), self._vector(pixels, centres)), few, self._threads
            )
            known = list(vectors)
            self._known = dict(known)
            self._fit = Fit(centres, self._pca(np.stack([vector for _, vector in known])), data)

    def describe(self, pixels: Array) -> Array:
        """(H, W, 3) uint8 RGB to (D,) float32 of unit length, or zero without a descriptor."""
        fitted = self._fitted
        vector = self._known.pop(_digest(pixels), None) if self._known else None
        if vector is None:
            vector = self._vector(pixels, fitted.centres)
        if fitted.projection is None or not vector.any():
            return vector if fitted.projection is None else np.zeros_like(fitted.projection.bias)
        return normalise(fitted.projection(vector))

    def save(self, path: Path) -> None:
        """Write the fit to ``path`` (.safetensors)."""
        from safetensors.numpy import save

        fitted = self._fitted
        encoded = save(
            {name: np.ascontiguousarray(one) for name, one in fitted.tensors.items()},
            {"format": FORMAT, "method": self.name, "training_data": fitted.training_data},
        )
        with atomic_write(path) as file:
            file.write_bytes(encoded)

    @property
    def _fitted(self) -> Fit:
        if self._fit is None:
            raise UsageError(f"{self.method}: not fitted yet; call fit or load first")
        return self._fit

    def _read(self, path: Path) -> Fit:
        """What ``save`` wrote for the same method and numbers."""
        from safetensors import safe_open

        if not path.is_file():
            raise NotFound(path, "no such file")
        try:
            with safe_open(path, "numpy") as file:
                about = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except Exception as error:  # safetensors' own exception is not public
            raise UnsafeWeights(path, f"no safetensors file: {error}", "make it again") from error
        if about.get("format") != FORMAT or about.get("method") != self.name:
            found = about.get("method", "something else")
            raise UnsafeWeights(path, f"a fit of {found}, not of {self.name}", "make it again")
        return _checked(tensors, self.clusters, about.get("training_data", ""), path)

    def _local(self, pixels: Array) -> Iterator[Array]:
        """The photo's descriptors (N, 128) in one or several parts."""
        yield keypoint_rootsift(pixels)

    def _vector(self, pixels: Array, centres: Array) -> Array:
        """The descriptor (K * 128,) float32 before the PCA."""
        return normalise(residual_sums(self._local(pixels), centres).reshape(-1)).astype(np.float32)

    def _samples(self, photos: Iterator[Array], count: int) -> Array:
        each = -(-SAMPLES // max(count, 1))

        def some(numbered: tuple[int, Array]) -> Array:
            number, pixels = numbered
            local = np.concatenate(list(self._local(pixels)))
            return local[np.random.default_rng((SEED, number)).permutation(len(local))[:each]]

        rows = map_in_order(some, enumerate(photos), self._threads)
        return np.concatenate([np.zeros((0, DEPTH), np.float32), *rows])

    def _centres(self, samples: Array) -> Array:
        if len(samples) < self.clusters:
            raise UsageError(
                f"{self.method}: {self.clusters} clusters need as many descriptors, and the photos "
                f"have {len(samples)}; give more photos, or photos that show more"
            )
        return kmeans(samples, self.clusters, SEED)

    def _pca(self, vectors: Array) -> Projection | None:
        allowed = (len(vectors) - 1) // self.photos_a_dimension
        dimensions = min(self.dimensions, allowed, vectors.shape[1])
        if dimensions < 1:
            return None
        pca = fit_pca(vectors, dimensions, self.whitening)
        return Projection(np.ascontiguousarray(pca.weight), pca.bias)  # as it is read from a file


def residual_sums(parts: Iterable[Array], centres: Array) -> Array:
    """Sum of x - c over the descriptors x that are nearest to each centre c: (K, D) float64.

    ``parts`` are descriptors (N, D) float32, ``centres`` (K, D). Of equally near centres the first.
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
    """At most ``most`` of ``count`` photos, evenly spread."""
    few = min(count, most)
    numbers = {i * count // few for i in range(few)}
    done = 0
    for number, pixels in enumerate(photos):
        if number in numbers:
            yield pixels
            done += 1
            progress(stage, done, few)


def _checked(tensors: dict[str, Array], clusters: int, training_data: str, path: Path) -> Fit:
    """The fit in ``tensors``, if they have the shapes of one and are finite."""
    centres = tensors.get("centres", np.zeros(0))
    weight, bias = tensors.get("pca.weight"), tensors.get("pca.bias")
    fits = centres.shape == (clusters, DEPTH) and (weight is None) == (bias is None)
    if fits and weight is not None and bias is not None:
        fits = weight.shape == (len(bias), clusters * DEPTH) and bias.ndim == 1
    if not fits or not all(np.isfinite(one).all() for one in tensors.values()):
        raise UnsafeWeights(path, "its arrays are not those of a fit", "make it again")
    projection = None if weight is None or bias is None else Projection(weight, bias)
    return Fit(centres, projection, training_data)
