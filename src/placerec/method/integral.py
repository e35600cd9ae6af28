"""IntegralVLAD: window sums from an integral image, for comparison only.

Source: Patch-NetVLAD, section 3.3, and the published program, whose number type and order of
operations are kept, so its rounding is too: the table holds float32 (each running sum is added up
in float64 and then rounded, as PyTorch does it on a CPU), and the four corners are added in
float32. Entries grow over the photo while a window's sum stays small, so a cluster of little weight
comes out as the rounding of large numbers. Intra-normalisation then lifts that noise to unit
length. docs/METHOD.md has a worked example and the measured noise.
"""

from __future__ import annotations

import numpy as np

from placerec.records import Array


def integral_image(volume: Array) -> Array:
    """Running sums of (h, w, C) over columns, then rows: (h + 1, w + 1, C) float32.

    Row 0 and column 0 are zero, so entry (y, x) is the sum of the cells above y and left of x.
    """
    height, width, depth = volume.shape
    table = np.zeros((height + 1, width + 1, depth), np.float32)
    cells = np.asarray(volume, np.float32)
    across = np.cumsum(cells, axis=1, dtype=np.float64).astype(np.float32)
    table[1:, 1:] = np.cumsum(across, axis=0, dtype=np.float64)
    return table


def integral_sum(volume: Array, size: tuple[int, int], stride: int = 1) -> Array:
    """Sum over each window of (h, w, C): (rows, columns, C) float32, by four table entries.

    What the published program writes as a depth-wise 2 x 2 convolution of the table with signs
    + - / - + and the window's size as dilation. The window must fit the volume.
    """
    table = integral_image(volume)
    down, across = size
    above, below = table[:-down:stride], table[down::stride]
    corners = above[:, :-across:stride] - above[:, across::stride]
    corners -= below[:, :-across:stride]
    corners += below[:, across::stride]
    return corners
