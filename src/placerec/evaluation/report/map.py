"""A map of the queries of a search: what was found, what was not, and where it was taken for.

Positions are points (n, 3) in metres as ``evaluation.places`` makes them. Map coordinates are drawn
as they are; points of the sphere are projected onto the plane that touches it in their middle,
east and north (an orthographic projection: at 20 km from the middle a length is short by 5 in a
million). Only one region can be drawn; other points are counted, not drawn.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from placerec.evaluation.dataset import Search
from placerec.evaluation.geometry import EARTH_RADIUS, REGIONS_APART
from placerec.evaluation.predictions import Prediction
from placerec.evaluation.report.charts import path
from placerec.evaluation.report.markup import Markup, element, number
from placerec.evaluation.scoring.outcomes import Outcome
from placerec.records import Array

WIDTH = 720  # units of the view box
LEAST_HEIGHT, MOST_HEIGHT = 200, 720
MARGIN = 24
MOST_DOTS = 6000  # of a kind, on all maps: more would only be an area
MOST_LINES = 400  # to wrong answers, on all maps
DOT = 3.0  # units between two dots, at least


@dataclass(frozen=True, slots=True)
class Asked:
    """A query on the map: its point (3,), the point (3,) of its first answer, was that right?

    Points are NaN where they are not known.
    """

    name: str
    point: Array = field(repr=False)
    answer: Array = field(repr=False)
    right: bool


def search_map(
    search: Search, outcomes: Sequence[Outcome],
    predictions: Mapping[tuple[str, str], Prediction], maps: int = 1,
) -> Markup | None:  # fmt: skip
    """The map of a search; queries without a positive, which nothing can answer, are left out.

    Of ``maps`` maps on one page each has its share of the dots.
    """
    here, there = search.queries.positions, search.database.positions
    if here is None or there is None:
        return None
    rows = {name: row for row, name in enumerate(search.queries.names)}
    numbers = {name: number for number, name in enumerate(search.database.names)}
    asked = []
    for one in outcomes:
        if not one.positives:
            continue
        answer = np.full(3, np.nan)
        if one.final.answers:
            prediction = predictions[search.name, one.query]
            name, _ = (prediction.reranked or prediction.retrieved)[0]
            answer = there[numbers[name]]
        right = one.final.ranks[:1] == (1,)
        asked.append(Asked(one.query, here[rows[one.query]], answer, right))
    own = len(search.database) - search.distractors
    return query_map("Queries", asked, there[:own], maps)


def query_map(title: str, asked: Sequence[Asked], database: Array, maps: int = 1) -> Markup | None:
    """The map and its legend, with the ``database`` (n, 3) in the background.

    ``None`` where no query has a position, or all photos have the same.
    """
    points = np.array([one.point for one in asked], np.float64).reshape(-1, 3)
    answers = np.array([one.answer for one in asked], np.float64).reshape(-1, 3)
    plane = Plane.of(points, database)
    queries, dots, ends = plane.flat(points), plane.flat(database), plane.flat(answers)
    shown = np.concatenate((queries, dots))
    shown = shown[_known(shown)]
    if not _known(queries).any() or not np.ptp(shown, axis=0).any():
        return None
    frame = Frame.around(shown)
    right = np.array([one.right for one in asked], np.bool_)
    legend, told = _legend(right, _known(queries))
    drawing = element(
        "svg", element("title", title), element("desc", told),
        _dots(_thinned(frame.place(dots), MOST_DOTS // maps), "database"),
        _lines(asked, frame, queries, ends, MOST_LINES // maps),
        _dots(_thinned(frame.place(queries[right]), MOST_DOTS // maps), "right"),
        _dots(_thinned(frame.place(queries[~right]), MOST_DOTS // maps), "wrong"),
        _scale_bar(frame),
        class_="map", role="img", viewBox=f"0 0 {WIDTH} {number(frame.height)}",
    )  # fmt: skip
    return element("figure", drawing, element("figcaption", legend))


@dataclass(frozen=True, slots=True)
class Plane:
    """East and north, the ``axes`` (2, 3) of a plane; of the sphere if there is no ``region``."""

    axes: Array = field(repr=False)
    region: int | None

    @classmethod
    def of(cls, queries: Array, database: Array) -> Plane:
        """The plane that suits both: of the sphere, or of the region of most queries."""
        known = queries[_known(queries)]
        everything = np.concatenate((known, database[_known(database)]))
        radii = np.linalg.norm(everything, axis=1)
        if len(known) and (np.abs(radii - EARTH_RADIUS) < 1.0).all():
            return cls(_tangent(known.mean(axis=0)), None)
        regions, counts = np.unique(_regions(known), return_counts=True)
        region = int(regions[counts.argmax()]) if len(regions) else 0
        return cls(np.eye(2, 3), region)

    def flat(self, points: Array) -> Array:
        """(n, 2) float64 metres east and north; NaN for what is unknown or of another region.

        On the sphere another region is what lies more than 60 degrees away.
        """
        known = _known(points)
        here = np.zeros(len(points), np.bool_)
        if self.region is None:
            here[known] = points[known] @ np.cross(*self.axes) > EARTH_RADIUS / 2
        else:
            here[known] = _regions(points[known]) == self.region
        flat: Array = np.full((len(points), 2), np.nan)
        flat[here] = points[here] @ self.axes.T
        return flat


@dataclass(frozen=True, slots=True)
class Frame:
    """Metres to units of the view box: ``scale`` units a metre, from the north-west ``corner``."""

    corner: Array = field(repr=False)
    scale: float
    height: float

    @classmethod
    def around(cls, points: Array) -> Frame:
        """The frame that holds all ``points`` (n, 2), with a margin and both axes to one scale."""
        low, high = points.min(axis=0), points.max(axis=0)
        east, north = np.maximum(high - low, 1e-9)
        scale = min((WIDTH - 2 * MARGIN) / east, (MOST_HEIGHT - 3 * MARGIN) / north)
        height = max(LEAST_HEIGHT, scale * north + 3 * MARGIN)  # the scale bar has the third
        spare = np.array((WIDTH - scale * east, height - MARGIN - scale * north)) / 2 / scale
        return cls(np.array((low[0] - spare[0], high[1] + spare[1])), float(scale), float(height))

    def place(self, points: Array) -> Array:
        """(n, 2) units of the view box; NaN for what lies outside or is unknown."""
        placed = (points - self.corner) * (self.scale, -self.scale)
        outside = (placed < 0) | (placed > (WIDTH, self.height))
        placed[outside[:, 0] | outside[:, 1]] = np.nan
        return np.asarray(placed)


def _tangent(middle: Array) -> Array:
    """East and north (2, 3) at a point (3,) of the sphere."""
    up = middle / max(float(np.linalg.norm(middle)), 1.0)
    east = np.cross((0.0, 0.0, 1.0), up)
    east = east / np.linalg.norm(east) if np.linalg.norm(east) > 1e-9 else np.array((0.0, 1.0, 0.0))
    return np.stack((east, np.cross(up, east)))


def _known(points: Array) -> Array:
    """Which rows of (n, k) have no NaN."""
    return np.asarray(np.isfinite(points.sum(axis=1)))


def _regions(points: Array) -> Array:
    return np.round(points[:, 2] / REGIONS_APART).astype(np.int64)


def _thinned(points: Array, most: int) -> Array:
    """Of dots that would touch only one, and not more than can be told apart."""
    points = points[_known(points)]
    side = DOT
    while True:
        cells = np.round(points / side).astype(np.int64)
        _, first = np.unique(cells, axis=0, return_index=True)
        if len(first) <= max(most, 1):
            return points[np.sort(first)]
        side *= 1.25


def _dots(points: Array, kind: str) -> Markup:
    """All dots as one path of lines without length, which round caps turn into dots."""
    steps = "".join(f"M{number(round(x, 1))} {number(round(y, 1))}h0" for x, y in points.tolist())
    return element("path", d=steps, class_=f"dots {kind}") if steps else Markup("")


def _lines(asked: Sequence[Asked], frame: Frame, queries: Array, ends: Array, most: int) -> Markup:
    """From each wrong query to its answer, where both are inside the map; evenly thinned."""
    starts, stops = frame.place(queries), frame.place(ends)
    known = _known(starts) & _known(stops)
    wrong = [n for n in np.flatnonzero(known).tolist() if not asked[n].right]
    step = math.ceil(len(wrong) / max(most, 1)) or 1
    drawn = []
    for n in wrong[::step]:
        away = np.linalg.norm(ends[n] - queries[n])
        told = element("title", f"{asked[n].name}: taken for a place {metres(float(away))} away")
        drawn.append(element("path", told, d=path(np.stack((starts[n], stops[n])))))
    return element("g", drawn, class_="mistakes")


def _scale_bar(frame: Frame) -> Markup:
    """The roundest length that takes at most a quarter of the width."""
    most = WIDTH / 4 / frame.scale
    power = 10.0 ** math.floor(math.log10(most))
    length = next(step * power for step in (5, 2, 1) if step * power <= most * (1 + 1e-9))
    left, down = float(MARGIN), frame.height - 12
    right = left + length * frame.scale
    bar = f"M{number(left)} {number(down - 5)}v5H{number(right)}v-5"
    return element(
        "g", element("path", d=bar), element("text", metres(length), x=right + 8, y=down + 1),
        class_="scale",
    )  # fmt: skip


def metres(length: float) -> str:
    """A distance as people say it: ``0.4 m``, ``25 m``, ``1.2 km``."""
    if length >= 10_000:
        return f"{length / 1000:.0f} km"
    if length >= 1000:
        return f"{length / 1000:.1f} km".replace(".0 ", " ")
    return f"{length:.1f} m".replace(".0 ", " ") if length < 10 else f"{length:.0f} m"


def _legend(right: Array, drawn: Array) -> tuple[Markup, str]:
    """What the dots mean, with their numbers: as HTML, and in words for a screen reader."""
    found, missed = int((right & drawn).sum()), int((~right & drawn).sum())
    entries = (("right", f"right first answer ({found})"),
               ("wrong", f"wrong, with a line to the answer ({missed})"),
               ("database", "database photo"))  # fmt: skip
    off = f"{int((~drawn).sum())} not drawn: no position here" if not drawn.all() else ""
    items = [element("span", element("i", class_=kind), label) for kind, label in entries]
    told = "; ".join([label for _, label in entries] + [off] * bool(off))
    return element("span", items, off, class_="legend"), f"{told}. North is up."
