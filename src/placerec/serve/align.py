"""Lay one photo over another: the turn, size and shift that bring its matched patches together."""

from __future__ import annotations

import numpy as np

from placerec.records import Array, Place

FEWEST = 6  # matches; fewer agree by chance
ROUNDS = 10
SIZES = (1 / 3, 3.0)  # of one photo in the other; anything else is no view of the same place


def alignment(
    place: Place, query_size: tuple[int, int], photo_size: tuple[int, int]
) -> list[float] | None:
    """Return the matrix a, b, c, d, e, f that takes the photo of ``place`` to the query.

    Sizes are (width, height) in pixels. x' = a x + c y + e and y' = b x + d y + f, as in CSS and
    SVG. ``None`` if too few matches agree.
    """
    pairs = [
        (match.query_grid.boxes(match.pairs[:, 0]), match.database_grid.boxes(match.pairs[:, 1]))
        for match in place.matches
        if match.inliers
    ]
    if sum(len(boxes) for boxes, _ in pairs) < FEWEST:
        return None
    target = _middles(np.concatenate([boxes for boxes, _ in pairs]), query_size)
    source = _middles(np.concatenate([boxes for _, boxes in pairs]), photo_size)
    turn, shift = _similarity(source, target, max(query_size) / 50)
    if not SIZES[0] <= abs(turn) <= SIZES[1]:
        return None
    numbers = (turn.real, turn.imag, -turn.imag, turn.real, shift.real, shift.imag)
    return [round(float(number), 5) for number in numbers]


def _middles(boxes: Array, size: tuple[int, int]) -> Array:
    """Return the middles of boxes (n, 4), fractions of a photo, as complex pixels x + iy (n,)."""
    width, height = size
    middles: Array = (boxes[:, 0] + boxes[:, 2]) / 2 * width
    return middles + 1j * (boxes[:, 1] + boxes[:, 3]) / 2 * height


def _similarity(source: Array, target: Array, near: float) -> tuple[complex, complex]:
    """Return t and s such that t * source + s is close to target, points as complex numbers (n,).

    A least squares fit, repeated with less weight for pairs more than ``near`` pixels apart.
    """
    weights = np.ones(len(source))
    turn, shift = 1 + 0j, 0j
    for _ in range(ROUNDS):
        share = weights / weights.sum()
        middle, goal = complex(share @ source), complex(share @ target)
        spread = float(share @ np.abs(source - middle) ** 2)
        if spread == 0:
            return 0j, 0j
        turn = complex((share * (source - middle).conj()) @ (target - goal)) / spread
        shift = goal - turn * middle
        weights = 1 / (1 + (np.abs(turn * source + shift - target) / near) ** 2)
    return turn, shift
