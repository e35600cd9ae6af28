"""Angles on the earth: from parts, from text, and from UTM coordinates."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from placerec.errors import BadTable, import_extra
from placerec.photos.tables import bad_cell, finite, number_in

MAX_LATITUDE, MAX_LONGITUDE = 90.0, 180.0  # degrees
MINUS = "\N{MINUS SIGN}"  # some programs write it for a hyphen
NUMBER = r"\d+(?:[.,]\d+)?"
ANGLE = re.compile(  # whole degrees before minutes, whole minutes before seconds
    rf"(?P<before>[NSEW]?)\s*(?P<sign>[+-]?)(?:"
    rf"(?P<d1>{NUMBER})\s*(?:deg|[°º])?"
    rf"|(?P<d2>\d+)(?:\s*(?:deg|[°º])\s*|\s+)(?P<m2>{NUMBER})\s*['′’]?"
    rf"|(?P<d3>\d+)(?:\s*(?:deg|[°º])\s*|\s+)(?P<m3>\d+)(?:\s*['′’]\s*|\s+)"
    rf"(?P<s3>{NUMBER})\s*(?:[\"″”]|'')?"
    rf")\s*(?P<after>[NSEW]?)",
    re.IGNORECASE,
)
PARTS = ("d1", "d2", "m2", "d3", "m3", "s3")
ZONE = re.compile(r"(\d{1,2})\s*([a-z]|north|south|)", re.IGNORECASE)
SIDES = {"n": "north", "north": "north", "s": "south", "south": "south"}
BANDS = {letter: "north" if letter > "m" else "south" for letter in "cdefghjklmnpqrstuvwx"}


def signed_angle(parts: Sequence[Any], letter: str, letters: str, limit: float) -> float | None:
    """Return degrees, minutes, seconds as degrees, or ``None`` if they cannot be right.

    The second of the two ``letters`` is the negative side. Minutes and seconds may be missing.
    """
    letter = letter.upper()
    numbers = [finite(part) for part in parts]
    if len(numbers) not in (1, 2, 3) or len(letter) != 1 or letter not in letters:
        return None
    degrees = 0.0
    for part, unit in zip(numbers, (1.0, 60.0, 3600.0), strict=False):
        if part is None or part < 0 or (unit > 1 and part >= 60):
            return None
        degrees += part / unit
    if degrees > limit:
        return None
    return -degrees if letter == letters[1] and degrees else degrees


def full_circle(heading: float | None) -> float | None:
    """Return degrees in [0, 360); the first remainder of a tiny negative number is 360."""
    return None if heading is None else heading % 360.0 % 360.0


def degrees_in(path: Path, line: int, row: Mapping[str, str]) -> tuple[float, float]:
    """Return latitude and longitude of a row of a table.

    The columns GPSLatitudeRef and GPSLongitudeRef, if there are any, have the letters.
    """
    return (
        _angle_in(path, line, row, "latitude", "NS", MAX_LATITUDE),
        _angle_in(path, line, row, "longitude", "EW", MAX_LONGITUDE),
    )


def _angle_in(
    path: Path, line: int, row: Mapping[str, str], column: str, letters: str, limit: float
) -> float:
    """Return signed degrees of a decimal number, or of degrees, minutes and seconds."""
    reference = row.get(f"GPS{column.capitalize()}Ref", "")[:1]
    row = {**row, column: row[column].replace(MINUS, "-")}
    angle = ANGLE.fullmatch(row[column])
    if not reference and not angle:
        return number_in(path, line, row, column, limit)
    if angle and angle["d1"] and not (reference or angle["before"] or angle["after"]):
        number = angle["sign"] + angle["d1"]  # without the sign of degrees
        return number_in(path, line, {column: number}, column, limit)
    if angle:
        sides = {side.upper() for side in (angle["before"], angle["after"], reference) if side}
        if angle["sign"] == "-":
            sides.add(letters[1])
        side = sides.pop() if sides else letters[0]
        parts = [angle[name].replace(",", ".") for name in PARTS if angle[name]]
        degrees = None if sides else signed_angle(parts, side, letters, limit)
        if degrees is not None:
            return degrees
    text = f"{row[column]} {reference}".strip()
    raise bad_cell(path, line, column, text, f"not an angle up to {limit:g} {letters}")


def utm_in(path: Path, line: int, row: Mapping[str, str]) -> tuple[float, float]:
    """Return latitude and longitude of a row with easting and northing (metres) and zone.

    The hemisphere stands in its own column, or follows from the letter of the zone: the letter of
    a band, or N, S, north, south. "30S" alone means a band of the north or the south, so it is
    refused.
    """
    utm = import_extra("utm", "a table with UTM coordinates", "utm")
    zone, hemisphere = ZONE.fullmatch(row["zone"]), row.get("hemisphere", "")
    letter = zone[2].lower() if zone else ""
    sides = {side for names in (SIDES, BANDS) if (side := names.get(letter))}
    if hemisphere:
        either = {"north", "south"}
        sides = {SIDES.get(hemisphere.lower(), "")} & (sides if letter else either)
    if zone is None or len(sides) != 1:
        also = f" and hemisphere {hemisphere!r}" if hemisphere else ""
        reason = "write the number and the hemisphere, such as 30 north or 30 south"
        raise BadTable(path, line, f"zone is {row['zone']!r}{also}: {reason}")
    north = "north" in sides
    metres = [number_in(path, line, row, column) for column in ("easting", "northing")]
    try:
        latitude, longitude = utm.to_latlon(*metres, int(zone[1]), northern=north)
    except ValueError as error:
        raise BadTable(path, line, f"not UTM coordinates ({error})") from error
    return float(latitude), float(longitude)
