"""The distance of two positions."""

from __future__ import annotations

import math

from placerec.records import Position

EARTH_RADIUS = 6_371_008.8  # metres, mean


def distance(first: Position, second: Position) -> float:
    """Return the metres between two positions on the sphere (haversine)."""
    one, two = math.radians(first.latitude), math.radians(second.latitude)
    east = math.radians(second.longitude - first.longitude)
    half = math.sin((two - one) / 2) ** 2 + math.cos(one) * math.cos(two) * math.sin(east / 2) ** 2
    return 2 * EARTH_RADIUS * math.asin(min(1.0, math.sqrt(half)))
