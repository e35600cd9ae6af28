"""The positions of photos from a file: a table, or the track of a GPS logger (GPX).

A row of a table names a photo by its path relative to the folder. A track gives a position to each
photo by its capture time. docs/PHOTOS.md lists the accepted columns and forms of an angle.
"""

from __future__ import annotations

import math
import os
import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from placerec.errors import BadTable, import_extra
from placerec.photos.exif import MAX_LATITUDE, MAX_LONGITUDE, full_circle, signed_angle
from placerec.photos.tables import number_in, read_header, read_table
from placerec.photos.track import Track, read_track
from placerec.records import Position

COLUMNS = ("image", "latitude", "longitude")
UTM_COLUMNS = ("image", "easting", "northing", "zone")
OPTIONAL = ("heading", "GPSLatitudeRef", "GPSLongitudeRef")
OTHER_NAMES = {  # of the programs that write such tables; the first one that a table has counts
    "image": ("SourceFile", "path", "photo", "filename", "file_name", "file", "name"),
    "latitude": ("lat", "GPSLatitude"),
    "longitude": ("lon", "lng", "long", "GPSLongitude"),
    "heading": ("bearing", "GPSImgDirection"),
}
MOST_TURNS = 999.0  # degrees of a heading, before it is converted to [0, 360)
ANGLE = re.compile(
    r"(?P<before>[NSEW]?)\s*(?P<sign>[+-]?)(?P<degrees>\d+(?:\.\d+)?)\s*(?:deg|[°º])?\s*"
    r"(?:(?P<minutes>\d+(?:\.\d+)?)\s*['′’]?\s*(?:(?P<seconds>\d+(?:\.\d+)?)\s*(?:[\"″”]|'')?)?)?\s*"
    r"(?P<after>[NSEW]?)",
    re.IGNORECASE,
)
EARTH_RADIUS = 6_371_008.8  # metres, mean
ZONE = re.compile(r"(?P<number>\d{1,2})\s*(?P<side>[A-Z]|north|south)", re.IGNORECASE)
SIDES = {"n": True, "north": True, "south": False}  # "S" is a band of the north, or the south


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a table: its line, the photo's name as written there, and the position."""

    line: int
    name: str
    position: Position | None


@dataclass(frozen=True, slots=True)
class Positions:
    """Positions of photos, by name or by capture time.

    ``rows`` are those of a table, by the normalised name of the photo. ``time_offset`` is in
    seconds, see ``read_positions``.
    """

    rows: Mapping[str, Row] = field(default_factory=dict, repr=False)
    track: Track | None = field(default=None, repr=False)
    time_offset: float = 0.0

    @classmethod
    def from_dict(cls, positions: Mapping[str, Position]) -> Positions:
        """Return the positions of photos by name."""
        pairs = enumerate(positions.items(), start=1)
        return cls({_normal(name): Row(line, name, at) for line, (name, at) in pairs})

    @property
    def by_name(self) -> dict[str, Position]:
        """The positions of a table, by the name of the photo."""
        return {name: row.position for name, row in self.rows.items() if row.position}

    def of(self, photo_name: str, taken: datetime | None = None) -> Position | None:
        """Return the position of a photo by its name, or by the time when it was ``taken``."""
        row = self.rows.get(_normal(photo_name))
        if row:
            return row.position
        if self.track is None or taken is None:
            return None
        if taken.tzinfo is None:
            taken = taken.replace(tzinfo=UTC) + timedelta(seconds=self.time_offset)
        return self.track.at(taken)

    def unmatched(self, names: Iterable[str]) -> list[str]:
        """Return the rows that name none of the photos ``names``, such as "line 7: a/1.jpg"."""
        photos = set(map(_normal, names))
        return [
            f"line {row.line}: {row.name}" for key, row in self.rows.items() if key not in photos
        ]


def read_positions(
    path: str | Path, time_offset: float = 0.0, root: str | Path | None = None
) -> Positions:
    """Read positions from a GPX track (suffix .gpx) or from a table.

    ``time_offset`` are the seconds that are added to the clock of the camera to give UTC. It is for
    photos whose capture time has no time zone, and matters only for a track. ``root`` is the
    folder of the photos: with it, a row may also name a photo by its absolute path, or by its path
    from the current folder, as ExifTool writes it.

    Raises ``BadTable`` with the line of an invalid row, and ``MissingExtra`` for UTM columns
    without the package that converts them.
    """
    path = Path(path)
    if path.suffix.lower() == ".gpx":
        return Positions(track=read_track(path), time_offset=time_offset)
    rows: dict[str, Row] = {}
    for line, name, position in _table_rows(path):
        key = _normal(_relative(name, Path(root)) if root is not None else name)
        row = rows.setdefault(key, Row(line, name, position))
        if row.position is None:
            rows[key] = Row(line, name, position)
        elif position not in (None, row.position):
            raise BadTable(path, line, f"{name!r} has two rows with different positions")
    return Positions(rows)


