"""The method on one page: photo, features, shortlist, re-ranking, answer.

from placerec import PlaceRecognizer
answer = PlaceRecognizer.open("town.placerec").query("photo.jpg")
print(answer.best.path, answer.best.score)
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from PIL import Image

from placerec.engine import engine_for
from placerec.errors import NotFound, PhotoError
from placerec.files import path_of
from placerec.index.calibrate import FEWEST_PHOTOS, Places, no_confidence, too_few
from placerec.index.connection import on_error
from placerec.index.index_model import model_of_index
from placerec.index.reader import StoredPatches
from placerec.index.retriever import AnyRetriever, IndexRetriever, retriever_of_index
from placerec.index.speedup import Speedup, open_speedup
from placerec.index.store import Reader, open_index
from placerec.index.vectors import Vectors, ranked_by
from placerec.method.matching import Matched
from placerec.method.ranking import best_first, rerank
from placerec.method.scores import match_candidates, score_matches
from placerec.method.where import fused_position
from placerec.models.model import Model, on_device
from placerec.models.resolve import AUTO
from placerec.photos.pixels import AnyPhoto, photo_of
from placerec.photos.structure import has_structure
from placerec.recognise.opening import model_facts, query_settings, require_share
from placerec.records import Answer, Array, Features, Match, PatchSet, Photo, Place, Where
from placerec.runtime import DEFAULT_RUNTIME, Runtime, require_runtime
from placerec.settings import AnySettings, require, require_number, require_whole
from placerec.trunks import Trunk
from placerec.workers import map_in_order, single_threaded_blas

if TYPE_CHECKING:
    from placerec.engine.shortlist import Engine

TOP = 5  # places of an answer
FEWEST_COMPARED = 5  # candidates, before the best one can be sure
FALSE_ALARM = 0.05  # of photos from elsewhere, that are taken for one of the map
NO_TIME = "the time was too short to compare patches"
NO_CANDIDATE = "no photo whose patches were compared may be an answer"
UNREADABLE = "cannot be read"  # begins the note of an answer to such a photo
NOTHING = "nothing to recognise"  # the note of an answer to a photo without structure


@dataclass(frozen=True, slots=True)
class PlaceRecognizer:
    """Answers where a photo was taken, from an index of photos.

    ``global_descriptors`` (N, G) are in the order of ``index.entries``. ``blank`` has the
    rows of photos without structure, which are never an answer. ``located`` (N,) bool says which
    photos have a position. ``false_alarm`` is the share of photos from elsewhere that are taken for
    one of the map. ``reopen`` opens the index again; it takes the recogniser that is open. If the
    index has a ``retriever``, its ``retrieval_descriptors`` (N, R) make the shortlist.
    ``neighbours`` are those of a speed-up that fits the index; ``slower`` says why one does not. On
    a GPU the ``engine`` compares the patches.
    """

    index: Reader = field(repr=False)
    model: Model
    settings: AnySettings
    global_descriptors: Vectors = field(repr=False)
    located: Array = field(repr=False)
    threads: int = 1
    false_alarm: float = FALSE_ALARM
    blank: frozenset[int] = field(default=frozenset(), repr=False)
    reopen: Callable[[PlaceRecognizer], PlaceRecognizer] = field(kw_only=True, repr=False)
    retriever: IndexRetriever | None = field(default=None, kw_only=True)
    retrieval_descriptors: Vectors | None = field(default=None, kw_only=True, repr=False)
    engine: Engine | None = field(default=None, kw_only=True, repr=False)
    neighbours: Speedup | None = field(default=None, kw_only=True, repr=False)
    slower: str = field(default="", kw_only=True, repr=False)

    @classmethod
    def open(
        cls,
        index: str | Path,
        *,
        model: str | Trunk = AUTO,
        retriever: AnyRetriever | None = None,
        runtime: Runtime = DEFAULT_RUNTIME,
        false_alarm: float = FALSE_ALARM,
        **changes: Any,
    ) -> PlaceRecognizer:
        """Open the index file. ``changes`` are settings that are free at query time.

        ``false_alarm`` (between 0 and 1) is the share of photos from elsewhere that may be taken
        for one of the map.

        An index contains its model and names its retriever; another ``model`` or ``retriever`` is
        refused. A retriever that is an object must be given. Raises ``NotFound``, ``NotAnIndex``,
        ``DamagedIndex``, ``ModelMismatch`` or ``FixedByIndex``.
        """
        path = path_of(index)
        require_runtime(runtime)
        require(
            0.0 < require_number("false_alarm", false_alarm) < 1.0, "false_alarm", "between 0 and 1"
        )
        return cls._opened(None, path, (model, retriever), runtime, false_alarm, changes)

    @classmethod
    def _opened(
        cls,
        before: PlaceRecognizer | None,
        path: Path,
        given: tuple[str | Trunk, AnyRetriever | None],
        runtime: Runtime,
        false_alarm: float,
        changes: dict[str, Any],
    ) -> PlaceRecognizer:
        """Open the index; the networks of the recogniser ``before`` stay if they are the same.

        ``given`` are the model and the retriever of the caller.
        """
        reader = open_index(path)
        with on_error(reader.close):
            if before and model_facts(before.index) == model_facts(reader):
                inside = before.model
            else:
                inside = on_device(model_of_index(reader, path, given[0], runtime), runtime)
            if before and before.index.retriever == reader.retriever:
                retriever = before.retriever
            else:
                retriever = retriever_of_index(reader, path, given[1], runtime)
            settings = query_settings(inside.settings, changes)
            require_share(false_alarm, len(reader.info.calibration.foreign))
            descriptors = reader.global_descriptors()
            stated = np.array([entry.blank for entry in reader.entries])
            blank = frozenset(np.flatnonzero(stated | descriptors.blank()).tolist())

            def again(before: PlaceRecognizer) -> PlaceRecognizer:
                return cls._opened(before, path, given, runtime, false_alarm, changes)

            neighbours, slower = open_speedup(reader, path)
            located = np.array([entry.position is not None for entry in reader.entries])
            return cls(
                reader, inside, settings, descriptors, located, runtime.cores, false_alarm, blank,
                reopen=again, retriever=retriever,
                retrieval_descriptors=reader.retrieval_descriptors(), engine=engine_for(runtime),
                neighbours=neighbours, slower=slower,
            )  # fmt: skip

    def read(self, path: str | Path) -> Photo:
        """Return the photo at ``path`` with as many pixels as the model uses."""
        return self.model.read(path_of(path))

    def query(
        self, photo: AnyPhoto, top: int = TOP, *, bgr: bool = False, budget_ms: float | None = None
    ) -> Answer:
        """Return the ``top`` places most similar to ``photo``, best first.

        ``photo`` is a path, a decoded ``Photo``, an image of Pillow in any mode, or a uint8 array:
        RGB (H, W, 3), grey (H, W), RGBA (H, W, 4); with ``bgr`` it has the order of OpenCV. A photo
        without structure has no place, and a ``note`` that says so.

        Candidates are compared until the best one is sure (the setting ``stop_at``), at least
        ``top`` of them. With ``budget_ms`` they are compared as long as the answer is there within
        so many milliseconds; a photo must be described in any case. Raises ``UsageError`` for
        anything else, or a ``top`` that is less than 1, ``NotFound`` or a ``PhotoError`` for a path
        that cannot be read, ``StaleIndex`` if a candidate was changed since the index was opened.
        """
        top, deadline = require_whole("top", top), None
        if budget_ms is not None:
            require(require_number("budget_ms", budget_ms) > 0, "budget_ms", "more than 0")
            deadline = time.perf_counter() + budget_ms / 1000
        read = photo_of(photo, bgr=bgr, shrink_to=self.model.shrink_to)
        with single_threaded_blas():
            if not has_structure(read.pixels):
                return Answer(read.path, (), NOTHING)
            (features,) = self.model.describe_images([self.model.prepare(read.pixels)], stride=1)
            query = self._with_retrieval(features, read.pixels)
            return self.answer(read.path, query, top, deadline=deadline)

    def describe(self, pixels: Array) -> Features:
        """Return the Features of a query (H, W, 3) uint8 RGB, with those of the retriever."""
        return self._with_retrieval(self.model.describe(pixels, stride=1), pixels)

    def _with_retrieval(self, features: Features, pixels: Array) -> Features:
        if self.retriever is None:
            return features
        return replace(features, retrieval_descriptor=self.retriever(pixels))

    def stored(self, row: int) -> Features:
        """Return the stored Features of a photo of the index, its descriptor of unit length."""
        vectors, own = self.retrieval_descriptors, self.global_descriptors[row]
        retrieval = None if vectors is None else vectors[row]
        own = own / np.float32(np.linalg.norm(own) or 1.0)  # restored bits are longer
        return Features(own, self.index.patches(row), retrieval)

    def query_many(
        self, photos: AnyPhoto | Iterable[AnyPhoto], top: int = TOP, *, bgr: bool = False,
        budget_ms: float | None = None,
    ) -> Generator[Answer]:  # fmt: skip
        """Yield the answer to each of ``photos``, in their order: the answers of ``query``.

        Several photos are in work at a time, one per thread, and at most two per thread are taken
        before their answer is asked for. The answer to a photo that cannot be read has no place,
        and a ``note`` that begins with "cannot be read". ``photos`` is any iterable, also an array
        (N, H, W, C); a lone photo is one. Raises ``UsageError`` and ``StaleIndex`` as ``query``.
        """
        top = require_whole("top", top)
        if isinstance(photos, np.ndarray):
            lone = photos.ndim < 4
        else:
            lone = isinstance(photos, str | os.PathLike | Photo | Image.Image)
        several = isinstance(photos, Iterable) and not isinstance(photos, bytes)
        require(several or lone, "photos", f"photos in any form, not {photos!r:.60}")
        each = [cast(AnyPhoto, photos)] if lone else cast(Iterable[AnyPhoto], photos)
        return self._answers(each, partial(self.query, top=top, bgr=bgr, budget_ms=budget_ms))

    def _answers(
        self, photos: Iterable[AnyPhoto], query: Callable[[AnyPhoto], Answer]
    ) -> Generator[Answer]:
        def answer(photo: AnyPhoto) -> Answer:
            try:
                return query(photo)
            except (PhotoError, NotFound) as error:
                name = getattr(photo, "filename", "") if isinstance(photo, Image.Image) else photo
                reason = getattr(error, "reason", error)
                return Answer(str(name), (), f"{UNREADABLE}: {reason}")

        # A camera may write its next frame into the same array.
        own = (photo.copy() if isinstance(photo, np.ndarray) else photo for photo in photos)
        # One limit for all photos: if it changes between them, the last digits of scores may, too.
        with single_threaded_blas():
            yield from map_in_order(answer, own, self.threads)

    @property
    def is_stale(self) -> bool:
        """Whether the index was changed, replaced or deleted since it was opened; cheap.

        ``query`` does not see photos that were added. It raises ``StaleIndex`` if a candidate was
        changed or removed.
        """
        return self.index.has_changed()

    def reload(self) -> PlaceRecognizer:
        """Close this recogniser and return one of the index as it is now, opened in the same way.

        The model stays loaded if the index still has the same one. Raises what ``open`` raises;
        this recogniser then stays open.
        """
        reopened = self.reopen(self)
        self.close()
        return reopened

    def answer(
        self, name: str, query: Features, top: int, without: Collection[int] = (),
        deadline: float | None = None,
    ) -> Answer:  # fmt: skip
        """Return the answer to the photo ``name`` with these features: its ``top`` places.

        Shortlist, scores, final order, confidence. The ranking is that of ``evaluate`` without the
        photos of ``blank``, and as if the index did not have the rows ``without``. ``deadline`` as
        in ``score``.
        """
        candidates = self.settings.candidates if self.settings.reranks else 0
        rows, similar = self.shortlist(query, max(top + len(self.blank), candidates), without)
        cosines = self.cosines(query, rows) if self.retriever else similar
        scores, matches = self.score(query, rows[:candidates].tolist(), top, deadline)
        compared = len(scores)
        order, final = rerank(scores, len(rows)) if compared else (np.arange(len(rows)), similar)
        seen = [n for n, row in enumerate(rows[order].tolist()) if row not in self.blank]
        if not seen:
            return Answer(name, (), "no photo of the index can be recognised")
        order, final = order[seen], final[seen]
        entries = [self.index.entries[row] for row in rows[order].tolist()]
        judged = int(np.count_nonzero(order < compared))
        confidences: list[float | None] = []
        if candidates and not judged:
            judgement = Answer(name, (), uncalibrated=NO_CANDIDATE if compared else NO_TIME)
        else:
            judged = judged or len(order)
            confidences, judgement = self.judge(rows[order[:judged]].tolist(), final[:judged])
        not_compared = None if judgement.uncalibrated else 0.0
        confidences += [not_compared] * (len(order) - len(confidences))
        places = tuple(
            Place(
                rank, entry.name, float(score), float(cosines[number]), entry.position,
                matches[number] if number < len(matches) else (), confidence,
            )
            for rank, (number, entry, score, confidence) in enumerate(
                zip(order.tolist(), entries, final, confidences, strict=True), start=1
            )
        )  # fmt: skip
        return replace(judgement, query=name, places=places[:top])

    @property
    def uncalibrated(self) -> str:
        """Why no answer has a confidence; empty if answers have one."""
        photos = len(self.index.entries)
        few = too_few(photos) if photos < FEWEST_PHOTOS else ""
        return no_confidence(self.settings) or self.index.info.calibration.reason or few

    def judge(self, rows: list[int], scores: Array) -> tuple[list[float | None], Answer]:
        """Return the confidence of each candidate, best first, and an answer with what they say.

        The candidates are photos of the index with structure: their ``rows`` and final ``scores``
        (n,). The answer has no places; it has ``in_map`` and ``where``, or the reason in
        ``uncalibrated``.
        """
        if self.uncalibrated:
            return [None] * len(rows), Answer("", (), uncalibrated=self.uncalibrated)
        calibration = self.index.info.calibration
        places = Places(self.index.entries)
        values = places.evidence(rows, scores)
        confidences = calibration.confidence(values).tolist()
        where, metres = None, calibration.radius(confidences[0])
        if metres:
            position = fused_position([self.index.entries[row].position for row in rows], scores)
            where = Where(position, *metres) if position else None
        in_map = calibration.in_map(values[0], self.false_alarm)
        return confidences, Answer("", (), in_map=in_map, where=where)

    def shortlist(
        self, query: Features, count: int, without: Collection[int] = ()
    ) -> tuple[Array, Array]:
        """Return the ``count`` photos most similar to the query: rows and similarities (n,).

        These are cosines of the retriever's descriptors, or else of the global descriptors, at
        most 1. Of equal photos those with a position come first. The rows ``without`` are left out.
        """
        vector, vectors = ranked_by(query, self.global_descriptors, self.retrieval_descriptors)
        wanted = count + len(without)
        if self.neighbours:
            rows, similar = self.neighbours.shortlist(vector, vectors, wanted, self.located)
        else:
            rows, similar = vectors.shortlist(vector, wanted, self.located, self.threads)
        kept = ~np.isin(rows, list(without))
        return rows[kept][:count], np.minimum(similar[kept][:count], 1.0)

    def cosines(self, query: Features, rows: Array) -> Array:
        """Return the cosines (n,) of the global descriptors of these rows, for any shortlist."""
        return np.minimum(self.global_descriptors.cosines(query.global_descriptor, rows), 1.0)

    def score(
        self, query: Features, rows: Sequence[int], top: int = TOP, deadline: float | None = None
    ) -> tuple[Array, list[tuple[Match, ...]]]:
        """Return the score (n,) of the first n photos in ``rows``, and their matches by patch size.

        At first ``top`` photos are compared, then as many again. No more are compared if the best
        one has the confidence ``stop_at``, or if they would not be ready at the ``deadline``, in
        seconds of ``time.perf_counter``. So n can be less than the number of ``rows``. On a GPU all
        are compared at once.
        """
        cosines = self.cosines(query, np.array(rows, np.int64))
        if self.engine:
            if self.index.has_changed():  # then a candidate may be stale: it is read again
                self.engine.forget()
            candidates = self.engine.resident(rows, self._decoded)
            return self.engine.score(query.patches, candidates, self.settings, cosines)
        step = max(top, FEWEST_COMPARED) if self.settings.stop_at < 1 else len(rows)
        step, expected = (step, 0.0) if deadline is None else (1, 0.0)  # seconds
        matched: list[tuple[Matched, ...]] = []
        scores, matches = score_matches(matched, self.settings)
        while len(matched) < len(rows) and not self._is_clear(rows, scores, top):
            begun, count = time.perf_counter(), len(matched)
            if deadline is not None and begun + expected > deadline:
                break
            stored = self.index.read_patches(rows[count : count + step])
            matched += match_candidates(query.patches, stored, self.threads, StoredPatches.decode)
            step = len(matched)
            scores, matches = score_matches(matched, self.settings, self.threads, cosines[:step])
            expected = (time.perf_counter() - begun) * step / (step - count)
        return scores, matches

    def _is_clear(self, rows: Sequence[int], scores: Array, top: int) -> bool:
        """Whether the best of the first n ``rows`` is sure; those of ``blank`` do not count."""
        best = [n for n in best_first(scores).tolist() if rows[n] not in self.blank]
        enough = len(best) >= max(top, FEWEST_COMPARED)
        if not enough or self.settings.stop_at == 1 or self.uncalibrated:
            return False
        confidences, _ = self.judge([rows[n] for n in best], scores[best])
        return (confidences[0] or 0.0) >= self.settings.stop_at

    def _decoded(self, rows: Sequence[int]) -> Iterator[tuple[PatchSet, ...]]:
        return map_in_order(StoredPatches.decode, self.index.read_patches(rows), self.threads)

    def __enter__(self) -> PlaceRecognizer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the index."""
        self.index.close()
