"""Predictions against the ground truth: the outcome of every query.

``outcomes`` returns one record per query, in the order of the data set. No query is dropped: one
without a prediction counts as not found.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from placerec.errors import UsageError
from placerec.evaluation.dataset import Dataset, Search
from placerec.evaluation.predictions import Prediction, Ranking
from placerec.evaluation.scoring.metrics import RankingResult
from placerec.records import Array

NO_PREDICTION = "no prediction"
RANKINGS = ("retrieved", "reranked")

Predictions = Mapping[tuple[str, str], Prediction]  # by the names of search and query


@dataclass(frozen=True, slots=True)
class Outcome:
    """What happened to one query.

    ``place`` and ``condition`` are its labels, or empty. ``positives`` is their number, or ``None``
    if the owner keeps the ground truth. ``posed`` says whether the query counts for the pose
    thresholds. ``reranked`` is ``None`` if the method only retrieves. ``error`` is the reason why
    there is no answer. ``confidence`` and ``in_map`` are those of the ``Prediction``; both are
    ``None`` without a calibration.
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
    confidence: float | None = None
    in_map: bool | None = None

    @property
    def final(self) -> RankingResult:
        """The result of the final ranking of the method."""
        return self.retrieved if self.reranked is None else self.reranked


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


def foreign_outcomes(predictions: Predictions) -> list[Outcome]:
    """Return one record per foreign photo that has an answer; no answer to it is right.

    It has no search: a photo that several searches were asked is one place.
    """
    return [
        Outcome(
            "", query, "", "", 0, False, RankingResult(len(prediction.retrieved)),
            confidence=prediction.confidence, in_map=prediction.in_map,
        )
        for (_, query), prediction in predictions.items() if not prediction.error
    ]  # fmt: skip


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
            confidence=prediction.confidence,
            in_map=prediction.in_map,
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
