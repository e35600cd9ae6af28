"""DenseVLAD: dense RootSIFT at four scales, intra-normalised VLAD, PCA with whitening.

Source: Torii, Arandjelovic, Sivic, Okutomi and Pajdla, "24/7 place recognition by view synthesis",
CVPR 2015, and the MATLAB program of its authors, which is no longer online. From the program: all
numbers of the dense RootSIFT (``rootsift``); K = 128; centres of unit length; hard assignment; each
cluster's sum and then the whole vector to unit length (Arandjelovic and Zisserman, "All about
VLAD", CVPR 2013); PCA with whitening to 4096; unit length. Photos have at most 640 pixels, as
others report of the paper; the program halves every photo.

Ours: vocabulary and PCA are fitted on the database, because those of the authors are not
available. The PCA keeps at most one dimension per four photos. Whitening amplifies the smallest
directions most, and with few photos they are noise (docs/BASELINES.md). With fewer than 33 photos
there is no PCA. The mean is subtracted before the PCA, which the program does not do. Patches
without contrast are omitted; the program adds all of them to one cluster.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from placerec.baselines.rootsift import BIN_SIZES, dense_rootsift
from placerec.baselines.vlad import Vlad, residual_sums
from placerec.method.vlad import normalise
from placerec.records import Array


class DenseVlad(Vlad):
    """The method ``densevlad``, a ``Retriever``.

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
