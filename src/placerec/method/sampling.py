"""The rule that selects the photos of a fit."""

from __future__ import annotations


def evenly_spread(count: int, most: int) -> list[int]:
    """Return at most ``most`` of the numbers 0 to ``count`` - 1, evenly spread, in order."""
    size = min(count, most)
    return [i * count // size for i in range(size)]
