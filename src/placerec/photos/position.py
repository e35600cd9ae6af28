"""Where a photo was taken: from its EXIF tags, or from a CSV file.

EXIF 2.32, section 4.6.6: latitude and longitude are three rationals (degrees, minutes, seconds)
with one letter each for the hemisphere. The direction is in degrees, true ("T") or magnetic ("M").
A value that is missing, infinite or out of range gives no position instead of a wrong one. The
place 0 N, 0 E is valid.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from PIL import ExifTags, Image

from placerec.errors import BadTable
from placerec.photos.tables import finite, number_in, read_table
from placerec.records import Position

COLUMNS = ("image", "latitude", "longitude")  # and optionally "heading"
MAX_LATITUDE, MAX_LONGITUDE = 90.0, 180.0  # degrees
PARTS_OF_A_DEGREE = (1.0, 60.0, 3600.0)  # degrees, minutes, seconds


def position_from_exif(exif: Image.Exif) -> Position | None:
    """Return the position in EXIF tags, or ``None`` if there is no valid one."""
    try:
        gps = exif.get_ifd(ExifTags.IFD.GPSInfo)
    except Exception:
        return None  # Pillow raises many types of error on damaged tags
    tag = ExifTags.GPS
    latitude = _angle(gps.get(tag.GPSLatitude), gps.get(tag.GPSLatitudeRef), "NS", MAX_LATITUDE)
    longitude = _angle(gps.get(tag.GPSLongitude), gps.get(tag.GPSLongitudeRef), "EW", MAX_LONGITUDE)
    if latitude is None or longitude is None:
        return None
    reference = _letter(gps.get(tag.GPSImgDirectionRef), "TM")
    heading = finite(gps.get(tag.GPSImgDirection)) if reference else None
    return Position(latitude, longitude, _full_circle(heading))


def read_positions(path: Path) -> dict[str, Position]:
    """Read a CSV file with the columns image, latitude, longitude and, optionally, heading.

    All numbers are degrees. An empty heading means none; others are converted to [0, 360). Raises
    ``BadTable`` with the line of an invalid row.
    """
    positions: dict[str, Position] = {}
    for line, row in read_table(path, COLUMNS, optional=("heading",)):
        image = row["image"]
        if not image:
            raise BadTable(path, line, "no image name")
        latitude = number_in(path, line, row, "latitude", MAX_LATITUDE)
        longitude = number_in(path, line, row, "longitude", MAX_LONGITUDE)
        heading = number_in(path, line, row, "heading") if row.get("heading", "").strip() else None
        position = Position(latitude, longitude, _full_circle(heading))
        if positions.setdefault(image, position) != position:
            raise BadTable(path, line, f"{image!r} has two rows with different positions")
    return positions


def _angle(value: Any, hemisphere: Any, letters: str, limit: float) -> float | None:
    """Return signed degrees; the second of the two ``letters`` is the negative side."""
    letter = _letter(hemisphere, letters)
    parts = [finite(part) for part in (value if isinstance(value, tuple) else (value,))]
    if letter is None or len(parts) not in (1, 2, 3):
        return None
    degrees = 0.0
    for part, unit in zip(parts, PARTS_OF_A_DEGREE, strict=False):
        if part is None or part < 0:
            return None
        degrees += part / unit
    if degrees > limit:
        return None
    return -degrees if letter == letters[1] and degrees else degrees


def _letter(value: Any, allowed: str) -> str | None:
    text = value.decode("latin-1") if isinstance(value, bytes) else str(value)
    letter = text.strip(" \0").upper()
    return letter if len(letter) == 1 and letter in allowed else None


def _full_circle(heading: float | None) -> float | None:
    """Return degrees in [0, 360); the first remainder of a tiny negative number is 360."""
    return None if heading is None else heading % 360.0 % 360.0
