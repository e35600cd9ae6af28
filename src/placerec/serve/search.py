"""The index behind the page: one search at a time, photos by number, the last answers.

Every method may be called from several threads. A photo keeps its number while the program runs,
also if photos are added to the index or removed from it. Only a search waits for a search.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self, cast

from placerec.errors import Busy, NotFound, StaleIndex
from placerec.files import path_of
from placerec.photos.decode import decode_bytes
from placerec.recognise.picture import drawn_boxes
from placerec.recognise.recognizer import PlaceRecognizer
from placerec.records import Answer, Array, Features, Match, Photo, Place, Position
from placerec.runtime import DEFAULT_RUNTIME, Runtime
from placerec.serve.align import alignment
from placerec.serve.pictures import LARGE, Picture, decoding, photo_picture, picture_of
from placerec.settings import AnySettings
from placerec.text import printable

TOP = 9  # places of an answer: one for each of the keys 1 to 9
WAITING = 4  # searches that may wait for the one that runs
KEPT_ANSWERS = 30
Report = Callable[[str], None]


def no_report(text: str) -> None:
    """Ignore a report."""


class Stages:
    """The stages of a search: each is reported when it begins, and timed."""

    def __init__(self) -> None:
        self._begun: list[tuple[str, float]] = []
        self._report: Report = no_report

    def start(self, report: Report) -> None:
        """Forget the last search; ``report`` takes the name of each stage."""
        self._begun, self._report = [], report

    def enter(self, stage: str) -> None:
        """Begin a stage, and so end the one before."""
        self._begun.append((stage, time.perf_counter()))
        self._report(stage)

    def milliseconds(self) -> dict[str, float]:
        """Return how long each stage took, up to now."""
        ends = [begin for _, begin in self._begun[1:]] + [time.perf_counter()]
        return {
            stage: round(1000 * (end - begin), 1)
            for (stage, begin), end in zip(self._begun, ends, strict=True)
        }


@dataclass(frozen=True)
class WatchedRecognizer(PlaceRecognizer):
    """A recogniser that says which stage of a search begins."""

    stages: Stages = field(default_factory=Stages, kw_only=True, repr=False)

    def shortlist(
        self, query: Features, count: int, without: Collection[int] = ()
    ) -> tuple[Array, Array]:
        """Return what ``PlaceRecognizer.shortlist`` returns."""
        self.stages.enter("shortlist")
        return super().shortlist(query, count, without)

    def score(
        self, query: Features, rows: Sequence[int], top: int = TOP, deadline: float | None = None
    ) -> tuple[Array, list[tuple[Match, ...]]]:
        """Return what ``PlaceRecognizer.score`` returns."""
        self.stages.enter("compare patches")
        result = super().score(query, rows, top, deadline)
        self.stages.enter("decide")
        return result


@dataclass(frozen=True, slots=True)
class Served:
    """A photo that was asked, and its answer.

    ``version`` counts the changes of the index so far, ``numbers`` are those of the places' photos.
    """

    number: int
    version: int
    picture: Picture
    answer: Answer
    numbers: tuple[int, ...]
    milliseconds: dict[str, float]


class ServedIndex:
    """An index as the page sees it; a context manager."""

    def __init__(self, recognizer: WatchedRecognizer, path: Path) -> None:
        self._recognizer, self._path, self._version = recognizer, path, 0
        self._searching, self._keeping = threading.Lock(), threading.Lock()
        self._names: list[str] = []
        self._numbers: dict[str, int] = {}
        self._answers: OrderedDict[int, Served] = OrderedDict()
        self._asked = 0
        self.seats = threading.BoundedSemaphore(1 + WAITING)
        self._number_photos()

    @classmethod
    def open(cls, index: str | Path, *, runtime: Runtime = DEFAULT_RUNTIME, **options: Any) -> Self:
        """Open the index file; ``options`` and errors are those of ``PlaceRecognizer.open``."""
        path = path_of(index)
        recognizer = WatchedRecognizer.open(path, runtime=runtime, **options)
        return cls(cast(WatchedRecognizer, recognizer), path)

    @property
    def settings(self) -> AnySettings:
        """The settings of the searches."""
        return self._recognizer.settings

    @property
    def slower(self) -> str:
        """Why the speed-up of the index is not used; empty if it is, or if there is none."""
        return self._recognizer.slower

    def _number_photos(self) -> None:
        for entry in self._recognizer.index.entries:
            if entry.name not in self._numbers:
                self._numbers[entry.name] = len(self._names)
                self._names.append(entry.name)

    def _now(self) -> WatchedRecognizer:
        """Return a recogniser of the index as it is now, or as it was while another one writes."""
        if self._recognizer.is_stale:
            try:
                reloaded = cast(WatchedRecognizer, self._recognizer.reload())
            except Busy:
                return self._recognizer
            with self._keeping:
                self._recognizer, self._version = reloaded, self._version + 1
                self._number_photos()
        return self._recognizer

    def map(self) -> dict[str, Any]:
        """Return the photos of the index: number, name, latitude, longitude or null."""
        if self._searching.acquire(blocking=False):  # the search that runs looks for changes itself
            try:
                self._now()
            finally:
                self._searching.release()
        with self._keeping:
            version, index = self._version, self._recognizer.index
        photos = [
            [self._numbers[entry.name], printable(entry.name), *_degrees(entry.position)]
            for entry in index.entries
        ]
        name, model = printable(self._path.name), printable(index.info.model)
        return {"index": name, "model": model, "version": version, "photos": photos}

    def read(self, data: bytes, name: str) -> Photo:
        """Decode the content of a photo file; raises a ``PhotoError``."""
        with decoding:
            return decode_bytes(data, Path(name), name, self._recognizer.model.shrink_to)

    def search(self, photo: Photo, report: Report = no_report) -> Served:
        """Ask for a photo, after the searches before; ``report`` takes the stages as they begin."""
        picture = picture_of(photo.pixels)
        with self._searching:
            try:
                answer = self._query(photo, report)
            except StaleIndex:  # a photo was removed while the query ran
                answer = self._query(photo, report)
            numbers = tuple(self._numbers[place.path] for place in answer.places)
            times = self._recognizer.stages.milliseconds()
        with self._keeping:
            self._asked += 1
            served = Served(self._asked, self._version, picture, answer, numbers, times)
            self._answers[served.number] = served
            if len(self._answers) > KEPT_ANSWERS:
                self._answers.popitem(last=False)
        return served

    def _query(self, photo: Photo, report: Report) -> Answer:
        recognizer = self._now()
        recognizer.stages.start(report)
        recognizer.stages.enter("describe")
        return recognizer.query(photo, TOP)

    def answer(self, number: int) -> Served:
        """Return one of the last answers; raises ``NotFound``."""
        with self._keeping:
            if number in self._answers:
                return self._answers[number]
        problem = "this answer is not kept any more"
        raise NotFound(f"answer {number}", problem, "ask for the photo again")

    def picture(self, number: int, longest: int = LARGE) -> Picture:
        """Return photo ``number`` of the index; raises ``NotFound`` or a ``PhotoError``."""
        with self._keeping:
            if number >= len(self._names):
                raise NotFound(f"photo {number}", "no such photo")
            root, name = self._recognizer.index.info.root, self._names[number]
        return photo_picture(root, name, longest)

    def pair(self, number: int, rank: int) -> dict[str, Any]:
        """Return how answer ``number`` and its place ``rank`` agree.

        ``lines`` are boxes in both photos (left, top, right, bottom, as fractions), ``matrix`` is
        that of ``alignment``, and sizes are (width, height) in pixels.
        """
        served = self.answer(number)
        if not 1 <= rank <= len(served.numbers):
            raise NotFound(f"place {rank}", "no such place in this answer")
        place = served.answer.places[rank - 1]
        size = self.picture(served.numbers[rank - 1]).size
        return {
            "lines": _lines(place),
            "matrix": alignment(place, served.picture.size, size),
            "query_size": served.picture.size,
            "photo_size": size,
        }

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the index after the search that runs."""
        with self._searching:
            self._recognizer.close()


def _degrees(position: Position | None) -> tuple[float | None, float | None]:
    if position is None:
        return None, None
    return round(position.latitude, 7), round(position.longitude, 7)


def _lines(place: Place) -> list[list[float]]:
    query, photo = drawn_boxes(place)
    return [
        [round(float(edge), 4) for edge in (*one, *other)]
        for one, other in zip(query, photo, strict=True)
    ]