def _table_rows(path: Path) -> Iterator[tuple[int, str, Position | None]]:
    """Yield line, name and position of each row."""
    header = read_header(path, ", ".join(COLUMNS))
    utm = "easting" in header and not {"latitude", *OTHER_NAMES["latitude"]} & set(header)
    columns, optional = (UTM_COLUMNS, ("heading", "hemisphere")) if utm else (COLUMNS, OPTIONAL)
    for line, row in read_table(path, columns, optional, OTHER_NAMES):
        if not row["image"]:
            raise BadTable(path, line, "no image name")
        missing = [name for name in columns[1:3] if not row[name]]
        if len(missing) == 1:
            raise BadTable(path, line, f"{missing[0]} is empty; fill it, or empty both")
        if missing:
            yield line, row["image"], None
            continue
        heading = number_in(path, line, row, "heading", MOST_TURNS) if row.get("heading") else None
        latitude, longitude = (_from_utm if utm else _degrees)(path, line, row)
        yield line, row["image"], Position(latitude, longitude, full_circle(heading))


def _degrees(path: Path, line: int, row: Mapping[str, str]) -> tuple[float, float]:
    return (
        _angle(path, line, row, "latitude", "NS", MAX_LATITUDE),
        _angle(path, line, row, "longitude", "EW", MAX_LONGITUDE),
    )


def _angle(
    path: Path, line: int, row: Mapping[str, str], column: str, letters: str, limit: float
) -> float:
    """Return signed degrees of a decimal number, or of degrees, minutes and seconds."""
    reference = row.get(f"GPS{column.capitalize()}Ref", "")[:1]
    angle = ANGLE.fullmatch(row[column])
    if not reference and (angle is None or not any(angle.group("before", "after", "minutes"))):
        return number_in(path, line, row, column, limit)
    text = f"{row[column]} {reference}".strip()
    if angle:
        sides = {side.upper() for side in (*angle.group("before", "after"), reference) if side}
        if angle["sign"] == "-":
            sides.add(letters[1])
        parts = [part for part in angle.group("degrees", "minutes", "seconds") if part]
        side = sides.pop() if sides else letters[0]
        degrees = None if sides else signed_angle(parts, side, letters, limit)
        if degrees is not None:
            return degrees
    raise BadTable(path, line, f"{column} is {text!r}, not an angle up to {limit:g} {letters}")


def _from_utm(path: Path, line: int, row: Mapping[str, str]) -> tuple[float, float]:
    """Return latitude and longitude of UTM coordinates (WGS 84)."""
    utm = import_extra("utm", "a table with UTM coordinates", "utm")
    zone = ZONE.fullmatch(f"{row['zone']} {row.get('hemisphere', '')}".strip())
    text = zone["side"].lower() if zone else ""
    if zone and row.get("hemisphere"):
        north = text[0] == "n" if text in ("n", "s", "north", "south") else None
    else:
        north = SIDES.get(text, text > "n" if len(text) == 1 and text != "s" else None)
    if zone is None or north is None:
        reason = "write the zone with its hemisphere, such as 30 north or 30 south"
        raise BadTable(path, line, f"zone is {row['zone']!r}: {reason}")
    east, north_metres = (number_in(path, line, row, name) for name in UTM_COLUMNS[1:3])
    try:
        latitude, longitude = utm.to_latlon(east, north_metres, int(zone["number"]), northern=north)
    except ValueError as error:
        raise BadTable(path, line, f"not UTM coordinates ({error})") from error
    return float(latitude), float(longitude)


def _normal(name: str) -> str:
    """Return a path with the separators of POSIX and without ``.`` and ``..``."""
    return posixpath.normpath(name.replace("\\", "/"))


def _relative(name: str, root: Path) -> str:
    """Return ``name`` relative to ``root`` if it is an absolute path, or one of this folder."""
    here = Path(name.replace("\\", "/"))
    if not here.is_absolute() and ((root / here).exists() or not here.exists()):
        return name
    inside = os.path.relpath(here.absolute(), root.absolute())
    return name if inside.startswith("..") and not here.is_absolute() else inside


def distance(first: Position, second: Position) -> float:
    """Return the metres between two positions on the sphere (haversine)."""
    one, two = math.radians(first.latitude), math.radians(second.latitude)
    east = math.radians(second.longitude - first.longitude)
    half = math.sin((two - one) / 2) ** 2 + math.cos(one) * math.cos(two) * math.sin(east / 2) ** 2
    return 2 * EARTH_RADIUS * math.asin(min(1.0, math.sqrt(half)))
