"""The distance of two positions, and of many."""

from __future__ import annotations

import math

import numpy as np

from placerec.records import Array, Position

EARTH_RADIUS = 6_371_008.8  # metres, mean


def distance(first: Position, second: Position) -> float:
    """Return the metres between two positions on the sphere (haversine)."""
    one, two = math.radians(first.latitude), math.radians(second.latitude)
    east = math.radians(second.longitude - first.longitude)
    half = math.sin((two - one) / 2) ** 2 + math.cos(one) * math.cos(two) * math.sin(east / 2) ** 2
    return 2 * EARTH_RADIUS * math.asin(min(1.0, math.sqrt(half)))


def distances(first: Array, second: Array) -> Array:
    """Return ``distance`` of each two of n and m points: (n, m) metres.

    A point is a latitude and a longitude in degrees; one of NaN is NaN metres from any other.
    """
    one, two = np.radians(first)[:, None], np.radians(second)[None]
    north, east = np.moveaxis(np.sin((two - one) / 2) ** 2, -1, 0)
    half = north + np.cos(one[..., 0]) * np.cos(two[..., 0]) * east
    metres: Array = 2 * EARTH_RADIUS * np.arcsin(np.minimum(1.0, np.sqrt(half)))
    return metres
