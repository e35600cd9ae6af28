"""New positions of photos as CSV, GPX 1.1 and GeoJSON.

GPX and GeoJSON have only photos with a new position, in WGS 84 degrees.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any
from xml.etree import ElementTree as ET

from placerec.geotag.locate import LOCATED, GeoTag
from placerec.text import printable

COLUMNS = (
    "image", "latitude", "longitude", "radius", "confidence", "status", "place", "why",
)  # fmt: skip
NO_XML = re.compile("[\ufffe\uffff]")  # and what ``printable`` escapes
GPX = "http://www.topografix.com/GPX/1/1"


def as_csv(tags: Iterable[GeoTag]) -> str:
    """Return a row of each photo; one that is not "located" has no latitude and longitude.

    It is a table of positions that an index can be built with.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for tag in tags:
        radius = "" if tag.radius is None else f"{tag.radius:.1f}"
        confidence = "" if tag.confidence is None else f"{tag.confidence:.3f}"
        writer.writerow(
            (tag.photo, *_degrees(tag), radius, confidence, tag.status, tag.place, tag.why)
        )
    return text.getvalue()


def as_gpx(tags: Iterable[GeoTag]) -> str:
    """Return a waypoint of each new position, with its time if this has a time zone."""
    root = ET.Element("gpx", {"xmlns": GPX, "version": "1.1", "creator": "placerec"})
    for tag in tags:
        latitude, longitude = _degrees(tag)
        if not latitude:
            continue
        point = ET.SubElement(root, "wpt", {"lat": latitude, "lon": longitude})
        if time := _utc(tag.taken):
            ET.SubElement(point, "time").text = time
        name = NO_XML.sub(lambda match: ascii(match[0])[1:-1], str(tag.photo))
        ET.SubElement(point, "name").text = printable(name)
        within = "" if tag.radius is None else f", within {tag.radius:.0f} m"
        ET.SubElement(point, "desc").text = f"sure {tag.confidence:.2f}{within}"
    ET.indent(root)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{ET.tostring(root, "unicode")}\n'


def as_features(tags: Iterable[GeoTag]) -> list[dict[str, Any]]:
    """Return a GeoJSON feature of each new position, with the name of its photo."""
    return [
        {
            "type": "Feature",
            "geometry": {
                "type": "Point",
                "coordinates": [tag.position.longitude, tag.position.latitude],
            },
            "properties": {
                "filename": str(tag.photo), "confidence": tag.confidence, "radius": tag.radius,
                "place": tag.place,
            },
        }
        for tag in tags
        if tag.status == LOCATED and tag.position
    ]  # fmt: skip


def _utc(taken: datetime | None) -> str:
    """Return a time with a zone as XML has it in UTC; nothing for another one."""
    try:
        utc = taken.astimezone(UTC) if taken and taken.tzinfo else None
    except OverflowError:  # at an end of the calendar
        return ""
    return f"{utc.replace(tzinfo=None).isoformat()}Z" if utc else ""


def _degrees(tag: GeoTag) -> tuple[str, str]:
    """Return latitude and longitude of a new position, to 1 cm; else two empty texts."""
    if tag.status != LOCATED or tag.position is None:
        return "", ""
    return f"{tag.position.latitude:.7f}", f"{tag.position.longitude:.7f}"
