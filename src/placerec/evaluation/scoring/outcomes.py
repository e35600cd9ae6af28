"""Predictions against the ground truth: the outcome of every query, and the scores.

``outcomes`` returns one record per query, in the order of the data set. No query is dropped: one
without a prediction counts as not found. ``scores`` reads these records only (``metrics``,
``intervals``).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, is_dataclass, replace
from itertools import product
from typing import Any

import numpy as np

from placerec.errors import UsageError
from placerec.evaluation.dataset import Dataset, Search
from placerec.evaluation.predictions import Prediction, Ranking
from placerec.evaluation.scoring import intervals
from placerec.evaluation.scoring.intervals import Estimate
from placerec.evaluation.scoring.metrics import Curve, Measures, RankingResult
from placerec.records import Array

NO_PREDICTION = "no prediction"
HIDDEN = "the owner keeps the truth"
RANKINGS = ("retrieved", "reranked")
CURVE_POINTS = 200  # at most, in scores.json
DIGITS = 6  # of measures in scores.json

Predictions = Mapping[tuple[str, str], Prediction]  # by the names of search and query
Reach = Mapping[tuple[str, str], float]  # by search and ranking (``_reach``)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What happened to one query.

    ``place`` and ``condition`` are its labels, or empty. ``positives`` is their number, or ``None``
    if the owner keeps the ground truth. ``posed`` says whether the query counts for the pose
    thresholds. ``reranked`` is ``None`` if the method only retrieves. ``error`` is the reason why
    there is no answer.
    """

    search: str
    query: str
    place: str
    condition: str
    positives: int | None
    posed: bool
    retrieved: RankingResult
    reranked: RankingResult | None = None
    milliseconds: Mapping[str, float] = field(default_factory=dict)
    error: str = ""

    @property
    def final(self) -> RankingResult:
        """The result of the final ranking of the method."""
        return self.retrieved if self.reranked is None else self.reranked


@dataclass(frozen=True, slots=True)
class Group:
    """The scores of a group of queries: a search, a condition, or all queries.

    ``with_positive`` and ``without_positive`` are ``None`` if the owner keeps the ground truth.
    ``places`` is the number of places that the intervals resample; a query without a place is its
    own place. ``milliseconds`` are means per stage. A measure that is not defined is ``None``, and
    its ``doubt`` is the reason.
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
    """The content of ``scores.json``.

    ``searches`` and ``conditions`` are empty if there is only one. ``curves`` are the
    precision-recall curves of all queries, by ranking.
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
        """Return the documented JSON object (docs/EVALUATION.md)."""
        values: dict[str, Any] = rounded(replace(self, curves={}))
        curves = {name: _curve_json(curve) for name, curve in self.curves.items()}
        return {**values, "interval": intervals.SETTINGS, "curves": curves}


def outcomes(dataset: Dataset, predictions: Predictions) -> list[Outcome]:
    """Return one record per query, in the order of the data set.

    Raises ``UsageError`` for a prediction that is invalid for this data set: an unknown query or
    database photo, a photo twice in a ranking, or a re-ranked list that only some queries have.
    """
    queries = {(search.name, name) for search in dataset.searches for name in search.queries.names}
    for search_name, query in predictions:
        if (search_name, query) not in queries:
            raise UsageError(
                f"{query} ({search_name}): is predicted, but is no query of {dataset.name}; use "
                f"the data set that the predictions were made for"
            )
    reranks = any(prediction.reranked is not None for prediction in predictions.values())
    return [
        outcome
        for search in dataset.searches
        for outcome in _of_search(dataset, search, predictions, reranks)
    ]


def scores(dataset: Dataset, outcomes: Sequence[Outcome]) -> Scores:
    """Return all measures with intervals: of all queries, by search, and by condition."""
    reach = {
        (search.name, ranking): _reach(dataset, search, outcomes, ranking)
        for search, ranking in product(dataset.searches, RANKINGS)
    }
    several = len(dataset.searches) > 1
    has_conditions = any(outcome.condition for outcome in outcomes)
    rankings = {name: _results(outcomes, name) for name in RANKINGS}
    return Scores(
        dataset=dataset.name,
        protocol=dataset.protocol.name,
        rule=dataset.protocol.rule,
        hash=dataset.hash,
        pooled=_group(outcomes, reach),
        searches=_groups(outcomes, "search", reach) if several else {},
        conditions=_groups(outcomes, "condition", reach) if has_conditions else {},
        curves={
            name: measures_of(outcomes, results).curve()
            for name, results in rankings.items()
            if results
        },
    )


