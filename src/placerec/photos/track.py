"""The track of a GPS logger (GPX 1.0 and 1.1): where it was at which time."""

from __future__ import annotations

import math
import re
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

from placerec.errors import Damaged, NotFound
from placerec.photos.angles import MAX_LATITUDE, MAX_LONGITUDE
from placerec.photos.markup import MarkupError, parse
from placerec.photos.tables import finite
from placerec.records import Array, Position

MIDNIGHT = re.compile(r"(?<=T)24(?=:00:00(\D|$))")  # of the day that ends
LEAP_SECOND = re.compile(r"(?<=T\d\d:\d\d:)60")
MOST_BYTES = 1 << 26  # a day of one point a second is 10 MB
ZONES = [timedelta(minutes=minutes) for minutes in range(-14 * 60, 12 * 60 + 1, 15)]  # to UTC
MICROSECOND = timedelta(microseconds=1)
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

    def zones(self, clock: Sequence[datetime], offset: timedelta) -> list[tuple[timedelta, int]]:
        """Return which time zones would explain that few of the photos are on the track.

        ``clock`` are their times without a zone, ``offset`` is what is added to them today. Each
        zone is the time to add, with the number of photos that it puts on the track: more than
        twice as many as today. Zones with nearly as many as the best are in the list; whole hours
        come first, then half hours.
        """
        points, photos = _microseconds(self.times), _microseconds(clock)

        def on_track(zone: timedelta) -> int:  # as many as ``at`` gives a position
            moments = photos + zone // MICROSECOND
            after = np.searchsorted(points, moments)
            ends = points[np.minimum(after, len(points) - 1)]
            gaps = ends - points[np.maximum(after - 1, 0)]
            between = (after > 0) & (gaps <= LONGEST_GAP // MICROSECOND)
            return int(np.sum((after < len(points)) & (between | (ends == moments))))

        counts = {zone: on_track(zone) for zone in ZONES}
        least = max(2 * on_track(offset) + 1, 0.9 * max(counts.values()))
        likely = [(zone, count) for zone, count in counts.items() if count >= least]
        return sorted(likely, key=lambda pair: _oddness(pair[0]))

    def at_clock(self, clock: datetime, offset: timedelta) -> Position | None:
        """Return the position at a time without a zone, to which ``offset`` is added for UTC."""
        try:
            return self.at(clock.replace(tzinfo=UTC) + offset)
        except OverflowError:
            return None  # a date at the end of the calendar


def _oddness(zone: timedelta) -> tuple[bool, bool, timedelta]:
    hour, half = timedelta(hours=1), timedelta(minutes=30)
    return bool(zone % hour), bool(zone % half), abs(zone)


def _microseconds(times: Sequence[datetime]) -> Array:
    """Return times as whole microseconds since 1970; without a zone they count as UTC."""
    start = datetime(1970, 1, 1, tzinfo=UTC)
    since = [time.replace(tzinfo=time.tzinfo or UTC) - start for time in times]
    return np.array([time // MICROSECOND for time in since], np.int64)


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
    unreadable = ""
    for point in root.iterfind(".//{*}trkpt"):
        text = point.findtext("{*}time", "")
        time = _time(text)
        latitude, longitude = finite(point.get("lat")), finite(point.get("lon"))
        if latitude is None or longitude is None:
            raise _bad(path, "a track point has no lat or no lon")
        if abs(latitude) > MAX_LATITUDE or abs(longitude) > MAX_LONGITUDE:
            raise _bad(path, f"a track point lies at {latitude:g}, {longitude:g}")
        if time:
            points.setdefault(time, (latitude, longitude))
        unreadable = unreadable or text
    if not points:
        first = f"; the first is {unreadable!r:.50}" if unreadable else ""
        raise _bad(path, f"it has no track points with a time{first}")
    times = tuple(sorted(points))
    return Track(times, tuple(points[time] for time in times))


def _time(text: str) -> datetime | None:
    """Return a time of XML (ISO 8601) in UTC; without a zone it is UTC, as GPX demands.

    24:00:00 is the midnight at the end of a day, and a leap second is the one after it.
    """
    text, midnight = MIDNIGHT.subn("00", text.strip())
    text, leap = LEAP_SECOND.subn("59", text)
    try:
        time = datetime.fromisoformat(text) + timedelta(days=midnight, seconds=leap)
    except (ValueError, OverflowError):
        return None
    return time.replace(tzinfo=time.tzinfo or UTC)


def _bad(path: Path, why: str) -> Damaged:
    return Damaged(f"{path}: not a GPX track ({why}); export the track again", path)
