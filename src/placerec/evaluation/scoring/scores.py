"""The scores of a run: all measures with intervals, of all queries and of groups of them.

``scores`` reads the outcomes only. ``metrics`` and ``confidence`` define the measures, and
``intervals`` estimates their uncertainty.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, is_dataclass, replace
from itertools import product
from typing import Any

import numpy as np

from placerec.evaluation.dataset import Dataset, Search
from placerec.evaluation.scoring import intervals
from placerec.evaluation.scoring.confidence import Bin, OpenSetMeasures, OwnMeasures, bins
from placerec.evaluation.scoring.intervals import Estimate
from placerec.evaluation.scoring.metrics import Curve, Measures, RankingResult
from placerec.evaluation.scoring.outcomes import RANKINGS, Outcome
from placerec.records import Array

HIDDEN = "the owner keeps the truth"
CURVE_POINTS = 200  # at most, in scores.json
DIGITS = 6  # of measures in scores.json

Reach = Mapping[tuple[str, str], float]  # by search and ranking (``_reach``)


@dataclass(frozen=True, slots=True)
class Group:
    """The scores of a group of queries: a search, a condition, or all queries.

    ``with_positive`` and ``without_positive`` are ``None`` if the owner keeps the ground truth.
    ``places`` is the number of places that the intervals resample; a query without a place is its
    own place. ``milliseconds`` are means per stage. A measure that is not defined is ``None``, and
    its ``doubt`` is the reason. ``confidence`` has the measures of ``OwnMeasures``; it is ``None``
    if no answer has a confidence.
    """

    queries: int
    with_positive: int | None
    without_positive: int | None
    unanswered: int
    places: int
    milliseconds: dict[str, float]
    retrieved: dict[str, Estimate]
    reranked: dict[str, Estimate] | None
    confidence: dict[str, Estimate] | None = None


@dataclass(frozen=True, slots=True)
class OpenSet:
    """The queries and foreign photos together.

    ``photos`` is the number of foreign photos that have an answer with a confidence. ``measures``
    are those of ``OpenSetMeasures``, and ``reliability`` the bins of all answers.
    """

    photos: int
    measures: dict[str, Estimate]
    reliability: list[Bin] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Scores:
    """The content of ``scores.json``.

    ``searches`` and ``conditions`` are empty if there is only one. ``curves`` are the
    precision-recall curves of all queries, by ranking. ``reliability`` are the bins of the
    confidences of all queries. ``open_set`` is ``None`` without foreign photos, or without
    confidences.
    """

    dataset: str
    protocol: str
    rule: str
    hash: str
    pooled: Group
    searches: dict[str, Group]
    conditions: dict[str, Group]
    curves: dict[str, Curve | None] = field(repr=False)
    reliability: list[Bin] = field(default_factory=list, repr=False)
    open_set: OpenSet | None = None

    def as_json(self) -> dict[str, Any]:
        """Return the documented JSON object (docs/EVALUATION.md)."""
        values: dict[str, Any] = rounded(replace(self, curves={}))
        curves = {name: _curve_json(curve) for name, curve in self.curves.items()}
        return {**values, "interval": intervals.SETTINGS, "curves": curves}


def scores(
    dataset: Dataset, outcomes: Sequence[Outcome], foreign: Sequence[Outcome] = ()
) -> Scores:
    """Return all measures with intervals: of all queries, by search, and by condition.

    Only the measures of confidence count the ``foreign`` photos.
    """
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
        reliability=_reliability(outcomes),
        open_set=_open_set(outcomes, foreign),
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


def own_measures_of(outcomes: Sequence[Outcome]) -> OwnMeasures | None:
    """Return the measures of the confidences; ``None`` without one, or without ground truth."""
    confidence, *judged = _confidences(outcomes)
    hidden = any(outcome.positives is None for outcome in outcomes)
    return None if hidden or np.isnan(confidence).all() else OwnMeasures(confidence, *judged)


def rounded(value: Any) -> Any:
    """Return a dataclass, with all that it contains, as JSON values; floats have ``DIGITS``."""
    if is_dataclass(value) and not isinstance(value, type):
        value = asdict(value)
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [rounded(item) for item in value]
    return round(value, DIGITS) if isinstance(value, float) else value


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
        confidence=_named_estimates(outcomes, own_measures_of(outcomes)),
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


def _confidences(outcomes: Sequence[Outcome]) -> tuple[Array, Array, Array]:
    """Return the confidences (n,), NaN without one, and which answers are right, and in the map."""
    confidence = np.array([outcome.confidence for outcome in outcomes], np.float64)
    right = np.array([outcome.final.correct for outcome in outcomes], np.bool_)
    return confidence, right, np.array([bool(outcome.in_map) for outcome in outcomes], np.bool_)


def _named_estimates(
    outcomes: Sequence[Outcome], measures: OwnMeasures | OpenSetMeasures | None
) -> dict[str, Estimate] | None:
    if measures is None:
        return None
    counted = [measures.counted(name) for name in measures.names]
    values = intervals.estimates(places_of(outcomes), measures.weighted, counted)
    return dict(zip(measures.names, values, strict=True))


def _reliability(outcomes: Sequence[Outcome]) -> list[Bin]:
    confidence, right, _ = _confidences(outcomes)
    counts = ~np.isnan(confidence)
    return bins(confidence[counts], right[counts]) if own_measures_of(outcomes) else []


def _open_set(own: Sequence[Outcome], foreign: Sequence[Outcome]) -> OpenSet | None:
    photos = len({outcome.query for outcome in foreign if outcome.confidence is not None})
    if not photos or own_measures_of(own) is None:
        return None
    both = [*own, *foreign]
    is_foreign = np.arange(len(both)) >= len(own)
    measures = _named_estimates(both, OpenSetMeasures(*_confidences(both), is_foreign))
    return OpenSet(photos, measures or {}, _reliability(both))


def _curve_json(curve: Curve | None) -> list[list[float]] | None:
    """Return at most ``CURVE_POINTS`` points (score, precision, recall), with both ends."""
    if curve is None:
        return None
    count = len(curve.score)
    rows = np.unique(np.linspace(0, count - 1, min(count, CURVE_POINTS)).round().astype(np.int64))
    points = np.stack(curve, axis=1)[rows]
    values: list[list[float]] = rounded(points.tolist())
    return values
