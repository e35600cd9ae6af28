"""Positions of photos, and who is whose neighbour.

Positions are three numbers in metres, so that latitude and longitude (points of a sphere) and map
coordinates (east, north, and a number of the region) are treated alike: the distance of two
photos is Euclidean, and photos of different regions are far apart.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import product

import numpy as np

from placerec.errors import UsageError
from placerec.evaluation.dataset import Photos
from placerec.records import Array, Position

EARTH_RADIUS = 6_371_008.8  # metres, mean
REGIONS_APART = 1e8  # metres: more than any map coordinate, so regions never touch


def on_the_sphere(positions: Sequence[Position]) -> Array:
    """Points (n, 3) float64 in metres from the centre of the earth; chords are the distances.

    For places less than 1 km apart a chord is shorter than the way by less than a micrometre.
    """
    latitude = np.radians([position.latitude for position in positions])
    longitude = np.radians([position.longitude for position in positions])
    points = (np.cos(latitude) * np.cos(longitude), np.cos(latitude) * np.sin(longitude),
              np.sin(latitude))  # fmt: skip
    return EARTH_RADIUS * np.stack(points, axis=-1)


def on_the_map(easting: Array, northing: Array, region: int = 0) -> Array:
    """Points (n, 3) float64 of map coordinates in metres, within a numbered region."""
    east = np.asarray(easting, np.float64)
    third = np.full_like(east, region * REGIONS_APART)
    return np.stack((east, np.asarray(northing, np.float64), third), axis=-1)


def positions_of(photos: Photos) -> Array:
    """The positions (n, 3) of photos that must have some."""
    if photos.positions is None:
        raise UsageError(f"{photos.paths[0]} and the photos beside it have no positions")
    return photos.positions


def headings_of(photos: Photos) -> Array:
    """The headings (n,) of photos; NaN where they are not known."""
    return np.full(len(photos), np.nan) if photos.headings is None else photos.headings


def one_place(positions: Array) -> tuple[str, ...]:
    """N labels: photos taken at exactly one point (the views of a panorama) share theirs.

    A photo whose point is not known is a place of its own.
    """
    first: dict[tuple[float, ...], int] = {}
    return tuple(
        str(n if np.isnan(point).any() else first.setdefault(tuple(point.tolist()), n))
        for n, point in enumerate(positions)
    )


def within(
    queries: Photos, database: Photos, metres: float, degrees: float | None = None
) -> tuple[frozenset[int], ...]:
    """For each query the numbers of the database photos within ``metres``.

    With ``degrees`` both also look the same way, turned by at most so much; a photo whose heading
    is not known is not kept out by it.
    """
    found = neighbours(positions_of(queries), positions_of(database), metres)
    if degrees is not None:
        others = headings_of(database)
        found = [
            numbers[look_alike(heading, others[numbers], degrees)]
            for heading, numbers in zip(headings_of(queries), found, strict=True)
        ]
    return tuple(frozenset(numbers.tolist()) for numbers in found)


def neighbours(queries: Array, database: Array, radius: float) -> list[Array]:
    """For each query point (n, 3) the sorted numbers of the database points within ``radius``.

    The distance is Euclidean and inclusive; a point that is not known (NaN) is near none. Points
    are sorted into cubes of side ``radius`` first, so that a million photos take seconds.
    """
    cubes: dict[tuple[int, ...], list[int]] = defaultdict(list)
    known = np.flatnonzero(~np.isnan(database).any(axis=1))
    for number, cube in zip(known.tolist(), _cubes(database[known], radius), strict=True):
        cubes[cube].append(number)
    steps = list(product((-1, 0, 1), repeat=3))
    found = [np.empty(0, np.int64) for _ in queries]
    asked = np.flatnonzero(~np.isnan(queries).any(axis=1))
    for query, (x, y, z) in zip(asked.tolist(), _cubes(queries[asked], radius), strict=True):
        near = [n for a, b, c in steps for n in cubes.get((x + a, y + b, z + c), ())]
        numbers = np.array(sorted(near), np.int64)
        distance = np.sqrt(np.square(database[numbers] - queries[query]).sum(axis=1))
        found[query] = numbers[distance <= radius]
    return found


def look_alike(heading: float, others: Array, degrees: float) -> Array:
    """Which of ``others`` (n,) turn at most ``degrees`` from ``heading``; unknown ones do."""
    turn = np.abs((others - heading + 180.0) % 360.0 - 180.0)
    alike: Array = ~(turn > degrees)  # NaN compares false, so an unknown heading is no obstacle
    return alike


def _cubes(points: Array, side: float) -> Iterable[tuple[int, ...]]:
    return map(tuple, np.floor(points / side).astype(np.int64).tolist())