def places_of(outcomes: Sequence[Outcome]) -> Array:
    """Return the numbers (Q,) of the places; a query without a place is its own place."""
    return intervals.groups(
        [(outcome.search, outcome.place, outcome.place or outcome.query) for outcome in outcomes]
    )


def measures_of(outcomes: Sequence[Outcome], results: Sequence[RankingResult]) -> Measures:
    """Return the measures of ``results``, which has one ranking per outcome."""
    positives = np.array([outcome.positives for outcome in outcomes], np.float64)  # None is NaN
    posed = np.array([outcome.posed for outcome in outcomes], np.bool_)
    return Measures(results, positives, posed)


def rounded(value: Any) -> Any:
    """Return a dataclass, with all that it contains, as JSON values; floats have ``DIGITS``."""
    if is_dataclass(value) and not isinstance(value, type):
        value = asdict(value)
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [rounded(item) for item in value]
    return round(value, DIGITS) if isinstance(value, float) else value


def _of_search(
    dataset: Dataset, search: Search, predictions: Predictions, reranks: bool
) -> Iterator[Outcome]:
    numbers = {name: number for number, name in enumerate(search.database.names)}
    queries = search.queries
    unlabelled = ("",) * len(queries)
    labels = zip(queries.place_labels or unlabelled, queries.conditions or unlabelled, strict=True)
    for row, (name, (place, condition)) in enumerate(zip(queries.names, labels, strict=True)):
        prediction = predictions.get((search.name, name))
        prediction = prediction or Prediction(search.name, name, (), error=NO_PREDICTION)
        reranked = prediction.reranked
        if reranks and reranked is None and prediction.retrieved and not prediction.error:
            raise UsageError(f"{name}: has no re-ranked list, but others have; predict it again")
        yield Outcome(
            search=search.name,
            query=name,
            place=place,
            condition=condition,
            positives=None if dataset.protocol.hidden else len(_positives(search, row)),
            posed=dataset.protocol.poses and _valid(queries.poses, row) is not None,
            retrieved=_result(search, numbers, row, prediction.retrieved),
            reranked=_result(search, numbers, row, reranked or ()) if reranks else None,
            milliseconds=dict(prediction.milliseconds),
            error=prediction.error,
        )


def _result(
    search: Search, numbers: Mapping[str, int], row: int, ranking: Ranking
) -> RankingResult:
    query = search.queries.names[row]
    ranks: dict[int, int] = {}  # by database number
    for rank, (name, _) in enumerate(ranking, start=1):
        if name not in numbers:
            raise UsageError(
                f"{name}: is an answer to {query}, but no database photo of {search.name}; use "
                f"the data set that the predictions were made for"
            )
        if numbers[name] in ranks:
            raise UsageError(f"{name}: is twice among the answers to {query}; remove one")
        ranks[numbers[name]] = rank
    if not ranks:
        return RankingResult()
    score = float(ranking[0][1])
    return RankingResult(
        len(ranks),
        tuple(sorted(ranks[number] for number in _positives(search, row) if number in ranks)),
        score if np.isfinite(score) else None,
        *_distance(search, row, numbers[ranking[0][0]]),
    )


def _positives(search: Search, row: int) -> list[int]:
    """Return the positives of a query; a distractor never is one, whatever the lists say."""
    own = len(search.own_names)
    return [number for number in search.positives[row] if number < own]


def _distance(search: Search, row: int, number: int) -> tuple[float | None, float | None]:
    """Return metres and degrees between a query and an answer; ``None`` if unknown.

    The poses are used if the query has one. The distance of a distractor is unknown, because it may
    have other coordinates.
    """
    queries, database = search.queries, search.database
    if number >= len(search.own_names):
        return None, None
    pose, other = _valid(queries.poses, row), _valid(database.poses, number)
    if pose is not None:
        if other is None:
            return None, None
        apart = float(np.linalg.norm(pose[:3, 3] - other[:3, 3]))
        # |A - B| of two rotations is sqrt(8) sin(angle / 2), which is exact for small angles too.
        chord = float(np.linalg.norm(pose[:3, :3] - other[:3, :3])) / np.sqrt(8.0)
        return apart, float(np.degrees(2.0 * np.arcsin(min(chord, 1.0))))
    start, end = _valid(queries.positions, row), _valid(database.positions, number)
    metres = None if start is None or end is None else float(np.linalg.norm(start - end))
    heading, facing = _valid(queries.headings, row), _valid(database.headings, number)
    if heading is None or facing is None:
        return metres, None
    return metres, abs(float(heading - facing + 180.0) % 360.0 - 180.0)


