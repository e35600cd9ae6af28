"""New positions of photos as CSV, GPX 1.1 and GeoJSON.

GPX and GeoJSON have only photos with a new position, in WGS 84 degrees.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from typing import Any

from placerec.geotag.locate import LOCATED, GeoTag
from placerec.recognise.gpx import GpxPoint, degrees, gpx_text

COLUMNS = (
    "image", "latitude", "longitude", "radius", "confidence", "status", "place", "why",
)  # fmt: skip


def as_csv(tags: Iterable[GeoTag]) -> str:
    """Return a row of each photo; one that is not "located" has no latitude and longitude.

    It is a table of positions that an index can be built with.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for tag in tags:
        position = tag.position if tag.status == LOCATED else None
        radius = "" if tag.radius is None else f"{tag.radius:.1f}"
        confidence = "" if tag.confidence is None else f"{tag.confidence:.3f}"
        writer.writerow(
            (tag.photo, *degrees(position), radius, confidence, tag.status, tag.place, tag.why)
        )
    return text.getvalue()


def as_gpx(tags: Iterable[GeoTag]) -> str:
    """Return a waypoint of each new position, with its time if this has a time zone."""
    points = []
    for tag in tags:
        if tag.status == LOCATED and tag.position:
            within = "" if tag.radius is None else f", within {tag.radius:.0f} m"
            about = f"sure {tag.confidence:.2f}{within}"
            points.append(GpxPoint(tag.position, str(tag.photo), about, tag.taken))
    return gpx_text(points)


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
