"""Which queries are worth looking at, and how they are shown.

Many remaining errors are errors of the ground truth, and a figure cannot tell: one has to look.
Shown are the wrong first answers that the method is surest of, and what re-ranking changed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from placerec.errors import PhotoError
from placerec.evaluation.dataset import Dataset, Photos, Search
from placerec.evaluation.geometry import REGIONS_APART
from placerec.evaluation.predictions import Prediction, Ranking
from placerec.evaluation.report.map import metres
from placerec.evaluation.report.markup import Markup, element
from placerec.evaluation.report.pictures import Panel, row, thumbnail
from placerec.evaluation.scoring.outcomes import Outcome
from placerec.records import Array

MOST = 8  # cases of a kind

# search, query and database name -> (M, 4) matches as fractions: x, y in the query, then in the
# database photo; None where the method has none
Matched = Callable[[str, str, str], Array | None]
Predictions = Mapping[tuple[str, str], Prediction]


@dataclass(frozen=True, slots=True)
class Kind:
    """A group of cases: what they are, and which photo stands beside query and answer.

    ``before`` and ``after``: whether the first answer is right before and after re-ranking.
    """

    title: str
    note: str
    before: bool
    after: bool
    other: str


RERANKED = (
    Kind("Wrong before and after re-ranking", "The surest wrong answers, by the final score.",
         False, False, "Correct"),
    Kind("Lost by re-ranking", "The global ranking had them right.", True, False, "Global"),
    Kind("Won by re-ranking", "The global ranking had them wrong.", False, True, "Global"),
)  # fmt: skip
RETRIEVED = Kind("Wrong answers", "The surest ones, by the score of the first answer.", False,
                 False, "Correct")  # fmt: skip


def pictures(
    dataset: Dataset, outcomes: Sequence[Outcome], predictions: Predictions, matched: Matched | None
) -> list[Markup]:
    """One section a kind that has cases."""
    reranks = any(one.reranked is not None for one in outcomes)
    searches = {search.name: search for search in dataset.searches}
    sections = []
    for kind in RERANKED if reranks else (RETRIEVED,):
        cases = [one for one in outcomes if _is(kind, one)]
        if not cases:
            continue
        cases.sort(key=lambda one: (-_confidence(one), one.search, one.query))
        shown = [
            _case(kind, _Sight(searches[one.search], predictions[one.search, one.query]),
                  _labels(one, len(searches)), matched)
            for one in cases[:MOST]
        ]  # fmt: skip
        many = f" {len(shown)} of {len(cases)} are shown." if len(cases) > len(shown) else ""
        heading = element("h3", f"{kind.title} ({len(cases)})")
        sections.append(
            element("section", heading, element("p", kind.note + many, class_="note"), shown)
        )
    return sections


def _is(kind: Kind, one: Outcome) -> bool:
    """A query with a positive and an answer, right and wrong as ``kind`` says."""
    if not (one.positives and one.retrieved.answers and one.final.answers):
        return False
    right = tuple(ranking.ranks[:1] == (1,) for ranking in (one.retrieved, one.final))
    return right == (kind.before, kind.after)


def _confidence(one: Outcome) -> float:
    return -np.inf if one.final.confidence is None else one.final.confidence


@dataclass(frozen=True, slots=True)
class _Sight:
    """One query with what was answered."""

    search: Search
    prediction: Prediction

    @property
    def final(self) -> Ranking:
        return self.prediction.reranked or self.prediction.retrieved

    @property
    def query(self) -> int:
        return self.search.queries.names.index(self.prediction.query)

    def number(self, name: str) -> int:
        return self.search.database.names.index(name)

    def right(self, number: int) -> bool:
        own = len(self.search.database) - self.search.distractors
        return number < own and number in self.search.positives[self.query]

    def correct(self) -> int:
        """Of the photos that would have been right the one that came first, else the nearest."""
        for name, _ in self.final:
            if self.right(number := self.number(name)):
                return number

        def away(number: int) -> float:
            known = self.metres(number)
            return np.inf if known is None else known

        return min(sorted(self.search.positives[self.query]), key=away)

    def metres(self, number: int) -> float | None:
        """From the query to a database photo; ``None`` where a position is unknown."""
        here, there = _points_of(self.search.queries), _points_of(self.search.database)
        own = len(self.search.database) - self.search.distractors
        if here is None or there is None or number >= own:
            return None
        away = float(np.linalg.norm(there[number] - here[self.query]))
        return away if away < REGIONS_APART / 2 else None


def _points_of(photos: Photos) -> Array | None:
    if photos.positions is not None or photos.poses is None:
        return photos.positions
    return np.asarray(photos.poses[:, :3, 3])


def _labels(one: Outcome, searches: int) -> str:
    return " · ".join(filter(None, (one.search if searches > 1 else "", one.condition)))


def _case(kind: Kind, sight: _Sight, labels: str, matched: Matched | None) -> Markup:
    search, prediction = sight.search, sight.prediction
    names, before = search.database.names, kind.other == "Global"
    answer = sight.final[0][0]
    other = prediction.retrieved[0][0] if before else names[sight.correct()]
    numbers = [sight.number(answer), sight.number(other)]
    paths = [search.queries.paths[sight.query], *(search.database.paths[n] for n in numbers)]
    roles = ("Query", "Answer", kind.other)
    told = (
        labels,
        _told(sight, answer, sight.final),
        _told(sight, other, prediction.retrieved if before else sight.final),
    )
    lines = [
        element("tr", element("th", role, scope="row"), element("td", element("bdi", name)),
                element("td", words))
        for role, name, words in zip(roles, (prediction.query, answer, other), told, strict=True)
    ]  # fmt: skip
    panels = [
        Panel(role, name, thumbnail(path))
        for role, name, path in zip(roles, (prediction.query, answer, other), paths, strict=True)
    ]
    points = _points(matched, search.name, prediction.query, answer)
    table = element("table", element("tbody", lines))
    return element("figure", row(panels, points), table, class_="case")


def _points(matched: Matched | None, search: str, query: str, answer: str) -> Array | None:
    try:
        return matched(search, query, answer) if matched else None
    except PhotoError:
        return None  # the grey box says why


def _told(sight: _Sight, name: str, ranking: Ranking) -> str:
    """Right or wrong, how far away, at which rank, with which score."""
    number = sight.number(name)
    told = ["right" if sight.right(number) else "wrong"]
    away = sight.metres(number)
    if away is not None:
        told.append(f"{metres(away)} away")
    ranks = {one: (rank, score) for rank, (one, score) in enumerate(ranking, start=1)}
    if name in ranks:
        rank, score = ranks[name]
        told.append(f"rank {rank}, score {score:.4g}")
    else:
        told.append("not in the list")
    return " · ".join(told)
