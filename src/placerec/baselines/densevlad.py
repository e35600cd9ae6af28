"""DenseVLAD: dense RootSIFT at four scales, intra-normalised VLAD, PCA with whitening.

Source: Torii, Arandjelovic, Sivic, Okutomi and Pajdla, "24/7 place recognition by view synthesis",
CVPR 2015, and the authors' MATLAB program for it, whose page has vanished. From the program: all
numbers of the dense RootSIFT (``rootsift``), K = 128, centres brought to unit length, hard
assignment, each cluster's sum and then the whole to unit length (Arandjelovic and Zisserman, "All
about VLAD", CVPR 2013), PCA with whitening to 4096, unit length. Photos have at most 640 pixels,
which others who ran the program report of the paper; the program itself halves any photo.

Ours, because the authors' vocabulary and PCA are not at hand: both are fitted on the database. The
PCA keeps no more than one dimension for every four photos: whitening lifts the smallest directions
the most, and these are noise where there are few photos (docs/BASELINES.md). With fewer than 33
photos there is no PCA: the intra-normalised vector itself is the descriptor.
It takes the mean away, which the program does not; patches without contrast are left out, where
the program adds them all to one cluster.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from placerec.baselines.rootsift import BIN_SIZES, dense_rootsift
from placerec.baselines.vlad import Vlad, residual_sums
from placerec.method.vlad import normalise
from placerec.records import Array

CLUSTERS = 128
DIMENSIONS = 4096
FEWEST_PHOTOS_FOR_PCA = 33  # they span 32 dimensions; in fewer, a photo is hardly told from another


class DenseVlad(Vlad):
    """The method ``densevlad``, a ``Retriever``; ``dimensions`` 0 = no PCA, 16384 values.

    ``weights`` as for ``Vlad``.
    """

    method = "densevlad"
    whitening = 1.0
    photos_a_dimension = 4
    fewest_photos_for_pca = FEWEST_PHOTOS_FOR_PCA
    most_photos_for_pca = 4096  # so 1024 dimensions of a fit of our own; takes about 2 GB

    def __init__(
        self,
        clusters: int = CLUSTERS,
        dimensions: int = DIMENSIONS,
        weights: Path | None = None,
        threads: int = 1,
    ) -> None:
        super().__init__(clusters, dimensions, weights, threads)

    def _local(self, pixels: Array) -> Iterator[Array]:
        for bin_size in BIN_SIZES:
            yield dense_rootsift(pixels, bin_size)[0]

    def _centres(self, samples: Array) -> Array:
        return normalise(super()._centres(samples))

    def _vector(self, pixels: Array, centres: Array) -> Array:
        sums = normalise(residual_sums(self._local(pixels), centres))
        return normalise(sums.reshape(-1)).astype(np.float32)
