"""Everything the published method computes of one photo, by name: for comparison with others.

The names, shapes and order are those of the published program's own arrays (Patch-NetVLAD,
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
    """The arrays of a photo (H, W, 3) uint8 RGB, all float32.

    ``encoder`` (C, h, w); ``global_vlad`` (K * C,); ``global_pca`` (D,); ``patch2_pca``,
    ``patch5_pca``, ``patch8_pca`` (D, P), one column a patch, row by row, one cell apart.
    ``model`` must be of the published form (one PCA for photo and patches) and have a PCA.
    """
    if not model.settings.shared_pca or model.fitted.projection is None:
        raise UsageError(
            f"model {model.name}: not of the published form with a PCA; import one: placerec "
            f"weights import CHECKPOINT.pth.tar MODEL.safetensors"
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
