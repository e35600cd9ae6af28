"""An answer for the page and for its downloads."""

from __future__ import annotations

from typing import Any

from placerec.recognise.forms import answer_as_features, answer_as_json
from placerec.records import Answer
from placerec.serve.search import Served
from placerec.text import printable


def answer_for_page(served: Served) -> dict[str, Any]:
    """Return the same with what only the page needs: numbers, and names that can be shown."""
    content = answer_as_json(served.answer)
    for place, number in zip(content["places"], served.numbers, strict=True):
        place |= {"number": number, "name": printable(place["path"])}
    return content | {
        "number": served.number,
        "version": served.version,
        "name": printable(served.answer.query),
        "milliseconds": served.milliseconds,
    }


def answer_as_geojson(answer: Answer) -> dict[str, Any]:
    """Return a GeoJSON FeatureCollection."""
    features = answer_as_features(answer)
    return {"type": "FeatureCollection", "generator": "placerec", "features": features}
