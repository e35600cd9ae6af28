"""The positions of photos from a file: a table, or the track of a GPS logger (GPX).

A row of a table names a photo by its path relative to the folder. A track gives a position to each
photo by its capture time. docs/PHOTOS.md lists the accepted columns and forms of an angle.
"""

from __future__ import annotations

import os
import posixpath
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from placerec.errors import BadTable, UsageError
from placerec.photos.angles import degrees_in, full_circle, utm_in
from placerec.photos.tables import finite, not_utf8, number_in, read_header, read_table
from placerec.photos.track import Track, read_track
from placerec.records import Position

COLUMNS = ("image", "latitude", "longitude")
UTM_COLUMNS = ("image", "easting", "northing", "zone")
OPTIONAL = ("heading", "GPSLatitudeRef", "GPSLongitudeRef")
OTHER_NAMES = {  # of the programs that write such tables; the first one that a table has counts
    "image": ("SourceFile", "path", "photo", "filename", "file", "name", "image name"),
    "latitude": ("lat", "GPSLatitude"),
    "longitude": ("lon", "lng", "long", "GPSLongitude"),
    "heading": ("bearing", "GPSImgDirection"),
}
MOST_SECONDS = 10**9  # of a time offset: 31 years, a clock that was never set
MOST_TURNS = 999.0  # degrees of a heading, before it is converted to [0, 360)


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a table: its line, the photo's name as written there, and the position."""

    line: int
    name: str
    position: Position | None


@dataclass(frozen=True, slots=True)
class Positions:
    """Positions of photos, by name or by capture time.

    ``rows`` are those of a table, by the normalised name of the photo, and ``composed`` by its
    Unicode form NFC too. ``time_offset`` is in seconds, see ``read_positions``.
    """

    rows: Mapping[str, Row] = field(default_factory=dict, repr=False)
    composed: Mapping[str, Row] = field(default_factory=dict, repr=False)
    track: Track | None = field(default=None, repr=False)
    time_offset: float = 0.0

    @classmethod
    def from_dict(cls, positions: Mapping[str, Position]) -> Positions:
        """Return the positions of photos by name, in the same Unicode form."""
        pairs = enumerate(positions.items(), start=1)
        return cls({_normal(name): Row(line, name, at) for line, (name, at) in pairs})

    @property
    def by_name(self) -> dict[str, Position]:
        """The positions of a table, by the name of the photo."""
        return {name: row.position for name, row in self.rows.items() if row.position}

    @property
    def span(self) -> tuple[datetime, datetime] | None:
        """The first and the last time of a track, in UTC; ``None`` for a table."""
        return self.track.span if self.track else None

    def of(self, photo_name: str, taken: datetime | None = None) -> Position | None:
        """Return the position of a photo by its name, or by the time when it was ``taken``."""
        row = self._row(photo_name)
        if row:
            return row.position
        if self.track is None or taken is None:
            return None
        if taken.tzinfo is None:
            return self.track.at_clock(taken, timedelta(seconds=self.time_offset))
        return self.track.at(taken)

    def unmatched(self, names: Collection[str]) -> list[str]:
        """Return the rows that name none of the photos ``names``, such as "line 7: a/1.jpg".

        A row that means one of the other photos by nearly the same name has a hint. Rows that are
        not UTF-8 come first, with the remedy.
        """
        rows = {name: self._row(name) for name in names}
        lines = {row.line for row in rows.values() if row}
        hint = _hints(name for name, row in rows.items() if row is None)
        faults = [(not_utf8(row.name), row) for row in self.rows.values() if row.line not in lines]
        faults.sort(key=lambda fault: not fault[0])
        return [f"line {row.line}: {row.name}{fault or hint(row.name)}" for fault, row in faults]

    def time_offsets(self, times: Iterable[datetime | None]) -> list[str]:
        """Return time offsets that would give more photos a position, the likeliest first.

        ``times`` are the capture times of photos; those with a zone do not count. Each text has the
        number of photos on the track: "-7200 seconds (14 of 20)". Empty without a track, and if no
        time zone gives more than twice as many as today.
        """
        clock = [time for time in times if time and time.tzinfo is None]
        if self.track is None:
            return []
        zones = self.track.zones(clock, timedelta(seconds=self.time_offset))
        return [f"{zone.total_seconds():.0f} seconds ({n} of {len(clock)})" for zone, n in zones]

    def _row(self, photo_name: str) -> Row | None:
        key = _normal(photo_name)
        return self.rows.get(key) or self.composed.get(_composed(key))


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
    if finite(time_offset) is None or abs(time_offset) > MOST_SECONDS:
        raise UsageError(f"time offset: at most {MOST_SECONDS} seconds, not {time_offset}")
    path = Path(path)
    if path.suffix.lower() == ".gpx":
        return Positions(track=read_track(path), time_offset=time_offset)
    rows: dict[str, Row] = {}
    for line, name, position in _table_rows(path):
        key = _normal(_relative(name, Path(root)) if root is not None else name)
        row = rows.setdefault(key, Row(line, name, position))
        if row.position is None and position:
            rows[key] = Row(line, name, position)
        elif position not in (None, row.position):
            raise BadTable(path, line, f"{name!r} has two rows with different positions")
    composed: dict[str, Row] = {}
    for key, row in rows.items():
        composed.setdefault(_composed(key), row)
    return Positions(rows, composed)


