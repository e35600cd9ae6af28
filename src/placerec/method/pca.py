"""PCA with a whitening power, as an affine map.

Source: Patch-NetVLAD, section 3.1 (PCA with whitening, Jegou and Chum 2012). Power 1 is the
published whitening, power 0 a rotation. A power between them enlarges directions of small variance
less.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from placerec.errors import UsageError
from placerec.records import Array

EIGENVALUE_FLOOR = 1e-9


@dataclass(frozen=True, slots=True)
class Projection:
    """y = x W^T + b with W (D_out, D_in) and b (D_out,), float32."""

    weight: Array = field(repr=False)
    bias: Array = field(repr=False)

    def __call__(self, rows: Array) -> Array:
        """Project (..., D_in) to (..., D_out) float32, without normalisation."""
        projected: Array = rows @ self.weight.T + self.bias
        return projected

    @property
    def dimensions(self) -> int:
        """The length of an output vector."""
        return len(self.bias)

    def truncate(self, dimensions: int) -> Projection:
        """Return the projection to the leading ``dimensions`` outputs."""
        return Projection(self.weight[:dimensions], self.bias[:dimensions])


def fit_pca(samples: Array, dimensions: int, whitening: float = 1.0) -> Projection:
    """Return the leading principal components of (n, D) samples, divided by lambda^(power/2).

    The covariance is over n - 1, in the dual (n x n) form if D > n. The largest entry of each
    component is positive, so equal samples give equal projections. Raises ``UsageError`` unless
    dimensions < n and dimensions <= D.
    """
    count, width = samples.shape
    if not 1 <= dimensions <= min(count - 1, width):
        raise UsageError(
            f"PCA to {dimensions} dimensions needs more than {dimensions} samples of at least as "
            f"many values; there are {count} of {width}: give more photos or fewer dimensions"
        )
    mean = samples.mean(axis=0, dtype=np.float64)
    centred = samples.astype(np.float64)
    centred -= mean
    if width <= count:
        values, vectors = np.linalg.eigh(centred.T @ centred / (count - 1))
        values, vectors = values[::-1][:dimensions], vectors[:, ::-1][:, :dimensions]
    else:
        values, dual = np.linalg.eigh(centred @ centred.T / (count - 1))
        values, dual = values[::-1][:dimensions], dual[:, ::-1][:, :dimensions]
        lengths = np.sqrt(np.maximum(values, EIGENVALUE_FLOOR) * (count - 1))
        vectors = centred.T @ (dual / lengths)
    peak = np.abs(vectors).argmax(axis=0)
    vectors = vectors * np.sign(vectors[peak, np.arange(dimensions)])
    scale = (np.maximum(values, 0.0) + EIGENVALUE_FLOOR) ** (-whitening / 2)
    weight = (vectors * scale).T
    return Projection(weight.astype(np.float32), (-weight @ mean).astype(np.float32))
