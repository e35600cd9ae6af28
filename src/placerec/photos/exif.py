"""What EXIF says about a photo: where and when it was taken.

EXIF 2.32, section 4.6.6: latitude and longitude are three rationals (degrees, minutes, seconds)
with one letter each for the hemisphere. The direction is in degrees, true ("T") or magnetic ("M").
A value that cannot be right gives no position instead of a wrong one, and is reported as damaged.
Exactly 0 N, 0 E is what cameras write without a fix: no position, and no damage.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any

from PIL import ExifTags, Image

from placerec.photos.angles import MAX_LATITUDE, MAX_LONGITUDE, full_circle, signed_angle
from placerec.photos.tables import finite
from placerec.records import Position

TIME = re.compile(r"(\d{4})\D(\d\d)\D(\d\d)\D(\d\d)\D(\d\d)\D(\d\d)")
OFFSET = re.compile(r"([+-])(\d\d):(\d\d)")


@dataclass(frozen=True, slots=True)
class Gps:
    """The GPS tags of a photo: the position, or whether they are damaged."""

    position: Position | None = None
    damaged: bool = False


def gps_from_exif(exif: Image.Exif) -> Gps:
    """Return the position in EXIF tags, and whether they are damaged."""
    try:
        gps = exif.get_ifd(ExifTags.IFD.GPSInfo)
    except Exception:
        return Gps(damaged=True)  # Pillow raises many types of error on damaged tags
    tag = ExifTags.GPS
    heading = None
    if _text(gps.get(tag.GPSImgDirectionRef)).upper() in ("T", "M"):
        heading = gps.get(tag.GPSImgDirection)
    return gps_from_parts(
        _parts(gps.get(tag.GPSLatitude)), _text(gps.get(tag.GPSLatitudeRef)),
        _parts(gps.get(tag.GPSLongitude)), _text(gps.get(tag.GPSLongitudeRef)), heading,
    )  # fmt: skip


def gps_from_parts(
    latitude: Sequence[Any], north: str, longitude: Sequence[Any], east: str, heading: Any
) -> Gps:
    """Return the position of two angles, each in degrees, minutes, seconds, and a letter.

    No parts mean that the angle is missing. A heading that is not a number is ignored.
    """
    if not latitude and not longitude:
        return Gps()
    if not any(map(_not_zero, (*latitude, *longitude))):
        return Gps()  # 0, 0: the camera had no fix
    angles = (
        signed_angle(latitude, north, "NS", MAX_LATITUDE),
        signed_angle(longitude, east, "EW", MAX_LONGITUDE),
    )
    if angles[0] is None or angles[1] is None:
        return Gps(damaged=True)
    return Gps(Position(angles[0], angles[1], full_circle(finite(heading))))


def time_from_exif(exif: Image.Exif) -> datetime | None:
    """Return when the photo was taken, or ``None``; with a time zone if the camera stored one."""
    try:
        tags = exif.get_ifd(ExifTags.IFD.Exif)
    except Exception:
        return None
    base = ExifTags.Base
    digits = TIME.match(_text(tags.get(base.DateTimeOriginal)))
    fraction = _text(tags.get(base.SubsecTimeOriginal))
    offset = OFFSET.match(_text(tags.get(base.OffsetTimeOriginal)))
    if not digits:
        return None
    try:
        year, month, day, hour, minute, second = map(int, digits.groups())
        taken = datetime(year, month, day, hour, minute, second)
        taken += timedelta(seconds=float(f"0.{fraction}" if fraction.isdecimal() else 0))
        if offset:
            hours_and_minutes = timedelta(hours=int(offset[2]), minutes=int(offset[3]))
            zone = timezone(-hours_and_minutes if offset[1] == "-" else hours_and_minutes)
            taken = taken.replace(tzinfo=zone)
    except (ValueError, OverflowError):
        return None  # a date such as 0000:00:00
    return taken


def _parts(value: Any) -> tuple[Any, ...]:
    if value is None or value == "":
        return ()
    return value if isinstance(value, tuple) else (value,)


def _text(value: Any) -> str:
    if value is None:
        return ""
    text = value.decode("latin-1") if isinstance(value, bytes) else str(value)
    return text.strip(" \0")


def _not_zero(part: Any) -> bool:
    return finite(part) != 0
