"""``placerec.follow``: one path through the answers to ordered frames."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import numpy as np
import pytest

from placerec import PlaceRecognizer, follow
from placerec.errors import UsageError
from placerec.index.calibrate import Places
from placerec.index.reader import Entry
from placerec.method.confidence import Calibration
from placerec.recognise.recognizer import NO_CANDIDATE, NO_TIME
from placerec.recognise.track import _Map
from placerec.records import Answer, Place, Position, Where
from placerec.settings import Settings

METRES = 111_195.0  # in a degree of latitude
SPACING = 20.0  # metres between two photos of the street
NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)
PHOTOS = 60


def at(number):
    return Position(45.0 + number * SPACING / METRES, 30.0)


def recognizer(positions=True, reason="", folder="street", settings=None):
    """What ``follow`` needs of a recogniser: a street of photos."""
    entries = [Entry(name(n, folder), "", at(n) if positions else None) for n in range(PHOTOS)]
    info = SimpleNamespace(calibration=Calibration((-2.0,), photos=PHOTOS, reason=reason))
    index = SimpleNamespace(entries=entries, info=info)
    none = np.zeros(0)
    return PlaceRecognizer(index, None, settings or Settings(), none, none, reopen=None)


def name(number, folder="street"):
    return f"{folder}/{number:03}.jpg"


def answer(*numbers, confidence=0.9, in_map=True, positions=True, folder="street"):
    """The answer to a frame: its candidates, best first, the first one this sure."""
    score, cosine = (0.3, 0.5) if in_map else (0.001, 0.1)
    places = [
        Place(
            rank, name(number, folder), score / rank, cosine, at(number) if positions else None,
            (), confidence if rank == 1 else 0.2,
        )
        for rank, number in enumerate(numbers, start=1)
    ]  # fmt: skip
    return Answer(f"frame {numbers}", tuple(places), in_map=in_map)


def walk(**options):
    """A walk along the street; frame 5 looks like photo 50 rather than like its own."""
    answers = [answer(n, 40 - n, **options) for n in range(10)]
    answers[5] = answer(50, 5, **{**options, "confidence": 0.6})
    return answers


def numbers(points):
    return [int(point.place.path[-7:-4]) if point.place else None for point in points]


SECONDS = [10.0 * n for n in range(10)]
CLOCK = [NOON + timedelta(seconds=n) for n in SECONDS]


@pytest.mark.parametrize("positions", [True, False])
@pytest.mark.parametrize(
    "times",
    [(), SECONDS, CLOCK, [time.replace(tzinfo=None) for time in CLOCK],
     [None, *SECONDS[1:]], [CLOCK[0].replace(tzinfo=None), *CLOCK[1:]]],
    ids=["none", "seconds", "clock", "no zone", "one missing", "one without a zone"],
)  # fmt: skip
def test_a_wrong_frame_of_a_walk_is_mended(positions, times):
    points = follow(recognizer(positions), walk(positions=positions), times)
    assert numbers(points) == list(range(10))
    mended = points[5]
    assert (mended.alone.path, mended.place.path) == (name(50), name(5))
    assert mended.position == (at(5) if positions else None)
    assert all(0.5 < point.confidence <= 1 for point in points)
    assert [point.time for point in points] == list(times or [None] * 10)
    assert mended.query == "frame (50, 5)"


@pytest.mark.parametrize("positions", [True, False])
def test_frames_that_jump_keep_their_own_place(positions):
    order = np.random.default_rng(0).permutation(PHOTOS).tolist()
    answers = [answer(n, (n + 31) % PHOTOS, positions=positions, confidence=0.6) for n in order]
    points = follow(recognizer(positions), answers)
    assert numbers(points) == order
    assert all(point.place == point.alone for point in points)


def test_a_long_time_between_two_frames_makes_a_jump_likely():
    answers, late = walk(), [*SECONDS[:5], 1e5, *(2e5 + time for time in SECONDS[6:])]
    assert numbers(follow(recognizer(), answers, late))[5] == 50
    assert numbers(follow(recognizer(), answers, SECONDS))[5] == 5


def test_a_stretch_off_the_map_has_no_place_and_the_walk_goes_on():
    off = [answer(n, n + 9, confidence=0.05, in_map=False) for n in (44, 12, 30, 50)]
    points = follow(recognizer(), [*walk()[:5], *off, *walk()[6:]])
    assert numbers(points) == [0, 1, 2, 3, 4, None, None, None, None, 6, 7, 8, 9]
    lost = points[6]
    assert (lost.place, lost.position, lost.alone.path) == (None, None, name(12))
    assert lost.confidence > 0.5


@pytest.mark.parametrize("count", [0, 1, 2])
def test_few_frames_are_as_they_are(count):
    assert numbers(follow(recognizer(), walk()[:count], SECONDS[:count])) == list(range(count))


@pytest.mark.parametrize(("in_map", "place"), [(True, 7), (False, None)])
def test_a_single_frame_is_on_the_map_if_its_answer_says_so(in_map, place):
    (point,) = follow(recognizer(), [answer(7, 30, confidence=0.3, in_map=in_map)])
    assert numbers([point]) == [place]


def test_a_frame_that_shows_nothing_has_no_place_and_breaks_no_walk():
    answers = walk()
    answers[4] = Answer("blank", (), "nothing to recognise")
    points = follow(recognizer(), answers, SECONDS)
    assert numbers(points) == [0, 1, 2, 3, None, 5, 6, 7, 8, 9]
    assert (points[4].query, points[4].confidence, points[4].alone) == ("blank", None, None)
    assert numbers(follow(recognizer(), [answers[4]])) == [None]


def test_the_photo_of_a_place_is_the_best_one_by_the_look_of_its_frame():
    answers = [answer(n, n + 1, 40) for n in range(10)]  # n and n + 1 are one place
    assert numbers(follow(recognizer(), answers)) == list(range(10))


def test_the_position_is_that_of_the_answer_where_it_is_of_this_place():
    near, far = at(3.5), at(30)
    answers = [
        Answer(a.query, a.places, in_map=True, where=Where(place, 5.0, 9.0))
        for a, place in zip(walk()[:5], [far, far, far, near, near], strict=True)
    ]
    positions = [point.position for point in follow(recognizer(), answers)]
    assert positions == [at(0), at(1), at(2), near, near]


def test_only_the_candidates_take_part():
    many = [*range(20), 59]
    answers = [answer(*many), answer(*many)]
    assert follow(recognizer(), answers)[0].place.path == name(0)


@pytest.mark.parametrize(
    ("options", "why"),
    [({"reason": "6 photos are too few"}, "6 photos are too few"),
     ({"settings": Settings(candidates=50)}, "only the default method has one")],
)  # fmt: skip
def test_answers_without_a_confidence_are_refused_with_the_remedy(options, why):
    with pytest.raises(UsageError, match=why):
        follow(recognizer(**options), walk())


def test_a_small_index_has_no_track(town_index):
    with (
        PlaceRecognizer.open(town_index) as opened,
        pytest.raises(UsageError, match="6 photos are too few"),
    ):
        follow(opened, [])


@pytest.mark.parametrize(
    "times",
    [[0.0], [True, 1.0], [float("nan"), 1.0], [0.0, float("inf")], ["12:00", None], 3.0, None],
)
def test_wrong_times_are_refused(times):
    with pytest.raises(UsageError, match="times: "):
        follow(recognizer(), walk()[:2], times)


@pytest.mark.parametrize("answers", [None, 3, answer(3), ["a.jpg"]])
def test_what_is_no_list_of_answers_is_refused(answers):
    with pytest.raises(UsageError, match="answers: "):
        follow(recognizer(), answers)


@pytest.mark.parametrize("other", [answer(3, folder="elsewhere"), answer(3, confidence=None)])
def test_answers_of_another_index_are_refused(other):
    with pytest.raises(UsageError, match="not an answer of this index"):
        follow(recognizer(), [other])


@pytest.mark.parametrize("reason", [NO_TIME, NO_CANDIDATE])
def test_a_frame_of_which_no_candidate_was_compared_has_no_place(reason):
    answers = [answer(n, 40 - n) for n in range(10)]
    answers[4] = replace(answer(50, 5, confidence=None), uncalibrated=reason)
    points = follow(recognizer(), answers)
    assert [p.place and p.place.path for p in points[3:6]] == [name(3), None, name(5)]
    assert points[4].confidence is None


@pytest.mark.parametrize("positions", [True, False])
def test_one_place_means_the_same_as_in_the_confidence(positions):
    entries = [
        Entry(f"{folder}/{n}.jpg", "", at(n) if positions and n != 2 else None)
        for folder in "ab"
        for n in range(6)
    ]
    rows, places = np.arange(len(entries)), Places(entries)
    expected = [[not places.elsewhere(one, two) for two in rows] for one in rows]
    assert _Map.of(entries)._same(rows).tolist() == expected
