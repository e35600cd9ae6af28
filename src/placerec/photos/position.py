"""Where a photo was taken: from its EXIF tags, or from a CSV file.

EXIF 2.32, section 4.6.6: latitude and longitude are three rationals (degrees, minutes, seconds)
with a letter each for the hemisphere; the direction is in degrees, true ("T") or magnetic ("M").
Whatever is missing, infinite or out of range gives no position, never a wrong one; the place
0 N, 0 E is legal.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from PIL import ExifTags, Image

from placerec.errors import BadTable, NotFound
from placerec.records import Position

COLUMNS = ("image", "latitude", "longitude")  # and, if there, "heading"
MAX_LATITUDE, MAX_LONGITUDE = 90.0, 180.0  # degrees
SECONDS = (1.0, 60.0, 3600.0)  # degrees, minutes, seconds: how many of each in a degree


def position_from_exif(exif: Image.Exif) -> Position | None:
    """Return the position in EXIF tags, or ``None`` where there is none that can be believed."""
    try:
        gps = exif.get_ifd(ExifTags.IFD.GPSInfo)
    except Exception:
        return None  # Pillow raises nearly anything on damaged tags
    tag = ExifTags.GPS
    latitude = _angle(gps, tag.GPSLatitude, tag.GPSLatitudeRef, "NS", MAX_LATITUDE)
    longitude = _angle(gps, tag.GPSLongitude, tag.GPSLongitudeRef, "EW", MAX_LONGITUDE)
    if latitude is None or longitude is None:
        return None
    heading = None
    if _letter(gps, tag.GPSImgDirectionRef, "TM"):
        heading = _number(gps.get(tag.GPSImgDirection))
    return Position(latitude, longitude, None if heading is None else _turned(heading))


def read_positions(path: Path) -> dict[str, Position]:
    """Read a CSV file with the columns image, latitude, longitude and, if wished, heading.

    UTF-8 (a byte order mark is ignored), comma-separated, columns in any order, other columns
    ignored. Degrees; an empty heading is none, others are brought into [0, 360). A row that
    cannot be believed raises ``BadTable`` with its line.
    """
    positions: dict[str, Position] = {}
    for line, row in _rows(path):
        image = row["image"]
        if not image:
            raise BadTable(path, line, "no image name")
        position = _position(path, line, row)
        if positions.setdefault(image, position) != position:
            raise BadTable(path, line, f"{image!r} stands twice with different positions")
    return positions


def _angle(
    gps: Mapping[int, Any], tag: int, letter_tag: int, letters: str, limit: float
) -> float | None:
    """Return signed degrees; the second of the two ``letters`` is the negative side."""
    letter = _letter(gps, letter_tag, letters)
    value = gps.get(tag)
    parts = [_number(part) for part in (value if isinstance(value, tuple) else (value,))]
    if (
        letter is None
        or len(parts) not in (1, 2, 3)
        or any(part is None or part < 0 for part in parts)
    ):
        return None
    degrees = sum((part or 0.0) / unit for part, unit in zip(parts, SECONDS, strict=False))
    if degrees > limit:
        return None
    return -degrees if letter == letters[1] and degrees else degrees


def _letter(gps: Mapping[int, Any], tag: int, allowed: str) -> str | None:
    value = gps.get(tag)
    text = value.decode("latin-1") if isinstance(value, bytes) else str(value)
    letter = text.strip(" \0").upper()
    return letter if len(letter) == 1 and letter in allowed else None


def _number(value: Any) -> float | None:
    """Return a finite number, or ``None`` (a rational with denominator 0 reads as NaN)."""
    try:
        number = float(value)
    except (TypeError, ValueError, ArithmeticError):
        return None
    return number if math.isfinite(number) else None


def _turned(heading: float) -> float:
    """Bring degrees into [0, 360); a tiny negative number would round up to 360."""
    turned = heading % 360.0
    return 0.0 if turned == 360.0 else turned


def _rows(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield each row with its line number; names keep undecodable bytes as surrogates."""
    try:
        stream = path.open(encoding="utf-8-sig", errors="surrogateescape", newline="")
    except FileNotFoundError as error:
        raise NotFound(path, "no such file") from error
    except OSError as error:
        raise NotFound(path, f"cannot be read ({error.strerror})", "give a CSV file") from error
    with stream:
        reader = csv.reader(stream, strict=True)
        try:
            header = [name.strip() for name in next(reader, [])]
            missing = [name for name in COLUMNS if header.count(name) != 1]
            if missing or header.count("heading") > 1:
                which = ", ".join(missing or ["heading"])
                raise BadTable(path, 1, f"the header, separated by commas, needs one {which}")
            for values in reader:
                if values and len(values) != len(header):
                    why = f"{len(values)} values for {len(header)} columns (a decimal comma?)"
                    raise BadTable(path, reader.line_num, why)
                if values:
                    yield reader.line_num, dict(zip(header, values, strict=True))
        except csv.Error as error:
            raise BadTable(path, reader.line_num, f"not a CSV row ({error})") from error


def _position(path: Path, line: int, row: dict[str, str]) -> Position:
    values: dict[str, float] = {}
    for column, limit in (
        ("latitude", MAX_LATITUDE),
        ("longitude", MAX_LONGITUDE),
        ("heading", math.inf),
    ):
        text = row.get(column, "").strip()
        if not text and column == "heading":
            continue
        number = _number(text)
        if number is None or abs(number) > limit:
            wanted = "a number" if limit == math.inf else f"a number from {-limit:g} to {limit:g}"
            raise BadTable(path, line, f"{column} is {text!r}, not {wanted}")
        values[column] = number
    heading = values.get("heading")
    return Position(
        values["latitude"], values["longitude"], None if heading is None else _turned(heading)
    )
