"""Photos with positions, and who is whose neighbour.

Positions are three numbers in metres, so that latitude and longitude (points of a sphere) and map
coordinates (east, north, and a number of the region) are treated alike: the distance of two
photos is Euclidean, and photos of different regions are far apart.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path

import numpy as np

from placerec.records import Array, Position

EARTH_RADIUS = 6_371_008.8  # metres, mean
REGIONS_APART = 1e8  # metres: more than any map coordinate, so regions never touch


@dataclass(frozen=True, slots=True)
class PlacePhotos:
    """Photos with ``positions`` (n, 3) float64 metres and ``headings`` (n,) degrees or NaN."""

    paths: tuple[Path, ...] = field(repr=False)
    positions: Array = field(repr=False)
    headings: Array = field(repr=False)

    def __len__(self) -> int:
        return len(self.paths)


@dataclass(frozen=True, slots=True)
class TrainingSet:
    """Queries and the database that their positives and negatives come from.

    ``weights`` (Q,): queries are drawn with replacement in proportion to them; without, each
    comes once an epoch, in random order.
    """

    name: str
    queries: PlacePhotos
    database: PlacePhotos
    weights: Array | None = field(default=None, repr=False)

    @property
    def digest(self) -> str:
        """sha256 (hex) of names and positions: a resumed run must find the same photos."""
        digest = hashlib.sha256()
        for photos in (self.queries, self.database):
            for path in photos.paths:
                digest.update(path.name.encode("utf-8", "surrogateescape") + b"\0")
            digest.update(np.ascontiguousarray(photos.positions).tobytes())
        return digest.hexdigest()


@dataclass(frozen=True, slots=True)
class Search:
    """One database that is searched by its queries; ``positives`` are database numbers."""

    name: str
    queries: tuple[Path, ...] = field(repr=False)
    database: tuple[Path, ...] = field(repr=False)
    positives: tuple[frozenset[int], ...] = field(repr=False)


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


def no_headings(count: int) -> Array:
    """``count`` headings that are not known."""
    return np.full(count, np.nan)


def joined(parts: Sequence[PlacePhotos]) -> PlacePhotos:
    """Several groups of photos as one."""
    return PlacePhotos(
        tuple(path for part in parts for path in part.paths),
        np.concatenate([part.positions for part in parts]),
        np.concatenate([part.headings for part in parts]),
    )


def neighbours(queries: Array, database: Array, radius: float) -> list[Array]:
    """For each query point (n, 3) the sorted numbers of the database points within ``radius``.

    The distance is Euclidean and inclusive. Points are sorted into cubes of side ``radius`` first,
    so that a million photos take seconds.
    """
    cubes: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for number, cube in enumerate(_cubes(database, radius)):
        cubes[cube].append(number)
    steps = list(product((-1, 0, 1), repeat=3))
    found = []
    for point, (x, y, z) in zip(queries, _cubes(queries, radius), strict=True):
        near = [n for a, b, c in steps for n in cubes.get((x + a, y + b, z + c), ())]
        numbers = np.array(sorted(near), np.int64)
        distance = np.sqrt(np.square(database[numbers] - point).sum(axis=1))
        found.append(numbers[distance <= radius])
    return found


def look_alike(heading: float, others: Array, degrees: float) -> Array:
    """Which of ``others`` (n,) turn at most ``degrees`` from ``heading``; unknown ones do."""
    turn = np.abs((others - heading + 180.0) % 360.0 - 180.0)
    alike: Array = ~(turn > degrees)  # NaN compares false, so an unknown heading is no obstacle
    return alike


def _cubes(points: Array, side: float) -> Iterable[tuple[int, ...]]:
    return map(tuple, np.floor(points / side).astype(np.int64).tolist())
