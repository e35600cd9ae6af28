"""GPX 1.1, the only writer: waypoints, and one track in segments, in WGS 84 degrees."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from xml.etree import ElementTree as ET

from placerec.records import Position
from placerec.text import printable

NO_XML = re.compile("[\ufffe\uffff]")  # and what ``printable`` escapes
GPX = "http://www.topografix.com/GPX/1/1"


@dataclass(frozen=True, slots=True)
class GpxPoint:
    """A point with the name of its photo and a line about it; a time without a zone is left out."""

    position: Position
    name: str
    about: str
    time: datetime | None = None


def gpx_text(
    waypoints: Iterable[GpxPoint] = (), segments: Iterable[Sequence[GpxPoint]] = ()
) -> str:
    """Return a GPX document; the segments are one track, and none of them is empty."""
    root = ET.Element("gpx", {"xmlns": GPX, "version": "1.1", "creator": "placerec"})
    for point in waypoints:
        _append(root, "wpt", point)
    parts = list(segments)
    if parts:
        track = ET.SubElement(root, "trk")
        for part in parts:
            segment = ET.SubElement(track, "trkseg")
            for point in part:
                _append(segment, "trkpt", point)
    ET.indent(root)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{ET.tostring(root, "unicode")}\n'


def degrees(position: Position | None) -> tuple[str, str]:
    """Return latitude and longitude to 1 cm; two empty texts without a position."""
    return (f"{position.latitude:.7f}", f"{position.longitude:.7f}") if position else ("", "")


def _append(parent: ET.Element, kind: str, point: GpxPoint) -> None:
    latitude, longitude = degrees(point.position)
    element = ET.SubElement(parent, kind, {"lat": latitude, "lon": longitude})
    if time := _utc(point.time):
        ET.SubElement(element, "time").text = time
    name = NO_XML.sub(lambda match: ascii(match[0])[1:-1], point.name)
    ET.SubElement(element, "name").text = printable(name)
    ET.SubElement(element, "desc").text = point.about


def _utc(time: datetime | None) -> str:
    """Return a time with a zone as XML has it in UTC; nothing for another one."""
    try:
        utc = time.astimezone(UTC) if time and time.tzinfo else None
    except OverflowError:  # at an end of the calendar
        return ""
    return f"{utc.replace(tzinfo=None).isoformat()}Z" if utc else ""
