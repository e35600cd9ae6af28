"""The samples of OpenCV's RANSAC for a homography, compiled by Numba: the same inliers, sooner.

OpenCV (``findHomography`` with ``RANSAC``) solves every sample by an eigenvalue decomposition of a
9 x 9 matrix. Here it is solved by the closed form of four points. All else is what OpenCV does, in
its order: the random numbers, which samples are usable, the float32 errors, and when to stop.

The inliers differ from those of OpenCV in two cases. Rounding may decide between equally good
samples. And the first three matches of a sample may lie on one line: then many homographies fit,
OpenCV takes one of them by rounding, and here the sample is left out. This is rare, but on maps of
a few rows it is not.

Sources: Fischler and Bolles, Random Sample Consensus, CACM 1981; Hartley and Zisserman, Multiple
View Geometry, 2nd edition, section 4.1 and algorithm 4.5. This file needs the package ``numba``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numba
import numpy as np

from placerec.records import Array

TRIALS, CONFIDENCE = 2_000, 0.995  # what OpenCV takes by itself
ATTEMPTS = 10_000  # samples that are drawn until one is usable
SAMPLE = 4  # matches
# OpenCV's random numbers are a multiply-with-carry generator of Marsaglia.
SEED, MULTIPLIER = np.uint64(0xFFFF_FFFF_FFFF_FFFF), np.uint64(4_164_903_690)
LOW, HALF = np.uint64(0xFFFF_FFFF), np.uint64(32)
ON_A_LINE = float(np.finfo(np.float32).eps)
SMALLEST = float(np.finfo(np.float64).tiny)


def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return ``function`` in machine code, which is kept for the next process where it can be."""
    # NumPy's model of errors: a division by zero is an infinity.
    compile_ = partial(numba.njit, nogil=True, error_model="numpy")
    try:
        compiled: Callable[..., Any] = compile_(cache=True)(function)
    except RuntimeError:  # Numba finds no folder to keep it in
        compiled = compile_()(function)
    return compiled


@_compiled
def consensus(source: Array, target: Array, tolerance: float) -> Array:
    """Return which matches (M,) bool the homography of the best sample explains.

    ``source`` and ``target`` (M, 2) float64 are positions in pixels, and M is more than 4. A match
    is explained if its source falls within ``tolerance`` pixels of its target. No match is
    explained if fewer than 4 ever were, or if no sample is usable.
    """
    columns = as_columns(source, target)
    squared = np.float32(tolerance * tolerance)
    sample, homography = np.zeros(SAMPLE, np.int64), np.zeros(9)
    inside, best = np.zeros(len(source), np.bool_), np.zeros(len(source), np.bool_)
    most, trial, trials, state = SAMPLE - 1, 0, TRIALS, SEED
    while trial < trials:
        trial += 1
        usable, state = draw(sample, state, source, target)
        if not usable:
            break
        if not solve(homography, sample, source, target):
            continue
        count = explained(inside, homography, columns, squared)
        if count > most:
            most = count
            inside, best = best, inside
            trials = enough_trials(1.0 - most / len(source), trials)
    return best


@_compiled
def inliers(homography: Array, source: Array, target: Array, tolerance: float) -> Array:
    """Return which matches (M,) bool a ``homography`` (9,), its last value 1, explains."""
    columns = as_columns(source, target)
    inside = np.zeros(len(source), np.bool_)
    explained(inside, homography, columns, np.float32(tolerance * tolerance))
    return inside


@_compiled
def as_columns(source: Array, target: Array) -> Array:
    """Return x, y of the sources, then of the targets: (4, M) float32, each row contiguous."""
    columns = np.empty((4, len(source)), np.float32)
    for axis in range(2):
        columns[axis], columns[2 + axis] = source[:, axis], target[:, axis]
    return columns


