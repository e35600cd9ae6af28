"""Which queries the report shows with pictures, and what it says about them.

Many remaining errors are errors of the ground truth. A measure cannot show that, but photos can.
The report shows the wrong first answers with the highest scores, and what re-ranking changed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from placerec.errors import PhotoError
from placerec.evaluation.dataset import Dataset, Photos, Search
from placerec.evaluation.geometry import REGIONS_APART
from placerec.evaluation.predictions import Prediction, Ranking
from placerec.evaluation.report.pictures import drawn_matches, thumbnail
from placerec.evaluation.scoring.outcomes import Outcome
from placerec.records import Array

MAX_CASES = 8  # per kind

# search, query and database name -> (M, 4) matches as fractions: x, y in the query, then in the
# database photo; None if the method has none
Matched = Callable[[str, str, str], Array | None]
Predictions = Mapping[tuple[str, str], Prediction]


@dataclass(frozen=True, slots=True)
class Kind:
    """A group of cases.

    ``right`` says if the first answer is right before and after re-ranking. ``third`` is the photo
    beside query and answer: a correct photo, or the first of the global ranking.
    """

    title: str
    note: str
    right: tuple[bool, bool]
    third: str = "Correct"

    def includes(self, outcome: Outcome) -> bool:
        """Return if a query has a positive and an answer, right and wrong as in ``right``."""
        rankings = outcome.retrieved, outcome.final
        if not outcome.positives or not all(ranking.answers for ranking in rankings):
            return False
        return tuple(ranking.ranks[:1] == (1,) for ranking in rankings) == self.right


RERANKED = (
    Kind("Wrong before and after re-ranking", "Highest final scores first.", (False, False)),
    Kind("Lost by re-ranking", "Right in the global ranking.", (True, False), "Global"),
    Kind("Won by re-ranking", "Wrong in the global ranking.", (False, True), "Global"),
)
RETRIEVED = (Kind("Wrong answers", "Highest scores of the first answer first.", (False, False)),)


def case_groups(
    dataset: Dataset, outcomes: Sequence[Outcome], predictions: Predictions, matched: Matched | None
) -> list[dict[str, object]]:
    """Return one group per kind that has cases."""
    searches = {search.name: search for search in dataset.searches}
    reranks = any(outcome.reranked is not None for outcome in outcomes)
    groups: list[dict[str, object]] = []
    for kind in RERANKED if reranks else RETRIEVED:
        matching = [outcome for outcome in outcomes if kind.includes(outcome)]
        matching.sort(key=lambda outcome: (-_confidence(outcome), outcome.search, outcome.query))
        cases = []
        for outcome in matching[:MAX_CASES]:
            prediction = predictions[outcome.search, outcome.query]
            labels = [outcome.search if len(searches) > 1 else "", outcome.condition]
            case = _case(kind.third, searches[outcome.search], prediction, matched)
            cases.append({"labels": [label for label in labels if label], **case})
        if cases:
            groups.append({"kind": kind, "count": len(matching), "cases": cases})
    return groups


def _confidence(outcome: Outcome) -> float:
    return -np.inf if outcome.final.confidence is None else outcome.final.confidence


def _case(
    third: str, search: Search, prediction: Prediction, matched: Matched | None
) -> dict[str, object]:
    """Return the three photos of a case and the matches of the first two."""
    query, retrieved = prediction.query, prediction.retrieved
    final = prediction.reranked or retrieved
    answer = final[0][0]
    path = search.queries.paths[search.queries.names.index(query)]
    if third == "Global":
        panel = _panel(third, search, query, retrieved[0][0], retrieved)
    else:
        panel = _panel(third, search, query, _best_positive(search, query, final), final)
    try:
        points = matched(search.name, query, answer) if matched else None
    except PhotoError:
        points = None  # the page shows the reason in place of the photo
    return {
        "query": {"role": "Query", "name": query, "photo": thumbnail(path)},
        "answers": [_panel("Answer", search, query, answer, final), panel],
        "matches": drawn_matches(points).tolist(),
    }


def _panel(role: str, search: Search, query: str, name: str, ranking: Ranking) -> dict[str, object]:
    """Return what the page shows and says about a database photo."""
    ranks = {answer: (rank, score) for rank, (answer, score) in enumerate(ranking, start=1)}
    return {
        "role": role, "name": name,
        "photo": thumbnail(search.database.paths[search.database.names.index(name)]),
        "right": name in _positives(search, query), "rank": ranks.get(name),
        "metres": _metres(search, query, name),
    }  # fmt: skip


def _positives(search: Search, query: str) -> frozenset[str]:
    return search.answers[query].intersection(search.own_names)


def _best_positive(search: Search, query: str, ranking: Ranking) -> str:
    """Return the positive with the best rank, or the nearest one if none has a rank."""
    positives = _positives(search, query)
    ranked = [name for name, _ in ranking if name in positives]
    if ranked:
        return ranked[0]

    def distance(name: str) -> float:
        metres = _metres(search, query, name)
        return np.inf if metres is None else metres

    return min((name for name in search.own_names if name in positives), key=distance)


def _metres(search: Search, query: str, name: str) -> float | None:
    """Return the distance of a query and a database photo, ``None`` if it is unknown."""
    queries, database = _points(search.queries), _points(search.database)
    if queries is None or database is None or name not in search.own_names:
        return None
    points = (queries[search.queries.names.index(query)],
              database[search.database.names.index(name)])  # fmt: skip
    metres = float(np.linalg.norm(points[1] - points[0]))
    return metres if metres < REGIONS_APART / 2 else None


def _points(photos: Photos) -> Array | None:
    if photos.positions is not None or photos.poses is None:
        return photos.positions
    return np.asarray(photos.poses[:, :3, 3])
