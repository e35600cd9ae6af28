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
        """Return if a query has a positive and answers that are right and wrong as in ``right``."""
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
        matching = sorted(filter(kind.includes, outcomes), key=_highest_score_first)
        cases = [
            {"outcome": outcome} | _case(kind, searches[outcome.search],
                                         predictions[outcome.search, outcome.query], matched)
            for outcome in matching[:MAX_CASES]
        ]  # fmt: skip
        if cases:
            groups.append({"kind": kind, "count": len(matching), "cases": cases})
    return groups


def _highest_score_first(outcome: Outcome) -> tuple[bool, float, str, str]:
    score = outcome.final.confidence
    return score is None, -(score or 0.0), outcome.search, outcome.query


def _case(
    kind: Kind, search: Search, prediction: Prediction, matched: Matched | None
) -> dict[str, object]:
    """Return the three photos of a case and the matches of the first two."""
    row = search.queries.names.index(prediction.query)
    positives = search.answers[prediction.query].intersection(search.own_names)
    retrieved, final = prediction.retrieved, prediction.reranked or prediction.retrieved

    def panel(role: str, name: str, ranking: Ranking) -> dict[str, object]:
        ranks = {answer: (rank, score) for rank, (answer, score) in enumerate(ranking, start=1)}
        photo = thumbnail(search.database.paths[search.database.names.index(name)])
        return {"role": role, "name": name, "photo": photo, "right": name in positives,
                "rank": ranks.get(name), "metres": _metres(search, row, name)}  # fmt: skip

    answer = final[0][0]
    if kind.third == "Global":
        third = panel("Global", retrieved[0][0], retrieved)
    else:
        third = panel("Correct", _best_positive(search, row, positives, final), final)
    try:
        points = matched(search.name, prediction.query, answer) if matched else None
    except PhotoError:
        points = None  # the page shows the reason in place of the photo
    query = {"role": "Query", "name": prediction.query,
             "photo": thumbnail(search.queries.paths[row])}  # fmt: skip
    return {"query": query, "answers": [panel("Answer", answer, final), third],
            "matches": drawn_matches(points).tolist()}  # fmt: skip


def _best_positive(search: Search, row: int, positives: frozenset[str], ranking: Ranking) -> str:
    """Return the positive with the best rank, or the nearest one if none has a rank."""
    ranked = [name for name, _ in ranking if name in positives]
    if ranked:
        return ranked[0]

    def distance(name: str) -> float:
        metres = _metres(search, row, name)
        return np.inf if metres is None else metres

    return min((name for name in search.own_names if name in positives), key=distance)


def _metres(search: Search, row: int, name: str) -> float | None:
    """Return the distance of a query and a database photo, ``None`` if it is unknown."""
    queries, database = _points(search.queries), _points(search.database)
    if queries is None or database is None or name not in search.own_names:
        return None
    point = database[search.database.names.index(name)]
    metres = float(np.linalg.norm(point - queries[row]))
    return metres if metres < REGIONS_APART / 2 else None


def _points(photos: Photos) -> Array | None:
    if photos.positions is not None or photos.poses is None:
        return photos.positions
    return np.asarray(photos.poses[:, :3, 3])
