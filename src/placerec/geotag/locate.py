"""Which photos get a position: by their look, and by the photos taken before and after.

A photo with a position, or one that is sure by its look alone, is an anchor. Each other photo is
judged by its look, and by its distance from the last anchor before it and the first one after it.
An anchor by look is judged so by the others, too: a place that contradicts them is not sure. A
position that an earlier call wrote is judged by the look again, so that guesses do not confirm
each other.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

import numpy as np

from placerec.errors import NotFound, PhotoError, PlacerecError, UsageError
from placerec.files import AnyPath, paths_of
from placerec.geotag.sidecars import is_geotagged
from placerec.method.travel import Travel
from placerec.photos.sphere import distance
from placerec.recognise.recognizer import PlaceRecognizer
from placerec.records import Answer, Array, Place, Position
from placerec.runtime import Progress, no_progress
from placerec.settings import require, require_number

LOCATED, REVIEW = "located", "review"
OUTSIDE, TAGGED = "outside", "tagged"
SURE = 0.9
PLACES = 10  # of an answer, that are looked at
ONE_SPOT = 50.0  # metres: places that are nearer to each other are one
MOST_SURE = 0.999  # no look is so sure that photos before and after could not contradict it


@dataclass(frozen=True, slots=True)
class GeoTag:
    """What was decided on a photo.

    ``status`` is "located" (it gets ``position``), "review" (``position`` is a guess that is not
    sure), "outside" (not in the map) or "tagged" (it has ``position`` already). ``confidence`` is
    the probability, 0..1, that the position is right. ``radius`` is in metres: 95 of 100 right
    positions are within it; ``None`` if the index cannot say it. ``place`` is the indexed photo
    that shows the position best. ``taken`` is the capture time. ``why`` says why the photo has no
    new position; it is empty if it has one.
    """

    photo: Path
    status: str
    position: Position | None = None
    confidence: float | None = None
    radius: float | None = None
    place: str = ""
    taken: datetime | None = None
    why: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """The decision on each photo that can be read, and why the others cannot, in their order."""

    tags: tuple[GeoTag, ...]
    skipped: tuple[PlacerecError, ...] = ()


@dataclass(frozen=True, slots=True)
class Look:
    """A photo: its capture time, its own position if it has one, and the answer to it.

    There is no answer if the position is from a camera or a person, so that it is not in doubt.
    """

    photo: Path
    taken: datetime | None
    position: Position | None
    answer: Answer | None


@dataclass(frozen=True, slots=True)
class Spot:
    """Places of an answer that are near each other: the first of them, and how sure it is."""

    place: Place
    position: Position
    confidence: float


@dataclass(frozen=True, slots=True)
class Anchor:
    """A photo whose position is sure, and the probability of that."""

    taken: datetime
    position: Position
    confidence: float


def geotag_photos(
    recognizer: PlaceRecognizer,
    photos: AnyPath | Iterable[AnyPath],
    *,
    sure: float = SURE,
    progress: Progress = no_progress,
) -> Report:
    """Decide on each of the ``photos`` whether it gets a position; nothing is written.

    ``sure`` is the least probability, 0..1, for a position. Photos that have a position are not
    changed, and help with those taken before and after them. A photo that cannot be read is
    skipped; one that is named twice counts once. Indexed photos without a position are no answer.

    Raises ``UsageError`` if no indexed photo has a position, or for a wrong ``sure``.
    """
    sure = require_number("sure", sure)
    require(0 <= sure <= 1, f"sure {sure:g}", "from 0 to 1")
    entries = recognizer.index.entries
    positions = [entry.position for entry in entries if entry.position]
    if not positions:
        raise UsageError(
            "no photo of this index has a position; build it from photos that have one, or with a "
            "table of positions"
        )
    without = (row for row, entry in enumerate(entries) if entry.position is None)
    located = replace(recognizer, blank=recognizer.blank.union(without))
    looks: list[Look] = []
    skipped: list[PlacerecError] = []
    paths = list(dict.fromkeys(paths_of(photos)))
    for done, path in enumerate(paths, start=1):
        try:
            looks.append(look_at(located, path))
        except (PhotoError, NotFound) as error:
            skipped.append(error)
        if looks:  # an error of the only photo stands alone
            progress("photos", done, len(paths))
    return Report(decide(looks, Travel.over(positions), sure), tuple(skipped))


def look_at(recognizer: PlaceRecognizer, path: Path) -> Look:
    """Read a photo, and ask where it was taken if it does not say so itself."""
    photo = recognizer.read(path)
    certain = photo.position is not None and not is_geotagged(path)
    answer = None if certain else recognizer.query(photo, PLACES)
    return Look(path, photo.taken, photo.position, answer)


def decide(looks: Sequence[Look], travel: Travel, sure: float = SURE) -> tuple[GeoTag, ...]:
    """Decide on photos; ``travel`` says what the time between two of them means on this map."""
    spots = [_spots(look.answer) for look in looks]
    anchors = [_anchor(look, own, sure) for look, own in zip(looks, spots, strict=True)]
    beside = _beside([look.taken for look in looks], anchors)
    return tuple(
        _decide_one(look, own, _with_times(own, look.taken, near, travel), sure)
        for look, own, near in zip(looks, spots, beside, strict=True)
    )


def _spots(answer: Answer | None) -> list[Spot]:
    """Return the spots of an answer, the best place's first; their confidences add up to 1 at most.

    The other spots share what the first one leaves.
    """
    spots: list[Spot] = []
    for place in answer.places if answer and answer.in_map is not False else ():
        if place.confidence is None or place.position is None:
            continue
        at, confidence = place.position, min(place.confidence, MOST_SURE)
        number = next((n for n, s in enumerate(spots) if distance(s.position, at) <= ONE_SPOT), -1)
        if number < 0:
            spots.append(Spot(place, at, confidence))
        elif confidence > spots[number].confidence:
            spots[number] = replace(spots[number], confidence=confidence)
    left = 1 - spots[0].confidence if spots else 0.0
    wanted = sum(spot.confidence for spot in spots[1:])
    scale = min(1.0, left / wanted) if wanted else 1.0
    return spots[:1] + [replace(spot, confidence=scale * spot.confidence) for spot in spots[1:]]


def _anchor(look: Look, spots: list[Spot], sure: float) -> Anchor | None:
    if look.taken is None:
        return None
    if look.position and look.answer is None:
        return Anchor(look.taken, look.position, 1.0)
    if spots and spots[0].confidence >= sure:
        return Anchor(look.taken, spots[0].position, spots[0].confidence)
    return None


def _beside(
    times: Sequence[datetime | None], anchors: Sequence[Anchor | None]
) -> list[list[Anchor]]:
    """Return the anchors before and after each photo: the last one and the first one, or fewer.

    A time without a zone is compared only with others without one.
    """
    beside: list[list[Anchor]] = [[] for _ in times]
    for has_zone in (True, False):
        pairs = [(time, number) for number, time in enumerate(times)
                 if time and (time.tzinfo is not None) is has_zone]  # fmt: skip
        for order in (sorted(pairs), sorted(pairs, reverse=True)):
            last: Anchor | None = None
            for _, number in order:
                if last:
                    beside[number].append(last)
                last = anchors[number] or last
    return beside


def _with_times(
    spots: list[Spot], taken: datetime | None, beside: Sequence[Anchor], travel: Travel
) -> Array:
    """Return the probability (n,) of each spot, given the anchors before and after it too.

    Each anchor may be wrong, and then it says nothing.
    """
    by_look = np.array([spot.confidence for spot in spots])
    if taken is None or not spots:
        return by_look
    cases = [(1.0, by_look)]  # the probability that just these anchors are right; the weights then
    for anchor in beside:
        seconds = (anchor.taken - taken).total_seconds()
        metres = [distance(anchor.position, spot.position) for spot in spots]
        odds = np.array([travel.odds(each, seconds) for each in metres])
        cases = [
            case
            for share, weights in cases
            for case in (
                (share * anchor.confidence, weights * odds),
                (share * (1 - anchor.confidence), weights),
            )
        ]
    elsewhere = 1 - by_look.sum()
    chances: Array = sum(share * weights / (elsewhere + weights.sum()) for share, weights in cases)
    return chances


def _decide_one(look: Look, spots: list[Spot], chances: Array, sure: float) -> GeoTag:
    if look.position:
        return GeoTag(look.photo, TAGGED, look.position, taken=look.taken)
    answer = look.answer
    if answer is None or answer.in_map is False:
        return GeoTag(look.photo, OUTSIDE, taken=look.taken, why="not in the map")
    if not spots:
        return GeoTag(look.photo, REVIEW, taken=look.taken, why=_why_nothing(answer))
    confidence, spot = float(chances.max()), spots[int(chances.argmax())]
    where, position, radius = answer.where, spot.position, None
    if where and distance(where.position, position) <= ONE_SPOT:
        position, radius = where.position, where.radius_95
    why = ""
    if confidence < sure:
        why = f"{confidence:.2f} is less than {sure:g}"
        if spots[0].confidence >= sure:
            before = f"{spots[0].confidence:.2f} by its look"
            why = f"{before}, but the photos taken before and after are elsewhere"
    status = REVIEW if why else LOCATED
    place = spot.place.path
    return GeoTag(look.photo, status, position, confidence, radius, place, look.taken, why)


def _why_nothing(answer: Answer) -> str:
    """Return why an answer has no spot."""
    if not answer.places:
        return answer.note
    if all(place.confidence is None for place in answer.places):
        return f"no confidence: {answer.uncalibrated or 'the index has no calibration'}"
    return "the most similar photos have no position"
