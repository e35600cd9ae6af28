"""An answer as JSON and GeoJSON, a track as CSV and GPX: for the command line, and for the page."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from placerec.recognise.gpx import GpxPoint, degrees, gpx_text
from placerec.recognise.track import Time, TrackPoint
from placerec.records import Answer, Place, Position, Where

TRACK_COLUMNS = ("query", "time", "latitude", "longitude", "confidence", "place", "alone")


def answer_as_json(answer: Answer) -> dict[str, Any]:
    """Return the documented JSON object of one query (docs/COMMANDS.md)."""
    return {
        "query": answer.query,
        "places": [_place(place) for place in answer.places],
        "note": answer.note,
        "in_map": answer.in_map,
        "where": _where(answer.where),
        "uncalibrated": answer.uncalibrated,
    }


def answer_as_features(answer: Answer) -> list[dict[str, Any]]:
    """Return the features of a GeoJSON collection: the answer's own position, then its places."""
    features: list[dict[str, Any]] = []
    asked = {"query": answer.query, "in_map": answer.in_map}
    if answer.where:
        where = answer.where
        radii = {"radius_68": where.radius_68, "radius_95": where.radius_95}
        features.append(_point(where.position, {**asked, **radii}))
    for place in answer.places:
        if place.position:
            values = _place(place)
            del values["latitude"], values["longitude"]
            features.append(_point(place.position, {**asked, **values}))
    return features


def track_as_csv(points: Iterable[TrackPoint]) -> str:
    """Return a row of each frame; one that is off the map has no place."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(TRACK_COLUMNS)
    for point in points:
        confidence = "" if point.confidence is None else f"{point.confidence:.3f}"
        names = [place.path if place else "" for place in (point.place, point.alone)]
        time = _written(point.time)
        writer.writerow((point.query, time, *degrees(point.position), confidence, *names))
    return text.getvalue()


def track_as_gpx(points: Iterable[TrackPoint]) -> str:
    """Return the frames with a position as one track; where others lie between, a segment ends."""
    segments: list[list[GpxPoint]] = [[]]
    for point in points:
        if point.position is None:
            segments.append([])
            continue
        taken = point.time if isinstance(point.time, datetime) else None
        about = f"sure {point.confidence:.2f}"
        segments[-1].append(GpxPoint(point.position, point.query, about, taken))
    return gpx_text(segments=filter(None, segments))


def _written(time: Time | None) -> str:
    if time is None:
        return ""
    return time.isoformat() if isinstance(time, datetime) else f"{time:.3f}"


def _point(position: Position, properties: dict[str, Any]) -> dict[str, Any]:
    coordinates = [position.longitude, position.latitude]
    geometry = {"type": "Point", "coordinates": coordinates}
    return {"type": "Feature", "geometry": geometry, "properties": properties}


def _place(place: Place) -> dict[str, Any]:
    return {
        "rank": place.rank,
        "path": place.path,
        "score": place.score,
        "global_score": place.global_score,
        "inliers": place.inliers,
        "confidence": place.confidence,
        "latitude": place.position.latitude if place.position else None,
        "longitude": place.position.longitude if place.position else None,
    }


def _where(where: Where | None) -> dict[str, float] | None:
    if where is None:
        return None
    return {
        "latitude": where.position.latitude,
        "longitude": where.position.longitude,
        "radius_68": where.radius_68,
        "radius_95": where.radius_95,
    }
