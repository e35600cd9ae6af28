"""Calibrate an index when it is built: how sure is an answer, and how far off is it?

The index answers photos from elsewhere, which ship in the package as feature maps. Their evidence
is what a query has that is not in the map. Then it answers its own photos, each without itself:
the photos near it are the answer. This part needs positions, and gives the distances of answers
from the truth. Neither needs a label.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import PurePosixPath
from typing import TypeVar

import numpy as np

from placerec.errors import NotFound, PhotoError
from placerec.index.reader import Entry, StoredPatches
from placerec.index.store import Reader
from placerec.index.vectors import ranked_by
from placerec.method.confidence import Calibration, evidence, map_odds, radii
from placerec.method.ranking import best_first
from placerec.method.scores import match_candidates, score_matches
from placerec.method.where import fused_position
from placerec.models.foreign import foreign_maps
from placerec.models.model import Model
from placerec.photos.find import evenly_spread
from placerec.photos.sphere import distance
from placerec.records import Array
from placerec.runtime import Runtime
from placerec.settings import AnySettings, Settings
from placerec.workers import map_in_order, single_threaded_blas

Item = TypeVar("Item")
Result = TypeVar("Result")

FEWEST_PHOTOS = 20  # as many as there are candidates
MOST_LEFT_OUT = 128  # photos with a position
SAME_PLACE = 25.0  # metres
NEIGHBOURS = 3  # photos in the order of their names that may show one place
NOT_THE_DEFAULT = "only the default method has one, with none of its settings changed"


@cache  # a query asks it several times
def no_confidence(settings: AnySettings) -> str:
    """Return why answers with these settings have no confidence; empty if they can have one."""
    own = isinstance(settings, Settings) and settings.replace(stop_at=Settings().stop_at)
    return "" if own == Settings() else NOT_THE_DEFAULT


def is_outgrown(calibration: Calibration, photos: int) -> bool:
    """Whether a refit of an index with so many ``photos`` would give a better calibration.

    It has twice as many photos as then, or enough now for a first calibration.
    """
    if calibration.reason:
        return calibration.reason == too_few(calibration.photos) and photos >= FEWEST_PHOTOS
    return photos >= 2 * calibration.photos


def too_few(photos: int) -> str:
    """Return why so many photos have no calibration."""
    count = "1 photo is" if photos == 1 else f"{photos} photos are"
    return f"{count} too few; refit the index when it has {FEWEST_PHOTOS} or more"


@dataclass(frozen=True, slots=True)
class Places:
    """Which photos of an index show one place: by position, or else by the order of their names."""

    entries: Sequence[Entry]

    def elsewhere(self, first: int, second: int) -> bool:
        """Whether two rows of the index show different places."""
        metres = self.metres(first, second)
        if metres is not None:
            return metres > SAME_PLACE
        folders = {PurePosixPath(self.entries[row].name).parent for row in (first, second)}
        return len(folders) > 1 or abs(first - second) > NEIGHBOURS

    def metres(self, first: int, second: int) -> float | None:
        """Return the distance of two rows, or ``None`` if one has no position."""
        one, two = self.entries[first].position, self.entries[second].position
        return distance(one, two) if one and two else None

    def evidence(self, rows: Sequence[int], scores: Array) -> Array:
        """Return the evidence (n, 2) of candidates: their rows and scores (n,)."""
        return evidence(scores, lambda i, j: self.elsewhere(rows[i], rows[j]))


def calibrate_index(reader: Reader, model: Model, runtime: Runtime) -> Calibration:
    """Return the calibration of an index that ``model`` describes.

    Photos that cannot be read now take no part. The same photos give the same numbers.
    """
    photos, reason = len(reader.entries), no_confidence(model.settings)
    elsewhere = None if reason else foreign_maps(model.trunk, model.settings.image_size)
    if not reason and elsewhere is None:
        reason = "only the trunk of the default method has one"
    if not reason and photos < FEWEST_PHOTOS:
        reason = too_few(photos)
    if reason or elsewhere is None:
        return Calibration(photos=photos, reason=reason)
    with single_threaded_blas():
        return _Calibrator(reader, model, runtime).run(elsewhere)


@dataclass(frozen=True, slots=True)
class _Asked:
    """What the index answers to a query: candidates, best first, and their evidence (n, 2)."""

    rows: list[int]
    scores: Array = field(repr=False)
    evidence: Array = field(repr=False)


class _Calibrator:
    def __init__(self, reader: Reader, model: Model, runtime: Runtime) -> None:
        self._reader, self._model, self._runtime = reader, model, runtime
        self._entries, self._places = reader.entries, Places(reader.entries)
        self._descriptors = reader.global_descriptors()
        self._retrieval = reader.retrieval_descriptors()

    def run(self, elsewhere: Array) -> Calibration:
        """Ask all queries and return the calibration."""
        foreign = self._each("photos from elsewhere", list(elsewhere), self._ask)
        odds = sorted(float(map_odds(asked.evidence[0])) for asked in foreign)
        fitted = Calibration(tuple(odds), photos=len(self._entries))
        located = [row for row, entry in enumerate(self._entries) if entry.position]
        spread = evenly_spread(len(located), MOST_LEFT_OUT)
        errors = self._each("photos left out", [located[n] for n in spread], self._error(fitted))
        if not errors:
            return fitted
        return replace(fitted, radii=radii(*np.array(errors).T))

    def _each(
        self, stage: str, items: Sequence[Item], function: Callable[[Item], Result | None]
    ) -> list[Result]:
        """Return the results that are not ``None``, and report the progress."""
        results = []
        for result in map_in_order(function, items, self._runtime.cores):
            results.append(result)
            self._runtime.progress(f"calibrating: {stage}", len(results), len(items))
        return [result for result in results if result is not None]

    def _ask(
        self, features: Array, without: Collection[int] = (), row: int | None = None
    ) -> _Asked:
        """Return the answer to a feature map (h, w, C), without some rows.

        If it is that of a ``row``, the retriever of the index makes the shortlist. There are only
        feature maps of the photos from elsewhere, so our global descriptor makes theirs.
        """
        query, retrieval = self._model.describe_map(features, stride=1), None
        if row is not None and self._retrieval is not None:
            retrieval = self._retrieval
            query = replace(query, retrieval_descriptor=retrieval[row])
        vector, vectors = ranked_by(query, self._descriptors, retrieval)
        count = self._model.settings.candidates
        order, cosines = vectors.shortlist(vector, count + len(without))
        if retrieval is not None:
            cosines = self._descriptors.cosines(query.global_descriptor, order)
        chosen = [place for place, row in enumerate(order.tolist()) if row not in without][:count]
        stored = self._reader.read_patches(order[chosen].tolist())
        matched = match_candidates(query.patches, stored, 1, StoredPatches.decode)
        scores, _ = score_matches(matched, self._model.settings, cosines=cosines[chosen])
        best = best_first(scores)
        rows, scores = order[chosen][best].tolist(), scores[best]
        return _Asked(rows, scores, self._places.evidence(rows, scores))

    def _error(self, fitted: Calibration) -> Callable[[int], tuple[float, float] | None]:
        """Return a function from a row to the confidence of its answer and the error in metres.

        ``None`` if no other photo is near, or if the photo cannot be read.
        """

        def error(row: int) -> tuple[float, float] | None:
            entry = self._entries[row]
            copies = {n for n, other in enumerate(self._entries) if other.sha256 == entry.sha256}
            if not self._has_neighbour(row, copies):
                return None
            try:
                photo = self._model.read(self._reader.photo_path(entry.name), entry.name)
            except (PhotoError, NotFound):
                return None
            asked = self._ask(self._model.feature_map(photo.pixels), copies, row)
            positions = [self._entries[row].position for row in asked.rows]
            where = fused_position(positions, asked.scores)
            metres = distance(where, entry.position) if where and entry.position else math.inf
            return float(fitted.confidence(asked.evidence[:1])[0]), metres

        return error

    def _has_neighbour(self, row: int, copies: Collection[int]) -> bool:
        """Whether a photo that is no copy shows the place of ``row``, by its position."""
        metres = (self._places.metres(row, other) for other in range(len(self._entries)))
        return any(
            value is not None and value <= SAME_PLACE and other not in copies
            for other, value in enumerate(metres)
        )
