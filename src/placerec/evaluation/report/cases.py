"""Which queries the report shows with pictures, and what it says about them.

Many remaining errors are errors of the ground truth. A measure cannot show that, but photos can.
The report shows the wrong first answers with the highest scores, and what re-ranking changed.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from placerec.errors import NotFound, PhotoError
from placerec.evaluation.dataset import Dataset, Photos, Search
from placerec.evaluation.geometry import REGIONS_APART
from placerec.evaluation.predictions import Prediction, Ranking
from placerec.evaluation.report.rendering import evenly
from placerec.evaluation.scoring.outcomes import Outcome
from placerec.photos.decode import decode
from placerec.records import Array

MAX_CASES = 8  # per kind
LONGER_SIDE = 320  # pixels
MAX_BYTES = 15_000  # per JPEG: 72 photos in base64 stay below 1.5 MB
QUALITIES = (80, 65, 50, 35, 20)  # the first that is small enough
HEIGHT = 240  # units of the view box
MAX_MATCHES = 30

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
        matching = [outcome for outcome in outcomes if _right(outcome) == kind.right]
        matching.sort(key=_highest_score_first)
        cases = [
            {"outcome": outcome} | _case(kind, searches[outcome.search],
                                         predictions[outcome.search, outcome.query], matched)
            for outcome in matching[:MAX_CASES]
        ]  # fmt: skip
        if cases:
            groups.append({"kind": kind, "count": len(matching), "cases": cases})
    return groups


def _highest_score_first(outcome: Outcome) -> tuple[bool, float, str, str]:
    score = outcome.final.score
    return score is None, -(score or 0.0), outcome.search, outcome.query


def _right(outcome: Outcome) -> tuple[bool, ...] | None:
    """Return if the first answers are right; ``None`` without a positive or without answers."""
    rankings = outcome.retrieved, outcome.final
    if not outcome.positives or not all(ranking.answers for ranking in rankings):
        return None
    return tuple(ranking.ranks[:1] == (1,) for ranking in rankings)


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
    for name, _ in ranking:
        if name in positives:
            return name

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


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """A photo for the page: the JPEG ``data``, or no data and the ``reason``."""

    width: int
    height: int
    data: bytes = field(repr=False)
    reason: str = ""

    @property
    def uri(self) -> str:
        """The photo as ``data:image/jpeg;base64,...``."""
        return "data:image/jpeg;base64," + base64.b64encode(self.data).decode("ascii")

    @property
    def drawn_width(self) -> float:
        """Its width at ``HEIGHT``; a very wide or very narrow photo is drawn with other sides."""
        return HEIGHT * min(max(self.width / self.height, 0.4), 4.0)


def thumbnail(photo: Path) -> Thumbnail:
    """Return the upright photo with a longer side of at most 320 pixels and about 15 kB.

    Never raises: a photo that cannot be read has a reason instead of data.
    """
    try:
        pixels = decode(photo, shrink_to=(2 * LONGER_SIDE, 2 * LONGER_SIDE)).pixels
    except PhotoError as error:
        return Thumbnail(LONGER_SIDE, HEIGHT, b"", error.reason)
    except NotFound:
        return Thumbnail(LONGER_SIDE, HEIGHT, b"", "no such photo")
    image = Image.fromarray(pixels)
    image.thumbnail((LONGER_SIDE, LONGER_SIDE), Image.Resampling.LANCZOS, reducing_gap=3.0)
    data = b""
    for quality in QUALITIES:
        stream = io.BytesIO()
        image.save(stream, "JPEG", quality=quality, optimize=True)
        data = stream.getvalue()
        if len(data) <= MAX_BYTES:
            break
    return Thumbnail(image.width, image.height, data)


def drawn_matches(points: Array | None) -> Array:
    """Return at most ``MAX_MATCHES`` of the ``points`` (M, 4), ordered by x in the query."""
    if points is None:
        return np.empty((0, 4))
    finite = points[np.isfinite(points).all(axis=1)].astype(np.float64)
    inside = np.clip(finite, 0.0, 1.0)
    return evenly(inside[np.lexsort(inside.T[::-1])], MAX_MATCHES)
