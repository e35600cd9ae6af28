"""The map of the queries of a search: right, wrong, and where the wrong answers are.

Positions are points (n, 3) in metres (``evaluation.geometry``). Points of the sphere are projected
onto the plane that touches it at the mean of the queries, with axes east and north (orthographic:
at 20 km from the middle a length is too short by 5 in a million). A map shows one region; points of
other regions are counted, but not drawn.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from placerec.evaluation.dataset import Search
from placerec.evaluation.geometry import REGIONS_APART
from placerec.evaluation.predictions import Prediction
from placerec.evaluation.scoring.outcomes import Outcome
from placerec.photos.sphere import EARTH_RADIUS
from placerec.records import Array

WIDTH = 720  # units of the view box
MIN_HEIGHT, MAX_HEIGHT = 200, 720
MARGIN = 24
MAX_DOTS = 6000  # per kind, on all maps of a page
MAX_MISTAKES = 400  # lines to wrong answers, on all maps of a page
MIN_DISTANCE = 3.0  # units between two dots


def search_map(
    search: Search, outcomes: Sequence[Outcome],
    predictions: Mapping[tuple[str, str], Prediction], maps: int = 1,
) -> dict[str, object] | None:  # fmt: skip
    """Return the map of a search, without the queries that have no positive.

    The page has ``maps`` maps, which share the largest number of dots and lines.
    """
    positions, database = search.queries.positions, search.database.positions
    if positions is None or database is None:
        return None
    mapped = [o for o in outcomes if o.search == search.name and o.positives]
    points = dict(zip(search.queries.names, positions, strict=True))
    own = dict(zip(search.own_names, database, strict=False))  # distractors are not on the map
    answers = np.full((len(mapped), 3), np.nan)
    for answer, outcome in zip(answers, mapped, strict=True):
        if outcome.final.answers:
            prediction = predictions[search.name, outcome.query]
            name, _ = (prediction.reranked or prediction.retrieved)[0]
            answer[:] = own.get(name, np.nan)
    names = [outcome.query for outcome in mapped]
    queries = np.array([points[name] for name in names]).reshape(-1, 3)
    right = np.array([outcome.final.ranks[:1] == (1,) for outcome in mapped], np.bool_)
    return query_map(names, queries, answers, right, database[: len(own)], maps)


def query_map(
    names: Sequence[str], queries: Array, answers: Array, right: Array, database: Array,
    maps: int = 1,
) -> dict[str, object] | None:  # fmt: skip
    """Return what the template draws.

    ``queries`` (n, 3) and their first ``answers`` (n, 3) are NaN where unknown, and ``right`` (n,)
    bool says if an answer is right. The ``database`` (m, 3) is the background. The result is
    ``None`` if no query has a position, or if all photos have the same.
    """
    if not _valid(queries).any():
        return None
    starts, background, ends = on_plane(queries, database, answers)
    shown, drawn = np.concatenate((starts, background)), _valid(starts)
    shown = shown[_valid(shown)]
    if not len(shown) or not np.ptp(shown, axis=0).any():
        return None
    frame = Frame.around(shown)
    kinds = {"database": background, "right": starts[right], "wrong": starts[~right]}
    dots = {kind: _thinned(frame.place(points), MAX_DOTS // maps) for kind, points in kinds.items()}
    lines = np.stack((frame.place(starts), frame.place(ends)), axis=1)
    wrong = np.flatnonzero(_valid(lines.reshape(-1, 4)) & ~right)
    step = math.ceil(len(wrong) / max(MAX_MISTAKES // maps, 1)) or 1
    mistakes = [
        (lines[row].tolist(), names[row], float(np.linalg.norm(ends[row] - starts[row])))
        for row in wrong[::step]
    ]
    return {
        "dots": dots, "mistakes": mistakes, "height": frame.height, "scale": frame.scale_bar(),
        "right": int((right & drawn).sum()), "wrong": int((~right & drawn).sum()),
        "without_position": int((~drawn).sum()),
    }  # fmt: skip


def on_plane(queries: Array, *others: Array) -> list[Array]:
    """Return each group of points (n, 3) as (n, 2) float64 metres east and north.

    Points are NaN if they are unknown or outside the map: on the sphere more than 60 degrees away
    from the middle, otherwise in another region than most queries. A query must be known.
    """
    groups = [queries, *others]
    points, located = np.concatenate(groups), queries[_valid(queries)]
    radii = np.linalg.norm(points[_valid(points)], axis=1)
    if (np.abs(radii - EARTH_RADIUS) < 1.0).all():
        up = located.mean(axis=0) / np.linalg.norm(located.mean(axis=0))
        longitude = np.arctan2(up[1], up[0])
        east = np.array((-np.sin(longitude), np.cos(longitude), 0.0))
        axes = np.stack((east, np.cross(up, east)))
        inside = points @ up > EARTH_RADIUS / 2
    else:
        axes = np.eye(2, 3)
        regions, counts = np.unique(_regions(located), return_counts=True)
        inside = _regions(points) == regions[counts.argmax()]
    flat = np.where(inside[:, None], points @ axes.T, np.nan)
    return np.split(flat, np.cumsum([len(group) for group in groups])[:-1])


@dataclass(frozen=True, slots=True)
class Frame:
    """Metres to units of the view box: ``scale`` units per metre around the ``middle`` (2,)."""

    middle: Array = field(repr=False)
    scale: float
    height: float

    @classmethod
    def around(cls, points: Array) -> Frame:
        """Return the frame of all ``points`` (n, 2), with a margin and equal scale on both axes."""
        low, high = points.min(axis=0), points.max(axis=0)
        east, north = np.maximum(high - low, 1e-9).tolist()
        scale = min((WIDTH - 2 * MARGIN) / east, (MAX_HEIGHT - 3 * MARGIN) / north)
        height = max(MIN_HEIGHT, scale * north + 3 * MARGIN)  # the third is for the scale bar
        return cls((low + high) / 2, scale, height)

    def place(self, points: Array) -> Array:
        """Return (n, 2) units of the view box; NaN for a point that is unknown or outside."""
        centre = (WIDTH / 2, (self.height - MARGIN) / 2)
        placed = (points - self.middle) * (self.scale, -self.scale) + centre
        outside = (placed < 0) | (placed > (WIDTH, self.height))
        return np.where(outside.any(axis=1, keepdims=True), np.nan, placed)

    def scale_bar(self) -> tuple[float, float]:
        """Return metres and units of the largest 1, 2 or 5 x 10^n m within 1/4 of the width."""
        longest = WIDTH / 4 / self.scale
        power = 10.0 ** math.floor(math.log10(longest))
        steps = (step * power for step in (5, 2, 1))
        length = next(step for step in steps if step <= longest * (1 + 1e-9))
        return length, length * self.scale


def _valid(points: Array) -> Array:
    """Return which rows of (n, k) have no NaN."""
    return np.asarray(np.isfinite(points).all(axis=1))


def _regions(points: Array) -> Array:
    return np.asarray(np.round(points[:, 2] / REGIONS_APART))


def _thinned(points: Array, at_most: int) -> list[list[float]]:
    """Return one of several dots that would touch, and at most ``at_most`` dots."""
    points = points[_valid(points)]
    side = MIN_DISTANCE
    while True:
        cells = np.round(points / side).astype(np.int64)
        _, first = np.unique(cells, axis=0, return_index=True)
        if len(first) <= max(at_most, 1):
            chosen: list[list[float]] = points[np.sort(first)].round(1).tolist()
            return chosen
        side *= 1.25
