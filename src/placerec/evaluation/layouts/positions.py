"""Photos put where they were taken by ``coordinates.csv``.

The columns are image and either latitude,longitude (WGS 84 degrees) or easting,northing (metres of
one map, such as a UTM zone), and heading (degrees clockwise from north) where it is known. Names
are relative to the data set's folder: ``queries/...``, ``database/...``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from placerec.errors import BadTable
from placerec.evaluation.dataset import Photos
from placerec.evaluation.geometry import on_the_map, on_the_sphere, one_place
from placerec.photos.position import COLUMNS, read_positions
from placerec.photos.tables import number_in, read_header, read_table
from placerec.records import Array, Position

COORDINATES = "coordinates.csv"
MAP_COLUMNS = ("image", "easting", "northing")
FORMS = f"{', '.join(COLUMNS)} (degrees) or {', '.join(MAP_COLUMNS)} (metres of one map)"

Placed = tuple[Array, float]  # point (3,) in metres, heading in degrees or NaN
UNKNOWN: Placed = (np.full(3, np.nan), np.nan)


def read_coordinates(path: Path) -> dict[str, Placed]:
    """Point and heading of the photos in a CSV file, by name."""
    header = read_header(path, FORMS)
    for columns, read in ((MAP_COLUMNS, _on_a_map), (COLUMNS, _on_earth)):
        if all(header.count(name) == 1 for name in columns):
            return read(path)
    told = ",".join(header) or "empty"
    raise BadTable(path, 1, f"the header is {told!r}; separated by commas, it needs {FORMS}")


def on_earth(positions: Mapping[str, Position]) -> dict[str, Placed]:
    """The same of positions in latitude and longitude."""
    points = on_the_sphere(list(positions.values()))
    headings = [np.nan if at.heading is None else at.heading for at in positions.values()]
    return dict(zip(positions, zip(points, headings, strict=True), strict=True))


def put(photos: Photos, table: Mapping[str, Placed], side: str = "") -> Photos:
    """``photos`` where ``table`` has them by ``side`` and name; NaN where it has no row."""
    placed = [table.get(f"{side}{name}", UNKNOWN) for name in photos.names]
    positions = np.stack([point for point, _ in placed])
    headings = np.array([heading for _, heading in placed])
    return replace(
        photos, positions=positions, headings=None if np.isnan(headings).all() else headings,
        places=one_place(positions),
    )  # fmt: skip


def _on_earth(path: Path) -> dict[str, Placed]:
    return on_earth(read_positions(path))


def _on_a_map(path: Path) -> dict[str, Placed]:
    placed: dict[str, Placed] = {}
    for line, row in read_table(path, MAP_COLUMNS, optional=("heading",)):
        name = row["image"]
        if not name:
            raise BadTable(path, line, "no image name")
        if name in placed:
            raise BadTable(path, line, f"{name!r} stands twice")
        east, north = (number_in(path, line, row, column) for column in MAP_COLUMNS[1:])
        known = row.get("heading", "").strip()
        heading = number_in(path, line, row, "heading") % 360.0 if known else np.nan
        placed[name] = on_the_map(np.array([east]), np.array([north]))[0], heading
    return placed
