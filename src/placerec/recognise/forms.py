"""An answer as JSON and as GeoJSON: for the command line, and for the page."""

from __future__ import annotations

from typing import Any

from placerec.records import Answer, Place, Position, Where


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
    features = []
    if answer.where:
        where = answer.where
        radii = {"radius_68": where.radius_68, "radius_95": where.radius_95}
        features.append(_point(where.position, {"query": answer.query, **radii}))
    for place in answer.places:
        if place.position:
            values = _place(place)
            del values["latitude"], values["longitude"]
            features.append(_point(place.position, {"query": answer.query, **values}))
    return features


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
