"""The signs that a training has collapsed, each an error that says what to check."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from placerec.errors import PlacerecError
from placerec.records import Array

STUCK_STEPS = 100  # steps in a row whose loss is the margin
STUCK_SHARE = 1e-3  # how near to the margin, as a share of it
EQUAL_COSINE = 1.0 - 1e-5  # a mean cosine above it: all photos look the same to the network
CHECKS = (
    "check that the positions are right (positives must show the same place), lower --lr, and "
    "begin anew in another folder"
)


def check_loss(recent: Sequence[float], margin: float) -> None:
    """Raise where the last loss is not finite, or all of the last 100 are the margin."""
    if recent and not math.isfinite(recent[-1]):
        raise PlacerecError(f"the training has collapsed: the loss is {recent[-1]}; {CHECKS}")
    last = recent[-STUCK_STEPS:]
    if len(last) == STUCK_STEPS and all(abs(x - margin) < STUCK_SHARE * margin for x in last):
        raise PlacerecError(
            f"the training has collapsed: for {STUCK_STEPS} steps the loss is the margin "
            f"({margin:.4f}), so positives and negatives are equally far; {CHECKS}"
        )


def check_descriptors(descriptors: Array) -> None:
    """Raise where descriptors (n, D) of unit length are not finite, or all equal."""
    if not np.isfinite(descriptors).all():
        raise PlacerecError(f"the training has collapsed: a descriptor is not finite; {CHECKS}")
    mean = descriptors.mean(axis=0, dtype=np.float64)
    if len(descriptors) > 1 and float(mean @ mean) > EQUAL_COSINE:
        raise PlacerecError(
            f"the training has collapsed: the descriptors of {len(descriptors)} photos are all "
            f"equal; {CHECKS}"
        )
