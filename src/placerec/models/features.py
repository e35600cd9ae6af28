"""Every array that the published method computes of one photo, for comparison with others.

The names, shapes and order are those of the arrays of the published program (Patch-NetVLAD,
sections 3.1 to 3.3).
"""

from __future__ import annotations

import numpy as np

from placerec.errors import UsageError
from placerec.method.fusion import PUBLISHED_SIZES
from placerec.method.vlad import normalise, vlad
from placerec.models.model import Model
from placerec.records import Array


def published_features(model: Model, pixels: Array) -> dict[str, Array]:
    """Return the arrays of a photo (H, W, 3) uint8 RGB, all float32.

    ``encoder`` (C, h, w); ``global_vlad`` (K * C,); ``global_pca`` (D,); ``patch2_pca``,
    ``patch5_pca``, ``patch8_pca`` (D, P), one column per patch, row by row, one cell apart.
    ``model`` must have the published form (one PCA for the photo and its patches) and a PCA.
    """
    if model.settings.form != "published" or model.fitted.projection is None:
        raise UsageError(
            f"model {model.name}: it does not have the published form with a PCA; import a "
            f"checkpoint that has one: placerec weights import"
        )
    settings = model.settings.replace(patch_sizes=PUBLISHED_SIZES, scale_weights=None, stride=1)
    features = model.feature_map(pixels)
    local = normalise(features).reshape(-1, features.shape[2])
    described = model.with_settings(settings).describe_map(features)
    arrays = {
        "encoder": features.transpose(2, 0, 1),
        "global_vlad": vlad(local, model.fitted.vocabulary),
        "global_pca": described.global_descriptor,
    }
    for patches in described.patches:
        arrays[f"patch{patches.grid.size[0]}_pca"] = patches.descriptors.T
    return {name: np.ascontiguousarray(array, np.float32) for name, array in arrays.items()}
