"""Tell photos that say nothing: black, white, one colour, a covered lens.

The photo is averaged over at most 16 x 16 cells, which removes most of the noise of a sensor. The
fourth differences of neighbouring cells remove what is smooth, such as vignetting and the light
that falls past a finger. What remains of edges is compared with what noise would leave.
docs/PHOTOS.md has the values of real and of covered photos.
"""

from __future__ import annotations

import numpy as np

from placerec.records import Array

BLANK = "one colour, a covered lens, or tiny"  # what has no structure
MOST_CELLS = 16  # along each side
LEAST_CELL = 4  # pixels along each side
LEAST_SIDE = 32  # pixels: fewer show nothing
MOST_LINES = 320  # a longer side is sampled: all its pixels would only take time
FOURTH_DIFFERENCE = np.array((1, -4, 6, -4, 1)) / np.sqrt(70)  # noise keeps its deviation
LEAST_EDGES = 0.6  # grey levels
NOISE = 12.0  # grey levels: 1.5 times the deviation of a strong sensor noise


def has_structure(pixels: Array) -> bool:
    """Return whether (H, W, 3) uint8 RGB ``pixels`` show anything.

    False for a photo of one colour or of a smooth change of colour, with or without the noise of a
    sensor, and for one that is too small to show anything (a side of less than 32 pixels).
    """
    if min(pixels.shape[:2]) < LEAST_SIDE:
        return False
    edges, threshold = edge_strength(pixels)
    return edges > threshold


def edge_strength(pixels: Array) -> tuple[float, float]:
    """Return the strength of the edges between cells, and what it must exceed, in grey levels.

    ``pixels`` have at least 32 pixels on both sides.
    """
    height, width = pixels.shape[:2]
    cells, size = _cells(pixels[:: -(-height // MOST_LINES), :: -(-width // (4 * MOST_LINES))])
    edges = np.concatenate([_differences(cells), _differences(cells.T)])
    return float(np.sqrt(np.mean(edges**2))), max(LEAST_EDGES, NOISE / size**0.5)


def _cells(pixels: Array) -> tuple[Array, int]:
    """Return the mean of each cell (rows, columns) float64, and the pixels in a cell."""
    rows, columns = (min(MOST_CELLS, side // LEAST_CELL) for side in pixels.shape[:2])
    height, width = pixels.shape[0] // rows, pixels.shape[1] // columns
    whole = np.ascontiguousarray(pixels[: rows * height, : columns * width])
    lines = np.add.reduce(whole.reshape(rows, height, -1), axis=1, dtype=np.uint32)
    sums = lines.reshape(rows, columns, -1).sum(axis=2)
    return sums / (3 * height * width), height * width


def _differences(cells: Array) -> Array:
    """Return the fourth differences of neighbouring rows, flat."""
    count = len(cells) - len(FOURTH_DIFFERENCE) + 1
    parts = [weight * cells[i : i + count] for i, weight in enumerate(FOURTH_DIFFERENCE)]
    differences: Array = np.sum(parts, axis=0)
    return differences.ravel()
