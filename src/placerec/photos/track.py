"""The track of a GPS logger (GPX 1.0 and 1.1): where it was at which time."""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from placerec.errors import Damaged, NotFound
from placerec.photos.angles import MAX_LATITUDE, MAX_LONGITUDE
from placerec.photos.markup import MarkupError, parse
from placerec.photos.tables import finite
from placerec.records import Position

MOST_BYTES = 1 << 26  # a day of one point a second is 10 MB
LONGEST_GAP = timedelta(seconds=60)  # between two points; a longer gap has no positions


@dataclass(frozen=True, slots=True)
class Track:
    """Points in the order of time: ``times`` in UTC, and (latitude, longitude) of each."""

    times: tuple[datetime, ...]
    points: tuple[tuple[float, float], ...]

    @property
    def span(self) -> tuple[datetime, datetime]:
        """The first and the last time."""
        return self.times[0], self.times[-1]

    def at(self, time: datetime) -> Position | None:
        """Return the position at ``time`` (with a time zone), on the line between two points.

        ``None`` outside the track, and between points that are more than 60 seconds apart.
        """
        after = bisect_left(self.times, time)
        if after == len(self.times):
            return None
        if self.times[after] == time:
            return Position(*self.points[after])
        if after == 0 or self.times[after] - self.times[after - 1] > LONGEST_GAP:
            return None
        (south, west), (north, east) = self.points[after - 1 : after + 1]
        part = (time - self.times[after - 1]) / (self.times[after] - self.times[after - 1])
        step = math.remainder(east - west, 360.0)  # the shorter way round
        longitude = math.remainder(west + part * step, 360.0)
        return Position(south + part * (north - south), longitude)


def read_track(path: Path) -> Track:
    """Read the points with a time of the tracks in a GPX file.

    Raises ``Damaged`` for another file, and ``NotFound`` for a missing one.
    """
    try:
        with path.open("rb") as stream:
            data = stream.read(MOST_BYTES + 1)
    except OSError as error:
        missing = isinstance(error, FileNotFoundError)
        problem = "no such file" if missing else f"cannot be read ({error.strerror})"
        raise NotFound(path, problem, "a GPX track is needed") from error
    if len(data) > MOST_BYTES:
        raise _bad(path, f"more than {MOST_BYTES} bytes")
    try:
        root = parse(data)
    except MarkupError as error:
        raise _bad(path, str(error)) from error
    points: dict[datetime, tuple[float, float]] = {}
    for point in root.iterfind(".//{*}trkpt"):
        time = _time(point.findtext("{*}time", ""))
        latitude, longitude = finite(point.get("lat")), finite(point.get("lon"))
        if latitude is None or longitude is None:
            raise _bad(path, "a track point has no lat or no lon")
        if abs(latitude) > MAX_LATITUDE or abs(longitude) > MAX_LONGITUDE:
            raise _bad(path, f"a track point lies at {latitude:g}, {longitude:g}")
        if time:
            points.setdefault(time, (latitude, longitude))
    if not points:
        raise _bad(path, "it has no track points with a time")
    times = tuple(sorted(points))
    return Track(times, tuple(points[time] for time in times))


def _time(text: str) -> datetime | None:
    """Return a time of XML (ISO 8601) in UTC; without a zone it is UTC, as GPX demands."""
    try:
        time = datetime.fromisoformat(text.strip())
    except ValueError:
        return None
    return time.replace(tzinfo=time.tzinfo or UTC)


def _bad(path: Path, why: str) -> Damaged:
    return Damaged(f"{path}: not a GPX track ({why}); export the track again", path)