def _table_rows(path: Path) -> Iterator[tuple[int, str, Position | None]]:
    """Yield line, name and position of each row."""
    header = read_header(path, ", ".join(COLUMNS))
    latitudes = {name.lower() for name in ("latitude", *OTHER_NAMES["latitude"])}
    utm = "easting" in header and latitudes.isdisjoint(header)
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
        latitude, longitude = (utm_in if utm else degrees_in)(path, line, row)
        yield line, row["image"], Position(latitude, longitude, full_circle(heading))


def _normal(name: str) -> str:
    """Return a path with the separators of POSIX and without ``.`` and ``..``."""
    return posixpath.normpath(name.replace("\\", "/"))


def _composed(name: str) -> str:
    """Return a name in the Unicode form NFC; macOS may store one in the form NFD."""
    return unicodedata.normalize("NFC", name)


def _hints(photos: Iterable[str]) -> Callable[[str], str]:
    """Return a function from the name in a row to a hint at the only photo that it may mean.

    The whole path is compared first, then one path as the end of the other, then the file, then
    the file without suffix; capital letters do not count.
    """
    by_path: dict[str, list[str]] = defaultdict(list)
    by_end: dict[str, list[str]] = defaultdict(list)
    by_stem: dict[str, list[str]] = defaultdict(list)
    for photo in photos:
        path, *ends = _endings(photo)
        by_path[path].append(photo)
        for end in (path, *ends):
            by_end[end].append(photo)
        by_stem[posixpath.splitext((path, *ends)[-1])[0]].append(photo)

    def hint(name: str) -> str:
        path, *ends = _endings(name)
        file = (path, *ends)[-1]
        for similar in (
            by_path.get(path, ()),
            (*by_end.get(path, ()), *(photo for end in ends for photo in by_path.get(end, ()))),
            by_end.get(file, ()),
            by_stem.get(posixpath.splitext(file)[0], ()),
        ):
            if len(similar) == 1:
                return f" (did you mean {similar[0]}?)"
        return ""

    return hint


def _endings(name: str) -> list[str]:
    """Return a path in small letters, then its ends with fewer and fewer folders."""
    parts = _composed(_composed(_normal(name)).casefold()).split("/")
    return ["/".join(parts[start:]) for start in range(len(parts))]


def _relative(name: str, root: Path) -> str:
    """Return ``name`` relative to ``root`` if it is absolute, or a path from the current folder."""
    path = Path(name.replace("\\", "/"))
    if not path.is_absolute() and (_exists(root / path) or not _exists(path)):
        return name
    try:
        inside = os.path.relpath(path.absolute(), root.absolute())
        if inside.startswith(".."):  # a link in one of the two paths?
            inside = os.path.relpath(path.parent.resolve() / path.name, root.resolve())
    except ValueError:
        return name  # another drive, or a name that no file can have
    return inside


def _exists(path: Path) -> bool:
    return os.path.exists(path)  # noqa: PTH110 - Path.exists raises an error for some names
