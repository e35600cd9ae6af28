"""Local features: what the vocabulary of the global descriptor sees of a feature map.

The paper's are the unit features of the map (NetVLAD, section 3.1). Ours go three steps further,
each against a nuisance that a day-night pair of photos has and the paper's training takes care of:
the mean of neighbouring cells (noise, small shifts), minus a share of the photo's own mean feature
(light and weather), projected by a PCA with whitening (channels that are always on).
"""

from __future__ import annotations

import numpy as np

from placerec.method.patches import box_sum
from placerec.method.pca import Projection
from placerec.method.vlad import normalise
from placerec.records import Array


def local_features(
    features: Array,
    pooling: int = 1,
    image_centring: float = 0.0,
    projection: Projection | None = None,
) -> Array:
    """Unit local features (h', w', D) float32 of a feature map (h, w, C).

    ``pooling`` p is the side in cells of the mean (h' = h - p + 1), ``image_centring`` the share
    of the photo's mean that is subtracted. The defaults are the paper's: x / |x|.
    """
    unit = normalise(features)
    if pooling > 1:
        unit = normalise(box_sum(unit, (pooling, pooling)))
    if image_centring:
        unit = unit - np.float32(image_centring) * unit.mean(axis=(0, 1))
    if projection is not None:
        unit = projection(unit.reshape(-1, unit.shape[2])).reshape(*unit.shape[:2], -1)
    return normalise(unit)


def band_weights(rows: int, columns: int, bands: int) -> Array:
    """How much each cell counts for each horizontal band: (rows * columns, bands), rows sum to 1.

    Overlapping triangles from the top of the photo to its bottom; one band counts all cells alike.
    A sideways step moves nothing from band to band.
    """
    if bands == 1:
        return np.ones((rows * columns, 1))
    height = np.linspace(0.0, bands - 1.0, rows)[:, None]
    weights = np.maximum(1.0 - np.abs(height - np.arange(bands)), 0.0)
    return np.repeat(weights, columns, axis=0)
