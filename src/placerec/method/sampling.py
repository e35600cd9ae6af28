"""Which items a fit looks at, if there are too many."""

from __future__ import annotations


def evenly_spread(count: int, most: int) -> list[int]:
    """Return at most ``most`` numbers below ``count``, evenly spread, in rising order."""
    if count <= most:
        return list(range(count))
    return [number * count // most for number in range(most)]
