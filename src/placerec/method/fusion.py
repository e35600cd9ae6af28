"""Fusion: the scores of several patch sizes as one number per candidate.

Source: Patch-NetVLAD, section 3.5, equation 6 (the raw weighted sum), and the published program
(the weighted sum of z-scores over the candidate list).
"""

from __future__ import annotations

import numpy as np

from placerec.records import Array
from placerec.settings import require_choice

PUBLISHED_SIZES = ((2, 2), (5, 5), (8, 8))
PUBLISHED_WEIGHTS = (0.45, 0.15, 0.4)
# A spread below this share of the largest score is rounding; a z-score would enlarge it.
TIE = 1e-12


def default_weights(sizes: tuple[tuple[int, int], ...]) -> tuple[float, ...]:
    """Return the published .45, .15, .4 for exactly the sizes 2, 5, 8, or else equal weights."""
    if sizes == PUBLISHED_SIZES:
        return PUBLISHED_WEIGHTS
    return (1.0 / len(sizes),) * len(sizes)


def fuse(scores: Array, weights: tuple[float, ...], fusion: str = "raw") -> Array:
    """Return the fused scores (candidates,) float64 of (candidates, sizes); larger is better.

    ``raw`` is the weighted sum of the scores, ``z-score`` that of ``standardise(scores)``.
    """
    require_choice("fusion", fusion)
    values = np.asarray(scores, np.float64)
    fused: Array = (standardise(values) if fusion == "z-score" else values) @ np.asarray(weights)
    return fused


def standardise(values: Array) -> Array:
    """Return the columns of (n, s) minus their mean, over their population standard deviation.

    A column whose values are equal except for rounding (also: n = 1) becomes 0.
    """
    centred = values - values.mean(axis=0)
    deviation = values.std(axis=0)
    flat = np.ptp(values, axis=0) <= TIE * np.abs(values).max(axis=0)
    return np.where(flat, 0.0, centred / np.where(flat, 1.0, deviation))