@_compiled
def draw(sample: Array, state: np.uint64, source: Array, target: Array) -> tuple[bool, np.uint64]:
    """Draw a usable ``sample`` (4,) of matches; return whether there is one, and the new state."""
    for _ in range(ATTEMPTS):
        for place in range(SAMPLE):
            drawn_before = True
            while drawn_before:
                state = (state & LOW) * MULTIPLIER + (state >> HALF)
                match = np.int64((state & LOW) % np.uint64(len(source)))
                drawn_before = False
                for earlier in range(place):
                    drawn_before |= sample[earlier] == match
            sample[place] = match
        if is_spread(source, sample) and is_spread(target, sample):
            turned = 0
            for a, b, c in ((0, 1, 2), (1, 2, 3), (0, 2, 3), (0, 1, 3)):
                corners = sample[a], sample[b], sample[c]
                turned += turn(source, *corners) * turn(target, *corners) < 0
            if turned in (0, SAMPLE):  # all four triangles keep their sense, or all are mirrored
                return True, state
    return False, state


@_compiled
def is_spread(positions: Array, sample: Array) -> bool:
    """Return whether the last position is on no line through two others; OpenCV's only check."""
    last = sample[SAMPLE - 1]
    for j in range(SAMPLE - 1):
        ax = positions[sample[j], 0] - positions[last, 0]
        ay = positions[sample[j], 1] - positions[last, 1]
        for k in range(j):
            bx = positions[sample[k], 0] - positions[last, 0]
            by = positions[sample[k], 1] - positions[last, 1]
            if abs(bx * ay - by * ax) <= ON_A_LINE * (abs(ax) + abs(ay) + abs(bx) + abs(by)):
                return False
    return True


@_compiled
def turn(positions: Array, a: int, b: int, c: int) -> float:
    """Return twice the signed area of the triangle of three positions."""
    bx, by = positions[b, 0] - positions[a, 0], positions[b, 1] - positions[a, 1]
    cx, cy = positions[c, 0] - positions[a, 0], positions[c, 1] - positions[a, 1]
    return float(bx * cy - cx * by)


@_compiled
def solve(homography: Array, sample: Array, source: Array, target: Array) -> bool:
    """Write the ``homography`` (9,) of a sample, its last value 1; return if it is the only one.

    In homogeneous positions the last match is a weighted sum of the first three. The homography
    takes each of the three to its target, with the weight there over the weight here.
    """
    last = sample[SAMPLE - 1]
    homography[:] = 0.0
    for a, b, c in ((0, 1, 2), (1, 2, 0), (2, 0, 1)):
        first, second, third = sample[a], sample[b], sample[c]
        weight = turn(source, last, second, third)
        if weight == 0.0:
            return False
        weight = turn(target, last, second, third) / weight
        bx, by = source[second, 0], source[second, 1]
        cx, cy = source[third, 0], source[third, 1]
        for row, value in enumerate((target[first, 0], target[first, 1], 1.0)):
            homography[3 * row] += weight * value * (by - cy)
            homography[3 * row + 1] += weight * value * (cx - bx)
            homography[3 * row + 2] += weight * value * (bx * cy - by * cx)
    if homography[8] == 0.0:
        return False
    homography /= homography[8]
    return True


@_compiled
def explained(inside: Array, homography: Array, columns: Array, squared: float) -> int:
    """Write which matches are ``inside`` (M,) the tolerance, and return their number.

    ``columns`` are those of ``as_columns``.
    """
    h = homography.astype(np.float32)
    count, one = 0, np.float32(1.0)
    for n in range(len(inside)):
        x, y = columns[0, n], columns[1, n]
        w = one / (h[6] * x + h[7] * y + one)
        right = (h[0] * x + h[1] * y + h[2]) * w - columns[2, n]
        down = (h[3] * x + h[4] * y + h[5]) * w - columns[3, n]
        inside[n] = right * right + down * down <= squared
        count += inside[n]
    return count


@_compiled
def enough_trials(outliers: float, trials: int) -> int:
    """Return after how many samples one is free of outliers with the confidence; at most trials.

    ``outliers`` is the share of the matches that the best sample does not explain.
    """
    spoilt = 1.0 - (1.0 - outliers) ** SAMPLE
    if spoilt < SMALLEST:
        return 0
    needed, spoilt = -math.log(1.0 - CONFIDENCE), -math.log(spoilt)
    return trials if spoilt <= 0.0 or needed >= trials * spoilt else round(needed / spoilt)
