"""IntegralVLAD: window sums from an integral image, for comparison only.

Source: Patch-NetVLAD, section 3.3, and the published program. Number types and the order of
operations are those of the program, so the rounding is too: each running sum is computed in
float64 and rounded to float32, as PyTorch does on a CPU, and the four corners are added in float32.
docs/METHOD.md shows that intra-normalisation turns the rounding errors into noise.
"""

from __future__ import annotations

import numpy as np

from placerec.records import Array


def integral_image(volume: Array) -> Array:
    """Return the running sums of (h, w, C) over columns, then rows: (h + 1, w + 1, C) float32.

    Row 0 and column 0 are zero. Entry (y, x) is the sum of the cells above y and left of x.
    """
    height, width, depth = volume.shape
    table = np.zeros((height + 1, width + 1, depth), np.float32)
    cells = np.asarray(volume, np.float32)
    across = np.cumsum(cells, axis=1, dtype=np.float64).astype(np.float32)
    table[1:, 1:] = np.cumsum(across, axis=0, dtype=np.float64)
    return table


def integral_sum(volume: Array, size: tuple[int, int], stride: int = 1) -> Array:
    """Return the sum over each window of (h, w, C) from four table entries.

    The result is (rows, columns, C) float32. The program computes it as a depth-wise 2 x 2
    convolution of the table with the signs + - / - + and the window's size as dilation. The window
    must fit the volume.
    """
    table = integral_image(volume)
    down, across = size
    above, below = table[:-down:stride], table[down::stride]
    corners = above[:, :-across:stride] - above[:, across::stride]
    corners -= below[:, :-across:stride]
    corners += below[:, across::stride]
    return corners
