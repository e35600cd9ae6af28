"""Patch descriptors: NetVLAD over every h x w window of the feature map.

Source: Patch-NetVLAD, sections 3.2 and 3.3 (the descriptor of a patch is the VLAD of the features
inside it). The default sums are direct. With a sharp assignment, the published integral image in
float32 turns patches into rounding noise, because intra-normalisation enlarges clusters of almost
no weight. It is available for comparison (``sums="integral"``, see ``integral``).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from placerec.errors import UsageError
from placerec.method.integral import integral_sum
from placerec.method.pca import Projection
from placerec.method.vlad import Vocabulary, normalise, soft_assign
from placerec.records import Array, Grid, PatchSet
from placerec.settings import Size, require_choice


def patch_grid(map_size: tuple[int, int], size: tuple[int, int], stride: int) -> tuple[int, int]:
    """Return rows and columns of patches of ``size`` (cells) on a map of ``map_size``, no padding.

    Raises ``UsageError`` if no patch fits.
    """
    rows, columns = ((m - s) // max(stride, 1) + 1 for m, s in zip(map_size, size, strict=True))
    if min(size) < 1 or stride < 1 or rows < 1 or columns < 1:
        raise UsageError(
            f"patch size {size[0]}x{size[1]} with stride {stride} does not fit a feature map of "
            f"{map_size[0]}x{map_size[1]} cells: choose smaller patches or larger images"
        )
    return rows, columns


def box_sum(volume: Array, size: tuple[int, int], stride: int = 1) -> Array:
    """Return the sum over each window of (h, w, C): (rows, columns, C), in the volume's dtype.

    The rows of each window are added, then its columns; nothing is subtracted.
    """
    rows, columns = patch_grid(volume.shape[:2], size, stride)
    down, across = (rows - 1) * stride + 1, (columns - 1) * stride + 1
    tall = volume[:down:stride].copy()
    for top in range(1, size[0]):
        tall += volume[top : top + down : stride]
    wide = tall[:, :across:stride].copy()
    for left in range(1, size[1]):
        wide += tall[:, left : left + across : stride]
    return wide


def patch_vlad(
    features: Array,
    vocabulary: Vocabulary,
    projection: Projection | None,
    size: tuple[int, int],
    stride: int = 1,
    sums: str = "direct",
) -> PatchSet:
    """Return the patch descriptors (rows * columns, D_out) float32 of one size.

    ``features`` are unit features (h, w, D), float32 or float64; sums have their type. Per patch:
    mean residual per cluster, intra-normalisation, L2, PCA, L2. Without ``projection`` the
    descriptors are the K * D VLAD values. Clusters are processed one by one, so K x h x w x D
    residuals are never stored. ``sums``: direct, or integral for comparison (float32, noisy).
    """
    window, area = _window(sums), size[0] * size[1]
    rows, columns = patch_grid(features.shape[:2], size, stride)
    height, width, depth = features.shape
    assignment = soft_assign(features.reshape(-1, depth), vocabulary).reshape(height, width, -1)
    weights = assignment.astype(features.dtype, copy=False)
    clusters: list[Array] = []
    projected = np.zeros((rows * columns, projection.dimensions if projection else 0), np.float32)
    squares = np.zeros(rows * columns, np.float32)
    for k, centre in enumerate(vocabulary.centres):
        residual = weights[:, :, k, None] * (features - centre)
        mean = window(residual, size, stride) / area  # only the floor of normalise needs the mean
        cluster = normalise(mean.reshape(rows * columns, depth))
        if projection is None:
            clusters.append(cluster)
            continue
        squares += np.einsum("pd,pd->p", cluster, cluster)
        projected += cluster @ projection.weight[:, k * depth : (k + 1) * depth].T
    if projection is None:
        descriptors = normalise(np.concatenate(clusters, axis=1)).astype(np.float32, copy=False)
    else:
        length = np.maximum(np.sqrt(squares), np.float32(1e-12))[:, None]
        descriptors = normalise(projected / length + projection.bias)
    return PatchSet(Grid(size, rows, columns, stride), descriptors)


def pooled_patches(
    cells: Array, size: tuple[int, int], stride: int = 1, sums: str = "direct"
) -> PatchSet:
    """Return the patches for one cluster: the sum of cells (h, w, D) over each window, then L2.

    The cells are centred and projected. The result equals ``patch_vlad`` with a vocabulary of one
    centre and a projection without bias, but needs only one projection per cell.
    """
    rows, columns = patch_grid(cells.shape[:2], size, stride)
    pooled = _window(sums)(cells, size, stride).reshape(rows * columns, -1)
    return PatchSet(Grid(size, rows, columns, stride), normalise(pooled))


def _window(sums: str) -> Callable[[Array, Size, int], Array]:
    require_choice("patch_sums", sums)
    return box_sum if sums == "direct" else integral_sum
