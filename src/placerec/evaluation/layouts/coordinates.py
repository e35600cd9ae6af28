"""``database/`` and ``queries/`` with positions: a photo nearby is a positive.

The positions are GPS positions in EXIF tags, or a table ``coordinates.csv`` with the columns image
and either latitude,longitude (WGS 84 degrees) or easting,northing (metres of one map, such as a UTM
zone), and optionally heading (degrees clockwise from north).

Source of the rule: Arandjelovic et al., "NetVLAD", CVPR 2016 (25 m, any heading).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from placerec.errors import BadTable, NotFound, UsageError
from placerec.evaluation.dataset import Dataset, Photos, Protocol, Search
from placerec.evaluation.geometry import (
    heading_values,
    on_the_map,
    on_the_sphere,
    with_points,
    within,
)
from placerec.evaluation.layouts.general import Overrides
from placerec.evaluation.layouts.photo_lists import DATABASE, QUERIES, by_name, sides
from placerec.photos.decode import read_position
from placerec.photos.find import find_photos
from placerec.photos.position import COLUMNS, read_positions
from placerec.photos.tables import number_in, read_header, read_table
from placerec.records import Array

RADIUS = 25.0  # metres: the rule of Pittsburgh, Tokyo 24/7 and Mapillary SLS
COORDINATES = "coordinates.csv"
MAP_COLUMNS = ("image", "easting", "northing")
FORMS = f"{', '.join(COLUMNS)} (degrees) or {', '.join(MAP_COLUMNS)} (metres of one map)"

PointAndHeading = tuple[Array, float]  # point (3,) in metres, heading in degrees or NaN
UNKNOWN: PointAndHeading = (np.full(3, np.nan), np.nan)


def read_with_coordinates(folder: Path, overrides: Overrides) -> Dataset:
    """Read the data set in ``folder``; distance and, if given, heading decide."""
    queries, database = sides(folder)
    source = folder / COORDINATES
    table = read_coordinates(source)
    names = [QUERIES + name for name in queries.names]
    names += [DATABASE + name for name in database.names]
    if without := [name for name in names if name not in table]:
        count = f"{len(without)} of {len(names)} photos have none"
        problem = f"it has no row in {source} ({count})"
        raise NotFound(folder / without[0], problem, "add rows, or remove these photos")
    listed = [name for name in table if name.startswith((QUERIES, DATABASE))]
    if missing := sorted(set(listed).difference(names)):
        count = f"{len(missing)} of its {len(listed)} photos are missing"
        raise NotFound(folder / missing[0], f"no such photo, but {COORDINATES} lists it ({count})")
    queries = with_positions(queries, table, QUERIES)
    database = with_positions(database, table, DATABASE)
    return distance_dataset("coordinates", folder.name, queries, database, overrides)


def read_with_exif(folder: Path, overrides: Overrides) -> Dataset:
    """Read the data set in ``folder``; the positions in its photos decide."""
    queries, database = map(with_exif, sides(folder))
    return distance_dataset("exif", folder.name, queries, database, overrides)


def distance_dataset(
    protocol: str, name: str, queries: Photos, database: Photos, overrides: Overrides
) -> Dataset:
    """Return one search of photos with positions; positives are within the radius and angle."""
    metres, degrees = overrides.radius or RADIUS, overrides.degrees
    protocol += f", {metres:g} m"
    if degrees is not None:
        if queries.headings is None or database.headings is None:
            raise UsageError(f"degrees {degrees:g}: {name} has no headings; omit degrees")
        protocol += f", {degrees:g} degrees"
    search = Search(name, queries, database, within(queries, database, metres, degrees))
    return Dataset(name, Protocol(protocol, distance_rule(metres, degrees)), (search,))


def distance_rule(metres: float, degrees: float | None = None) -> str:
    """Return the rule of ``geometry.within`` in words."""
    rule = f"at most {metres:g} m apart"
    return rule if degrees is None else f"{rule}, headings at most {degrees:g} degrees"


def read_coordinates(path: Path) -> dict[str, PointAndHeading]:
    """Return the point and heading of each photo of a CSV file, by name."""
    header = read_header(path, FORMS)
    if all(header.count(name) == 1 for name in MAP_COLUMNS):
        return by_name(path, _map_rows(path))
    try:
        positions = read_positions(path).by_name
    except BadTable as error:
        if error.line > 1:
            raise
        text = ",".join(header) or "empty"
        raise BadTable(path, 1, f"the header is {text!r}; it needs {FORMS}") from error
    values = list(positions.values())
    rows = zip(on_the_sphere(values), heading_values(values), strict=True)
    return dict(zip(positions, rows, strict=True))


def with_positions(
    photos: Photos, table: Mapping[str, PointAndHeading], prefix: str = ""
) -> Photos:
    """Return ``photos`` with the positions that ``table`` has for ``prefix`` and name, or NaN."""
    rows = [table.get(prefix + name, UNKNOWN) for name in photos.names]
    points = np.stack([point for point, _ in rows])
    return with_points(photos, points, np.array([heading for _, heading in rows]))


def _map_rows(path: Path) -> Iterator[tuple[int, str, PointAndHeading]]:
    for line, row in read_table(path, MAP_COLUMNS, optional=("heading",)):
        if not row["image"]:
            raise BadTable(path, line, "no image name")
        east, north = (number_in(path, line, row, column) for column in MAP_COLUMNS[1:])
        heading = np.nan
        if row.get("heading", "").strip():
            heading = number_in(path, line, row, "heading") % 360.0
        yield line, row["image"], (on_the_map(np.array(east), np.array(north)), heading)


def with_exif(photos: Photos) -> Photos:
    """Return photos with the positions and, if they exist, the headings of their tags."""
    tags = [read_position(path) for path in photos.paths]
    positions = [position for position in tags if position is not None]
    if len(positions) < len(photos):
        raise NotFound(
            photos.paths[tags.index(None)],
            f"no GPS position in its EXIF or XMP tags ({len(photos) - len(positions)} of "
            f"{len(photos)} photos have none)",
            "tag it or remove it, or give all positions in coordinates.csv",
        )
    return with_points(photos, on_the_sphere(positions), heading_values(positions))


def has_exif(folder: Path) -> bool:
    """Return whether the first photo of both sides has a position in its tags."""
    roots = [folder / side for side in (QUERIES, DATABASE)]
    return all(read_position(root / name) for root in roots for name in find_photos(root)[:1])
