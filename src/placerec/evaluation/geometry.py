"""Positions of photos as points in metres, and which photos are close to each other.

A point has three coordinates, so that latitude and longitude (points on a sphere) and map
coordinates (east, north, number of the region) are handled in the same way: the distance of two
photos is Euclidean, and photos of different regions are far apart.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import product

import numpy as np

from placerec.errors import UsageError
from placerec.evaluation.dataset import Photos
from placerec.photos.sphere import EARTH_RADIUS
from placerec.records import Array, Position

REGIONS_APART = 1e8  # metres: larger than any map coordinate
REGION_DEGREES = 2.0  # of longitude from a region to the next, in ``as_positions``


def on_the_sphere(positions: Sequence[Position]) -> Array:
    """Return points (n, 3) float64 in metres from the centre of the earth.

    The distance of two points is a chord. Below 1 km it differs from the arc by less than 1 µm.
    """
    latitude = np.radians([position.latitude for position in positions])
    longitude = np.radians([position.longitude for position in positions])
    points = (np.cos(latitude) * np.cos(longitude), np.cos(latitude) * np.sin(longitude),
              np.sin(latitude))  # fmt: skip
    return EARTH_RADIUS * np.stack(points, axis=-1)


def heading_values(positions: Sequence[Position]) -> Array:
    """Return the headings (n,) float64 of positions; NaN if unknown."""
    return np.array([np.nan if at.heading is None else at.heading for at in positions])


def on_the_map(easting: Array, northing: Array, region: int | Array = 0) -> Array:
    """Return points (n, 3) float64 of map coordinates in metres, in numbered regions."""
    east = np.asarray(easting, np.float64)
    third = np.full_like(east, np.multiply(region, REGIONS_APART))
    return np.stack((east, np.asarray(northing, np.float64), third), axis=-1)


def as_positions(points: Array) -> list[Position | None]:
    """Return positions that are as far apart as ``points`` (n, 3).

    ``None`` if unknown (NaN), or if a map is larger than the earth.
    Points on the sphere have their latitude and longitude. A map lies around latitude 0 instead,
    one region beside the other: its place on the earth is not known. Up to 100 km from the middle
    of a region the distances differ by less than 2 in 10,000.
    """
    degrees = np.full((len(points), 2), np.inf)
    located: Array = np.logical_not(np.isnan(points).any(axis=1))
    if (np.abs(np.linalg.norm(points[located], axis=1) - EARTH_RADIUS) < 1.0).all():
        x, y, z = points.T
        degrees = np.degrees((np.arcsin(np.clip(z / EARTH_RADIUS, -1.0, 1.0)), np.arctan2(y, x))).T
    else:
        for number, region in enumerate(np.unique(points[located, 2])):
            rows = located & (points[:, 2] == region)
            east, north = (points[rows, :2] - np.median(points[rows, :2], axis=0)).T
            degrees[rows] = np.degrees((north, east)).T / EARTH_RADIUS
            degrees[rows, 1] += REGION_DEGREES * number
    return [
        Position(latitude, longitude) if abs(latitude) <= 90 and abs(longitude) <= 180 else None
        for latitude, longitude in degrees.tolist()
    ]


def positions_of(photos: Photos) -> Array:
    """Return the positions (n, 3); raises ``UsageError`` if the photos have none."""
    if photos.positions is None:
        raise UsageError(f"{photos.paths[0]}: this photo and its group have no positions")
    return photos.positions


def headings_of(photos: Photos) -> Array:
    """Return the headings (n,); NaN if unknown."""
    return np.full(len(photos), np.nan) if photos.headings is None else photos.headings


def with_points(photos: Photos, points: Array, headings: Array | None = None) -> Photos:
    """Return the photos with ``points`` (n, 3), place labels and, if any is known, headings (n,).

    Photos at exactly the same point (views of a panorama) share a label; a photo with an unknown
    point has its own label.
    """
    first: dict[tuple[float, ...], int] = {}
    labels = tuple(
        str(row if np.isnan(point).any() else first.setdefault(tuple(point.tolist()), row))
        for row, point in enumerate(points)
    )
    if headings is not None and not np.isnan(headings).all():
        photos = replace(photos, headings=headings)
    return replace(photos, positions=points, place_labels=labels)


def within(
    queries: Photos, database: Photos, metres: float, degrees: float | None = None
) -> tuple[frozenset[int], ...]:
    """Return for each query the rows of the database photos within ``metres``.

    With ``degrees`` the headings also differ by at most this angle; a photo without a heading
    is never excluded by the angle.
    """
    near = neighbours(positions_of(queries), positions_of(database), metres)
    if degrees is not None:
        headings = headings_of(database)
        near = [
            rows[similar_headings(heading, headings[rows], degrees)]
            for heading, rows in zip(headings_of(queries), near, strict=True)
        ]
    return tuple(frozenset(rows.tolist()) for rows in near)


def neighbours(queries: Array, database: Array, radius: float) -> list[Array]:
    """Return for each query point (n, 3) the sorted rows of the database points within ``radius``.

    The distance is Euclidean and inclusive; an unknown point (NaN) has no neighbours. The points
    are first sorted into cubes with side ``radius``, so that a million photos take seconds.
    """
    cubes: dict[tuple[int, ...], list[int]] = defaultdict(list)
    valid = np.flatnonzero(~np.isnan(database).any(axis=1))
    for row, cube in zip(valid.tolist(), _cubes(database[valid], radius), strict=True):
        cubes[cube].append(row)
    steps = list(product((-1, 0, 1), repeat=3))
    neighbour_rows = [np.empty(0, np.int64) for _ in queries]
    valid = np.flatnonzero(~np.isnan(queries).any(axis=1))
    for query, (x, y, z) in zip(valid.tolist(), _cubes(queries[valid], radius), strict=True):
        near = [row for a, b, c in steps for row in cubes.get((x + a, y + b, z + c), ())]
        rows = np.array(sorted(near), np.int64)
        distance = np.sqrt(np.square(database[rows] - queries[query]).sum(axis=1))
        neighbour_rows[query] = rows[distance <= radius]
    return neighbour_rows


def similar_headings(heading: float, headings: Array, degrees: float) -> Array:
    """Return which of ``headings`` (n,) differ by at most ``degrees``; unknown headings do not."""
    turn = np.abs((headings - heading + 180.0) % 360.0 - 180.0)
    similar: Array = ~(turn > degrees)  # a comparison with NaN is false, so NaN counts as similar
    return similar


def _cubes(points: Array, side: float) -> Iterable[tuple[int, ...]]:
    return map(tuple, np.floor(points / side).astype(np.int64).tolist())
