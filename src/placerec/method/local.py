"""Local features: the features of a feature map that the global descriptor is made of.

The paper uses the unit features of the map (NetVLAD, section 3.1). The default method adds three
steps, because it has no training on day and night photos: the mean of neighbouring cells (against
noise and small shifts), minus a share of the photo's own mean feature (against light and weather),
and a PCA with whitening (against channels that are always active).
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
    """Return unit local features (h', w', D) float32 of a feature map (h, w, C).

    ``pooling`` p is the side of the mean in cells (h' = h - p + 1). ``image_centring`` is the share
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
    """Return the weight of each cell in each horizontal band: (rows * columns, bands), rows sum 1.

    The bands are overlapping triangles from the top of the photo to its bottom. One band weights
    all cells equally. A sideways step moves nothing from one band to another.
    """
    if bands == 1:
        return np.ones((rows * columns, 1))
    height = np.linspace(0.0, bands - 1.0, rows)[:, None]
    weights = np.maximum(1.0 - np.abs(height - np.arange(bands)), 0.0)
    return np.repeat(weights, columns, axis=0)
