"""Which of several trunks finds more: a judgement without labels, or on a data set with them.

Each trunk gets the global descriptor of the default method, fitted anew on the database. The
queries are those of validation data, or night views of photos that took no part in a training; the
answer to such a view is its own photo, among all clean photos.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from placerec.errors import UsageError
from placerec.evaluation.dataset import Search
from placerec.models.fit import MOST_PHOTOS, FeatureMaps, fit_model
from placerec.models.model import global_descriptor
from placerec.photos.decode import decode
from placerec.photos.find import evenly_spread
from placerec.records import Array
from placerec.runtime import Runtime
from placerec.schedule import InvarianceSchedule, Size
from placerec.settings import Settings
from placerec.training.unlabelled import Unlabelled, read_images
from placerec.training.views import Views
from placerec.trunks import Trunk, feature_map
from placerec.workers import map_in_order

Picture = Callable[[], Array]  # reads or draws a photo: pixels (H, W, 3) uint8 RGB


class Score(NamedTuple):
    """How much a trunk finds. Scores are compared by recall@1, and then by the
    mean reciprocal rank.

    ``reciprocal`` is the mean of 1 / (rank of the first right answer).
    """

    recall: float
    reciprocal: float

    def __str__(self) -> str:
        return f"recall@1 {self.recall:.3f} (mean reciprocal rank {self.reciprocal:.4f})"


@dataclass(frozen=True, slots=True)
class Question:
    """Queries to one database. ``positives``: for each query the rows of the right answers."""

    database: Sequence[Path] = field(repr=False)
    queries: Sequence[Picture] = field(repr=False)
    positives: Sequence[frozenset[int]] = field(repr=False)


def labelled(searches: Sequence[Search], size: Size) -> list[Question]:
    """Return the questions of validation data; queries without an answer are left out.

    Raises ``UsageError`` if no query has an answer.
    """
    questions = []
    for search in searches:
        rows = [row for row, right in enumerate(search.positives) if right]
        queries = [partial(_pixels, search.queries.paths[row], size) for row in rows]
        positives = [search.positives[row] for row in rows]
        if rows:
            questions.append(Question(search.database.paths, queries, positives))
    if not questions:
        raise UsageError("validation data: no query has an answer; give other data")
    return questions


def held_back(photos: Unlabelled, schedule: InvarianceSchedule) -> list[Question]:
    """Return night views of the photos held back, as questions to them and to other photos.

    Every trunk gets the same views; each is drawn once and kept.
    """
    others = max(0, schedule.judged_photos - len(photos.held_back))
    rows = evenly_spread(len(photos.trained), others)
    database = [*photos.held_back, *(photos.trained[row] for row in rows)]
    views = -(-schedule.judged_views // len(photos.held_back))
    queries = [
        cache(partial(_night_view, path, schedule, schedule.seed + number))
        for number, path in enumerate(photos.held_back * views)
    ]
    positives = [frozenset([number]) for number in range(len(photos.held_back))]
    return [Question(database, queries, positives * views)]


def judge(
    trunk: Trunk, questions: Sequence[Question], size: Size, runtime: Runtime, stage: str
) -> Score:
    """Return what ``trunk`` finds with photos of ``size`` (height, width)."""
    settings = Settings(image_size=size, patch_sizes=())
    work = sum(len(one.database) + len(one.queries) for one in questions)
    done = 0

    def mapped(pictures: Sequence[Picture]) -> Iterator[Array]:
        nonlocal done
        maps = map_in_order(lambda get: feature_map(trunk, get(), size), pictures, runtime.cores)
        for features in maps:
            done += 1
            runtime.progress(stage, done, work)
            yield features

    ranks: list[float] = []
    for question in questions:
        with closing(FeatureMaps()) as maps:
            for features in mapped([partial(_pixels, path, size) for path in question.database]):
                maps.append(features)
            fit = [maps[row] for row in evenly_spread(len(maps), MOST_PHOTOS)]
            fitted = fit_model(trunk, settings, fit, name="", training_data="").fitted
            database = np.stack([global_descriptor(one, fitted, settings) for one in maps])
        queries = [global_descriptor(one, fitted, settings) for one in mapped(question.queries)]
        similarity = np.stack(queries) @ database.T
        ranks += first_ranks(similarity, question.positives)
    return Score(float(np.mean(np.array(ranks) == 1)), float(np.mean(1 / np.array(ranks))))


def first_ranks(similarity: Array, positives: Sequence[frozenset[int]]) -> list[int]:
    """Return the rank, from 1, of the first right answer to each query.

    ``similarity`` is (queries, database). Of equal photos the wrong ones come first, so a trunk
    that describes all photos alike finds nothing.
    """
    ranks = []
    for row, right in zip(similarity, positives, strict=True):
        best = max(float(row[number]) for number in right)
        ranks.append(1 + int((row >= best).sum()) - sum(row[number] >= best for number in right))
    return ranks


def _pixels(path: Path, size: Size) -> Array:
    return decode(path, None, (2 * size[0], 2 * size[1])).pixels


def _night_view(path: Path, schedule: InvarianceSchedule, seed: int) -> Array:
    """Return the pixels (H, W, 3) uint8 of a random night view of a photo."""
    size = schedule.judged_size
    views = Views(size, schedule, torch.Generator().manual_seed(seed))
    photo = torch.from_numpy(read_images([path], size, 1))
    view = views.night(views.cut(photo, views.quadrilaterals(1, schedule.night_side)))
    pixels: Array = (255 * view[0]).round().to(torch.uint8).permute(1, 2, 0).numpy()
    return np.ascontiguousarray(pixels)
