"""Predictions against the truth: what happened to every query, and the measures of that.

``outcomes`` gives one record a query, in the data set's order: nothing is dropped, a query without
a prediction counts as not found. ``scores`` only reads these records (``metrics``, ``intervals``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from placerec.errors import UsageError
from placerec.evaluation.dataset import Dataset, Photos, Search
from placerec.evaluation.predictions import Prediction, Ranking
from placerec.evaluation.scoring import intervals
from placerec.evaluation.scoring.intervals import Estimate
from placerec.evaluation.scoring.metrics import Curve, Found, Measures, precision_recall
from placerec.records import Array

NO_PREDICTION = "no prediction"
HIDDEN = "the owner keeps the truth"
CURVE_POINTS = 200  # at most, in scores.json
DIGITS = 6  # of measures in scores.json


@dataclass(frozen=True, slots=True)
class Outcome:
    """What happened to one query.

    ``place`` and ``condition`` are its labels or empty. ``positives`` is their number, ``None``
    where the owner keeps the truth. ``posed``: the query counts for the pose thresholds.
    ``reranked`` is ``None`` where the method only retrieves. ``error`` says why there is no answer.
    """

    search: str
    query: str
    place: str
    condition: str
    positives: int | None
    posed: bool
    retrieved: Found
    reranked: Found | None = None
    milliseconds: Mapping[str, float] = field(default_factory=dict)
    error: str = ""

    @property
    def final(self) -> Found:
        """The ranking that the method ends with."""
        return self.retrieved if self.reranked is None else self.reranked


@dataclass(frozen=True, slots=True)
class Group:
    """The scores of some queries: a search, a condition, or all.

    ``with_positive`` and ``without_positive`` are ``None`` where the owner keeps the truth.
    ``places`` counts what was resampled as one (a query without a place is its own).
    ``milliseconds`` are means by stage. A measure is ``None``, with the reason in ``doubt``, where
    it is not defined.
    """

    queries: int
    with_positive: int | None
    without_positive: int | None
    unanswered: int
    places: int
    milliseconds: dict[str, float]
    retrieved: dict[str, Estimate]
    reranked: dict[str, Estimate] | None


@dataclass(frozen=True, slots=True)
class Scores:
    """What becomes ``scores.json``. ``searches`` and ``conditions`` are empty where there is one.

    ``curves`` are the precision-recall curves of all queries by ranking.
    """

    dataset: str
    protocol: str
    rule: str
    hash: str
    pooled: Group
    searches: dict[str, Group]
    conditions: dict[str, Group]
    curves: dict[str, Curve | None] = field(repr=False)

    def as_json(self) -> dict[str, Any]:
        """The documented JSON object (docs/EVALUATION.md)."""
        return {
            "dataset": self.dataset,
            "protocol": self.protocol, "rule": self.rule, "hash": self.hash,
            "interval": {
                "level": intervals.LEVEL, "resamples": intervals.RESAMPLES, "seed": intervals.SEED,
            },
            "pooled": _group_json(self.pooled),
            "searches": {name: _group_json(group) for name, group in self.searches.items()},
            "conditions": {name: _group_json(group) for name, group in self.conditions.items()},
            "curves": {name: _curve_json(curve) for name, curve in self.curves.items()},
        }  # fmt: skip


def outcomes(dataset: Dataset, predictions: Mapping[tuple[str, str], Prediction]) -> list[Outcome]:
    """One record a query, in the data set's order; ``predictions`` by search and query.

    Raises ``UsageError`` for a prediction that cannot be one of this data set: an unknown query or
    database photo, a photo twice in a list, a list that only some queries have.
    """
    known = {(search.name, query) for search in dataset.searches for query in search.queries.names}
    for search_name, query in predictions:
        if (search_name, query) not in known:
            raise UsageError(
                f"{query} ({search_name}): predicted, but no query of {dataset.name}; "
                f"score it on the data set that it was made for"
            )
    reranks = any(one.reranked is not None for one in predictions.values())
    return [
        outcome
        for search in dataset.searches
        for outcome in _of_search(dataset, search, predictions, reranks)
    ]


def scores(dataset: Dataset, found: Sequence[Outcome]) -> Scores:
    """All measures with intervals: of all queries together, by search, and by condition."""
    reach = {search.name: _reach(dataset, search, found) for search in dataset.searches}
    searches = _split(found, lambda one: one.search) if len(dataset.searches) > 1 else {}
    conditions = _split(found, lambda one: one.condition)
    if set(conditions) <= {""}:
        conditions = {}
    rule = dataset.protocol
    return Scores(
        dataset.name, rule.name, rule.rule, dataset.hash, _group(found, reach),
        {name: _group(part, reach) for name, part in searches.items()},
        {name: _group(part, reach) for name, part in conditions.items()},
        {name: precision_recall(_rankings(found, name), positives_of(found))
         for name in ("retrieved", "reranked") if _rankings(found, name)},
    )  # fmt: skip


def positives_of(found: Sequence[Outcome]) -> Array:
    """How many positives each query has: (Q,) float64, NaN where the owner keeps the truth."""
    counts = [np.nan if one.positives is None else one.positives for one in found]
    return np.array(counts, np.float64)


def places_of(found: Sequence[Outcome]) -> Array:
    """What is resampled as one: (Q,) numbers of (search, place), or of the query without one."""
    return intervals.groups(
        [(one.search, one.place, "" if one.place else one.query) for one in found]
    )


def measures_of(found: Sequence[Outcome], rankings: Sequence[Found]) -> Measures:
    """The measures of ``rankings``, one of each of these queries."""
    posed = np.array([one.posed for one in found], np.bool_)
    return Measures(rankings, positives_of(found), posed)


def _of_search(
    dataset: Dataset, search: Search, predictions: Mapping[tuple[str, str], Prediction],
    reranks: bool,
) -> list[Outcome]:  # fmt: skip
    numbers = {name: number for number, name in enumerate(search.database.names)}
    queries = search.queries
    found = []
    for row, name in enumerate(queries.names):
        one = predictions.get((search.name, name))
        one = one or Prediction(search.name, name, (), error=NO_PREDICTION)
        if reranks and one.reranked is None and one.retrieved and not one.error:
            raise UsageError(f"{name}: has no re-ranked list, though others have; predict it again")
        ranking = one.reranked or ()
        found.append(Outcome(
            search.name, name, _label(queries.place_labels, row), _label(queries.conditions, row),
            None if dataset.protocol.hidden else len(_true(search, row)),
            dataset.protocol.poses and _known_pose(queries, row) is not None,
            _found(search, numbers, row, one.retrieved),
            _found(search, numbers, row, ranking) if reranks else None,
            dict(one.milliseconds), one.error,
        ))  # fmt: skip
    return found


def _found(search: Search, numbers: Mapping[str, int], row: int, ranking: Ranking) -> Found:
    query = search.queries.names[row]
    rows = []
    for name, _ in ranking:
        if name not in numbers:
            raise UsageError(
                f"{name}: an answer to {query}, but no database photo of {search.name}; "
                f"score it on the data set that it was made for"
            )
        rows.append(numbers[name])
    if len(set(rows)) < len(rows):
        twice = next(n for place, n in enumerate(rows) if n in rows[:place])
        name = search.database.names[twice]
        raise UsageError(f"{name}: twice among the answers to {query}; each photo counts once")
    if not rows:
        return Found()
    true = set(_true(search, row))
    confidence = float(ranking[0][1])
    return Found(
        len(rows),
        tuple(rank for rank, number in enumerate(rows, start=1) if number in true),
        confidence if np.isfinite(confidence) else None,
        *_apart(search, row, rows[0]),
    )


def _true(search: Search, row: int) -> list[int]:
    """Distractors answer nothing, whatever the list of positives says."""
    own = len(search.database) - search.distractors
    return [number for number in search.positives[row] if number < own]


def _apart(search: Search, row: int, number: int) -> tuple[float | None, float | None]:
    """Metres and degrees of a query and an answer: by poses where the query has one.

    Where something joined from elsewhere stands in other coordinates there is no distance.
    """
    if number >= len(search.database) - search.distractors:
        return None, None
    pose, other = _known_pose(search.queries, row), _known_pose(search.database, number)
    if pose is not None:
        if other is None:
            return None, None
        metres = float(np.linalg.norm(pose[:3, 3] - other[:3, 3]))
        # |A - B| of two rotations is sqrt(8) sin(angle / 2), exact for small angles too
        chord = float(np.linalg.norm(pose[:3, :3] - other[:3, :3])) / np.sqrt(8.0)
        return metres, float(np.degrees(2.0 * np.arcsin(min(chord, 1.0))))
    at, there = _row(search.queries.positions, row), _row(search.database.positions, number)
    facing, looking = _row(search.queries.headings, row), _row(search.database.headings, number)
    return (
        None if at is None or there is None else float(np.linalg.norm(at - there)),
        None if facing is None or looking is None
        else abs(float(facing - looking + 180.0) % 360.0 - 180.0),
    )  # fmt: skip


def _known_pose(photos: Photos, number: int) -> Array | None:
    return _row(photos.poses, number)


def _row(values: Array | None, number: int) -> Array | None:
    if values is None or np.any(np.isnan(values[number])):
        return None
    return np.asarray(values[number])


def _label(labels: Sequence[str], row: int) -> str:
    return labels[row] if labels else ""


def _rankings(found: Sequence[Outcome], name: str) -> list[Found]:
    """The ``retrieved`` or ``reranked`` of each query; nothing where there is none."""
    kept = [getattr(one, name) for one in found]
    return [] if None in kept else kept


def _split(found: Sequence[Outcome], key: Callable[[Outcome], str]) -> dict[str, list[Outcome]]:
    parts: dict[str, list[Outcome]] = {}
    for one in found:
        parts.setdefault(key(one), []).append(one)
    return parts


def _reach(dataset: Dataset, search: Search, found: Sequence[Outcome]) -> dict[str, float]:
    """Up to which N the lists of a search can tell, by ranking.

    Infinite where they hold all that a list can hold: every photo, or one a panorama.
    """
    own = len(search.database) - search.distractors
    most = -(-own // dataset.protocol.photos_a_panorama) + search.distractors
    reach = {}
    for name in ("retrieved", "reranked"):
        lists = _rankings([one for one in found if one.search == search.name], name)
        longest = max((one.answers for one in lists), default=0)
        reach[name] = longest if 0 < longest < most else np.inf
    return reach


def _group(found: Sequence[Outcome], reach: Mapping[str, Mapping[str, float]]) -> Group:
    known = [one.positives for one in found if one.positives is not None]
    positive = sum(count > 0 for count in known) if known else None
    searches = {one.search for one in found}
    times: dict[str, list[float]] = {}
    for one in found:
        for stage, value in one.milliseconds.items():
            times.setdefault(stage, []).append(value)
    estimated = {
        name: _estimates(found, lists, min((reach[one][name] for one in searches), default=np.inf))
        for name in ("retrieved", "reranked")
        if (lists := _rankings(found, name)) or name == "retrieved"
    }
    return Group(
        len(found), positive, None if positive is None else len(found) - positive,
        sum(not one.final.answers for one in found), len(set(places_of(found).tolist())),
        {stage: float(np.mean(values)) for stage, values in sorted(times.items())},
        estimated["retrieved"], estimated.get("reranked"),
    )  # fmt: skip


def _estimates(
    found: Sequence[Outcome], lists: Sequence[Found], reach: float
) -> dict[str, Estimate]:
    measures = measures_of(found, lists)
    if found and all(one.positives is None for one in found):
        return dict.fromkeys(measures.names, Estimate(None, doubt=HIDDEN))
    counted = [measures.counted(name) for name in measures.names]
    estimated = intervals.estimates(places_of(found), measures.of, counted)
    kept = dict(zip(measures.names, estimated, strict=True))
    for name in kept:
        cut = name.rpartition("@")[2]
        if cut.isdigit() and int(cut) > reach:
            kept[name] = Estimate(None, doubt=f"the lists end at {reach:.0f}")
    return kept


def _group_json(group: Group) -> dict[str, Any]:
    told = asdict(group)
    told["milliseconds"] = {stage: round(ms, 3) for stage, ms in group.milliseconds.items()}
    for name in ("retrieved", "reranked"):
        for one in (told[name] or {}).values():
            for key in ("value", "low", "high"):
                one[key] = None if one[key] is None else round(one[key], DIGITS)
    return told


def _curve_json(curve: Curve | None) -> list[list[float]] | None:
    """At most ``CURVE_POINTS`` points (confidence, precision, recall), the ends among them."""
    if curve is None:
        return None
    count = len(curve.confidence)
    kept = np.unique(np.linspace(0, count - 1, min(count, CURVE_POINTS)).round().astype(np.int64))
    points = np.stack(curve, axis=1)[kept]
    return [[round(value, DIGITS) for value in point] for point in points.tolist()]