def _valid(values: Array | None, row: int) -> Array | None:
    """Return one row of optional values; ``None`` if it is not known (NaN)."""
    if values is None or np.any(np.isnan(values[row])):
        return None
    return np.asarray(values[row])


def _results(outcomes: Sequence[Outcome], ranking: str) -> list[RankingResult]:
    """Return one ranking of each query; an empty list if a query does not have it."""
    results = [getattr(outcome, ranking) for outcome in outcomes]
    return [] if None in results else results


def _groups(outcomes: Sequence[Outcome], label: str, reach: Reach) -> dict[str, Group]:
    """Return the scores by the value of the attribute ``label``."""
    parts: dict[str, list[Outcome]] = defaultdict(list)
    for outcome in outcomes:
        parts[getattr(outcome, label)].append(outcome)
    return {value: _group(part, reach) for value, part in parts.items()}


def _reach(dataset: Dataset, search: Search, outcomes: Sequence[Outcome], ranking: str) -> float:
    """Return the largest N at which the rankings of a search have a measure.

    It is infinite if a ranking is complete: it has every photo, or one photo per panorama.
    """
    complete = -(-len(search.own_names) // dataset.protocol.photos_a_panorama) + search.distractors
    results = _results([o for o in outcomes if o.search == search.name], ranking)
    longest = max((result.answers for result in results), default=0)
    return longest if 0 < longest < complete else np.inf


def _group(outcomes: Sequence[Outcome], reach: Reach) -> Group:
    counts = [outcome.positives for outcome in outcomes if outcome.positives is not None]
    with_positive = sum(count > 0 for count in counts) if counts else None
    times: dict[str, list[float]] = defaultdict(list)
    for outcome in outcomes:
        for stage, value in outcome.milliseconds.items():
            times[stage].append(value)
    reranks = bool(_results(outcomes, "reranked"))
    return Group(
        queries=len(outcomes),
        with_positive=with_positive,
        without_positive=None if with_positive is None else len(outcomes) - with_positive,
        unanswered=sum(not outcome.final.answers for outcome in outcomes),
        places=len(set(places_of(outcomes).tolist())),
        milliseconds={stage: round(float(np.mean(values)), 3) for stage, values in times.items()},
        retrieved=_estimates(outcomes, "retrieved", reach),
        reranked=_estimates(outcomes, "reranked", reach) if reranks else None,
    )


def _estimates(outcomes: Sequence[Outcome], ranking: str, reach: Reach) -> dict[str, Estimate]:
    measures = measures_of(outcomes, _results(outcomes, ranking))
    if outcomes and all(outcome.positives is None for outcome in outcomes):
        return dict.fromkeys(measures.names, Estimate(None, doubt=HIDDEN))
    counted = [measures.counted(name) for name in measures.names]
    values = intervals.estimates(places_of(outcomes), measures.weighted, counted)
    last = min((reach[outcome.search, ranking] for outcome in outcomes), default=np.inf)
    too_short = Estimate(None, doubt=f"the lists end at {last:.0f}")
    cuts = [name.rpartition("@")[2] for name in measures.names]  # the N, or no number
    return {
        name: too_short if cut.isdigit() and int(cut) > last else value
        for name, cut, value in zip(measures.names, cuts, values, strict=True)
    }


def _curve_json(curve: Curve | None) -> list[list[float]] | None:
    """Return at most ``CURVE_POINTS`` points (score, precision, recall), with both ends."""
    if curve is None:
        return None
    count = len(curve.score)
    rows = np.unique(np.linspace(0, count - 1, min(count, CURVE_POINTS)).round().astype(np.int64))
    points = np.stack(curve, axis=1)[rows]
    values: list[list[float]] = rounded(points.tolist())
    return values
