"""One path through the answers to ordered frames, with stretches off the map.

The method is in ``method/track.py``. Here are its inputs: which candidates show one place, what the
look of a frame says, and how far apart two photos of the index are for the time between two frames.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from pathlib import PurePosixPath
from statistics import median
from typing import Any, Self

import numpy as np

from placerec.errors import UsageError
from placerec.index.calibrate import NEIGHBOURS, SAME_PLACE
from placerec.index.reader import Entry
from placerec.method.confidence import Weights, evidence, logistic, map_odds
from placerec.method.track import look, smooth
from placerec.method.travel import Travel, reaches
from placerec.photos.sphere import distance, distances
from placerec.recognise.recognizer import NO_CANDIDATE, NO_TIME, PlaceRecognizer
from placerec.records import Answer, Array, Place, Position

Time = datetime | float
STEP = 10.0  # seconds between frames without times
ROWS = (NEIGHBOURS, 5 * NEIGHBOURS)  # photos in the order of their names that are near, less near
LATEST = 1e300  # seconds
HALF = 0.5, 0.49  # a frame in the map is so with this probability at least; another one, at most


@dataclass(frozen=True, slots=True)
class TrackPoint:
    """Where one frame is, given all frames.

    ``place`` is one of the places of its answer, and ``alone`` the best place by its look alone.
    ``place`` is ``None`` if the frame is off the map, or if its answer has no place.
    ``confidence`` is the probability, 0..1, of this place (or of "off the map") under the model of
    the path; ``None`` if the answer has no place. ``position`` is that of the place, ``None``
    without positions. ``time`` is the capture time, or seconds from any start, or ``None``.
    """

    query: str
    time: Time | None
    place: Place | None
    confidence: float | None
    position: Position | None
    alone: Place | None


def follow(
    recognizer: PlaceRecognizer, answers: Sequence[Answer], times: Sequence[Time | None] = ()
) -> list[TrackPoint]:
    """Return one path through the ``answers`` to frames in order: a point for each frame.

    The answers are those of ``recognizer``, with all candidates:
    ``recognizer.query(frame, top=recognizer.settings.candidates)``. ``times`` has one for each
    frame: a capture time, seconds from any start, or ``None``; without them all steps are equal.
    Frames that jump keep their own place. A frame of which no candidate was compared has none.

    Raises ``UsageError`` if the answers have no confidence or are of another index, and for times
    that are wrong or are not one for each answer.
    """
    if not isinstance(recognizer, PlaceRecognizer):
        raise UsageError(f"recognizer: {recognizer!r:.100}; give a PlaceRecognizer")
    if not _is_list_of(answers, Answer):
        raise UsageError(f"answers: {answers!r:.100}; give a list of answers of the recognizer")
    require_confidence(recognizer)
    times = _checked(times, len(answers))
    index, info = _Map.of(recognizer.index.entries), recognizer.index.info
    seen = [
        n for n, answer in enumerate(answers)
        if answer.places and answer.uncalibrated not in (NO_TIME, NO_CANDIDATE)
    ]  # fmt: skip
    rows = [index.rows_of(answers[n], recognizer.settings.candidates) for n in seen]
    looks = [
        index.look(answers[n], own, info.calibration.weights)
        for n, own in zip(seen, rows, strict=True)
    ]
    gains = [
        index.gains(first, second, step)
        for first, second, step in zip(rows, rows[1:], _steps(seen, times), strict=False)
    ]
    points = {n: TrackPoint(a.query, times[n], None, None, None, None)
              for n, a in enumerate(answers)}  # fmt: skip
    if seen:
        for n, own, state in zip(seen, rows, smooth(looks, gains, len(index.at)), strict=True):
            points[n] = index.point(answers[n], times[n], own, state)
    return [points[n] for n in range(len(answers))]


def require_confidence(recognizer: PlaceRecognizer) -> None:
    """Raise ``UsageError`` if the answers of ``recognizer`` have no confidence."""
    if reason := recognizer.uncalibrated:
        raise UsageError(f"a track needs answers with a confidence, and there is none: {reason}")


@dataclass(frozen=True, slots=True)
class Step:
    """What lies between two frames: seconds, and the number of usual steps."""

    seconds: float
    usual: float


@dataclass(frozen=True, slots=True)
class _Map:
    """The photos of an index as states: which show one place, and which are within reach.

    ``at`` (N, 2) are degrees, NaN without a position; ``folders`` (N,) are numbers.
    """

    row_of: dict[str, int]
    at: Array
    folders: Array
    travel: Travel

    @classmethod
    def of(cls, entries: Sequence[Entry]) -> Self:
        positions = [entry.position for entry in entries]
        at = [(p.latitude, p.longitude) if p else (math.nan, math.nan) for p in positions]
        numbers: dict[PurePosixPath, int] = {}
        parents = (PurePosixPath(entry.name).parent for entry in entries)
        folders = np.array([numbers.setdefault(parent, len(numbers)) for parent in parents])
        rows = {entry.name: row for row, entry in enumerate(entries)}
        return cls(rows, np.array(at), folders, Travel.over([p for p in positions if p]))

    def rows_of(self, answer: Answer, most: int) -> Array:
        """Return the rows of the candidates of an answer, best first."""
        places = answer.places[:most]
        for place in places:
            if place.path not in self.row_of or place.confidence is None:
                raise UsageError(
                    f"{answer.query or 'the frame'}: not an answer of this index; give answers of "
                    f"the recognizer"
                )
        return np.array([self.row_of[place.path] for place in places])

    def look(self, answer: Answer, rows: Array, weights: Weights) -> Array:
        """Return ``method.track.look`` of a frame."""
        places, same = answer.places[: len(rows)], self._same(rows)
        scores = np.array([place.score for place in places])
        seen = evidence(scores, lambda one, two: not same[one, two])
        chance = float(logistic(map_odds(seen[0], weights)))
        chance = max(chance, HALF[0]) if answer.in_map else min(chance, HALF[1])
        confidences = np.array([place.confidence for place in places])
        return look(confidences, same[0], chance, len(self.at))

    def _same(self, rows: Array) -> Array:
        """Return which rows show the same place: (n, n) bool, as ``index.calibrate.Places``."""
        metres, names = self._apart(rows, rows)
        same: Array = np.where(np.isnan(metres), names <= NEIGHBOURS, metres <= SAME_PLACE)
        return same

    def gains(self, first: Array, second: Array, step: Step) -> Array:
        """Return the gains (2, n, m) of a move from rows to rows: ``method.track.smooth``."""
        metres, names = self._apart(first, second)
        gains = []
        for reach, rows in zip(reaches(step.seconds), ROWS, strict=True):
            most = rows * step.usual
            by_names = (names <= most) * max(1.0, len(self.at) / (2 * most + 1))
            by_metres = (metres <= reach) / self.travel.share_within(reach)
            gains.append(np.where(np.isnan(metres), by_names, by_metres))
        return np.stack(gains)

    def _apart(self, first: Array, second: Array) -> tuple[Array, Array]:
        """Return how far apart rows are: metres (n, m), NaN without positions, and names (n, m).

        Names are counted in their order within a folder; other folders are infinitely far away.
        """
        other = self.folders[first][:, None] != self.folders[second]
        names = np.where(other, math.inf, np.abs(first[:, None] - second))
        return distances(self.at[first], self.at[second]), names

    def point(self, answer: Answer, time: Time | None, rows: Array, state: Array) -> TrackPoint:
        """Return the point of a frame with the probability (n + 1,) of each of its states."""
        outside, same = float(state[-1]), self._same(rows)
        if outside > 0.5:
            return TrackPoint(answer.query, time, None, outside, None, answer.best)
        chances = same @ state[:-1]
        chosen = int(chances.argmax())
        place = answer.places[int(same[chosen].argmax())]  # the best one that shows the place
        where = answer.where.position if answer.where else None
        position = place.position
        if where and position and distance(where, position) <= SAME_PLACE:
            position = where
        return TrackPoint(answer.query, time, place, float(chances[chosen]), position, answer.best)


def _checked(times: Sequence[Time | None], count: int) -> list[Time | None]:
    """Return the times as a list; raise ``UsageError`` unless there is a usable one per answer."""
    if not _is_list_of(times, datetime | float | int | None):
        raise UsageError(f"times: {times!r:.100}; give a list of datetimes, seconds or None")
    if len(times) not in (0, count):
        raise UsageError(f"times: {len(times)} for {count} answers; give one for each, or none")
    for time in times:
        late = isinstance(time, float | int) and not abs(time) < LATEST
        if isinstance(time, bool) or late:
            raise UsageError(f"times: {time!r:.100}; give a finite number of seconds")
    return list(times) or [None] * count


def _is_list_of(values: object, kind: Any) -> bool:
    return isinstance(values, list | tuple) and all(isinstance(value, kind) for value in values)


def _steps(seen: Sequence[int], times: Sequence[Time | None]) -> list[Step]:
    """Return the step between each two frames that are seen, one after the other."""
    pairs = list(pairwise(seen))
    gaps = [_seconds(times[one], times[two]) for one, two in pairs]
    single = [gap / (two - one) for gap, (one, two) in zip(gaps, pairs, strict=True) if gap]
    usual = median(single) if single else 0.0
    steps = []
    for gap, (one, two) in zip(gaps, pairs, strict=True):
        count = two - one
        if gap is None:
            steps.append(Step(STEP * count, count))
        else:
            steps.append(Step(gap, max(1.0, gap / usual) if usual else count))
    return steps


def _seconds(first: Time | None, second: Time | None) -> float | None:
    """Return the seconds between two times; ``None`` if they cannot be compared."""
    if isinstance(first, datetime) and isinstance(second, datetime):
        if (first.tzinfo is None) is (second.tzinfo is None):
            return abs((second - first).total_seconds())
    elif isinstance(first, float | int) and isinstance(second, float | int):
        return abs(float(second) - float(first))
    return None
